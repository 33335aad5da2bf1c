"""Every quantity: meaning, formula, chance level, pitfall, source; searchable."""

import streamlit as st

from opdviz.quantities import QUANTITIES
from opdviz.ui import figure, links

st.title("Methods", anchor=False)
st.markdown(
    "W is the base tensor, T the tuned one, D = T - W the update; a matrix is m x n and r = min(m,"
    " n). A blind update has independent Gaussian entries of the same norm. Coordinates are counted"
    " as stored and, where storage is wider, after rounding both sides to bf16; spectra and"
    " geometry are exact, in float64."
)
word = links.text(st, "Search", "search", placeholder="rank, coverage, arXiv 2606.13657")
rows = [q for q in QUANTITIES.values() if q.formula or q.chance or q.pitfall or q.source]
if word:
    rows = [q for q in rows if word.lower() in q.text.lower()]
if not rows:
    st.info("No quantity fits. Try a shorter word.")
    links.end()
st.caption(f"{len(rows)} quantities. The name in brackets is the column in tables and exports.")
columns = st.columns(2)
for at, q in enumerate(rows):
    with columns[at % 2].container(border=True):
        figure.definition(q.name, column=True)
