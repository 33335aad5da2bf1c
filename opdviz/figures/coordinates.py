"""Which coordinates move: given the size of the weight, by mask, by probe and by grid steps."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import QUARTER, label_room, on_modules, on_octaves
from opdviz.words import percent

THIN = 1e-4  # of the fullest bin: below it a share is that of a handful of weights
FEWEST = 5  # weights in a bin whose share is drawn
NARROW = 0.02  # of what is possible at all: a dot that has nowhere else to be is grey
COLOURS = {"stored": theme.BASE, "bfloat16": theme.TUNED}
NAMES = {"stored": "as stored", "bfloat16": "as bf16"}
PROBES = {
    "exact": "D = 0",
    "absolute": "|D| ≤ {:g}",
    "relative": "|D| ≤ {:g} max(|W|, |T|)",
    "base_rms": "|D| < {:g} rms(W)",
}
# The ranges of a coverage, the widest first: columns, name, colour, width.
RANGES = (
    ("lowest", "highest", "feasible range", theme.FAINT, marks.BAND),
    ("blind_low", "blind_high", "all blind updates", theme.NULL, 3),
    ("null_low", "null_high", "typical blind updates", theme.NULL_AREA, marks.BAND),
)
BELOW = 0.3  # of a line: where the range of updates turned at random stands, beside those
MASKS = {"principal": "on principal weights", "low_magnitude": "on the smallest weights"}


def moved_given_size(bins: pd.DataFrame, *, height: int = 360) -> go.Figure:
    """x: log2 |W|; y: share that moved, of the update and of its Gaussian null; weights in grey."""
    bins = bins[(bins["low"] > 0) & (bins["count"] > 0)].astype({"low": float, "count": float})
    x = np.log2(bins["low"].to_numpy()) + QUARTER / 2
    count, moved, null = (bins[c].to_numpy() for c in ("count", "moved", "null_moved"))
    fullest = count.max(initial=1.0)
    dense = count >= max(fullest * THIN, FEWEST)
    figure = theme.figure(
        marks.bars(
            x,
            count / fullest,
            "weights",
            colour=theme.GREY_AREA,
            width=QUARTER,
            customdata=marks.tooltips(bins, bins["count"].astype(int)),
            hover="2^%{x:.2f}: %{customdata[0]:,} weights",
        ),
        marks.line(
            x[dense],
            (moved / count)[dense],
            "moved",
            colour=theme.DELTA,
            width=3,
            hover="2^%{x:.2f}: %{y:.1%} moved",
        ),
        marks.line(
            x[dense],
            (null / count)[dense],
            "blind-update null",
            colour=theme.NULL,
            dash="dot",
            hover="null %{y:.1%}",
        ),
        height=height,
        alt="Share of coordinates that moved by size of the base weight, with its null.",
        bargap=0,
        margin={"t": 34},
    )
    figure.update_xaxes(title="log2 |base weight|", showgrid=False)
    if dense.any():
        figure.update_xaxes(range=[x[dense].min() - 0.5, x[dense].max() + 0.5])
    return figure.update_yaxes(title="share that moved", tickformat=".0%", range=[0, 1.04])


def fingerprint(octaves: pd.DataFrame) -> go.Figure:
    """x: octave of |W|; y: the share that moved over what small weights predict, with its error;
    one line a module, those of a block in one colour.

    Columns: block, module, octave, ratio, error, count, observed, predicted.
    """
    traces, named = [], set()
    for (block, module), rows in octaves.groupby(["block", "module"], sort=True):
        shares = zip(rows["observed"], rows["predicted"], strict=True)
        # Of a logarithm: the ratio's own is as many times the ratio.
        errors = (rows["error"] * rows["ratio"]).fillna(0.0)
        traces.append(
            marks.line(
                rows["octave"],
                rows["ratio"],
                block,
                colour=theme.BLOCKS[block],
                mode="lines+markers",
                legendgroup=block,
                showlegend=block not in named,
                error_y={"array": errors, "thickness": 1, "width": 0},
                customdata=[(theme.literal(module), *map(percent, pair)) for pair in shares],
                hover="%{customdata[0]}: %{customdata[1]} moved, %{customdata[2]} predicted",
            )
        )
        named.add(block)
    figure = theme.figure(
        *traces,
        height=380,
        alt="Share that moved over what small weights predict, by octave of the weight and module.",
        margin={"t": 34},
    )
    return on_octaves(figure, top=max(1.3, 1.1 * float(octaves["ratio"].max())))


def dumbbells(medians: pd.DataFrame) -> go.Figure:
    """Facets by mask, one line a module: coverage, blind updates, and what is possible at all.

    `medians` has a row a module, first at the top, and the columns `<mask>_<end>` of each mask:
    coverage, lowest, highest, and low and high of null, blind and turned.
    """
    figure = marks.facets(list(MASKS.values()), spacing=0.04)
    y = list(range(len(medians)))
    for col, mask in enumerate(MASKS, start=1):
        ends = medians[[column for column in medians if column.startswith(f"{mask}_")]]
        ends = ends.set_axis([column.removeprefix(f"{mask}_") for column in ends], axis=1)
        for trace in coverage_marks(ends, y):
            figure.add_trace(trace.update(showlegend=col == 1), row=1, col=col)
        figure.update_xaxes(range=[0, coverage_reach(ends)], row=1, col=col)
    figure.update_xaxes(title="share of moved coordinates", tickformat=".0%")
    return on_modules(
        theme.dressed(
            figure,
            height=140 + 26 * max(5, len(medians)),
            alt="Coverage of principal and of small weights by module, beside blind updates.",
            legend={"y": 1.1},
            margin={"r": 16, "t": 60, "b": 48},
            dragmode=False,
        ),
        medians.index,
    )


def coverage_marks(ends: pd.DataFrame, y: list[int]) -> list[go.Scatter]:
    """One mask's marks, the widest behind: what is possible, blind updates, the coverage."""
    possible = ends["highest"] - ends["lowest"]
    columns = ends[["coverage", "null_low", "null_high", "blind_low", "blind_high"]]
    shares = [[percent(share) for share in row] for row in columns.itertuples(index=False)]
    return [
        *(
            marks.segments(ends[low], ends[high], y, name, colour=colour, width=width)
            for low, high, name, colour, width in RANGES
        ),
        marks.segments(
            ends["turned_low"],
            ends["turned_high"],
            [at + BELOW for at in y],
            "updates turned at random",
            colour=theme.CHANCE,
            width=3,
        ),
        marks.dots(
            ends["coverage"],
            y,
            "coverage, median",
            colour=[theme.BASE if narrow else theme.DELTA for narrow in possible < NARROW],
            hovertext=[
                f"{theme.literal(module)}: {here}; blind {low} to {high}, at most {least} to {most}"
                for module, (here, low, high, least, most) in zip(ends.index, shares, strict=True)
            ],
            hover="%{hovertext}",
        ),
    ]


