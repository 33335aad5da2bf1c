"""Spectra and angles of a whole run: one mark a matrix, every value over its chance level."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.definitions import UNDEFINED_PAIRS
from opdviz.figures import theme
from opdviz.figures.layers import module_order
from opdviz.words import number, percent

HOVER = "%{customdata[2]}<br>%{customdata[1]}<extra></extra>"


def stable_rank_strip(tensors: pd.DataFrame) -> go.Figure:
    """x: stable rank over a Gaussian's of the same shape (log); y: module; colour: block; one dot a
    matrix.
    """
    rows = tensors.dropna(subset=["stable_rank", "stable_rank_chance"])
    rows = rows[rows["stable_rank_chance"] > 0]
    rows = theme.thinned(rows, rows["stable_rank"] / rows["stable_rank_chance"], "module")
    ratio = rows["stable_rank"] / rows["stable_rank_chance"]
    told = [
        f"{number(a)} of {number(b)}"
        for a, b in zip(rows["stable_rank"], rows["stable_rank_chance"])
    ]
    modules = module_order(rows)
    traces = block_dots(rows, ratio, modules, told)
    made = theme.figure(
        *traces,
        height=110 + 24 * max(6, len(modules)),
        alt="Stable rank over that of a random update, by module.",
    )
    low, high = (
        (np.log10(min(ratio.min(), 0.8)), np.log10(max(ratio.max(), 1.3)))
        if len(ratio)
        else (-1.0, 0.2)
    )
    places, labels = theme.powers(low - 0.05, high + 0.05)
    made.update_xaxes(type="log", range=[low - 0.05, high + 0.05], tickvals=places, ticktext=labels,
                      title="stable rank / that of a random update of the shape (log)")  # fmt: skip
    made.add_vline(x=1, line=dict(color=theme.CHANCE, dash="dash", width=1.8))
    return on_modules(made, modules)


def on_modules(made: go.Figure, modules: list[str]) -> go.Figure:
    """A y axis of modules, first at the top."""
    made.update_yaxes(
        tickvals=list(range(len(modules))),
        ticktext=[theme.axis_label(m) for m in modules],
        range=[len(modules) - 0.5, -0.5],
    )
    made.update_layout(margin=dict(l=220, r=16, t=30, b=48), hovermode="closest", dragmode=False)
    return made


def block_dots(
    rows: pd.DataFrame, x: pd.Series, modules: list[str], told: list[str], *, legend: bool = True
) -> list[go.Scatter]:
    """One trace a block, dots spread a little within their module's line by layer."""
    place = {m: i for i, m in enumerate(modules)}
    layer = rows["layer"].astype("Float64").fillna(0.0).astype(float)
    spread = (layer / max(layer.max(), 1.0) - 0.5) * 0.5 if len(layer) else layer
    y = rows["module"].map(place).astype(float) + spread
    told_by = pd.Series(told, index=rows.index)
    return [
        go.Scatter(
            x=x[part.index], y=y[part.index], mode="markers", name=block, legendgroup=block, showlegend=legend,
            marker=dict(size=9, color=theme.BLOCKS[block], opacity=0.8),
            customdata=np.stack([part["name"], told_by[part.index], part["name"].map(theme.literal)], axis=1),
            hovertemplate=HOVER,
        )
        for block, part in rows.groupby("block")
    ]  # fmt: skip


