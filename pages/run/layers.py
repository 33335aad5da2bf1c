"""Where it moved: any quantity by layer and module; a cell or a row opens its tensor."""

import fnmatch

import streamlit as st

from opdviz import sentences, ui
from opdviz.figures import layers
from opdviz.quantities import QUANTITIES

CHOICES = ("relative_norm", "sparsity_absolute", "sparsity_relative", "stable_rank", "entropy_rank", "top16_energy",
           "projection_joint", "nss", "cosine", "shrink", "delta_rms", "base_rms")  # fmt: skip
LIMITS = ("2nd to 98th percentile", "all values")

chosen = ui.need_comparison()
ui.heading("Where it moved", chosen)
tensors = ui.need_rows(ui.table(chosen, "by_tensor"), "measurement")
there = [q for q in CHOICES if q in tensors and tensors[q].notna().any()]
towers = sorted(tensors["tower"].unique())
first, second, fourth, *third = st.columns([3, 3, 4, 2] if len(towers) > 1 else [3, 3, 4])
quantity = first.selectbox(
    "Quantity", there, key="quantity", bind="query-params", format_func=lambda q: QUANTITIES[q].label
)
limits = second.selectbox("Colour limits", LIMITS, key="limits", bind="query-params")
tower = third[0].selectbox("Tower", towers, key="tower", bind="query-params") if third else towers[0]
pattern = fourth.text_input("Tensors", key="tensors", bind="query-params", placeholder="*.layer.*.dense.weight")
kinds = st.segmented_control(
    "Kind",
    ["matrices", "norms and biases"],
    default="matrices",
    key="kinds",
    bind="query-params",
    label_visibility="collapsed",
)
rows = tensors[tensors["tower"] == tower]
small = rows["kind"].isin(["vector", "scalar"])
rows = rows[small] if kinds == "norms and biases" else rows[~small]
if pattern:
    rows = rows[[fnmatch.fnmatchcase(name, pattern) for name in rows["name"]]]
ui.need_rows(rows, "tensor that fits these filters")
log = QUANTITIES[quantity].log
inside = rows[rows["layer"].notna()]
if len(inside) and inside[quantity].notna().any():
    ui.reading(sentences.layers(rows, QUANTITIES[quantity].label, quantity))
    wide = layers.whole_range(inside, quantity, log=log) if limits == LIMITS[1] else None
    figure = layers.heatmap(inside, quantity, log=log, limits=wide)
    columns = ["name", "layer", "module", quantity]
    if name := ui.picked(ui.show(figure, "layers", inside[columns], (quantity,), on_select="rerun")):
        ui.open_tensor(name)
outside = rows[rows["layer"].isna()]
if len(outside):
    st.subheader("Tensors without a layer", anchor=False)
    ui.show(layers.strip(outside, quantity, log=log), "strip", outside[["name", quantity]], (quantity,))
st.subheader("All of them", anchor=False)
st.caption("Sort by a column's head; choose a row to open its tensor.")
listed = ("relative_norm", "moved", "sparsity_absolute", "stable_rank", "cosine")
columns = ["name", "layer", "module", "block", quantity, "shape", *(c for c in listed if c in rows and c != quantity)]
ui.tensor_table(rows, columns, "tensor_rows")
