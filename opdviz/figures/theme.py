"""One look for every figure, in the app and exported: one template, one colour a meaning, words on
the axes.
"""

import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.colors import convert_to_RGB_255, sample_colorscale

BASE, TUNED, DELTA = "#8c8a84", "#2f6db3", "#d0641c"
CHANCE, NULL = "#9a978f", "#7653b0"
RECIPES = {
    "OPD": DELTA,
    "RL + OPD": "#8f5aa0",
    "RLVR": "#2e8b6f",
    "SFT": "#5b6fa8",
    "offline distillation": BASE,
    "self-distillation": "#c58f1f",
}
# A shape each as well: some of these colours are one to who does not see red and green apart.
SHAPES = {
    "OPD": "circle-open",
    "RL + OPD": "square-open",
    "RLVR": "triangle-up-open",
    "SFT": "triangle-down-open",
    "offline distillation": "x-thin-open",
    "self-distillation": "cross-thin-open",
}
BLOCKS = {
    "attention": "#0072b2",
    "ffn": "#d55e00",
    "mixer": "#8a6a3f",
    "router": "#cc79a7",
    "norm": "#009e73",
    "embedding": "#b59a00",
    "projector": "#e69f00",
    "head": "#56b4e9",
    "other": BASE,
}
# Runs side by side (Okabe and Ito's, the yellow for a brown that is read on white, black for grey),
# a dash and a shape each as well.
RUNS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#8a6a3f", BASE),
)
RUN_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,2px", "2px,6px")
RUN_SHAPES = (
    *("diamond", "circle", "square", "triangle-up"),
    *("cross", "x", "star", "hexagon"),
)
MAGNITUDES, SIGNED = "Cividis", "PuOr"
# log2: a value of 0 is infinitely far below chance, and has a place all the same.
FARTHEST = 10
LONGEST_TITLE = 64
TITLE = 44
MOST_MARKS = 1_500  # in a figure: more are no longer told apart, and slow the browser
LEAST_MARKS = 8  # of a group
# BASE and NULL, as far as what lies behind is still seen.
FAINT = "rgba(140,138,132,0.22)"
GREY_AREA = "rgba(140,138,132,0.28)"
NULL_AREA = "rgba(118,83,176,0.5)"

# The page's ground in `.streamlit/config.toml`, and what is written on it.
GROUND = {"light": "#fdfcfa", "dark": "#171614"}
INK = {"light": "#4f4b45", "dark": "#c4bfb6"}

AXIS = re.compile("[xy]axis[0-9]*")
FONT, SIZE = "Source Sans Pro, Source Sans, Helvetica, Arial, sans-serif", 14

