"""The same figure of several runs on shared axes, or beside one of them."""

import streamlit as st

from opdviz.runs.family import unlike
from opdviz.ui import comparison, figure, links, several, tables
from opdviz.views import layers
from opdviz.views.run_curves import CURVES
from opdviz.views.runs import COLOURS
from opdviz.words import count, plain

family = several.need()
st.title("Runs side by side", anchor=False)
first, second, third = st.columns([7, 2, 3])
runs = several.choose(first, family)
links.choose(second, "Colour by", COLOURS, "colour")
against = several.choose_reference(third, runs)
shown = f"{len(runs.members)} of {count(len(family.runs), 'run')}"
sentence = unlike([member.manifest for member in runs.members])
words = f" :orange-badge[unlike] {plain(sentence, limit=600)}" if sentence else ""
st.caption(f"{shown} on **{plain(family.base.label, limit=60)}**.{words}")


def open_tensor(data: list) -> None:
    """In a callback: the tensor of a mark, in the run that the mark is of."""
    name, at = data[0], data[-1]
    if name:
        key = runs.members[at].key
        links.goto("pages/run/tensor.py", {"comparison": key, "tensor": name})


def state() -> dict:
    """The page's choices, as its views take them."""
    return links.state() | {"against": against}


runs.show("run_headlines", state())
with st.expander("The headline as a table, under any protocol"):
    protocol = links.switch(st, "Protocol", ("A", "B", "C", "D"), "protocol")
    several.headline_table(runs, protocol)

st.header("Where each moved", anchor=False)
tensors = runs.members[0].summary("by_tensor")
comparison.need_rows(tensors, "measurement")
line, _ = st.columns([4, 8])
links.choose(line, "Quantity", layers.mappable(tensors), "quantity")
runs.show("run_maps", state(), on_click=open_tensor, hint="Click a cell to open its tensor.")
runs.show("run_against", state(), on_click=open_tensor, hint="Click a mark to open its tensor.")

st.header("One tensor in all runs", anchor=False)
first, second = st.columns([7, 5], vertical_alignment="bottom")
tables.choose_tensor(first, tensors)
links.switch(second, "Curve", CURVES, "curve")
runs.show("run_curves", state())

st.header("Sparse, or only small?", anchor=False)
figure.reading(
    "An update leaves coordinates unchanged because it does not touch them, or because it is"
    " smaller than the grid of the stored format. Dotted: what the second alone gives."
)
runs.show("run_sizes", state())
