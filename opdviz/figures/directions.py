"""Spectra and angles of a whole run: one mark a matrix, every value over its chance level."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.definitions import UNDEFINED_PAIRS
from opdviz.figures import marks, theme
from opdviz.figures.axes import logarithmic, module_order, on_modules, ratios
from opdviz.words import number, percent

# The name, as it is in the data, is what a click opens; what is shown of it is no markup.
HOVER = "%{customdata[2]}<br>%{customdata[1]}"
SIDES = {"joint": "joint: both sides", "left": "left: outputs", "right": "right: inputs"}
LOOKS = {"left": ("circle", theme.TUNED), "right": ("diamond", theme.DELTA)}
ROOM = 0.05  # decades left free at each end of an axis


def stable_rank_strip(tensors: pd.DataFrame) -> go.Figure:
    """x: stable rank over a Gaussian's (log); y: module; colour: block; a dot a matrix."""
    rows = tensors.dropna(subset=["stable_rank", "stable_rank_chance"])
    rows = rows[rows["stable_rank_chance"] > 0]
    rows = theme.thinned(rows, rows["stable_rank"] / rows["stable_rank_chance"], "module")
    ratio = rows["stable_rank"] / rows["stable_rank_chance"]
    ranks = zip(rows["stable_rank"], rows["stable_rank_chance"], strict=True)
    words = [f"{number(rank)} of {number(by_chance)}" for rank, by_chance in ranks]
    modules = module_order(rows)
    figure = theme.figure(
        *block_dots(rows, ratio, modules, words),
        height=110 + 24 * max(6, len(modules)),
        alt="Stable rank over that of a random update, by module.",
    )
    low, high = (
        np.log10([min(ratio.min(), 0.8), max(ratio.max(), 1.3)]) if len(ratio) else (-1, 0.2)
    )
    figure.update_xaxes(
        title="stable rank / that of a random update of the shape (log)",
        **logarithmic(low - ROOM, high + ROOM),
    )
    marks.chance_line(figure, x=1)
    return by_module(figure, modules)


def tail_strip(tails: pd.DataFrame) -> go.Figure:
    """x: position of a spectrum's tail between rounding (0) and noise (1); y: module; a dot a
    matrix. Columns: name, module, block, layer, position, verdict.
    """
    rows = theme.thinned(tails, tails["position"], "module")
    modules = module_order(rows)
    positions = rows["position"].astype(float)
    words = [
        f"{number(position, 2)}: {verdict}"
        for position, verdict in zip(positions, rows["verdict"], strict=True)
    ]
    figure = theme.figure(
        *block_dots(rows, positions, modules, words),
        height=110 + 24 * max(6, len(modules)),
        alt="Where each spectrum's tail stands between rounding and noise, by module.",
    )
    low, high = min(positions.min(), 0.0), max(positions.max(), 1.0)
    figure.update_xaxes(
        title="0: as storing a rank-16 update leaves it; 1: as noise",
        range=[low - ROOM, high + ROOM],
    )
    marks.chance_line(figure, x=0)
    marks.chance_line(figure, x=1)
    return by_module(figure, modules)


def by_module(figure: go.Figure, modules: list[str], *, top: int = 30) -> go.Figure:
    """The same figure with a line a module."""
    on_modules(figure, modules)
    margin = {"r": 16, "t": top, "b": 48}
    return figure.update_layout(margin=margin, hovermode="closest", dragmode=False)


def block_dots(
    rows: pd.DataFrame, x: pd.Series, modules: list[str], words: list[str], *, legend: bool = True
) -> list[go.Scatter]:
    """One trace a block, dots spread a little within their module's line by layer."""
    line_of = {module: at for at, module in enumerate(modules)}
    layer = rows["layer"].astype("Float64").astype(float)
    spread = ((layer / max(layer.max(), 1.0) - 0.5) * 0.5).fillna(0.0) if len(layer) else layer
    y = rows["module"].map(line_of).astype(float) + spread
    words = pd.Series(words, index=rows.index)
    return [
        marks.dots(
            x[part.index],
            y[part.index],
            block,
            colour=theme.BLOCKS[block],
            marker={"opacity": 0.8},
            legendgroup=block,
            showlegend=legend,
            customdata=named(part["name"], words[part.index]),
            hover=HOVER,
        )
        for block, part in rows.groupby("block")
    ]


