"""The strip plot of a run's headline quantities beside the published pairs and chance."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import marks, theme
from opdviz.figures.axes import logarithmic
from opdviz.tables.headlines import STRIPS, Headline
from opdviz.tables.published import family
from opdviz.words import number

MIDDLE = 0.4  # of a strip's height: where its marks stand; above them is room for the chance line
LEAST_ROOM = 0.06  # of what a strip shows, free at each end
# Pixels: a strip's marks; between two strips the ticks of one and the name of the next; the legend.
MARKS_ROOM, BETWEEN, NAME_ROOM, TICKS_ROOM, LEGEND_ROOM = 26, 64, 30, 36, 60


def strips(headline: list[dict], published: list[dict], width: int | None = None) -> go.Figure:
    """Six strips: published pairs in the shape of their recipe, chance dashed, this run a diamond;
    above each its name, unit and value.

    A diamond's custom data is the quantity that it opens on the map. `width` is how many directions
    the median matrix has.
    """
    by_quantity = {row["quantity"]: row for row in headline}
    plot = MARKS_ROOM * len(STRIPS) + BETWEEN * (len(STRIPS) - 1)
    figure = make_subplots(rows=len(STRIPS), cols=1, vertical_spacing=BETWEEN / plot)
    legend: set[str] = set()
    for row, strip in enumerate(STRIPS, start=1):
        pairs = [pair for pair in published if pair["quantity"] == strip.protocol]
        here = by_quantity.get(strip.protocol, {})
        for trace in strip_marks(strip, pairs, here):
            figure.add_trace(share_legend(trace, legend), row=row, col=1)
        values = [pair["value"] for pair in pairs] + shown_values(here)
        suffix = f" {unit_of(strip)}".rstrip()
        figure.update_xaxes(**strip_axis(values, strip.log, suffix), row=row, col=1)
        figure.update_yaxes(visible=False, range=[0, 1], fixedrange=True, row=row, col=1)
        heading(figure, row, strip_name(strip, width), left=True)
        heading(figure, row, value_text(strip, here), left=False)
    alt = "Strip plot of six headline quantities of this run beside published pairs and chance."
    return finished(figure, plot, alt=alt)


def finished(
    figure: go.Figure, plot: float, *, alt: str, legend_room: int = LEGEND_ROOM
) -> go.Figure:
    """Strips of so many pixels in all, dressed."""
    return theme.dressed(
        marks.unfading(figure),
        height=plot + NAME_ROOM + TICKS_ROOM + legend_room,
        alt=alt,
        margin={"l": 14, "r": 14, "t": NAME_ROOM, "b": TICKS_ROOM + legend_room},
        # Below: where it wraps, on a narrow page, it takes no room from the title.
        legend={
            "y": -TICKS_ROOM / plot,
            "yanchor": "top",
            "itemsizing": "constant",
            "itemwidth": 30,
        },
        hovermode="closest",
        dragmode=False,
    )


def share_legend(trace: go.Scatter, legend: set[str]) -> go.Scatter:
    """A trace of one of several plots: its name stands once in their legend, with the first that
    has it.
    """
    trace.update(legendgroup=trace.name, showlegend=trace.name not in legend)
    legend.add(trace.name)
    return trace


def unit_of(strip: Headline) -> str:
    """The unit as it stands behind a value; empty for a plain number."""
    return strip.unit.removesuffix("1")


def blind_ends(here: dict) -> tuple[float, float] | None:
    """The ends of what typical blind updates give, where a quantity has them."""
    ends = here.get("chance_low"), here.get("chance_high")
    return None if None in ends else ends


def shown_values(here: dict) -> list[float]:
    """What a strip shows of this run: its value, and its chance level or band."""
    values = (here.get("chance"), here.get("value"), *(blind_ends(here) or ()))
    return [value for value in values if value is not None]


def strip_marks(strip: Headline, pairs: list[dict], here: dict) -> list[go.Scatter]:
    """The marks of one strip: published pairs, chance level or band, and this run."""
    unit = unit_of(strip)
    by_family: dict[str, list[dict]] = {recipe: [] for recipe in theme.RECIPES}
    for pair in pairs:
        by_family[family(pair["recipe"])].append(pair)
    traces = [published_marks(rows, recipe, unit) for recipe, rows in by_family.items() if rows]
    value, chance, ends = here.get("value"), here.get("chance"), blind_ends(here)
    if ends:
        traces.append(blind_band(*ends, unit))
    elif chance is not None:
        level = f"chance %{{x:.3g}} {unit}"
        across, up = [chance, chance], [0.0, 1.0]
        traces.append(marks.chance(across, up, "chance", hover=level, line=marks.SHORT_DASHES))
    # Zero has no place on a logarithmic axis; it stands in words.
    if value is not None and (value > 0 or not strip.log):
        traces.append(diamond(value, unit, strip.column))
    return traces


def published_marks(rows: list[dict], recipe: str, unit: str) -> go.Scatter:
    """Published values of one recipe in its shape; model, aggregation and paper on hover."""
    colour = theme.RECIPES[recipe]
    sources = [
        f"{row['recipe']}<br>{row['pair']}<br>{row['aggregation']}, arXiv {row['paper']}"
        for row in rows
    ]
    return marks.dots(
        [row["value"] for row in rows],
        [MIDDLE] * len(rows),
        recipe,
        colour=colour,
        size=11,
        marker={"symbol": theme.SHAPES[recipe], "line": {"width": 2.5, "color": colour}},
        hovertext=sources,
        hover=f"%{{x}} {unit} · %{{hovertext}}",
    )


def blind_band(low: float, high: float, unit: str) -> go.Scatter:
    """What typical blind updates of these weights give, as a broad line."""
    return marks.line(
        [low, high],
        [MIDDLE, MIDDLE],
        "blind updates",
        colour=theme.NULL_AREA,
        width=marks.BAND,
        hover=f"blind updates %{{x:.3g}} {unit}",
    )


def diamond(value: float, unit: str, mapped: str) -> go.Scatter:
    """This run's value."""
    return marks.dots(
        [value],
        [MIDDLE],
        "this run",
        colour=theme.TUNED,
        size=15,
        marker={"symbol": "diamond"},
        cliponaxis=False,
        customdata=[[mapped]],
        hover=f"this run %{{x:.4g}} {unit}",
    )