def coverage_reach(ends: pd.DataFrame) -> float:
    """How far the axis of shares reaches: a quarter beyond the largest that is drawn in full."""
    shares = ends[["coverage", "null_low", "null_high"]].to_numpy(dtype=float)
    largest = float(np.nanmax(shares)) if np.isfinite(shares).any() else 0.2
    return min(1.02, max(0.16, 1.25 * largest))


def sparsity_bars(shares: pd.DataFrame) -> go.Figure:
    """Share unchanged by probe and precision, by element: probe, threshold, precision, share."""
    probes = zip(shares["probe"], shares["threshold"], strict=True)
    rows = shares.assign(label=[PROBES[probe].format(threshold) for probe, threshold in probes])
    traces = [
        marks.bars(
            part["share"],
            part["label"],
            NAMES[precision],
            colour=COLOURS[precision],
            orientation="h",
            text=[percent(share) for share in part["share"]],
            hover="%{y}: %{x:.2%}",
        )
        for precision, part in rows.groupby("precision", sort=False)
    ]
    figure = theme.figure(
        *traces,
        height=420,
        alt="Share of unchanged coordinates by probe, as stored and as bf16.",
        barmode="group",
        bargap=0.25,
        margin={"l": label_room(rows["label"]), "r": 16, "t": 34, "b": 48},
    )
    figure.update_xaxes(title="share unchanged, by element", tickformat=".0%", range=[0, 1.13])
    return figure.update_yaxes(autorange="reversed", showgrid=False)


def step_bars(steps: pd.DataFrame) -> go.Figure:
    """Share of coordinates by grid steps moved, by element. Columns: steps, precision, share."""
    traces = [
        marks.bars(
            part["steps"],
            part["share"],
            NAMES[precision],
            colour=COLOURS[precision],
            text=[percent(share, 2) for share in part["share"]],
            hover="%{x}: %{y:.2%}",
        )
        for precision, part in steps.groupby("precision", sort=False)
    ]
    figure = theme.figure(
        *traces,
        height=420,
        alt="Share of coordinates by number of grid steps moved.",
        barmode="group",
        margin={"t": 34},
    )
    figure.update_xaxes(title="grid steps moved (ulp at the base value)", type="category")
    return figure.update_yaxes(title="share, by element", tickformat=".0%", range=[0, 1.1])
