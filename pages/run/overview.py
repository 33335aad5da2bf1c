"""What changed, and how much of it is more than chance: six headline quantities and a table by block."""

import pandas as pd
import streamlit as st

from opdviz import protocols, published, sentences, ui
from opdviz.figures import overview
from opdviz.words import count

chosen = ui.need_comparison()
ui.heading("What changed, and how much of it is more than chance", chosen)
tensors = ui.need_rows(ui.table(chosen, "by_tensor"), "measurement")
ui.warnings(chosen, tensors)
if chosen.state == "done":
    headline = protocols.headline(chosen.store, chosen.key)
    ui.reading(sentences.overview(headline, published.numbers()) + " Ticks are the paper's published pairs, by recipe.")
    rows = [row for row in published.numbers() if row["paper"] == published.PAPERS["A"]]
    ui.show(
        overview.strips(headline, rows),
        "headline",
        pd.DataFrame(headline),
        ("relative_norm", "sparsity_absolute", "top16_energy", "stable_rank", "coverage"),
    )
else:
    st.info("The headline waits until every tensor is measured: partial results are biased by their order.")

st.subheader("By block", anchor=False)
blocks = ui.table(chosen, "blocks")
ui.reading(sentences.blocks(blocks))
columns = ["tower", "block", "tensors", "tensors_moved", "numel", "relative_norm", "energy_share", "parameter_share",
           "enrichment", "sparsity_absolute", "sparsity_relative", "stable_rank", "top16_energy"]  # fmt: skip
config = {c: ui.column(c) for c in columns}
st.dataframe(blocks[columns], hide_index=True, column_config=config, key="blocks")
small = tensors[(tensors["block"] == "norm") | (tensors["kind"] == "vector")]
if len(small):
    moved = int((small["moved"] > 0).sum())
    with st.expander(f"Norms and biases: {moved} of {len(small)} moved"):
        ui.tensor_table(
            small, ["name", "block", "numel", "relative_norm", "sparsity_absolute", "cosine", "shrink"], "small"
        )
unmatched, skipped = ui.table(chosen, "unmatched"), ui.table(chosen, "skipped")
with st.expander(f"Left over: {count(len(unmatched), 'tensor')} without a partner"):
    st.dataframe(unmatched, hide_index=True)
    if len(skipped):
        st.caption("What was not computed, and why; nothing is skipped silently.")
        st.dataframe(
            skipped.groupby(["measure", "reason"], as_index=False).agg(tensors=("name", "nunique")), hide_index=True
        )
