"""The strip plot of a run's headline quantities beside the published pairs and chance."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import marks, theme
from opdviz.figures.axes import logarithmic
from opdviz.tables.headlines import STRIPS, Headline
from opdviz.tables.published import family
from opdviz.words import number

MIDDLE = 0.3  # of a strip's height: where its marks stand; above them is room for the chance line
LEAST_ROOM = 0.06  # of what a strip shows, free at each end


def strips(headline: list[dict], published: list[dict]) -> go.Figure:
    """Six strips: published pairs in the shape of their recipe, chance dashed, this run a diamond
    with its value.

    A diamond's custom data is the quantity that it opens on the map.
    """
    by_quantity = {row["quantity"]: row for row in headline}
    figure = make_subplots(rows=len(STRIPS), cols=1, vertical_spacing=0.085)
    legend: set[str] = set()
    for row, strip in enumerate(STRIPS, start=1):
        pairs = [pair for pair in published if pair["quantity"] == strip.protocol]
        here = by_quantity.get(strip.protocol, {})
        for trace in strip_marks(strip, pairs, here):
            # Strips share their legend: a name stands there once, with the first that has it.
            trace.update(legendgroup=trace.name, showlegend=trace.name not in legend)
            legend.add(trace.name)
            figure.add_trace(trace, row=row, col=1)
        values = [pair["value"] for pair in pairs] + shown_values(here)
        figure.update_xaxes(**strip_axis(values, strip.log), row=row, col=1)
        figure.update_yaxes(visible=False, range=[0, 1], fixedrange=True, row=row, col=1)
        margin_text(figure, row, strip.strip, left=True)
        margin_text(figure, row, value_text(strip, here), left=False)
    return theme.dressed(
        marks.unfading(figure),
        height=420,
        alt="Strip plot of six headline quantities of this run beside published pairs and chance.",
        margin={"l": 270, "r": 130, "t": 72, "b": 26},
        legend={"y": 1.02, "x": -0.32, "itemsizing": "constant", "itemwidth": 30},
        hovermode="closest",
        dragmode=False,
    )


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
        traces.append(marks.chance([chance, chance], [0.0, 0.75], "chance", hover=level))
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


def margin_text(figure: go.Figure, row: int, text: str, *, left: bool) -> None:
    """Words beside a strip, left of it or right of it."""
    figure.add_annotation(
        text=text,
        x=-0.01 if left else 1.01,
        xref="paper",
        xanchor="right" if left else "left",
        y=MIDDLE,
        yref=f"y{'' if row == 1 else row} domain",
        align="right" if left else "left",
        showarrow=False,
    )


def value_text(strip: Headline, here: dict) -> str:
    """The value with its unit, and below it the range of typical blind updates or the chance."""
    value, chance, ends = here.get("value"), here.get("chance"), blind_ends(here)
    unit = unit_of(strip) if value is not None else ""
    text = f"<b>{f'{number(value)} {unit}'.strip()}</b>"
    if ends:
        beside = f"blind {number(ends[0])} to {number(ends[1])}"
    elif chance is not None:
        beside = f"chance {number(chance)}"
    else:
        return text
    return f"{text}<br><span style='font-size:0.85em'>{beside}</span>"


def strip_axis(values: list[float], log: bool) -> dict:
    """Range and ticks of one strip, a little wider than what it shows."""
    values = [math.log10(value) for value in values if value > 0] if log else values
    if not values:
        return {"showgrid": False}
    low, high = min(values), max(values)
    room = LEAST_ROOM * (high - low or 1.0)
    if log:
        return logarithmic(low - room, high + room)
    return {"range": [low - room, high + room], "nticks": 8}
