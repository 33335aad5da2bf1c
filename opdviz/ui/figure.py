"""How figures and tables stand on a page: the sentence, the figure, and one click away definition,
data and pin.
"""

import io
import json
import re
from collections.abc import Callable
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from opdviz.figures import printed, theme
from opdviz.methods import FORMULAS, LEGEND, sources
from opdviz.quantities import QUANTITIES, Quantity
from opdviz.ui import browser, comparison, links, notes, server
from opdviz.views import View, filters
from opdviz.words import plain


def reading(sentence: str) -> None:
    """The one sentence that says what a figure shows."""
    st.markdown(sentence)


def show(
    name: str,
    chosen: comparison.Chosen,
    *,
    on_click: Callable[[list], None] | None = None,
    hint: str = "",
) -> None:
    """A view of the chosen comparison in the page's state; a click hands a mark's custom data to
    `on_click`, as `hint` says.
    """
    state = links.state()
    view = chosen.view(name, state)
    with drawn(name, view, stem_of(chosen.name, name, state), on_click=on_click, hint=hint):
        if (
            view.figure is not None
            and not server.read_only()
            and st.button(
                "Pin",
                key=f"pin_{name}",
                type="tertiary",
                icon=":material/keep:",
                help="Keep it on the board",
            )
        ):
            notes.pin_dialog(chosen, name, state, view.title)


def drawn(
    name: str,
    view: View,
    stem: str,
    *,
    on_click: Callable[[list], None] | None = None,
    hint: str = "",
):
    """A view under its sentence, or the reason why there is none; the place below it for more."""
    if view.figure is None:
        st.info(f"**{plain(view.title)}**  \n{view.reading}")
        return st.container()
    reading(f"{view.reading} {hint}".strip())
    chart(view.figure, name, on_click)
    return below(name, view.figure, view.data, view.terms, stem=stem)


def stem_of(run: str, view: str, state: dict) -> str:
    """A file's name: the run, what is shown, of which tensor or under which filters.

    >>> stem_of("lab opd", "layers", {"block": "ffn", "layers": "3-7"})
    'lab-opd_layers_block-ffn-layers-3-7'
    """
    of_what = state.get("tensor") or filters.described(state)
    return "_".join(filter(None, (slug(run), view, slug(of_what))))


def slug(text: object) -> str:
    """A text as a piece of a file's name.

    >>> slug("lab opd"), slug("model.layers.0.mlp.up_proj.weight")
    ('lab-opd', 'model.layers.0.mlp.up_proj.weight')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(text)).strip("-.")[:80]


def chart(figure: go.Figure, key: str, on_click: Callable[[list], None] | None = None) -> None:
    """A figure with Plotly's own toolbar; a click hands a mark's custom data to `on_click`."""

    def clicked() -> None:
        points = st.session_state[f"figure_{key}"]["selection"]["points"]
        if points and points[0].get("customdata") is not None:
            on_click(points[0]["customdata"])

    st.plotly_chart(
        theme.inked(figure, "dark" if st.context.theme.type == "dark" else "light"),
        key=f"figure_{key}",
        theme="streamlit",
        on_select=clicked if on_click else "ignore",
        selection_mode="points",
        alt=theme.alt(figure),
        config={
            "displaylogo": False,
            "modeBarButtonsToRemove": ["toImage", "lasso2d", "select2d", "autoScale2d"],
        },
    )


def below(
    key: str, figure: go.Figure, data: pd.DataFrame, terms: tuple[str, ...], *, stem: str = ""
):
    """The line under a figure: its legend and quantities explained, its data; the place for
    more.
    """
    line = st.container(horizontal=True, gap="small")
    with line.popover("Definition", type="tertiary", width="content"):
        if legend := legend_lines(figure):
            st.markdown("In the legend:  \n" + "  \n".join(legend))
        for term in terms:
            definition(term)
    place = line.container(width="content")
    with line:  # last: a fragment takes all the width that is left
        saving(key, figure, data, stem=stem)
    return place


@st.fragment
def saving(key: str, figure: go.Figure, data: pd.DataFrame, *, stem: str = "") -> None:
    """Behind one word: the figure for paper, and the data behind it; made when it is opened."""
    box = st.popover(
        "Save", type="tertiary", width="content", key=f"saving_{key}", on_change="rerun"
    )
    if not box.open:
        return
    with box:
        browser.save_button(f"figure_{key}", f"opdviz_{stem or key}", for_paper(figure))
        st.caption("The data behind it")
        data_buttons(key, data, stem=stem)


def data_buttons(key: str, data: pd.DataFrame, *, stem: str = "") -> None:
    """Two buttons that save a frame, which is written when one is pressed."""
    both = st.container(horizontal=True)
    for label, ending, write in (("CSV", "csv", csv), ("Parquet", "parquet", parquet)):
        both.download_button(
            label,
            partial(write, data),
            f"{stem or key}.{ending}",
            on_click="ignore",
            key=f"{ending}_{key}",
        )


def csv(data: pd.DataFrame) -> bytes:
    """A frame as CSV."""
    return data.to_csv(index=False).encode()


def figure(made: go.Figure, key: str, data: pd.DataFrame, terms: tuple[str, ...]) -> None:
    """A figure that is no view of a comparison, with its definitions and data."""
    chart(made, key)
    below(key, made, data, terms)


def for_paper(figure: go.Figure) -> dict[str, dict]:
    """A figure's layouts for paper by width, without its data."""
    widths = {}
    for width, millimetres in printed.WIDTHS.items():
        on_paper = printed.printed(figure, width)
        widths[width] = {
            "layout": json.loads(go.Figure(layout=on_paper.layout).to_json())["layout"],
            "looks": [printed.look(trace.to_plotly_json()) for trace in on_paper.data],
            "millimetres": millimetres,
        }
    return widths


def parquet(data: pd.DataFrame) -> bytes:
    """A frame as a Parquet file."""
    buffer = io.BytesIO()
    data.to_parquet(buffer, index=False)
    return buffer.getvalue()


def definition(name: str, *, column: bool = False) -> None:
    """A quantity's meaning, formula, chance, pitfall and papers; with `column`, where its label
    stands above, its name in the tables instead.
    """
    q = QUANTITIES[name]
    title = f"[{plain(q.name)}]" if column else f"**{plain(q.label)}**:"
    formula = f"${FORMULAS[name]}$" if name in FORMULAS else plain(q.formula)
    lines = [f"{title} {plain(q.meaning)}"]
    lines += [
        f"{label}: {text}"
        for label, text in (
            ("Formula", formula),
            ("Chance", plain(q.chance)),
            ("Careful", plain(q.pitfall)),
            ("Source", "; ".join(sources(q.source))),
        )
        if text
    ]
    st.markdown("  \n".join(lines))


def everything(q: Quantity) -> str:
    """All that is said of a quantity, for a search."""
    return f"{q.text} {' '.join(sources(q.source))}"


def legend_lines(figure: go.Figure) -> list[str]:
    """What each name in a figure's legend means, where that has a line of its own."""
    names = [name for name in theme.legend_names(figure) if name in LEGEND]
    return [f"**{plain(name)}**: {plain(LEGEND[name])}" for name in names]
