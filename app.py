"""opdviz, the app: page configuration, navigation and the choice of comparison. Start it with
`opdviz app`.
"""

import streamlit as st

from opdviz.ui import frame, links, turns

# By section of the navigation: script, title, icon. The first is the page that opens.
PAGES = {
    "Open": [("open/comparisons", "Comparisons", "compare_arrows")],
    "One run": [
        ("run/overview", "Overview", "target"),
        ("run/layers", "Layers", "grid_view"),
        ("run/directions", "Directions", "explore"),
        ("run/coordinates", "Coordinates", "grain"),
        ("run/tensor", "Tensor", "data_array"),
        ("run/part", "Part", "select_all"),
    ],
    "Share": [("share/board", "Board", "keep")],
    "Learn": [("learn/methods", "Methods", "menu_book"), ("learn/lab", "Lab", "science")],
}

st.set_page_config(page_title="opdviz", page_icon="docs/icon.svg", layout="wide")
links.begin()
frame.first_start()
pages = {
    section: [
        st.Page(
            f"pages/{script}.py",
            title=title,
            icon=f":material/{icon}:",
            default=script == "open/comparisons",
        )
        for script, title, icon in scripts
    ]
    for section, scripts in PAGES.items()
}
presenting = "present" in st.query_params
page = st.navigation(pages, position="hidden" if presenting else "sidebar")
with turns.turn(), frame.no_frame() if presenting else frame.frame():
    page.run()