def projection_dots(tensors: pd.DataFrame) -> go.Figure:
    """x: log2 of projection over chance, clipped at 3; facets joint, left, right; y: module."""
    rows = tensors.dropna(subset=["projection_joint"])
    rows = theme.thinned(
        rows,
        rows["projection_joint"] / rows["projection_joint_chance"],
        "module",
        theme.MOST_MARKS // 3,
    )
    modules = module_order(rows)
    sides = ("joint", "left", "right")
    titles = ["joint: both sides", "left: outputs", "right: inputs"]
    made = make_subplots(
        rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles
    )
    for at, side in enumerate(sides, start=1):
        energy, chance = rows[f"projection_{side}"], rows[f"projection_{side}_chance"]
        with np.errstate(divide="ignore"):
            ratio = np.log2((energy / chance).astype(float)).clip(-theme.CLIP, theme.CLIP)
        spread = rows[f"projection_{side}_sd"]
        told = [
            f"{percent(a)}, chance {percent(b)} ± {percent(c, 2)}"
            for a, b, c in zip(energy, chance, spread, strict=True)
        ]
        for trace in block_dots(rows, ratio, modules, told, legend=at == 1):
            made.add_trace(trace, row=1, col=at)
        made.add_vline(x=0, line=dict(color=theme.CHANCE, dash="dash", width=1.8), row=1, col=at)
        made.update_xaxes(range=[-3.2, 3.2], tickvals=[-3, -2, -1, 0, 1, 2, 3], ticktext=["≤⅛", "¼", "½", "1", "2", "4", "≥8"],
                          row=1, col=at)  # fmt: skip
    sentence = "Energy inside the base's leading directions over chance, by module and side."
    theme.dressed(made, height=130 + 24 * max(6, len(modules)), alt=sentence)
    made.update_xaxes(title="energy inside the leading 10 % / chance (log2)", row=1, col=2)
    made = on_modules(made, modules)
    return made.update_layout(margin=dict(t=54), legend=dict(y=1.09))


def rotation_scatter(tensors: pd.DataFrame) -> go.Figure:
    """x: chance of the rms sine, y: measured; log-log with the diagonal; missing chances are left out.

    Grey where few pairs of singular values carry the chance: there the data do not define the
    subspace.
    """
    traces = []
    for side, symbol, color in (("left", "circle", theme.TUNED), ("right", "diamond", theme.DELTA)):
        columns = [f"rotation_{side}", f"rotation_{side}_chance"]
        rows = tensors.dropna(subset=columns)
        rows = theme.thinned(
            rows, rows[columns[0]] / rows[columns[1]], "module", theme.MOST_MARKS // 2
        )
        defined = rows[f"rotation_{side}_pairs"] >= UNDEFINED_PAIRS
        traces.append(rotation_marks(rows[defined], side, symbol, color, side))
        if not defined.all():
            traces.append(
                rotation_marks(
                    rows[~defined], side, symbol, theme.BASE, f"{side}, not defined by the data"
                )
            )
    values = [v for t in traces for v in (*t.x, *t.y) if v and v > 0]
    made = theme.figure(
        *traces,
        height=380,
        alt="Rotation of the leading subspace against its first-order chance, one mark a matrix.",
    )
    if values:
        ends = [min(values) * 0.8, max(values) * 1.25]
        made.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="as by chance", hoverinfo="skip",
                                  line=dict(color=theme.CHANCE, dash="dash")))  # fmt: skip
        places, labels = theme.powers(np.log10(ends[0]), np.log10(ends[1]))
        axis = dict(type="log", range=np.log10(ends).tolist(), tickvals=places, ticktext=labels)
        made.update_xaxes(title="rms sine of a blind update (log)", **axis)
        made.update_yaxes(title="rms sine at k = 10 % of r (log)", **axis)
    return made


def rotation_marks(rows: pd.DataFrame, side: str, symbol: str, color: str, name: str) -> go.Scatter:
    """One side's marks: its chance across, what was measured upwards."""
    places = zip(rows["layer"].astype("Float64").astype(float), rows["module"], strict=True)
    told = [f"layer {number(layer)} · {theme.literal(module)}" for layer, module in places]
    data = (
        np.stack([rows["name"], told, rows["name"].map(theme.literal)], axis=1)
        if len(rows)
        else None
    )
    return go.Scatter(
        x=rows[f"rotation_{side}_chance"], y=rows[f"rotation_{side}"], mode="markers", name=name,
        marker=dict(symbol=symbol, size=8, color=color, opacity=0.7), customdata=data, hovertemplate=HOVER,
    )  # fmt: skip
