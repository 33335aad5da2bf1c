"""Behind one word under every figure: the figure as a file, for paper or live, the numbers behind
it, and the command that writes them.
"""

import json
from collections.abc import Callable
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from opdviz.figures import printed
from opdviz.report import graph, picture
from opdviz.tables import writing
from opdviz.ui import browser
from opdviz.views import View
from opdviz.words import plain

# The browser draws these itself, of what it has on the page; the others come from the server.
DRAWN_HERE = ("svg", "png")
FORMATS = ("svg", "png", "pdf", "html", "json")
WIDTHS = {name: f"{inches} in" for name, inches in printed.WIDTHS.items()}
NAMES = {"csv": "CSV", "parquet": "Parquet", "json": "JSON", "tex": "LaTeX", "md": "Markdown"}


@st.fragment
def saving(
    key: str, view: View, *, stem: str = "", command: Callable[[str], str] | None = None
) -> None:
    """A view as files; made when it is opened. `command` gives what writes the same to a file."""
    box = st.popover(
        "Save", type="tertiary", width="content", key=f"saving_{key}", on_change="rerun"
    )
    if not box.open:
        return
    with box:
        ending, how = figure_file(key, view, stem or key)
        st.caption("The numbers behind it")
        data_buttons(key, view.data, stem=stem)
        if view.nodes is not None:
            st.caption("To colour a graph of the model")
            nodes_button(key, view.nodes, stem=stem)
        if view.for_paper is not None:
            st.caption("As a table")
            table_buttons(key, view.for_paper, stem=stem)
        if command:
            st.caption("The same by a command")
            words = " ".join([command(f"{stem or key}.{ending}"), *how])
            st.code(words, language=None, wrap_lines=True)


def figure_file(key: str, view: View, stem: str) -> tuple[str, list[str]]:
    """The choices of a figure's file and the button that saves it; its ending, and the choices as
    a command has them.
    """
    ending = st.segmented_control(
        "Format",
        FORMATS,
        default=FORMATS[0],
        format_func=str.upper,
        key=f"format_{key}",
        required=True,
    )
    width, title, transparent = "column", True, False
    if ending in picture.PAPER:
        width = st.segmented_control(
            "Width",
            list(WIDTHS),
            default="column",
            format_func=WIDTHS.get,
            key=f"width_{key}",
            required=True,
        )
        line = st.container(horizontal=True)
        title = line.checkbox("Title", True, key=f"title_{key}")
        if ending in DRAWN_HERE:
            transparent = line.checkbox("Transparent", key=f"transparent_{key}")
    if ending in DRAWN_HERE:
        paper = for_paper(view.figure, width, title=title)
        how = {"format": ending, "transparent": transparent}
        browser.save_button(f"figure_{key}", f"opdviz_{stem}", paper | how)
    elif ending == "pdf" and (missing := picture.why_not()):
        st.info(plain(missing))
    else:
        st.download_button(
            "Save figure",
            partial(picture.saved, view, ending, width=width, title=title),
            f"opdviz_{stem}.{ending}",
            on_click="ignore",
            key=f"save_{key}",
        )
    width_words = [] if width == "column" else ["--width", width]
    return ending, [*width_words, *([] if title else ["--no-title"])]


def data_buttons(key: str, data: pd.DataFrame, *, stem: str = "") -> None:
    """Buttons that save a frame for programs, which is written when one is pressed."""
    buttons(("csv", "parquet", "json"), key, data, stem)


def table_buttons(key: str, table: pd.DataFrame, *, stem: str = "") -> None:
    """Buttons that save a table for papers."""
    buttons(("tex", "md"), f"table_{key}", table, stem)


def nodes_button(key: str, values: pd.Series, *, stem: str = "") -> None:
    """A button that saves a value by tensor for Model Explorer."""
    st.download_button(
        "Model Explorer",
        partial(graph.nodes, values),
        f"{stem or key}.{picture.NODES}",
        on_click="ignore",
        key=f"nodes_{key}",
    )


def buttons(endings: tuple[str, ...], key: str, frame: pd.DataFrame, stem: str) -> None:
    """Buttons side by side that save a frame."""
    line = st.container(horizontal=True)
    for ending in endings:
        line.download_button(
            NAMES[ending],
            partial(writing.WRITERS[ending], frame),
            f"{stem or key}.{ending}",
            on_click="ignore",
            key=f"{ending}_{key}",
        )


def for_paper(figure: go.Figure, width: str, *, title: bool) -> dict:
    """A figure's layout for paper, without its data: those are on the page."""
    on_paper = printed.printed(figure, width, title=title)
    return {
        "layout": json.loads(go.Figure(layout=on_paper.layout).to_json())["layout"],
        "looks": [printed.look(trace.to_plotly_json()) for trace in on_paper.data],
        "inches": printed.WIDTHS[width],
    }
