"""One tensor: cumulative energy, singular values, principal angles, sizes, and the values."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.definitions import HEADLINE_K, INTRUDER_COSINE
from opdviz.figures import marks, theme
from opdviz.figures.axes import QUARTER, index_axis, on_modules
from opdviz.words import number

HEIGHT = 340
FEW = 12  # angles below which each is a mark of its own


@dataclass(frozen=True, slots=True)
class Curve:
    """How one matrix's spectrum is drawn."""

    name: str
    colour: str
    dash: str = "solid"
    width: float = 2


CURVES = {
    # Wider than what lies on it: where nothing turned, tuned covers it.
    "base": Curve("base", theme.BASE, width=6),
    "tuned": Curve("tuned", theme.TUNED),
    "delta": Curve("update", theme.DELTA, width=3),
    "gaussian": Curve("chance", theme.CHANCE, "dash", marks.CHANCE_WIDTH),
    "rounding_null": Curve("rank-16 null", theme.NULL, "dot"),
}
# What counts directions, the least first: column, and its words.
RANK_TOLERANCE = 1e-5
RANKS = {
    "stable_rank": "stable rank",
    "rank_50": "50 % of energy",
    "entropy_rank": "entropy rank",
    "rank_90": "90 % of energy",
    "rank_95": "95 % of energy",
    "rank_99": "99 % of energy",
    "rank": "above 1e-5 s1",
}
RANKED = {"gaussian": "line-ns", "rounding_null": "diamond", "delta": "circle"}
ANGLES = {"left": (theme.TUNED, "solid"), "right": (theme.DELTA, "dash")}
SIZES = {"base": ("|base weight|", theme.BASE), "delta": ("|change|", theme.DELTA)}


def curve(rows: pd.DataFrame, matrix: str, column: str, hover: str) -> go.Scatter:
    """One matrix's line over the positions of its singular values."""
    look = CURVES[matrix]
    return marks.line(
        rows["index"],
        rows[column],
        look.name,
        colour=look.colour,
        dash=look.dash,
        width=look.width,
        hover=f"{hover}<extra>{look.name}</extra>",
    )


def cumulative_energy(spectrum: pd.DataFrame, r: int) -> go.Figure:
    """x: k (log), y: energy of the leading k directions: update, rounding null, random.

    Columns: matrix, index, energy.
    """
    rows = {matrix: spectrum[spectrum["matrix"] == matrix] for matrix in CURVES}
    hover = f"%{{x}} of {r}: %{{y:.1%}}"
    figure = theme.figure(
        *(
            curve(rows[matrix], matrix, "energy", hover)
            for matrix in ("delta", "rounding_null", "gaussian")
            if len(rows[matrix])
        ),
        height=HEIGHT,
        alt="Cumulative energy of the leading directions of the update, beside chance and null.",
        margin={"t": 34},
    )
    figure.update_xaxes(title=f"leading singular directions k (of {r:,}; log)", **index_axis(r))
    figure.update_yaxes(title="share of ||D||²", tickformat=".0%", range=[0, 1.03])
    if r > HEADLINE_K:  # whose energy is a headline quantity
        figure.add_vline(x=HEADLINE_K, line={"color": theme.FAINT, "width": 1.5})
    return figure


def spectra(spectrum: pd.DataFrame, r: int) -> go.Figure:
    """x: index (log), y: singular value (log): base, tuned, update, random, rounding null."""
    positive = spectrum[spectrum["sigma"] > 0]
    rows = {matrix: positive[positive["matrix"] == matrix] for matrix in CURVES}
    figure = theme.figure(
        *(
            curve(rows[matrix], matrix, "sigma", "%{x}: %{y:.3g}")
            for matrix in CURVES
            if len(rows[matrix])
        ),
        height=HEIGHT,
        alt="Singular values of base, tuned and update, beside chance and null.",
        margin={"t": 50},
    )
    figure.update_xaxes(title="index (log)", **index_axis(r))
    return figure.update_yaxes(
        title="singular value (log)", type="log", exponentformat="power", dtick=1
    )


