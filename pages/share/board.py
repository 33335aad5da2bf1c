"""The board: what was pinned of this comparison, to be ordered, annotated and presented; and every
note on its tensors.
"""

import streamlit as st

from opdviz.errors import OpdvizError
from opdviz.store import board as boards
from opdviz.ui import board, comparison, figure, links, notes
from opdviz.words import count, plain

chosen = comparison.need()
presenting = "present" in st.query_params
if not presenting:
    comparison.heading("Board", chosen)
try:
    found = boards.read(chosen.folder)
except OpdvizError as error:
    st.error(plain(error))
    links.end()
pins, written = found["pins"], found["notes"]
if presenting:
    board.present(chosen, pins)
    links.end()
if not pins:
    st.info(
        "Nothing is pinned yet. Every figure of a run has a Pin below it: it keeps the figure, as"
        " you see it, with a caption."
    )
else:
    with st.container(horizontal=True, vertical_alignment="center"):
        figure.reading(f"{count(len(pins), 'pin')}, in the order of the presentation.")
        st.link_button(
            "Present",
            links.link("board", present="1", embed="true"),
            type="primary",
            icon=":material/slideshow:",
            help="Full width in a new tab; arrow keys go from pin to pin",
        )
    board.listed(chosen, pins)
if written:
    st.header(f"{count(len(written), 'note')} on tensors", anchor=False)
    for note in written:
        notes.draw_note(chosen, note, link=True)
