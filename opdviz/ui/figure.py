"""How figures and tables stand on a page: the sentence, the figure, and one click away definition,
data and pin.
"""

import re
from collections.abc import Callable
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from opdviz.figures import theme
from opdviz.methods import FORMULAS, LEGEND, sources
from opdviz.quantities import QUANTITIES, Quantity
from opdviz.ui import comparison, links, notes, server
from opdviz.ui.saving import saving
from opdviz.views import View, filters, request
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
    stem = stem_of(chosen.name, name, state)
    command = partial(request.command, [chosen.comparison.name], name, links.not_default(state))
    with drawn(name, view, stem, command=command, on_click=on_click, hint=hint):
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
    command: Callable[[str], str] | None = None,
    on_click: Callable[[list], None] | None = None,
    hint: str = "",
):
    """A view under its sentence, or the reason why there is none; the place below it for more.
    `command` gives what writes it to a file.
    """
    if view.figure is None:
        st.info(f"**{plain(view.title)}**  \n{view.reading}")
        return st.container()
    reading(f"{view.reading} {hint}".strip())
    chart(view, name, on_click)
    return below(name, view, stem=stem, command=command)


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


def chart(view: View, key: str, on_click: Callable[[list], None] | None = None) -> None:
    """The figure of a view with Plotly's own toolbar; a click hands a mark's custom data to
    `on_click`.
    """

    def clicked() -> None:
        points = st.session_state[f"figure_{key}"]["selection"]["points"]
        if points and points[0].get("customdata") is not None:
            on_click(points[0]["customdata"])

    st.plotly_chart(
        view.inked("dark" if st.context.theme.type == "dark" else "light"),
        key=f"figure_{key}",
        theme="streamlit",
        on_select=clicked if on_click else "ignore",
        selection_mode="points",
        alt=theme.alt(view.figure),
        config={
            "displaylogo": False,
            "modeBarButtonsToRemove": ["toImage", "lasso2d", "select2d", "autoScale2d"],
        },
    )


def below(key: str, view: View, *, stem: str = "", command: Callable[[str], str] | None = None):
    """The line under a figure: its legend and quantities explained, its files; the place for
    more.
    """
    line = st.container(horizontal=True, gap="small")
    with line.popover("Definition", type="tertiary", width="content"):
        if legend := legend_lines(view.figure):
            st.markdown("In the legend:  \n" + "  \n".join(legend))
        for term in view.terms:
            definition(term)
    place = line.container(width="content")
    with line:  # last: a fragment takes all the width that is left
        saving(key, view, stem=stem, command=command)
    return place


def figure(made: go.Figure, key: str, data: pd.DataFrame, terms: tuple[str, ...]) -> None:
    """A figure that is no view of a comparison, with its definitions and data."""
    view = View(theme.alt(made), "", made, data, terms)
    chart(view, key)
    below(key, view)


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
