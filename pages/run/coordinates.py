"""Which coordinates moved: given the size of the weight, by mask, by probe, by grid steps."""

import streamlit as st

from opdviz import sentences, tables, ui
from opdviz.figures import coordinates

chosen = ui.need_comparison()
ui.heading("Which coordinates moved", chosen)
tensors = ui.need_rows(ui.table(chosen, "by_tensor"), "measurement")
ui.need_rows(ui.table(chosen, "histogram"), "histogram")
threshold = st.segmented_control("Moved when |D| >", ["0", "1e-5"], default="0", key="above", bind="query-params")
bins = tables.moved_given_size(chosen.store, chosen.key, threshold=float(threshold or 0))
ui.reading(f"**{sentences.coordinates(bins)}** Summed over all tensors, as bf16.")
ui.show(coordinates.moved_given_size(bins), "moved_given_size", bins, ("moved", "null_moved"))

st.subheader("On which weights do the moves fall?", anchor=False)
if "principal_coverage" in tensors and tensors["principal_coverage"].notna().any():
    ui.reading(
        "Median by module of |D| > 1e-5. Inside the violet band a blind update would do the same; a grey dot has nowhere "
        "else to be; the dashed line is chance."
    )
    columns = ["name", *(c for c in tensors if c.startswith(("principal_", "low_magnitude_")))]
    ui.show(coordinates.dumbbells(tensors), "coverage", tensors[columns], ("coverage", "null_low", "lowest"))
else:
    st.info("Coverage appears as soon as it is computed.")

st.subheader("How many did not change?", anchor=False)
ui.reading(
    "The same update is sparser in a coarser format, and by a coarser probe: unchanged as stored is not never updated."
)
left, right = st.columns(2)
with left:
    shares = tables.by_element(ui.table(chosen, "sparsity"), tensors, ["precision", "probe", "threshold"])
    ui.show(coordinates.sparsity_bars(shares), "sparsity", shares, ("probe", "precision", "share"))
with right:
    steps = tables.by_element(ui.table(chosen, "steps"), tensors, ["precision", "steps"])
    ui.show(coordinates.step_bars(steps), "steps", steps, ("steps",))
