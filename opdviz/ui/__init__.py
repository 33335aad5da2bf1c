"""The only border to Streamlit below the pages: links, the chosen comparison, the frame, and how figures stand on a page."""

from opdviz.ui import boards, links
from opdviz.ui.chosen import (
    POLL,
    Chosen,
    fetch_block,
    gone,
    heading,
    need_comparison,
    need_rows,
    read_only,
    store,
    summary,
    table,
    warm,
    warnings,
)
from opdviz.ui.links import end
from opdviz.ui.sharing import draw_note, notes
from opdviz.ui.shell import (
    draw_job,
    first_start,
    frame,
    no_frame,
    open_the_lab_s_first,
    ready_made,
    start_job,
)
from opdviz.ui.shown import (
    choose_tensor,
    column,
    definition,
    figure,
    open_part,
    open_tensor,
    part_table,
    reading,
    show,
    tensor_table,
    trail,
)
from opdviz.ui.shown import table as rows_table
from opdviz.ui.turns import stepped_out, turn
from opdviz.words import plain

__all__ = [
    "Chosen",
    "POLL",
    "boards",
    "choose_tensor",
    "column",
    "definition",
    "draw_job",
    "draw_note",
    "fetch_block",
    "figure",
    "first_start",
    "end",
    "frame",
    "no_frame",
    "gone",
    "heading",
    "links",
    "need_comparison",
    "need_rows",
    "notes",
    "open_part",
    "open_tensor",
    "open_the_lab_s_first",
    "part_table",
    "plain",
    "read_only",
    "reading",
    "ready_made",
    "rows_table",
    "show",
    "start_job",
    "stepped_out",
    "store",
    "summary",
    "table",
    "tensor_table",
    "trail",
    "turn",
    "warm",
    "warnings",
]
