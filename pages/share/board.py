"""The board: what was pinned of this comparison, to be ordered, annotated and presented; and every note on its tensors."""

import streamlit as st

from opdviz import ui
from opdviz.errors import OpdvizError
from opdviz.store import board
from opdviz.words import count, plain

chosen = ui.need_comparison()
presenting = "present" in st.query_params
if not presenting:
    ui.heading("Board", chosen)
try:
    found = board.read(chosen.store, chosen.key)
except OpdvizError as error:
    st.error(plain(error))
    ui.end()
pins, notes = found["pins"], found["notes"]
if presenting:
    ui.boards.present(chosen, pins)
    ui.end()
if not pins:
    st.info(
        "Nothing is pinned yet. Every figure of a run has a Pin below it: it keeps the figure, as you see it, with a caption."
    )
else:
    with st.container(horizontal=True, vertical_alignment="center"):
        ui.reading(f"{count(len(pins), 'pin')}, in the order of the presentation.")
        st.link_button("Present", ui.links.link("board", present="1", embed="true"), type="primary", icon=":material/slideshow:",
                       help="Full width in a new tab; arrow keys go from pin to pin")  # fmt: skip
    ui.boards.listed(chosen, pins)
if notes:
    st.subheader(f"{count(len(notes), 'note')} on tensors", anchor=False)
    for note in notes:
        ui.draw_note(chosen, note, link=True)
