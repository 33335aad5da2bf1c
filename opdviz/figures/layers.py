"""Where it moved: a heatmap of layer by module, one cell a tensor, beside a strip of tensors without a layer."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import theme
from opdviz.quantities import QUANTITIES
from opdviz.words import number, percent

BLOCK_ORDER = ("embedding", "attention", "ffn", "router", "norm", "other", "head")
MODULE_ORDER = ("qkv", "query", "q_proj", "key", "k_proj", "value", "v_proj", "o_proj", "attention.output", "gate", "up_proj",
                "intermediate", "fc1", "c_fc", "down_proj", "output", "fc2")  # fmt: skip
MOST_LABELS = 220


def heatmap(tensors: pd.DataFrame, quantity: str, *, log: bool, limits: tuple[float, float] | None = None) -> go.Figure:
    """One cell a (layer, module) of one tower; expert tensors of a cell are averaged. Click marks carry tensor names.

    `limits` are colour limits in the shown scale (log10 where `log`); cells beyond them are marked with a dot.
    """
    placed = tensors.dropna(subset=["layer"])
    modules = module_order(placed)
    layers = sorted(int(x) for x in placed["layer"].unique())
    grid = placed.pivot_table(index="module", columns="layer", values=quantity, aggfunc="mean").reindex(modules)[layers]
    names = placed.groupby(["module", "layer"])["name"].first()
    raw = grid.to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.where(np.isfinite(np.log10(raw)), np.log10(raw), np.nan) if log else raw
    low, high = limits or robust(shown)
    small = shown.size <= MOST_LABELS
    cells = go.Heatmap(
        z=shown, x=list(range(len(layers))), y=list(range(len(modules))), zmin=low, zmax=high, colorscale=theme.MAGNITUDES,
        xgap=1, ygap=1, hoverinfo="skip", text=[[label(v, quantity) for v in row] for row in raw] if small else None,
        texttemplate="%{text}" if small else None, textfont=dict(size=12),
        colorbar=dict(title=dict(text="log10" if log else "", side="top"), thickness=11, len=0.9, outlinewidth=0),
    )  # fmt: skip
    clicks = click_marks(raw, names, layers, modules, quantity)
    clipped = clip_marks(shown, low, high)
    title = QUANTITIES[quantity].label
    sentence = f"Heatmap of {title} by layer and module, {len(modules)} modules by {len(layers)} layers."
    made = theme.figure(cells, *clipped, clicks, height=120 + max(9, len(modules)) * 30, alt=sentence)
    made.update_layout(
        hovermode="closest", hoverdistance=-1, dragmode=False, showlegend=False, margin=dict(l=230, r=10, t=8, b=46),
        xaxis=dict(title="layer", tickvals=spaced(layers), ticktext=[str(layers[i]) for i in spaced(layers)],
                   range=[-0.5, len(layers) - 0.5], showgrid=False, fixedrange=True),
        yaxis=dict(tickvals=list(range(len(modules))), ticktext=[theme.axis_label(m) for m in modules],
                   range=[len(modules) - 0.5, -0.5], showgrid=False, fixedrange=True),
    )  # fmt: skip
    return made


def module_order(placed: pd.DataFrame) -> list[str]:
    """Modules by block, then in the order in which a layer uses them."""
    blocks = placed.groupby("module")["block"].first()

    def place(module: str) -> tuple:
        known = [i for i, word in enumerate(MODULE_ORDER) if word in module]
        return BLOCK_ORDER.index(blocks[module]), known[0] if known else len(MODULE_ORDER), module

    return sorted(blocks.index, key=place)


def spaced(layers: list[int]) -> list[int]:
    """Positions of the layers that get a label: at most about thirty."""
    return list(range(0, len(layers), max(1, len(layers) // 30)))


def robust(shown: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of what is there."""
    known = shown[np.isfinite(shown)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


def label(value: float, quantity: str) -> str:
    """A cell's own number."""
    if not np.isfinite(value):
        return ""
    if QUANTITIES[quantity].unit == "share" or quantity == "relative_norm":
        return percent(value, 2 if value < 0.1 else 3)
    return number(value)


def click_marks(raw: np.ndarray, names: pd.Series, layers: list[int], modules: list[str], quantity: str) -> go.Scatter:
    """Invisible squares over the cells that can be clicked and say what they are."""
    x, y, data = [], [], []
    for j, module in enumerate(modules):
        for i, layer in enumerate(layers):
            if (module, layer) in names.index:
                x.append(i)
                y.append(j)
                data.append(
                    [names[(module, layer)], layer, theme.literal(module), label(raw[j, i], quantity) or "did not move"]
                )
    return go.Scatter(
        x=x, y=y, mode="markers", customdata=data, marker=dict(symbol="square", size=22, opacity=0),
        selected=dict(marker=dict(opacity=0)), unselected=dict(marker=dict(opacity=0)),
        hovertemplate="layer %{customdata[1]} · %{customdata[2]}<br><b>%{customdata[3]}</b> · click opens it<extra></extra>",
    )  # fmt: skip


def clip_marks(shown: np.ndarray, low: float, high: float) -> list[go.Scatter]:
    """A small dot in the corner of every cell whose value lies beyond the colour limits."""
    y, x = np.nonzero((shown < low) | (shown > high))
    if not len(x):
        return []
    return [
        go.Scatter(
            x=x + 0.4, y=y - 0.3, mode="markers", marker=dict(size=4, color=theme.DELTA), hoverinfo="skip",
            name="beyond the colour limits",
        )
    ]  # fmt: skip


def strip(tensors: pd.DataFrame, quantity: str, *, log: bool) -> go.Figure:
    """Dots for the tensors that stand in no layer: embeddings, heads, final norms."""
    rows = tensors[tensors["layer"].isna()].sort_values("name")
    values = rows[quantity].astype(float)
    names = rows["module"] + rows["tower"].where(rows["tower"] != "language", "").radd(" ").str.rstrip()
    dots = go.Scatter(
        x=values, y=names.map(theme.axis_label), mode="markers+text",
        marker=dict(size=12, color=[theme.BLOCKS[b] for b in rows["block"]]),
        customdata=np.stack([rows["name"], rows["name"].map(theme.literal)], axis=1),
        text=["  " + (label(v, quantity) or "did not move") for v in values],
        textposition="middle right", cliponaxis=False, hovertemplate="%{customdata[1]}: %{x:.4g}<extra></extra>",
    )  # fmt: skip
    sentence = f"Dots of {QUANTITIES[quantity].label} for {len(rows)} tensors without a layer."
    made = theme.figure(dots, height=80 + 28 * max(1, len(rows)), alt=sentence, margin=dict(l=230, r=90, t=8, b=46))
    made.update_yaxes(autorange="reversed", dtick=1)
    positive = values[values > 0]
    if log and len(positive):
        low, high = np.log10(positive.min()) - 0.1, np.log10(positive.max()) + 0.15
        places, labels = theme.powers(low, high)
        made.update_xaxes(type="log", range=[low, high], tickvals=places, ticktext=labels)
    return made.update_xaxes(title=QUANTITIES[quantity].label + (" (log)" if log else ""))


def whole_range(tensors: pd.DataFrame, quantity: str, *, log: bool) -> tuple[float, float]:
    """Colour limits from the least to the largest value, in the shown scale."""
    values = tensors[quantity].dropna().astype(float)
    values = np.log10(values[values > 0]) if log else values
    return (
        (float(values.min()), float(values.max()))
        if len(values) and values.max() > values.min()
        else robust(values.to_numpy())
    )
