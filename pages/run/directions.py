"""Spectra and angles of the whole run: how concentrated, along which directions of the base, how
far these turned.
"""

import streamlit as st

from opdviz.ui import comparison, figure, tables


def open_mark(data: list) -> None:
    """In a callback: the tensor of a mark."""
    tables.open_tensor(data[0])


chosen = comparison.need()
comparison.heading(
    "In which directions", chosen, trail=(("Overview", "pages/run/overview.py", {}),)
)
comparison.need_rows(chosen.summary("by_tensor"), "measurement")
figure.show("stable_rank", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
st.header("Is there more than rounding beyond them?", anchor=False)
figure.show("tails", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
st.header("Does it lie in the base's leading directions?", anchor=False)
figure.show("projection", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
st.header("How far did the base's leading directions turn?", anchor=False)
figure.show("rotation", chosen, on_click=open_mark, hint="Click a dot to open its matrix.")
