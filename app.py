"""opdviz, the app: page configuration, navigation and the choice of comparison. Start it with `opdviz app`."""

import streamlit as st

from opdviz import ui

st.set_page_config(page_title="opdviz", page_icon="docs/icon.svg", layout="wide")
ui.first_start()
pages = {
    "Open": [
        st.Page("pages/open/comparisons.py", title="Comparisons", icon=":material/compare_arrows:", default=True),
    ],
    "One run": [
        st.Page("pages/run/overview.py", title="Overview", icon=":material/target:", url_path="overview"),
        st.Page("pages/run/layers.py", title="Layers", icon=":material/grid_view:", url_path="layers"),
        st.Page("pages/run/directions.py", title="Directions", icon=":material/explore:", url_path="directions"),
        st.Page("pages/run/coordinates.py", title="Coordinates", icon=":material/grain:", url_path="coordinates"),
        st.Page("pages/run/tensor.py", title="Tensor", icon=":material/data_array:", url_path="tensor"),
    ],
    "Learn": [
        st.Page("pages/learn/methods.py", title="Methods", icon=":material/menu_book:", url_path="methods"),
        st.Page("pages/learn/lab.py", title="Lab", icon=":material/science:", url_path="lab"),
    ],
}
page = st.navigation(pages)
with st.sidebar:
    ui.choose_comparison()
    ui.job_line()
page.run()
