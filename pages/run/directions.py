"""Spectra and angles of the whole run: how concentrated, along which directions of the base, how far these turned."""

import streamlit as st

from opdviz import ui
from opdviz.views import sentences


def open_mark(data: list) -> None:
    """In a callback: the tensor of a mark."""
    ui.open_tensor(data[0])


chosen = ui.need_comparison()
ui.heading("In which directions", chosen, trail=(("Overview", "pages/run/overview.py", {}),))
ui.need_rows(ui.summary(chosen, "by_tensor"), "measurement")
ui.show("stable_rank", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
st.markdown(sentences.rounding(ui.summary(chosen, "tails")))
st.subheader("Does it lie in the base's leading directions?", anchor=False)
ui.show("projection", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
st.subheader("How far did the base's leading directions turn?", anchor=False)
ui.show("rotation", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
