"""The marks that figures are composed of: what means the same looks the same."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import theme

CHANCE_WIDTH = 1.8
# A level to hold others against: chance, an even spread, the whole, the base before training.
CHANCE_STYLE = {"color": theme.CHANCE, "dash": "dash", "width": CHANCE_WIDTH}
SHORT_DASHES = CHANCE_STYLE | {"dash": "5px,4px"}  # where a level is short
BAND = 13  # pixels: a broad line, on which a dot of 9 still shows
# A figure of cells: the nearest one takes hovers and clicks, nothing is dragged.
ON_CELLS = {"hovermode": "closest", "hoverdistance": -1, "dragmode": False, "showlegend": False}
OPAQUE = {"marker": {"opacity": 1}}


def hovering(template: str | None) -> dict:
    """What is said where the pointer stands; `None` says nothing.

    A Plotly template; without an `<extra>` of its own nothing stands in the box beside it.
    """
    if template is None:
        return {"hoverinfo": "skip"}
    beside = "" if "<extra>" in template else "<extra></extra>"
    return {"hovertemplate": template + beside}


def line(
    x: Sequence,
    y: Sequence,
    name: str,
    *,
    colour: str,
    width: float = 2,
    dash: str = "solid",
    hover: str | None = None,
    **more,
) -> go.Scatter:
    """A line; `more` goes to the trace, as `mode="lines+markers"` or `legendgroup`."""
    style = {"color": colour, "width": width, "dash": dash, **more.pop("line", {})}
    trace = {"mode": "lines", **hovering(hover), **more}
    return go.Scatter(x=x, y=y, name=name, line=style, **trace)


def dots(
    x: Sequence,
    y: Sequence,
    name: str,
    *,
    colour: str | list[str],
    size: float = 9,
    hover: str | None = None,
    marker: dict | None = None,
    **more,
) -> go.Scatter:
    """Marks of one size; `marker` adds to their look, `more` to the trace."""
    look = {"color": colour, "size": size, **(marker or {})}
    trace = {"mode": "markers", **hovering(hover), **more}
    return go.Scatter(x=x, y=y, name=name, marker=look, **trace)


def bars(
    x: Sequence,
    y: Sequence,
    name: str,
    *,
    colour: str,
    hover: str | None = None,
    **more,
) -> go.Bar:
    """Bars; `orientation="h"` lays them down, `text` stands at their ends."""
    if "text" in more:
        more = {"textposition": "outside", "cliponaxis": False, **more}
    return go.Bar(x=x, y=y, name=name, marker_color=colour, **hovering(hover), **more)


def segments(
    low: Sequence, high: Sequence, y: Sequence, name: str, *, colour: str, width: float
) -> go.Scatter:
    """Horizontal bars from low to high, one a line: a line that is broken between them."""
    xs = [x for ends in zip(low, high, strict=True) for x in (*ends, None)]
    ys = [place for at in y for place in (at, at, None)]
    return line(xs, ys, name, colour=colour, width=width)


def chance(x: Sequence, y: Sequence, name: str, *, hover: str | None = None, **more) -> go.Scatter:
    """A chance level as a dashed line of the figure, which the legend names."""
    trace = {"mode": "lines", "line": CHANCE_STYLE, **hovering(hover), **more}
    return go.Scatter(x=x, y=y, name=name, **trace)


def chance_line(
    figure: go.Figure, *, x: float | None = None, y: float | None = None, **place
) -> None:
    """A chance level across the whole height (x) or width (y) of a plot; `place` is row and col."""
    if x is not None:
        figure.add_vline(x=x, line=CHANCE_STYLE, **place)
    if y is not None:
        figure.add_hline(y=y, line=CHANCE_STYLE, **place)


def cells(
    z: Sequence,
    x: Sequence,
    y: Sequence,
    *,
    limits: tuple[float, float],
    colours: str,
    hover: str | None = None,
    **more,
) -> go.Heatmap:
    """A heatmap between two colour limits."""
    low, high = limits
    look = {"zmin": low, "zmax": high, "colorscale": colours}
    return go.Heatmap(z=z, x=x, y=y, **look, **hovering(hover), **more)


def colour_bar(title: str, **ticks) -> dict:
    """The scale of a heatmap, narrow and without a frame."""
    frame = {"thickness": 11, "len": 0.9, "outlinewidth": 0}
    return {"title": {"text": title, "side": "top"}, **frame, **ticks}


def facets(titles: Sequence[str], *, spacing: float = 0.03, shared: bool = True) -> go.Figure:
    """Plots side by side under titles of their own, on one vertical axis where it is `shared`."""
    return make_subplots(
        rows=1,
        cols=len(titles),
        shared_yaxes=shared,
        horizontal_spacing=spacing,
        subplot_titles=list(titles),
    )


def tooltips(rows: pd.DataFrame, *columns: Sequence) -> list[tuple] | None:
    """Columns beside each other as the custom data of a trace's marks; `None` without rows."""
    return list(zip(*columns, strict=True)) if len(rows) else None


def unfading(figure: go.Figure, **selector) -> go.Figure:
    """The same figure with marks that stay as they are when one is clicked: a click opens."""
    return figure.update_traces(selected=OPAQUE, unselected=OPAQUE, selector=selector or None)
