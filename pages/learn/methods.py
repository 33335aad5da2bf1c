"""Every quantity: meaning, formula, chance level, pitfall, source; searchable."""

import pandas as pd
import streamlit as st

from opdviz.quantities import QUANTITIES

st.header("Methods", anchor=False)
st.markdown(
    "W is the base tensor, T the tuned one, D = T - W the update; a matrix is m x n and r = min(m, n). A blind update has "
    "independent Gaussian entries of the same norm. Coordinates are counted as stored and, where storage is wider, after "
    "rounding both sides to bf16; spectra and geometry are exact, in float64."
)
word = st.text_input("Search", key="search", bind="query-params", placeholder="rank, coverage, arXiv 2606.13657")
rows = [q for q in QUANTITIES.values() if q.formula or q.chance or q.pitfall or q.source or q.unit]
if word:
    rows = [
        q for q in rows if word.lower() in " ".join((q.name, q.label, q.meaning, q.source, q.pitfall, q.chance)).lower()
    ]
if not rows:
    st.info("No quantity fits. Try a shorter word.")
    st.stop()
frame = pd.DataFrame(
    {"column": q.name, "quantity": q.label, "meaning": q.meaning, "formula": q.formula, "chance": q.chance,
     "careful": q.pitfall, "unit": q.unit, "source": q.source}
    for q in rows
)  # fmt: skip
st.caption(f"{len(rows)} quantities. Column is the name in tables and exports.")
wide = {c: st.column_config.TextColumn(c, width="medium") for c in ("meaning", "formula", "chance", "careful")}
st.dataframe(frame, hide_index=True, height=620, row_height=58, column_config=wide)
