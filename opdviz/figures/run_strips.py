"""The headline quantities of several runs: strips with a lane for each run, or for the seeds of a
recipe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import marks, theme
from opdviz.figures.overview import (
    blind_band,
    finished,
    heading,
    published_marks,
    share_legend,
    strip_axis,
    strip_name,
    unit_of,
)
from opdviz.figures.runs import Look
from opdviz.tables.headlines import STRIPS, Headline
from opdviz.tables.published import family

COLUMNS = 2
# Pixels: a lane; between two strips the ticks of one and the name of the next; the legend.
LANE, BETWEEN, LEGEND_ROOM = 17, 70, 96


@dataclass(frozen=True, slots=True)
class Lane:
    """A line of the headline strips: one run, or the seeds of one recipe, each with its headline by
    quantity.
    """

    look: Look
    headlines: tuple[Mapping[str, dict], ...]

    def values(self, quantity: str, column: str = "value") -> list[float]:
        """One number of each of its runs, as far as they have it."""
        rows = (headline.get(quantity, {}) for headline in self.headlines)
        return [row[column] for row in rows if row.get(column) is not None]


def strips(lanes: Sequence[Lane], published: Sequence[dict]) -> go.Figure:
    """Six strips with a lane for each run or recipe, published pairs in grey above.

    Each run is a mark; seeds have their mean and range; on each lane stands its chance, or the band
    of blind updates.
    """
    rows = -(-len(STRIPS) // COLUMNS)
    strip = LANE * (len(lanes) + 1)
    plot = strip * rows + BETWEEN * (rows - 1)
    figure = make_subplots(
        rows=rows,
        cols=COLUMNS,
        vertical_spacing=BETWEEN / plot,
        horizontal_spacing=0.06,
    )
    legend: set[str] = set()
    for number, headline in enumerate(STRIPS):
        at = {"row": number // COLUMNS + 1, "col": number % COLUMNS + 1}
        pairs = [pair for pair in published if pair["quantity"] == headline.protocol]
        for trace in strip_marks(headline, lanes, pairs):
            figure.add_trace(share_legend(trace, legend), **at)
        values = [pair["value"] for pair in pairs]
        for lane in lanes:
            for column in ("value", "chance", "chance_low", "chance_high"):
                values += lane.values(headline.protocol, column)
        suffix = f" {unit_of(headline)}".rstrip()
        figure.update_xaxes(**strip_axis(values, headline.log, suffix), **at)
        figure.update_yaxes(visible=False, range=[len(lanes) + 0.5, -0.7], fixedrange=True, **at)
        heading(figure, number + 1, strip_name(headline, None), left=True)
    alt = (
        f"Strip plot of six headline quantities of {len(lanes)} runs or recipes beside published"
        " pairs and chance."
    )
    return finished(figure, plot, alt=alt, legend_room=LEGEND_ROOM)


def strip_marks(
    headline: Headline, lanes: Sequence[Lane], pairs: Sequence[dict]
) -> list[go.Scatter]:
    """The marks of one strip, published pairs at the top."""
    unit, quantity = unit_of(headline), headline.protocol
    by_family: dict[str, list[dict]] = {}
    for pair in pairs:
        by_family.setdefault(family(pair["recipe"]), []).append(pair)
    traces = [
        published_marks(rows, recipe, unit).update(
            y=[0.0] * len(rows), name=f"{recipe}, published", marker_color=theme.BASE
        )
        for recipe, rows in by_family.items()
    ]
    of_runs: list[go.Scatter] = []
    levels: list[tuple[float, int]] = []
    bands: list[tuple[float, float, int]] = []
    for down, lane in enumerate(lanes, start=1):
        values = [value for value in lane.values(quantity) if value > 0 or not headline.log]
        low, high = (lane.values(quantity, f"chance_{end}") for end in ("low", "high"))
        if low and high:
            bands.append((min(low), max(high), down))
        elif chance := lane.values(quantity, "chance"):
            levels.append((float(np.mean(chance)), down))
        of_runs += lane_marks(lane, values, down, unit)
    return traces + chance_marks(levels, bands, unit) + of_runs


def chance_marks(
    levels: Sequence[tuple[float, int]], bands: Sequence[tuple[float, float, int]], unit: str
) -> list[go.Scatter]:
    """The chance levels of all lanes as one line that is broken between them, and so the bands of
    blind updates: it is traces that take a browser time.
    """
    traces = []
    if bands:
        x = [at for low, high, _ in bands for at in (low, high, None)]
        y = [at for *_, down in bands for at in (down, down, None)]
        traces.append(blind_band(bands[0][0], bands[0][1], unit).update(x=x, y=y, line_width=9))
    if levels:
        x = [at for level, _ in levels for at in (level, level, None)]
        y = [at for _, down in levels for at in (down - 0.4, down + 0.4, None)]
        traces.append(marks.chance(x, y, "chance", hover=f"chance %{{x:.3g}} {unit}"))
    return traces


def lane_marks(lane: Lane, values: list[float], down: float, unit: str) -> list[go.Scatter]:
    """A run's mark; of several seeds each small, their range and their mean."""
    name = theme.literal(lane.look.name)
    look = {"colour": lane.look.colour, "marker": {"symbol": lane.look.shape}, "cliponaxis": False}
    if len(values) < 2:
        hover = f"{name} %{{x:.4g}} {unit}"
        return [marks.dots(values, [down] * len(values), name, size=12, hover=hover, **look)]
    ends, many = [min(values), max(values)], f"{name}, {len(values)} seeds"
    spread = marks.line(
        ends,
        [down, down],
        many,
        colour=lane.look.colour,
        width=2.5,
        hover=f"{many}: from {ends[0]:.4g} to {ends[1]:.4g} {unit}",
    )
    seeds = marks.dots(
        values, [down] * len(values), many, size=5, hover=f"one seed %{{x:.4g}} {unit}", **look
    )
    hover = f"{many}, mean %{{x:.4g}} {unit}"
    mean = marks.dots([float(np.mean(values))], [down], many, size=13, hover=hover, **look)
    return [mean, spread, seeds]
