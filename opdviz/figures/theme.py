"""One look for every figure, in the app and exported: one template, one colour a meaning, words on
the axes.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.words import number

BASE, TUNED, DELTA = "#8c8a84", "#2f6db3", "#d0641c"
CHANCE, NULL = "#9a978f", "#7653b0"
RECIPES = {
    "OPD": "#d0641c",
    "RL + OPD": "#8f5aa0",
    "RLVR": "#2e8b6f",
    "SFT": "#5b6fa8",
    "offline distillation": "#8c8a84",
    "self-distillation": "#c58f1f",
}
BLOCKS = {
    "attention": "#0072b2",
    "ffn": "#d55e00",
    "router": "#cc79a7",
    "norm": "#009e73",
    "embedding": "#b59a00",
    "head": "#56b4e9",
    "other": "#8c8a84",
}
MAGNITUDES, SIGNED = "Cividis", "PuOr"
CLIP = 3.0
LONGEST_LABEL = 28
LONGEST_TITLE = 64
TITLE = 44
MOST_MARKS = 1_500
FAINT = "rgba(140,138,132,0.22)"
GREY_AREA = "rgba(140,138,132,0.28)"
NULL_AREA = "rgba(118,83,176,0.5)"

FONT, SIZE = "Source Sans Pro, Source Sans, Helvetica, Arial, sans-serif", 14

TEMPLATE = go.layout.Template(
    layout=go.Layout(
        font=dict(family=FONT, size=SIZE, color="#3d3b37"),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=[DELTA, TUNED, BASE, NULL, "#009e73", "#b59a00"],
        xaxis=dict(
            showline=True,
            linecolor=FAINT,
            gridcolor=FAINT,
            zeroline=False,
            ticks="outside",
            tickcolor=FAINT,
        ),
        yaxis=dict(showline=False, gridcolor=FAINT, zeroline=False),
        margin=dict(l=60, r=20, t=16, b=48),
        hoverlabel=dict(font=dict(size=13)),
        legend=dict(orientation="h", yanchor="bottom", y=1.0, xanchor="left", x=0.0),
    )
)


def figure(*traces, height: int = 360, alt: str, **layout) -> go.Figure:
    """A figure in our template; `alt` is one sentence for those who cannot see it, kept in
    `layout.meta`.
    """
    made = go.Figure(list(traces))
    return dressed(made, height=height, alt=alt, **layout)


def dressed(made: go.Figure, *, height: int, alt: str, **layout) -> go.Figure:
    """Our template on a figure that is already there. Sizes are repeated outside the template:
    Streamlit's own would win.
    """
    size = dict(size=SIZE)
    made.update_layout(
        template=TEMPLATE, height=height, meta={"alt": alt}, font=size, legend=dict(font=size)
    )
    made.update_xaxes(tickfont=dict(size=SIZE - 1), title_font=size)
    made.update_yaxes(tickfont=dict(size=SIZE - 1), title_font=size)
    made.update_annotations(font=size)
    return made.update_layout(**layout)


def titled(made: go.Figure, title: str, of: str = "") -> go.Figure:
    """The same figure under a title of its own and, smaller, what it is of: it says so also where
    it left the page.
    """
    room = made.layout.margin.t if made.layout.margin.t is not None else TEMPLATE.layout.margin.t
    height = made.layout.height + TITLE
    second = literal(shortened(of, LONGEST_TITLE))
    text = (
        f"<b>{literal(title)}</b><br><span style='font-size:0.85em;font-weight:400'>{second}</span>"
    )
    place = dict(
        text=text,
        x=0.0,
        xref="container",
        y=1 - 18 / height,
        yanchor="top",
        yref="container",
        font=dict(size=SIZE),
    )
    return made.update_layout(title=place, margin=dict(t=room + TITLE), height=height)


def enlarged(made: go.Figure, factor: float, height: int) -> go.Figure:
    """The same figure for a projector: every font larger, and as high as the screen allows."""
    fonts = [made.layout.font, made.layout.legend.font, made.layout.title.font]
    fonts += [
        f
        for axis in (*made.select_xaxes(), *made.select_yaxes())
        for f in (axis.tickfont, axis.title.font)
    ]
    fonts += [note.font for note in made.layout.annotations]
    fonts += [
        t.textfont
        for t in made.data
        if "textfont" in t and getattr(t, "mode", "text") and t.textfont.size
    ]
    for font in fonts:
        font.size = round((font.size or SIZE) * factor)
    margin = made.layout.margin
    grown = {
        side: round(value * factor)
        for side in "lrtb"
        if (value := getattr(margin, side)) is not None
    }
    for trace in made.select_traces("scatter"):
        if trace.line.width:
            trace.line.width = trace.line.width * factor
    return made.update_layout(height=height, margin=grown)


def thinned(rows: pd.DataFrame, value: pd.Series, by: str, most: int = MOST_MARKS) -> pd.DataFrame:
    """At most about `most` rows for one mark each: of every group both ends and, in order of the
    value, every n-th between.
    """
    if len(rows) <= most:
        return rows
    kept = []
    for _, part in value.groupby(rows[by]):
        ordered = part.sort_values(kind="stable").index
        places = np.unique(
            np.linspace(0, len(ordered) - 1, min(len(ordered), max(8, most // rows[by].nunique())))
            .round()
            .astype(int)
        )
        kept += list(ordered[places])
    return rows.loc[sorted(kept)]


def shortened(text: str, most: int) -> str:
    """A text with its middle left out where it is longer than `most`; the ends tell most.

    >>> shortened("abcdefghij", 5)
    'ab…ij'
    """
    return (
        text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"
    )


def alt(made: go.Figure) -> str:
    """The sentence that says what a figure shows."""
    return made.layout.meta["alt"]


def literal(text: object) -> str:
    """Text from data for a figure: Plotly takes tags in its labels for markup.

    >>> literal("<b>&")
    '&lt;b&gt;&amp;'
    """
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def axis_label(text: object) -> str:
    """A name as an axis label: literal, and short enough to leave room for the figure; the ends tell most.

    >>> len(axis_label("a" * 500)), axis_label("attention.output.dense")
    (28, 'attention.output.dense')
    """
    text = str(text)
    return literal(
        text if len(text) <= LONGEST_LABEL else f"{text[:10]}…{text[10 - LONGEST_LABEL + 1 :]}"
    )


def powers(low: float, high: float) -> tuple[list[float], list[str]]:
    """Tick positions and labels at 1, 2, 5 times powers of ten, more on short axes, thinned to
    powers on long ones.

    >>> powers(-1, 1)[1]
    ['0.1', '0.2', '0.5', '1', '2', '5', '10']
    """
    steps = (
        (1, 1.5, 2, 3, 4, 5, 6, 8)
        if high - low <= 0.8
        else (1, 2, 5)
        if high - low <= 2.2
        else (1, 3)
        if high - low <= 3
        else (1,)
    )
    places, labels = [], []
    for exponent in range(int(low) - 2, int(high) + 3):
        for step in steps:
            value = step * 10.0**exponent
            if 10.0**low * 0.999 <= value <= 10.0**high * 1.001:
                places.append(value)
                labels.append(number(value))
    return places, labels
