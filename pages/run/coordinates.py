"""Which coordinates moved: given the size of the weight, by mask, by probe, by grid steps."""

import streamlit as st

from opdviz.ui import comparison, figure, links

chosen = comparison.need()
comparison.heading(
    "Which coordinates moved", chosen, trail=(("Overview", "pages/run/overview.py", {}),)
)
comparison.need_rows(chosen.summary("by_tensor"), "measurement")
links.switch(st, "Moved when |D| >", ("0", "1e-5"), "above")
figure.show("moved_given_size", chosen)
st.header("On which weights do the moves fall?", anchor=False)
figure.show("coverage", chosen)
st.header("How many did not change?", anchor=False)
left, right = st.columns(2)
with left:
    figure.show("sparsity", chosen)
with right:
    figure.show("steps", chosen)
st.header("Is it sparse, or only small?", anchor=False)
figure.show("sparse_or_small", chosen)
st.header("Were steps rounded away while it was trained?", anchor=False)
figure.show("fingerprint", chosen)
