"""opdviz, the app: page configuration, navigation and the choice of comparison. Start it with
`opdviz app`.
"""

import streamlit as st

from opdviz.ui import frame, links, turns

st.set_page_config(page_title="opdviz", page_icon="docs/icon.svg", layout="wide")
links.begin()
frame.first_start()
pages = {
    "Open": [
        st.Page(
            "pages/open/comparisons.py",
            title="Comparisons",
            icon=":material/compare_arrows:",
            default=True,
        ),
    ],
    "One run": [
        st.Page(
            "pages/run/overview.py", title="Overview", icon=":material/target:", url_path="overview"
        ),
        st.Page(
            "pages/run/layers.py", title="Layers", icon=":material/grid_view:", url_path="layers"
        ),
        st.Page(
            "pages/run/directions.py",
            title="Directions",
            icon=":material/explore:",
            url_path="directions",
        ),
        st.Page(
            "pages/run/coordinates.py",
            title="Coordinates",
            icon=":material/grain:",
            url_path="coordinates",
        ),
        st.Page(
            "pages/run/tensor.py", title="Tensor", icon=":material/data_array:", url_path="tensor"
        ),
        st.Page("pages/run/part.py", title="Part", icon=":material/select_all:", url_path="part"),
    ],
    "Share": [
        st.Page("pages/share/board.py", title="Board", icon=":material/keep:", url_path="board"),
    ],
    "Learn": [
        st.Page(
            "pages/learn/methods.py",
            title="Methods",
            icon=":material/menu_book:",
            url_path="methods",
        ),
        st.Page("pages/learn/lab.py", title="Lab", icon=":material/science:", url_path="lab"),
    ],
}
presenting = "present" in st.query_params
page = st.navigation(pages, position="hidden" if presenting else "sidebar")
with turns.turn(), frame.no_frame() if presenting else frame.frame():
    page.run()