TEMPLATE = go.layout.Template(
    layout=go.Layout(
        font={"family": FONT, "size": SIZE, "color": "#3d3b37"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=[DELTA, TUNED, BASE, NULL, "#009e73", "#b59a00"],
        xaxis={
            "showline": True,
            "linecolor": FAINT,
            "gridcolor": FAINT,
            "zeroline": False,
            "ticks": "outside",
            "tickcolor": FAINT,
        },
        yaxis={"showline": False, "gridcolor": FAINT, "zeroline": False},
        margin={"l": 60, "r": 20, "t": 16, "b": 48},
        hoverlabel={"font": {"size": 13}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "left", "x": 0.0},
    )
)


def figure(*traces: BaseTraceType, height: int = 360, alt: str, **layout) -> go.Figure:
    """A figure in our template; `alt` is one sentence for those who cannot see it."""
    return dressed(go.Figure(list(traces)), height=height, alt=alt, **layout)


def dressed(figure: go.Figure, *, height: int, alt: str, **layout) -> go.Figure:
    """Our template on a figure that is already there; `alt` is kept in `layout.meta`."""
    # Sizes are repeated outside the template: Streamlit's own would win.
    font, ticks = {"size": SIZE}, {"size": SIZE - 1}
    figure.update_layout(
        template=TEMPLATE, height=height, meta={"alt": alt}, font=font, legend={"font": font}
    )
    figure.update_xaxes(tickfont=ticks, title_font=font)
    figure.update_yaxes(tickfont=ticks, title_font=font)
    figure.update_annotations(font=font)
    return figure.update_layout(**layout)


def inked(figure: go.Figure, scheme: str) -> go.Figure:
    """A copy whose axes, annotations and hovers are read on the page's ground in a scheme, `light`
    or `dark`: 4.5:1 and more. Streamlit's own grey is 3.6:1, and no one grey serves both grounds.
    """
    ink = INK[scheme]
    # In dictionaries: through Plotly's objects, each of which looks at what it is given, a page
    # would wait four times as long.
    traces = [trace.to_plotly_json() for trace in figure.data]
    layout = figure.layout.to_plotly_json()
    for name in axes_of(layout):
        axis = layout.setdefault(name, {})
        axis.setdefault("tickfont", {})["color"] = ink
        font = axis.setdefault("title", {}).setdefault("font", {})
        font["color"] = ink
        font.setdefault("size", SIZE)  # Plotly's own is a fifth larger
    for note in layout.get("annotations", ()):
        note.setdefault("font", {}).setdefault("color", ink)
    for trace, original in zip(traces, figure.data, strict=True):
        if has_words(original):
            trace.setdefault("textfont", {}).setdefault("color", ink)
        if "colorbar" in original:
            bar = trace.setdefault("colorbar", {})
            bar.setdefault("title", {}).setdefault("font", {})["color"] = ink
            bar.setdefault("tickfont", {})["color"] = ink
        elif original.type == "scatter" and original.marker.showscale:
            bar = trace["marker"].setdefault("colorbar", {})
            bar.setdefault("tickfont", {})["color"] = ink
    layout.setdefault("legend", {}).setdefault("font", {})["color"] = ink
    hovers = layout.setdefault("hoverlabel", {})
    hovers |= {"bgcolor": GROUND[scheme], "bordercolor": ink}
    hovers["font"] = hovers.get("font", {}) | {"color": ink, "size": SIZE}
    return go.Figure(traces, layout)


def axes_of(layout: dict) -> list[str]:
    """The names of the axes in a layout, the first two whether or not they are set."""
    named = (name for name in layout if AXIS.fullmatch(name))
    return list(dict.fromkeys(("xaxis", "yaxis", *named)))


def titled(figure: go.Figure, title: str, subject: str = "") -> go.Figure:
    """The same figure under a title of its own and, smaller, what it is of.

    So it says what it shows also where it left the page.
    """
    top = figure.layout.margin.t
    room = TEMPLATE.layout.margin.t if top is None else top
    height = figure.layout.height + TITLE
    second = literal(shortened(subject, LONGEST_TITLE))
    small = "font-size:0.85em;font-weight:400"
    return figure.update_layout(
        title={
            "text": f"<b>{literal(title)}</b><br><span style='{small}'>{second}</span>",
            "x": 0.0,
            "xref": "container",
            "y": 1 - 18 / height,
            "yanchor": "top",
            "yref": "container",
            "font": {"size": SIZE},
        },
        margin={"t": room + TITLE},
        height=height,
    )


def untitled(figure: go.Figure) -> go.Figure:
    """The same figure without the title and the room for it, where it stands elsewhere."""
    return figure.update_layout(title=None, margin={"t": figure.layout.margin.t - TITLE})


def enlarged(figure: go.Figure, factor: float, height: int) -> go.Figure:
    """The same figure for a projector: every font larger, and as high as the screen allows."""
    for font in fonts(figure):
        font.size = round((font.size or SIZE) * factor)
    for trace in figure.select_traces("scatter"):
        if trace.line.width:
            trace.line.width *= factor
    usual = TEMPLATE.layout.margin
    margins = {side: figure.layout.margin[side] for side in "lrtb"}
    sides = {side: usual[side] if room is None else room for side, room in margins.items()}
    margin = {side: round(room * factor) for side, room in sides.items()}
    return figure.update_layout(height=height, margin=margin)


def fonts(figure: go.Figure) -> list:
    """Every font of a figure: its own, and those of legend, title, axes, annotations and marks."""
    layout = figure.layout
    several = [layout.font, layout.legend.font, layout.title.font]
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        several += [axis.tickfont, axis.title.font]
    several += [annotation.font for annotation in layout.annotations]
    for trace in figure.data:
        if has_words(trace):
            several.append(trace.textfont)
    return several


def legend_names(figure: go.Figure) -> list[str]:
    """The names that stand in a figure's legend, each once."""
    named = (trace.name for trace in figure.data if trace.name and trace.showlegend is not False)
    return list(dict.fromkeys(named))


def has_words(trace: BaseTraceType) -> bool:
    """Whether a trace writes text of its own; one of lines or marks has a font that it does not
    use.
    """
    mode = "text" if trace.type == "bar" else getattr(trace, "mode", None) or ""
    return "text" in mode and trace.text is not None


def colour_at(colours: str, share: float) -> str:
    """The colour at a place of a colour scale between 0 and 1.

    >>> colour_at("Cividis", 0.0)
    '#00224e'
    """
    (sampled,) = sample_colorscale(colours, [float(share)], colortype="tuple")
    return f"#{bytes(convert_to_RGB_255(sampled)).hex()}"


def ink_on(colours: str, share: float) -> str:
    """Black or white, whichever is read better at a place of a colour scale between 0 and 1.

    On any ground one of them has a contrast of 4.5:1 and more; they meet where the relative
    luminance is 0.179 (WCAG 2.2).

    >>> ink_on("Cividis", 0.0), ink_on("Cividis", 1.0)
    ('white', 'black')
    """
    (sampled,) = sample_colorscale(colours, [float(share)], colortype="tuple")
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in sampled
    ]
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), linear))
    return "black" if luminance > 0.179 else "white"


def thinned(rows: pd.DataFrame, value: pd.Series, by: str, most: int = MOST_MARKS) -> pd.DataFrame:
    """At most about `most` rows for one mark each.

    Of every group both ends stay and, in order of the value, every n-th between.
    """
    if len(rows) <= most:
        return rows
    a_group = max(LEAST_MARKS, most // rows[by].nunique())
    indices = []
    for _, part in value.groupby(rows[by]):
        ordered = part.sort_values(kind="stable").index
        places = np.linspace(0, len(ordered) - 1, min(len(ordered), a_group))
        indices += list(ordered[np.unique(places.round().astype(int))])
    return rows.loc[sorted(indices)]


def shortened(text: str, most: int) -> str:
    """A text with its middle left out where it is longer than `most`; the ends tell most.

    >>> shortened("abcdefghij", 5)
    'ab…ij'
    """
    if len(text) <= most:
        return text
    return f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def alt(figure: go.Figure) -> str:
    """The sentence that says what a figure shows."""
    return figure.layout.meta["alt"]


def literal(text: object) -> str:
    """Text from data for a figure: Plotly takes tags in its labels for markup.

    >>> literal("<b>&")
    '&lt;b&gt;&amp;'
    """
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
