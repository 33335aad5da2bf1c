"""A figure for paper: light whatever the page is, as wide as a column or as the text, its type 7 to
9 points there.
"""

import math
import textwrap

import plotly.graph_objects as go

from opdviz.figures import theme

# Inches: one column of two, and the whole text, as most conferences have them.
WIDTHS = {"column": 3.25, "full": 6.75}
PIXEL = 1 / 96  # inches, as CSS counts
POINT = 96 / 72  # pixels
SMALLER = 0.75  # of the screen's sizes
LEAST, TITLE = 7.2 * POINT, 9 * POINT  # pixels of type
LETTER = 0.52  # of its type's size, a letter's width on average
# Of their type's size: a line of a title, one of a legend, and the room of a number on an axis.
LINE, LEGEND_LINE, TICK = 1.4, 1.9, 5
TITLE_FROM_TOP = 1.2  # of its type's size
LEGEND_MARK = 46  # pixels of a legend's entry beside its name
SIDES = 40  # pixels beside a legend
CELLS = 0.86  # of a map's plot: the rest is its colour bar
STYLE = ("marker", "line", "textfont", "colorbar", "visible")


def printed(figure: go.Figure, width: str, *, title: bool = True) -> go.Figure:
    """A copy for paper, `column` or `full` wide, with the layout's width and height in CSS pixels;
    without its title where a paper's caption says it.

    Every mark, line and space is three quarters of the screen's; labels that no longer fit beside
    each other are thinned out.
    """
    pixels = round(WIDTHS[width] / PIXEL)
    figure = theme.inked(figure, "light")
    if not title and figure.layout.title.text:
        theme.untitled(figure)
    height = round((figure.layout.height or 360) * SMALLER)
    theme.enlarged(figure, SMALLER, height)
    for font in theme.fonts(figure):
        font.size = max(font.size, LEAST)
    for trace in figure.data:
        slimmer(trace)
    figure.update_layout(width=pixels, autosize=False, paper_bgcolor="rgba(0,0,0,0)")
    figure.update_xaxes(showgrid=False)
    break_title(figure, pixels)
    make_room_for_legend(figure, pixels)
    break_axis_titles(figure, pixels)
    thin_out(figure, pixels)
    return figure


def add_room(figure: go.Figure, side: str, more: float) -> None:
    """Make a figure higher by pixels of its margin above (t) or below (b), in place."""
    figure.layout.margin[side] += round(more)
    figure.layout.height += round(more)


def slimmer(trace) -> None:
    """Marks and colour bars of one trace, in place."""
    marker = getattr(trace, "marker", None)
    if marker is not None and isinstance(getattr(marker, "size", None), int | float):
        marker.size *= SMALLER
    for bar in (getattr(trace, "colorbar", None), getattr(marker, "colorbar", None)):
        if bar is not None and bar.thickness:
            bar.thickness *= SMALLER
            bar.tickfont.size = bar.title.font.size = LEAST


def break_title(figure: go.Figure, pixels: int) -> None:
    """Break a title that is wider than the figure, in place, and make room for its lines."""
    title = figure.layout.title
    if not title.text:
        return
    head, _, rest = title.text.partition("</b>")
    letters = int((pixels - 10) / (TITLE * LETTER))
    whole = {"break_long_words": False, "break_on_hyphens": False}  # an entity is one sign
    lines = textwrap.wrap(head.removeprefix("<b>"), letters, **whole) or [""]
    # Its two lines are larger than the screen's; further ones are new.
    add_room(figure, "t", 2 * (TITLE - theme.SIZE * SMALLER) + (len(lines) - 1) * LINE * TITLE)
    title.text = f"<b>{'<br>'.join(lines)}</b>{rest}"
    title.font.size = TITLE
    title.y = 1 - TITLE_FROM_TOP * TITLE / figure.layout.height


def make_room_for_legend(figure: go.Figure, pixels: int) -> None:
    """Room for a legend that takes several lines, in place: Plotly breaks it into columns as wide
    as its longest name, and would write the lines over the title.
    """
    names = theme.legend_names(figure)
    if figure.layout.showlegend is False or not names:
        return
    legend = figure.layout.legend
    widest = LEGEND_MARK + max(map(len, names)) * legend.font.size * LETTER
    columns = max(1, int((pixels - SIDES) / widest))
    side = "b" if (legend.y or 0.0) < 0 else "t"
    lines = math.ceil(len(names) / columns)
    add_room(figure, side, (lines - 1) * LEGEND_LINE * legend.font.size)
    if side == "t" and has_facet_titles(figure):
        plot = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
        legend.y = 1 + 2 * LEAST / plot


def break_axis_titles(figure: go.Figure, pixels: int) -> None:
    """Break titles below axes that are wider than their axis, in place, and make room for the
    lines: side by side they would run into each other.
    """
    titled = [axis for axis in figure.select_xaxes() if axis.title.text]
    if len(titled) < 2:  # it has the whole width
        return
    margin, most = figure.layout.margin, 1
    for axis in titled:
        low, high = axis.domain or (0.0, 1.0)
        letters = (pixels - margin.l - margin.r) * (high - low) / (LEAST * LETTER)
        lines = textwrap.wrap(axis.title.text, int(letters), break_long_words=False)
        axis.title.text = "<br>".join(lines)
        most = max(most, len(lines))
    add_room(figure, "b", (most - 1) * LINE * LEAST)


def has_facet_titles(figure: go.Figure) -> bool:
    """Whether plots that stand side by side have titles above them."""
    notes = figure.layout.annotations
    return any(note.y == 1.0 and (note.yref, note.yanchor) == ("paper", "bottom") for note in notes)


def thin_out(figure: go.Figure, pixels: int) -> None:
    """Take out, in place, labels along an axis and numbers in cells that have no room."""
    margin = figure.layout.margin
    across = pixels - margin.l - margin.r
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
        trace.visible = columns * widest * LEAST * LETTER < across * CELLS


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