def named(names: pd.Series, words: pd.Series | list[str]) -> np.ndarray | None:
    """What a mark of a tensor carries: its name, some words, and its name as it is shown."""
    return np.stack([names, words, names.map(theme.literal)], axis=1) if len(names) else None


def projection_dots(tensors: pd.DataFrame) -> go.Figure:
    """x: log2 of projection over chance; facets joint, left, right; y: module."""
    rows = tensors.dropna(subset=["projection_joint"])
    ratio = rows["projection_joint"] / rows["projection_joint_chance"]
    rows = theme.thinned(rows, ratio, "module", theme.MOST_MARKS // len(SIDES))
    modules = module_order(rows)
    figure = marks.facets(list(SIDES.values()))
    reach = 1.0
    for col, side in enumerate(SIDES, start=1):
        energy, chance, spread = (rows[f"projection_{side}{end}"] for end in ("", "_chance", "_sd"))
        with np.errstate(divide="ignore"):
            times = np.log2((energy / chance).astype(float)).clip(-theme.FARTHEST, theme.FARTHEST)
        reach = max(reach, float(times.abs().max()))
        words = [
            f"{percent(share)}, chance {percent(by_chance)} ± {percent(error, 2)}"
            for share, by_chance, error in zip(energy, chance, spread, strict=True)
        ]
        for trace in block_dots(rows, times, modules, words, legend=col == 1):
            figure.add_trace(trace, row=1, col=col)
        marks.chance_line(figure, x=0, row=1, col=col)
    theme.dressed(
        figure,
        height=130 + 24 * max(6, len(modules)),
        alt="Energy inside the base's leading directions over chance, by module and side.",
    )
    figure.update_xaxes(range=[-1.08 * reach, 1.08 * reach], **ratios(-reach, reach))
    figure.update_xaxes(title="energy inside the leading 10 % / chance (log2)", row=1, col=2)
    return by_module(figure, modules, top=54).update_layout(legend={"y": 1.09})


def rotation_scatter(tensors: pd.DataFrame) -> go.Figure:
    """x: chance of the rms sine, y: measured; log-log with the diagonal; missing chances left out.

    Grey where few pairs of singular values carry the chance: there the data do not define the
    subspace.
    """
    traces = [trace for side in LOOKS for trace in side_marks(tensors, side)]
    figure = theme.figure(
        *traces,
        height=380,
        alt="Rotation of the leading subspace against its first-order chance, one mark a matrix.",
    )
    values = [value for trace in traces for value in (*trace.x, *trace.y) if value and value > 0]
    if values:
        ends = [min(values) * 0.8, max(values) * 1.25]
        figure.add_trace(marks.chance(ends, ends, "as by chance"))
        axis = logarithmic(*np.log10(ends).tolist())
        figure.update_xaxes(title="rms sine of a blind update (log)", **axis)
        figure.update_yaxes(title="rms sine at k = 10 % of r (log)", **axis)
    return figure


def side_marks(tensors: pd.DataFrame, side: str) -> list[go.Scatter]:
    """One side's marks; those whose subspace the data do not define are a trace of their own."""
    sine, chance = f"rotation_{side}", f"rotation_{side}_chance"
    rows = tensors.dropna(subset=[sine, chance])
    rows = theme.thinned(rows, rows[sine] / rows[chance], "module", theme.MOST_MARKS // len(LOOKS))
    defined = rows[f"rotation_{side}_pairs"] >= UNDEFINED_PAIRS
    symbol, colour = LOOKS[side]
    traces = [rotation_marks(rows[defined], side, side, symbol, colour)]
    if not defined.all():
        name = f"{side}, not defined by the data"
        traces.append(rotation_marks(rows[~defined], side, name, symbol, theme.BASE))
    return traces


def rotation_marks(
    rows: pd.DataFrame, side: str, name: str, symbol: str, colour: str
) -> go.Scatter:
    """Marks of one side: its chance across, what was measured upwards."""
    places = zip(rows["layer"].astype("Float64").astype(float), rows["module"], strict=True)
    words = [f"layer {number(layer)} · {theme.literal(module)}" for layer, module in places]
    return marks.dots(
        rows[f"rotation_{side}_chance"],
        rows[f"rotation_{side}"],
        name,
        colour=colour,
        size=8,
        marker={"symbol": symbol, "opacity": 0.7},
        customdata=named(rows["name"], words),
        hover=HOVER,
    )
