"""A figure for paper: light whatever the page is, as wide as a column or as the text, its type 7 to
9 points there.
"""

import math
import textwrap

import plotly.graph_objects as go

from opdviz.figures import theme

# Millimetres: one column of two, and the whole text, as most journals and conferences have them.
WIDTHS = {"column": 86.0, "full": 178.0}
PIXEL = 25.4 / 96  # millimetres, as CSS counts
POINT = 96 / 72  # pixels
SMALLER = 0.75  # of the screen's sizes
LEAST, TITLE = 7.2 * POINT, 9 * POINT  # pixels of type
LETTER = 0.52  # of its type's size, a letter's width on average
LINE = 1.4  # of its type's size, a line's height
TICK = 5  # of its type's size, the room of a number on an axis
LEGEND_MARK = 46  # pixels of a legend's entry beside its name
STYLE = ("marker", "line", "textfont", "colorbar", "visible")


def printed(figure: go.Figure, width: str) -> go.Figure:
    """A copy for paper, `column` or `full` wide, with the layout's width and height in CSS pixels.

    Every mark, line and space is three quarters of the screen's; labels that no longer fit beside
    each other are thinned out.
    """
    pixels = round(WIDTHS[width] / PIXEL)
    figure = theme.inked(figure, "light")
    height = round((figure.layout.height or 360) * SMALLER)
    theme.enlarged(figure, SMALLER, height)
    for font in theme.fonts(figure):
        font.size = max(font.size, LEAST)
    for trace in figure.data:
        slimmer(trace)
    figure.update_layout(width=pixels, autosize=False, paper_bgcolor="rgba(0,0,0,0)")
    more = title_lines(figure, pixels)
    figure.layout.margin.t += more
    figure.layout.height += more
    figure.update_xaxes(showgrid=False)
    legend_lines(figure, pixels)
    thin_out(figure, pixels)
    return figure


def slimmer(trace) -> None:
    """Marks and colour bars of one trace, in place."""
    marker = getattr(trace, "marker", None)
    if marker is not None and isinstance(getattr(marker, "size", None), int | float):
        marker.size *= SMALLER
    for bar in (getattr(trace, "colorbar", None), getattr(marker, "colorbar", None)):
        if bar is not None and bar.thickness:
            bar.thickness *= SMALLER
            bar.tickfont.size = bar.title.font.size = LEAST


def title_lines(figure: go.Figure, pixels: int) -> int:
    """Break a title that is wider than the figure, in place; the pixels that its lines take."""
    if not figure.layout.title.text:
        return 0
    head, _, rest = figure.layout.title.text.partition("</b>")
    letters = int((pixels - 10) / (TITLE * LETTER))
    whole = {"break_long_words": False, "break_on_hyphens": False}  # an entity is one sign
    lines = textwrap.wrap(head.removeprefix("<b>"), letters, **whole) or [""]
    room = round((TITLE - theme.SIZE * SMALLER) * 2 + (len(lines) - 1) * TITLE * LINE)
    figure.layout.title.text = f"<b>{'<br>'.join(lines)}</b>{rest}"
    figure.layout.title.font.size = TITLE
    figure.layout.title.y = 1 - 1.2 * TITLE / (figure.layout.height + room)
    return room


def legend_lines(figure: go.Figure, pixels: int) -> None:
    """Room for the lines of a legend, in place: below it wraps, Plotly lets the title alone."""
    names = dict.fromkeys(
        trace.name for trace in figure.data if trace.name and trace.showlegend is not False
    )
    if figure.layout.showlegend is False or not names:
        return
    legend, margin = figure.layout.legend, figure.layout.margin
    widest = LEGEND_MARK + max(map(len, names)) * legend.font.size * LETTER
    columns = max(1, int((pixels - 40) / widest))
    side = "b" if (legend.y or 0.0) < 0 else "t"
    more = round((math.ceil(len(names) / columns) - 1) * legend.font.size * 1.9)
    figure.update_layout(margin={side: margin[side] + more}, height=figure.layout.height + more)
    if side == "t" and has_facet_titles(figure):
        plot = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
        legend.y = 1 + 2 * LEAST / plot


def has_facet_titles(figure: go.Figure) -> bool:
    """Whether plots that stand side by side have titles above them."""
    notes = figure.layout.annotations
    return any(note.y == 1.0 and (note.yref, note.yanchor) == ("paper", "bottom") for note in notes)


def thin_out(figure: go.Figure, pixels: int) -> None:
    """Take out, in place, labels along an axis and numbers in cells that have no room."""
    margin = figure.layout.margin
    across = pixels - (margin.l or 0) - (margin.r or 0)
    for axis in figure.select_xaxes():
        labels = axis.ticktext
        low, high = axis.domain or (0.0, 1.0)
        size = axis.tickfont.size or LEAST
        if not labels:
            axis.nticks = max(3, int(across * (high - low) / (TICK * size)))
            continue
        a_label = max(len(str(label)) for label in labels) * size * LETTER + size / 2
        step = math.ceil(len(labels) * a_label / (across * (high - low)))
        axis.update(tickvals=axis.tickvals[::step], ticktext=labels[::step])
    for trace in figure.select_traces(selector={"name": "numbers"}):
        columns = len(set(trace.x))
        widest = max((len(text) for text in trace.text), default=0)
        trace.visible = columns * widest * LEAST * LETTER < across * 0.86


def look(trace: dict) -> dict:
    """What a trace looks like, without its data: the nested plain values of its style.

    >>> look({"x": [1, 2], "visible": True, "marker": {"size": 3, "color": ["red", "blue"]}})
    {'visible': True, 'marker': {'size': 3}}
    """
    return plain_values({key: value for key, value in trace.items() if key in STYLE})


def plain_values(value: dict) -> dict:
    """A nested mapping without its arrays."""
    nested = {k: plain_values(v) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: v for k, v in nested.items() if isinstance(v, dict | str | bool | int | float)}
