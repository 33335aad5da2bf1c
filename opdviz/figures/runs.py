"""Several runs on shared axes: one run against the others, curves of a tensor over each other, and
sparsity against size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import (
    QUARTER,
    index_axis,
    logarithmic,
    value_label,
)
from opdviz.figures.scatter import axis
from opdviz.quantities import QUANTITIES
from opdviz.words import percent

HEIGHT = 340
LEGEND_LINE, A_LINE = 24, 4  # pixels of a line of the legend, and how many runs stand in one


@dataclass(frozen=True, slots=True)
class Look:
    """How a run is drawn wherever it stands beside others."""

    name: str
    colour: str
    dash: str
    shape: str


def looks(names: Sequence[str], groups: Sequence[str]) -> list[Look]:
    """A look for each run: those of one group share a colour and differ by dash and shape.

    >>> [(look.colour, look.dash) for look in looks(["a", "b", "c"], ["x", "x", "y"])]
    [('#0072b2', 'solid'), ('#0072b2', 'dash'), ('#d55e00', 'solid')]
    """
    of_group = list(dict.fromkeys(groups))
    before: dict[str, int] = {}
    drawn = []
    for name, group in zip(names, groups, strict=True):
        at, within = of_group.index(group), before.get(group, 0)
        before[group] = within + 1
        # Where every run is a group of its own the shapes tell them apart, too.
        shape = at if len(of_group) == len(names) else within
        drawn.append(
            Look(
                name,
                theme.RUNS[at % len(theme.RUNS)],
                theme.RUN_DASHES[within % len(theme.RUN_DASHES)],
                theme.RUN_SHAPES[shape % len(theme.RUN_SHAPES)],
            )
        )
    return drawn


def against_one(
    by_run: Mapping[Look, pd.DataFrame], quantity: str, reference: str, *, places: Sequence[int]
) -> go.Figure:
    """x: a quantity of each tensor in one run, y: in the others, a mark a tensor; the diagonal.

    Columns: name, module, x, y. A mark carries its tensor and, at the end, its run's of `places`.
    """
    label = QUANTITIES[quantity].label
    every = pd.concat(list(by_run.values()))
    values = np.concatenate([every["x"], every["y"]]).astype(float)
    hover = "%{customdata[1]}<br>" + f"{label}: %{{customdata[2]}}, in {theme.literal(reference)} "
    traces = []
    for at, (look, rows) in zip(places, by_run.items(), strict=True):
        rows = theme.thinned(rows, rows["y"], "module", theme.MOST_MARKS // len(by_run))
        words = ([value_label(value, quantity) for value in rows[column]] for column in "yx")
        custom = list(
            zip(
                rows["name"], rows["name"].map(theme.literal), *words, [at] * len(rows), strict=True
            )
        )
        traces.append(
            marks.dots(
                rows["x"],
                rows["y"],
                theme.literal(look.name),
                colour=look.colour,
                size=8,
                marker={"symbol": look.shape, "opacity": 0.7},
                customdata=custom,
                hover=hover + f"%{{customdata[3]}}<extra>{theme.literal(look.name)}</extra>",
            )
        )
    ends = [float(values.min()), float(values.max())]
    equal = marks.line(
        ends, ends, "equal", colour=theme.CHANCE, width=marks.CHANCE_WIDTH, dash="dash"
    )
    figure = theme.figure(
        equal,
        *traces,
        alt=f"{label} of each tensor in one run against that in the others.",
        hovermode="closest",
        dragmode=False,
        **legend_below(len(traces) + 1, 440),
    )
    across, up = (axis(every[column].to_numpy(dtype=float), quantity) for column in "xy")
    name = theme.literal(theme.shortened(reference, 40))
    figure.update_xaxes(**across | {"title": f"{across['title']}, {name}"})
    return figure.update_yaxes(**up | {"title": f"{up['title']}, other runs"})


def legend_below(entries: int, height: int) -> dict:
    """A figure's height, margins and legend, which stands below it: of many runs it takes several
    lines, and above they would lie on the title.
    """
    room = LEGEND_LINE * -(-entries // A_LINE)
    below = {"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom"}
    return {
        "height": height + room,
        "margin": {"t": 16, "l": 84, "b": 56 + room},
        "legend": below | {"itemwidth": 30},
    }


def curves(
    by_run: Mapping[Look, pd.DataFrame],
    x: str,
    y: str,
    hover: str,
    *,
    chance: pd.DataFrame,
    chance_name: str = "chance",
    alt: str,
) -> go.Figure:
    """A line a run over each other, and one of chance below them; columns x and y of each frame."""
    traces = [
        marks.line(
            rows[x],
            rows[y],
            theme.literal(look.name),
            colour=look.colour,
            dash=look.dash,
            width=2.5,
            hover=f"{hover}<extra>{theme.literal(look.name)}</extra>",
        )
        for look, rows in by_run.items()
    ]
    if len(chance):
        traces.insert(0, marks.chance(chance[x], chance[y], chance_name, hover=hover))
    return theme.figure(*traces, alt=alt, **legend_below(len(traces), HEIGHT))


def energy(by_run: Mapping[Look, pd.DataFrame], chance: pd.DataFrame, r: int) -> go.Figure:
    """x: k (log), y: energy of the leading k directions of each run's update, and of noise."""
    figure = curves(
        by_run,
        "index",
        "energy",
        f"%{{x}} of {r}: %{{y:.1%}}",
        chance=chance,
        alt="Cumulative energy of the leading directions of each run's update, beside chance.",
    )
    figure.update_xaxes(title=f"leading singular directions k (of {r:,}; log)", **index_axis(r))
    return figure.update_yaxes(title="share of ||D||²", tickformat=".0%", range=[0, 1.03])