def ranks(counted: pd.DataFrame, r: int) -> go.Figure:
    """x: directions, one line a way to count them: update, rounding null, random.

    `counted` has a row a matrix and a column a way.
    """
    traces = [
        marks.dots(
            counted.loc[matrix, list(RANKS)].astype(float),
            list(range(len(RANKS))),
            CURVES[matrix].name,
            colour=CURVES[matrix].colour,
            size=11 if matrix == "delta" else 10,
            hover=f"{CURVES[matrix].name}: %{{x:,.4~g}} of {r:,}",
            marker={
                "symbol": symbol,
                "line": {
                    "width": 2.5 if symbol == "line-ns" else 0,
                    "color": CURVES[matrix].colour,
                },
            },
        )
        for matrix, symbol in RANKED.items()
        if matrix in counted.index
    ]
    figure = theme.figure(
        *traces,
        height=HEIGHT,
        alt="Directions that the update takes, by seven counts, beside chance and rounding null.",
        margin={"t": 50},
    )
    figure.update_xaxes(title=f"directions (of {r:,})", range=[0, 1.04 * r])
    return on_modules(figure, list(RANKS.values()))


def angles(rows: pd.DataFrame, r: int, turned: pd.DataFrame) -> go.Figure:
    """x: position, y: principal angle in degrees, left and right; dotted: chance of their rms sine.

    `turned` has a row a side with the columns k and chance: curves of that k and its chance belong
    together. Angles at another k are thin lines of their own, without chance.
    """
    k = int(turned["k"].iloc[0]) if len(turned) else int(rows["k"].min())
    traces = []
    for side in ANGLES:
        for at, part in rows[rows["side"] == side].groupby("k"):
            traces.append(angle_curve(part.sort_values("index"), side, at, headline=at == k))
        chance = float(turned["chance"].get(side, np.nan)) if len(turned) else np.nan
        if np.isfinite(chance):
            traces.append(angle_chance(side, chance, k))
    figure = theme.figure(
        *traces,
        height=HEIGHT,
        alt="Principal angles between the leading subspaces of base and tuned, left and right.",
        margin={"t": 50},
    )
    figure.update_xaxes(title=f"principal angle, smallest first (k = {k:,} of {r:,})")
    return figure.update_yaxes(title="degrees", rangemode="tozero")


def angle_curve(rows: pd.DataFrame, side: str, k: int, *, headline: bool) -> go.Scatter:
    """The angles of one side at one k."""
    colour, dash = ANGLES[side]
    name = side if headline else f"{side}, k = {k}"
    return marks.line(
        rows["index"],
        rows["degrees"],
        name,
        colour=colour,
        dash=dash,
        width=2.5 if headline else 1.0,
        mode="lines+markers" if k < FEW else "lines",
        hover=f"%{{y:.3g}} degrees<extra>{name}</extra>",
    )


def angle_chance(side: str, sine: float, k: int) -> go.Scatter:
    """The rms sine that chance gives, as an angle."""
    height = np.degrees(np.arcsin(min(sine, 1.0)))
    name = f"chance, {side}"
    return marks.line(
        [1, k], [height, height], name, colour=ANGLES[side][0], dash="dot", width=marks.CHANCE_WIDTH
    )


def intruders(rows: pd.DataFrame) -> go.Figure:
    """x: leading directions of the tuned, y: |cosine| with the base's nearest, those below the line
    in a colour of their own.
    """
    figure = theme.figure(
        *(
            marks.bars(
                part["index"],
                part["cosine"],
                name,
                colour=colour,
                width=0.8,
                customdata=part["nearest"],
                hover="|cosine| %{y:.3f} with base direction %{customdata}",
            )
            for name, colour, part in (
                ("in the base", theme.TUNED, rows[rows["cosine"] >= INTRUDER_COSINE]),
                ("intruder", theme.DELTA, rows[rows["cosine"] < INTRUDER_COSINE]),
            )
        ),
        height=HEIGHT,
        alt="How near the leading directions of the tuned matrix are to one of the base's.",
        margin={"t": 50},
    )
    figure.add_hline(y=INTRUDER_COSINE, line=marks.SHORT_DASHES)
    figure.update_layout(barmode="overlay", showlegend=True)
    ends = [0.4, len(rows) + 0.6]
    figure.update_xaxes(title="leading left direction of the tuned", dtick=1, range=ends)
    return figure.update_yaxes(title="largest |cosine| with the base", range=[0, 1.02])


