"""One tensor: how concentrated its update is, which weights moved, how far its subspaces turned,
and its parts.
"""

import pandas as pd
import streamlit as st

from opdviz.store import status
from opdviz.ui import comparison, figure, links, notes, tables
from opdviz.views import tensor
from opdviz.words import count, format_name, percent, plain

chosen = comparison.need()
tensors = comparison.need_rows(chosen.summary("by_tensor"), "measurement").sort_values("name")
heading = st.container()
first, last = st.columns([3, 2], vertical_alignment="bottom")
row = tables.choose_tensor(first, tensors)
name = row["name"]
status.focus(chosen.comparison, name)
# From a matrix to the next matrix, from a norm to the next norm.
small = tensors["kind"].isin(["vector", "scalar"])
names = tensors.loc[small == small[row.name], "name"].tolist()
with last.container(horizontal=True):
    for step, sign in ((-1, "← previous"), (1, "next →")):
        other = names[(names.index(name) + step) % len(names)]
        st.button(
            sign, help=plain(other), key=f"step_{step}", on_click=tables.open_tensor, args=(other,)
        )
    st.button(
        "Values",
        key="values",
        on_click=tables.open_part,
        args=(name, ""),
        help="The numbers themselves, and parts of it",
    )
facts = [
    " › ".join(
        [
            row["tower"],
            f"layer {row['layer']}" if row.notna()["layer"] else "no layer",
            row["block"],
        ]
    ),
    f"{row['shape']}, {row['base_dtype']}",
    f"relative norm {percent(row['relative_norm'])}",
]
if pd.notna(row.get("sparsity_exact")):
    facts.append(f"moved {percent(1 - row['sparsity_exact'])} as {format_name(row['counted_as'])}")
if pd.notna(row["shrink"]) and row["shrink"]:
    scaled = "shrunk" if row["shrink"] < 0 else "grown"
    facts.append(f"{scaled} by {percent(abs(row['shrink']))} along its own weights")
with heading:
    comparison.heading(plain(name), chosen, *facts, trail=tables.trail())
MOVES = ("moved", "Which weights moved?")
SIZES = ("magnitudes", "Sizes of weights and changes")
PAIRS = (
    (("energy", "How concentrated is the update?"), MOVES),
    (("angles", "How far did the leading subspace turn?"), ("spectra", "Spectra")),
    (("ranks", "How many directions does it take?"), SIZES),
)
vector = bool(small[row.name])
if vector:
    st.markdown(
        f"**A vector of {count(int(row['numel']), 'number')} has no directions**: no spectrum, no"
        " angles. There is which of them moved, how large they are, and the values."
    )
for pair in ((MOVES, SIZES),) if vector else PAIRS:
    for side, (view, question) in zip(st.columns(2), pair, strict=True):
        with side:
            st.header(question, anchor=False)
            figure.show(view, chosen)
if not vector:
    st.header("Are its leading directions the base's?", anchor=False)
    figure.show("intruders", chosen)


def open_part(data: list) -> None:
    """In a callback: the part that a bar stands for."""
    tables.open_part(name, data[0])


if heads := tensor.heads_of(chosen.reader, {"tensor": name}):
    st.header(f"Its {len(heads)} heads", anchor=False)
    figure.show("heads", chosen, on_click=open_part, hint="Click a bar to see the head.")
if row["block"] in ("embedding", "head") and row.notna()["rows"]:
    st.header("The most moved rows", anchor=False)
    figure.show("vocabulary", chosen, on_click=open_part, hint="Click a bar to see the row.")
if row.notna()["rows"]:
    st.header("Rows and columns", anchor=False)
    links.switch(st, "Profile of", ("energy", "moved"), "profile")
    figure.show("bands", chosen, on_click=open_part, hint="Click a bar to see the band.")
    tables.part_table(chosen, name)
notes.notes(chosen, tensors[tensors["name"] == name], of=name)
