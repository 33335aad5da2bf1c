"""What changed, and how much of it is more than chance: six headline quantities and a table by
block.
"""

import streamlit as st

from opdviz.ui import comparison, doctor, figure, links, tables
from opdviz.views import overview
from opdviz.words import count, plain


def open_quantity(data: list) -> None:
    """In a callback: the map of a diamond's quantity."""
    links.goto("pages/run/layers.py", {"quantity": data[0]})


chosen = comparison.need()
comparison.heading("What changed, and how much of it is more than chance", chosen)
tensors = comparison.need_rows(chosen.summary("by_tensor"), "measurement")
comparison.warnings(chosen, tensors)
figure.show("headline", chosen, on_click=open_quantity, hint="Click a diamond to see it by layer.")

st.header("By block", anchor=False)
blocks = chosen.summary("blocks")
figure.reading(overview.blocks_reading(blocks) + " Click a row to see its layers.")
columns = [
    "tower",
    "block",
    "tensors",
    "tensors_moved",
    "numel",
    "relative_norm",
    "energy_share",
    "parameter_share",
    "enrichment",
    "sparsity_absolute",
    "sparsity_relative",
    "stable_rank",
    "top16_energy",
]


def open_block(row) -> None:
    """In a callback: the map of one block."""
    kinds = "norms and biases" if row["block"] == "norm" else "matrices"
    links.goto(
        "pages/run/layers.py", {"tower": row["tower"], "block": row["block"], "kinds": kinds}
    )


if blocks["tower"].nunique() < 2:
    columns.remove("tower")
tables.rows_table(blocks, columns, "blocks", open_block)
st.caption(tables.SIDEWAYS)
small = tensors[(tensors["block"] == "norm") | (tensors["kind"] == "vector")]
if len(small):
    moved = int((small["moved"] > 0).sum())
    st.caption(
        f"Norms and biases: {moved:,} of {len(small):,} moved. They are listed under Layers, kind"
        " norms and biases."
    )
doctor.panel(chosen)
doctor.standing_out(chosen)
rewrites = chosen.table("rewrites")
with st.expander(f"How the sides were read: {count(len(rewrites), 'rewrite')}"):
    for note in dict.fromkeys(chosen.comparison.manifest.notes):
        st.caption(plain(note))
    if len(rewrites):
        st.dataframe(rewrites.head(1000), hide_index=True)
unmatched, skipped = chosen.table("unmatched"), chosen.table("skipped")
with st.expander(f"Left over: {count(len(unmatched), 'tensor')} without a partner"):
    st.dataframe(unmatched.head(1000), hide_index=True)
    if len(skipped):
        st.caption("What was not computed, and why; nothing is skipped silently.")
        st.dataframe(
            skipped.groupby(["measure", "reason"], as_index=False).agg(tensors=("name", "nunique")),
            hide_index=True,
        )
