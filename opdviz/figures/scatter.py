"""Any two quantities against each other, one mark a tensor; in a large model a density, with its
outermost tensors as marks.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import theme
from opdviz.figures.layers import label
from opdviz.quantities import CHANCE_OF, QUANTITIES

BINS = (90, 60)
LONE = 2


def scatter(tensors: pd.DataFrame, x: str, y: str) -> go.Figure:
    """x, y: two quantities (log where they spread so); colour: block. Dashed lines: the median
    chance of each, where known.
    """
    rows = tensors.dropna(subset=[x, y])
    for quantity in (x, y):
        rows = rows[rows[quantity] > 0] if QUANTITIES[quantity].log else rows
    sentence = f"Scatter of {QUANTITIES[y].label} against {QUANTITIES[x].label}, one mark a tensor."
    dense, lone = (rows, rows) if len(rows) <= theme.MOST_MARKS else split(rows, x, y)
    traces = [*(density(dense, x, y) if len(rows) > theme.MOST_MARKS else []), *marks(lone, x, y)]
    made = theme.figure(
        *traces,
        height=440,
        alt=sentence,
        hovermode="closest",
        dragmode=False,
        margin=dict(t=40, l=80),
    )
    for quantity, update, line in (
        (x, made.update_xaxes, made.add_vline),
        (y, made.update_yaxes, made.add_hline),
    ):
        update(**axis(rows[quantity].to_numpy(dtype=float), quantity))
        if (chance := CHANCE_OF.get(quantity)) in rows and rows[chance].notna().any():
            at = float(rows[chance].median())
            line(at, line=dict(color=theme.CHANCE, dash="dash", width=1.8))
    return made


def axis(values: np.ndarray, quantity: str) -> dict:
    """Title, scale and ticks of one axis."""
    known = QUANTITIES[quantity]
    share = known.unit == "share" or quantity == "relative_norm"
    if not (known.log and values.size):
        return {"title": known.label, "type": "linear", "tickformat": ".3~%" if share else None}
    low, high = np.log10([values.min() * 0.85, values.max() * 1.18])
    places, _ = theme.powers(low, high)
    return {"title": f"{known.label} (log)", "type": "log", "range": [low, high], "tickvals": places,
            "ticktext": [label(v, quantity) for v in places]}  # fmt: skip


def scaled(values: pd.Series, quantity: str) -> np.ndarray:
    """Values as the axis shows them."""
    values = values.to_numpy(dtype=float)
    return np.log10(values) if QUANTITIES[quantity].log else values


def split(rows: pd.DataFrame, x: str, y: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tensors, and those of them that stand nearly alone: at most a screen's worth of marks."""
    places = [
        np.digitize(v, np.histogram_bin_edges(v, n))
        for v, n in zip((scaled(rows[x], x), scaled(rows[y], y)), BINS)
    ]
    together = pd.Series(list(zip(*places)), index=rows.index)
    alone = rows[together.map(together.value_counts()) <= LONE]
    return rows, alone.iloc[:: max(1, len(alone) // theme.MOST_MARKS + 1)]


def density(rows: pd.DataFrame, x: str, y: str) -> list[go.Heatmap]:
    """How many tensors lie in each cell of a grid, on the axes' own scale."""
    counts, *edges = np.histogram2d(scaled(rows[x], x), scaled(rows[y], y), bins=BINS)
    centres = [
        (10.0 ** ((e[1:] + e[:-1]) / 2)) if QUANTITIES[q].log else (e[1:] + e[:-1]) / 2
        for e, q in zip(edges, (x, y))
    ]
    with np.errstate(divide="ignore"):
        shown = np.where(counts > LONE, np.log10(counts), np.nan).T
    ticks = [1, 10, 100, 1000, 10_000]
    return [
        go.Heatmap(
            x=centres[0], y=centres[1], z=shown, colorscale=theme.MAGNITUDES, name="tensors", customdata=counts.T,
            hovertemplate="%{customdata} tensors<extra></extra>",
            colorbar=dict(title=dict(text="tensors", side="top"), thickness=11, len=0.9, outlinewidth=0,
                          tickvals=np.log10(ticks).tolist(), ticktext=[f"{t:,}" for t in ticks]),
        )
    ]  # fmt: skip


def marks(rows: pd.DataFrame, x: str, y: str) -> list[go.Scatter]:
    """One trace a block; marks carry the tensor's name."""
    return [
        go.Scatter(
            x=part[x], y=part[y], mode="markers", name=block, marker=dict(size=8, color=theme.BLOCKS[block], opacity=0.75),
            customdata=np.stack([part["name"], part["name"].map(theme.literal), [label(v, x) for v in part[x]],
                                 [label(v, y) for v in part[y]]], axis=1),
            hovertemplate=f"%{{customdata[1]}}<br>{QUANTITIES[x].label} %{{customdata[2]}}<br>"
            f"{QUANTITIES[y].label} %{{customdata[3]}}<extra></extra>",
        )
        for block, part in rows.groupby("block")
    ]  # fmt: skip
