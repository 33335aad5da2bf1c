"""Which coordinates moved: given the size of the weight, by mask, by probe, by grid steps."""

import streamlit as st

from opdviz import ui
from opdviz.ui import links

chosen = ui.need_comparison()
ui.heading("Which coordinates moved", chosen, trail=(("Overview", "pages/run/overview.py", {}),))
ui.need_rows(ui.summary(chosen, "by_tensor"), "measurement")
links.switch(st, "Moved when |D| >", ("0", "1e-5"), "above")
ui.show("moved_given_size", chosen)
st.subheader("On which weights do the moves fall?", anchor=False)
ui.show("coverage", chosen)
st.subheader("How many did not change?", anchor=False)
left, right = st.columns(2)
with left:
    ui.show("sparsity", chosen)
with right:
    ui.show("steps", chosen)
