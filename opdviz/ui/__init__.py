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
from opdviz.ui.frame import (
    comparison_of_link,
    draw_job,
    first_start,
    frame,
    open_the_lab_s_first,
    ready_made,
    start_job,
)
from opdviz.ui.sharing import draw_note, notes
from opdviz.ui.show import (
    choose_tensor,
    column,
    definition,
    figure,
    open_part,
    open_tensor,
    reading,
    part_table,
    show,
    tensor_table,
    trail,
)
from opdviz.ui.show import table as rows_table
from opdviz.words import plain

__all__ = [name for name in dir() if not name.startswith("_")]