def magnitudes(sizes: dict[str, pd.DataFrame]) -> go.Figure:
    """Histograms of |W| and |D| in quarter octaves on one axis; zeros apart at the left.

    `sizes` has a frame for `base` and one for `delta` with the columns low, share and chance: of
    the coordinates, and of a Gaussian's of the same norm; what their shares lack is zero.
    """
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.12, 0.88], horizontal_spacing=0.02, shared_yaxes=True
    )
    for side, (name, colour) in SIZES.items():
        zeros, histogram, chance = size_marks(sizes[side], name, colour)
        figure.add_trace(zeros, row=1, col=1)
        figure.add_trace(histogram, row=1, col=2)
        figure.add_trace(chance, row=1, col=2)
    theme.dressed(
        figure,
        height=HEIGHT,
        alt="Histogram of the sizes of base weights and of changes, beside Gaussians of the same"
        " norm; zeros apart.",
        margin={"t": 50},
        barmode="group",
    )
    figure.update_xaxes(title="zero", showticklabels=False, row=1, col=1)
    figure.update_xaxes(title="log2 size", row=1, col=2)
    return figure.update_yaxes(tickformat=".0%", row=1, col=1, title="share of coordinates")


def size_marks(rows: pd.DataFrame, name: str, colour: str) -> tuple[go.Bar, go.Scatter, go.Scatter]:
    """One side's bar of zeros, its histogram, and that of a Gaussian of its norm."""
    zeros = 1.0 - float(rows["share"].sum()) if len(rows) else 0.0
    middle = np.log2(rows["low"].astype(float)) + QUARTER / 2
    return (
        marks.bars(
            [name],
            [zeros],
            None,
            colour=colour,
            showlegend=False,
            opacity=0.75,
            hover="exactly zero: %{y:.2%}",
        ),
        marks.line(
            middle,
            rows["share"],
            name,
            colour=colour,
            width=2.5,
            line={"shape": "hvh"},
            fill="tozeroy",
            hover="2^%{x:.2f}: %{y:.2%}",
        ),
        marks.line(
            middle,
            rows["chance"],
            f"{name}, chance",
            colour=colour,
            width=marks.CHANCE_WIDTH,
            dash="dash",
        ),
    )


def pixels(block: pd.DataFrame) -> go.Figure:
    """The values themselves, one pixel a coordinate: update, base and tuned, each around zero.

    Base and tuned are on one scale. Columns: row, column, base, tuned.
    """
    values = block.assign(update=block["tuned"] - block["base"])
    reach = {"update": robust_reach(values["update"]), "base": robust_reach(values["base"])}
    reach["tuned"] = reach["base"]
    # One colour bar for the update and one for base and tuned, each below the middle of its plots.
    places = {"update": 0.15, "base": 0.68}
    figure = marks.facets(list(reach), spacing=0.05)
    for col, (side, end) in enumerate(reach.items(), start=1):
        grid = values.pivot(index="row", columns="column", values=side)
        trace = marks.cells(
            grid.to_numpy(),
            grid.columns,
            grid.index,
            limits=(-end, end),
            colours=theme.SIGNED,
            zmid=0,
            showscale=side in places,
            colorbar=bar_below(end, places.get(side, 0.0)),
            hover=f"row %{{y}}, column %{{x}}: %{{z:.4g}}<extra>{side}</extra>",
        )
        figure.add_trace(trace, row=1, col=col)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_yaxes(title="row", col=1)
    figure.update_xaxes(showgrid=False, title={"text": "column", "standoff": 12})
    return theme.dressed(
        figure,
        height=460,
        alt="Values of the update, the base and the tuned matrix, one pixel a coordinate.",
        margin={"l": 60, "r": 10, "t": 40, "b": 100},
        dragmode=False,
    )


def bar_below(end: float, x: float) -> dict:
    """A lying colour bar below a plot, from -end to end."""
    return {
        "orientation": "h",
        "len": 0.3,
        "thickness": 9,
        "outlinewidth": 0,
        "x": x,
        "xanchor": "center",
        "y": -0.2,
        "yanchor": "top",
        "tickvals": [-end, 0, end],
        "ticktext": [f"≤{number(-end, 2)}", "0", f"≥{number(end, 2)}"],
    }


def robust_reach(values: pd.Series) -> float:
    """The 99th percentile of the size of finite values, for symmetric colour limits."""
    size = values[np.isfinite(values)].abs()
    return float(size.quantile(0.99)) or float(size.max()) or 1.0
