"""opdviz, the app: page configuration, navigation and the choice of comparison. Start it with
`opdviz app`.
"""

import streamlit as st

from opdviz.ui import frame, links, turns

# By section of the navigation: script, title, icon.
PAGES = {
    "Open": [("open/comparisons", "Comparisons", "compare_arrows")],
    "One run": [
        ("run/overview", "Overview", "target"),
        ("run/layers", "Layers", "grid_view"),
        ("run/directions", "Directions", "explore"),
        ("run/coordinates", "Coordinates", "grain"),
        ("run/tensor", "Tensor", "data_array"),
        ("run/part", "Part", "select_all"),
        ("runs/subnetwork", "Subnetwork", "hub"),
    ],
    "Several runs": [
        ("runs/side_by_side", "Side by side", "view_column"),
        ("runs/overlap", "Overlap", "join_inner"),
        ("runs/trajectory", "Trajectory", "timeline"),
    ],
    "Share": [("share/board", "Board", "keep")],
    "Learn": [("learn/methods", "Methods", "menu_book"), ("learn/lab", "Lab", "science")],
}

st.set_page_config(page_icon="docs/icon.svg", layout="wide")
links.begin()
frame.first_start()
seen = {section: frame.visibility(section) for section in PAGES}
pages = {
    section: [
        st.Page(
            f"pages/{script}.py", title=title, icon=f":material/{icon}:", visibility=seen[section]
        )
        for script, title, icon in scripts
    ]
    for section, scripts in PAGES.items()
}
pages["Open"].append(st.Page(frame.front_door, title="opdviz", default=True, visibility="hidden"))
presenting = "present" in st.query_params
page = st.navigation(pages, position="hidden" if presenting else "sidebar", expanded=True)
of_one_run = {title for section in ("One run", "Share") for _, title, _ in PAGES[section]}
around = frame.no_frame if presenting else frame.frame
with turns.turn(), around(page.title, of_run=page.title in of_one_run):
    page.run()