def spectra(by_run: Mapping[Look, pd.DataFrame], base: pd.DataFrame, r: int) -> go.Figure:
    """x: index (log), y: singular values (log) of each run's update, and of the base."""
    figure = curves(
        {look: rows[rows["sigma"] > 0] for look, rows in by_run.items()},
        "index",
        "sigma",
        "%{x}: %{y:.3g}",
        chance=base[base["sigma"] > 0],
        chance_name="base",
        alt="Singular values of each run's update, below those of the base.",
    )
    figure.update_xaxes(title="index (log)", **index_axis(r))
    return figure.update_yaxes(
        title="singular value (log)", type="log", exponentformat="power", dtick=1
    )


def angles(
    by_run: Mapping[Look, pd.DataFrame], chance: pd.DataFrame, side: str, k: int, r: int
) -> go.Figure:
    """x: position, y: principal angle between base and each run at one k, and the angle of chance's
    rms sine.
    """
    figure = curves(
        by_run,
        "index",
        "degrees",
        "%{y:.3g} degrees",
        chance=chance,
        chance_name="chance, as rms sine",
        alt=f"Principal angles of the leading {side} subspaces between base and each run.",
    )
    figure.update_xaxes(title=f"{side} principal angle, smallest first (k = {k:,} of {r:,})")
    return figure.update_yaxes(title="degrees", rangemode="tozero")


def moved(by_run: Mapping[Look, pd.DataFrame]) -> go.Figure:
    """x: log2 |W|; y: the share of each run that moved, dotted what a blind update of its size
    would.

    Columns: low, moved (share), null_moved (share).
    """
    traces = []
    for look, rows in by_run.items():
        x, name = np.log2(rows["low"].to_numpy(dtype=float)) + QUARTER / 2, theme.literal(look.name)
        beside = f"<extra>{name}</extra>"
        traces += [
            marks.line(
                x,
                rows["null_moved"],
                "blind updates of their sizes",
                colour=look.colour,
                width=1.3,
                dash="dot",
                legendgroup="null",
                showlegend=not traces,
                hover=f"blind %{{y:.1%}}{beside}",
            ),
            marks.line(
                x,
                rows["moved"],
                name,
                colour=look.colour,
                dash=look.dash,
                width=2.5,
                hover=f"2^%{{x:.2f}}: %{{y:.1%}} moved{beside}",
            ),
        ]
    figure = theme.figure(
        *traces,
        alt="Share of coordinates that moved by size of the base weight, of each run.",
        **legend_below(len(by_run) + 1, HEIGHT),
    )
    figure.update_xaxes(title="log2 |base weight|")
    return figure.update_yaxes(title="share that moved", tickformat=".0%", range=[0, 1.04])


def sparse_or_small(by_run: Mapping[Look, pd.DataFrame], reference: pd.DataFrame) -> go.Figure:
    """x: relative norm (log), y: share unchanged, a mark a layer of each run; dotted: what a dense
    update of each size leaves unchanged.

    Columns: what, relative_norm, unchanged, dense_unchanged.
    """
    every = pd.concat(list(by_run.values()))
    ends = np.log10([every["relative_norm"].min() / 1.5, every["relative_norm"].max() * 1.5])
    line = reference[
        reference["relative_norm"].between(10.0 ** (ends[0] - 0.2), 10.0 ** (ends[1] + 0.2))
    ]
    traces = [
        marks.line(
            line["relative_norm"],
            line["unchanged"],
            "dense update",
            colour=theme.NULL,
            dash="dot",
            width=2.5,
            hover="a dense update of %{x:.3~%} leaves %{y:.1%}",
        )
    ]
    for look, rows in by_run.items():
        beside = [percent(share) for share in rows["dense_unchanged"]]
        traces.append(
            marks.dots(
                rows["relative_norm"],
                rows["unchanged"],
                theme.literal(look.name),
                colour=look.colour,
                size=9,
                marker={"symbol": look.shape, "opacity": 0.8},
                customdata=list(zip(rows["what"], beside, strict=True)),
                hover="%{customdata[0]}: %{y:.2%} unchanged; dense %{customdata[1]}"
                f"<extra>{theme.literal(look.name)}</extra>",
            )
        )
    figure = theme.figure(
        *traces,
        alt="Share of unchanged coordinates against relative norm of each layer and run, beside"
        " what a dense update leaves.",
        hovermode="closest",
        dragmode=False,
        **legend_below(len(traces), 420),
    )
    scale = logarithmic(*ends.tolist())
    scale["ticktext"] = [percent(place) for place in scale["tickvals"]]
    figure.update_xaxes(title="relative norm as counted (log)", **scale)
    return figure.update_yaxes(title="share unchanged", tickformat=".0%", range=[-0.02, 1.03])