def heading(figure: go.Figure, row: int, text: str, *, left: bool) -> None:
    """Words above a strip, at its left or right end."""
    axis = "" if row == 1 else row
    figure.add_annotation(
        text=text,
        x=0.0 if left else 1.0,
        xref=f"x{axis} domain",
        xanchor="left" if left else "right",
        y=1.0,
        yref=f"y{axis} domain",
        yanchor="bottom",
        showarrow=False,
    )


def strip_name(strip: Headline, width: int | None) -> str:
    """What a strip shows, and whether its scale is logarithmic; its ticks have the unit."""
    name = strip.strip
    if strip.column == "top16_energy" and width:
        name = f"energy in top 16 of {width:,} directions"
    return f"{name} (log)" if strip.log else name


def value_text(strip: Headline, here: dict) -> str:
    """The value with its unit, and beside it the range of typical blind updates or the chance."""
    value, chance, ends = here.get("value"), here.get("chance"), blind_ends(here)
    unit = unit_of(strip) if value is not None else ""
    text = f"<b>{f'{number(value)} {unit}'.strip()}</b>"
    if ends:
        return f"{text}, blind {number(ends[0])} to {number(ends[1])}"
    return text if chance is None else f"{text}, chance {number(chance)}"


def strip_axis(values: list[float], log: bool, unit: str) -> dict:
    """Range and ticks of one strip, a little wider than what it shows; `unit` stands behind each
    tick.
    """
    values = [math.log10(value) for value in values if value > 0] if log else values
    if not values:
        return {"showgrid": False}
    low, high = min(values), max(values)
    room = LEAST_ROOM * (high - low or 1.0)
    if log:
        axis = logarithmic(low - room, high + room)
        return axis | {"ticktext": [f"{tick}{unit}" for tick in axis["ticktext"]]}
    return {"range": [low - room, high + room], "nticks": 8, "ticksuffix": unit}
