"""Where it moved: a heatmap of layer by module, one cell a tensor, beside a strip of tensors
without a layer.
"""

from typing import NamedTuple

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
MOST_COLUMNS = 16
MOST_CLICKS = 2_500
HOLDS = {False: "one tensor", True: "mean of {} tensors"}


class Cell(NamedTuple):
    """What stands in one cell of the map."""

    name: str
    count: int
    layer: int


def heatmap(
    tensors: pd.DataFrame,
    quantity: str,
    *,
    limits: tuple[float, float] | None = None,
    over_chance: bool = False,
    noted: frozenset[str] = frozenset(),
    clickable: bool = True,
) -> go.Figure:
    """One cell a (layer, module) of one tower, or a (expert, module) of one layer; tensors of a
    cell are averaged.

    `limits` are colour limits in the quantity's own unit; cells beyond them are marked with a dot,
    tensors in `noted` with a flag. Click marks carry what a cell is: the tensor's name, or its
    layer and module where it holds several.
    """
    grid, x = gridded(tensors, "over_chance" if over_chance else quantity)
    modules, at = list(grid.index), list(grid.columns)
    raw = grid.to_numpy(dtype=float)
    log = QUANTITIES[quantity].log and not over_chance
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.where(np.isfinite(np.log10(raw)), np.log10(raw), np.nan) if log else raw
    if over_chance:
        shown, (low, high) = shown.clip(-theme.CLIP, theme.CLIP), (-theme.CLIP, theme.CLIP)
    else:
        low, high = inner_limits(limits, log) if limits else robust(shown)
    cells = go.Heatmap(
        z=shown, x=list(range(len(at))), y=list(range(len(modules))), zmin=low, zmax=high, xgap=1, ygap=1, hoverinfo="skip",
        colorscale=theme.SIGNED if over_chance else theme.MAGNITUDES, **cell_text(raw, quantity, over_chance),
        colorbar=dict(title=dict(text="times chance" if over_chance else "", side="top"), thickness=11, len=0.9, outlinewidth=0,
                      **colour_ticks(low, high, quantity, log=log, over_chance=over_chance)),
    )  # fmt: skip
    clicks = click_marks(tensors, grid, x, quantity, over_chance) if clickable else []
    marks = [*clip_marks(shown, low, high), *note_marks(tensors, grid, x, noted)]
    title = QUANTITIES[quantity].label + (" over chance" if over_chance else "")
    sentence = f"Heatmap of {title} by {x} and module, {len(modules)} modules by {len(at)} {x}s."
    made = theme.figure(
        cells, *marks, *clicks, height=120 + max(6, len(modules)) * 30, alt=sentence
    )
    made.update_layout(
        hovermode="closest", hoverdistance=-1, dragmode=False, showlegend=False, margin=dict(l=230, r=10, t=8, b=46),
        xaxis=dict(title=x, tickvals=spaced(at), ticktext=[str(at[i]) for i in spaced(at)],
                   range=[-0.5, len(at) - 0.5], showgrid=False, fixedrange=True),
        yaxis=dict(tickvals=list(range(len(modules))), ticktext=[theme.axis_label(m) for m in modules],
                   range=[len(modules) - 0.5, -0.5], showgrid=False, fixedrange=True),
    )  # fmt: skip
    return made


def gridded(tensors: pd.DataFrame, quantity: str) -> tuple[pd.DataFrame, str]:
    """Means by module and layer, or by module and expert where one layer is left; and which of the
    two it is.
    """
    placed = tensors.dropna(subset=["layer"])
    inside = placed.dropna(subset=["expert"])
    x = "expert" if placed["layer"].nunique() == 1 and len(inside) else "layer"
    placed = inside if x == "expert" else placed
    means = placed.pivot_table(
        index="module", columns=x, values=quantity, aggfunc="mean", dropna=False
    )
    order = module_order(placed)
    return means.reindex(order)[sorted(int(v) for v in placed[x].unique())], x


def inner_limits(limits: tuple[float, float], log: bool) -> tuple[float, float]:
    """Colour limits in the shown scale."""
    if not log:
        return limits
    low, high = (float(np.log10(v)) if v > 0 else -30.0 for v in limits)
    return (low, high) if high > low else (low, low + 1.0)


def cell_text(raw: np.ndarray, quantity: str, over_chance: bool) -> dict:
    """A cell's own number, where there is room for it."""
    if raw.size > MOST_LABELS or raw.shape[1] > MOST_COLUMNS:
        return {}
    told = [[(times(v) if over_chance else label(v, quantity)) for v in row] for row in raw]
    return {"text": told, "texttemplate": "%{text}", "textfont": {"size": 12}}


def times(log2: float) -> str:
    """A ratio to chance, from its log2."""
    return f"{number(2.0**log2, 2)}×" if np.isfinite(log2) else ""


def colour_ticks(low: float, high: float, quantity: str, *, log: bool, over_chance: bool) -> dict:
    """The colour bar's ticks in the quantity's own unit."""
    if over_chance:
        return {
            "tickvals": [-3, -2, -1, 0, 1, 2, 3],
            "ticktext": ["≤⅛", "¼", "½", "1", "2", "4", "≥8"],
        }
    if log:
        places, _ = theme.powers(low, high)
        places = places if len(places) > 1 else [10.0**low, 10.0**high]
        return (
            {
                "tickvals": np.log10(places).tolist(),
                "ticktext": [label(v, quantity) for v in places],
            }
            if places
            else {}
        )
    return {"tickformat": ".3~%"} if label(0.5, quantity).endswith("%") else {}


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


def click_marks(
    tensors: pd.DataFrame, grid: pd.DataFrame, x: str, quantity: str, over_chance: bool
) -> list[go.Scatter]:
    """Invisible points in the middle of the cells: the nearest takes a click, so larger ones would
    take their neighbours'.
    """
    across = {v: i for i, v in enumerate(grid.columns)}
    down = {m: j for j, m in enumerate(grid.index)}
    placed = tensors.dropna(subset=["layer", x])
    cells = placed.groupby(["module", x]).agg(
        name=("name", "first"), count=("name", "size"), layer=("layer", "first")
    )
    told = times if over_chance else (lambda v: label(v, quantity))
    data = [
        ["" if row.count > 1 else row.name, int(row.layer), theme.literal(module), module, HOLDS[row.count > 1].format(row.count),
         told(grid.at[module, at]) or "did not move"]
        for module, at, row in ((m, a, Cell(*r)) for (m, a), r in zip(cells.index, cells.itertuples(index=False)))
    ]  # fmt: skip
    hover = (
        f"{x} %{{x}} · %{{customdata[2]}}<br><b>%{{customdata[5]}}</b> ·"
        " %{customdata[4]}<extra></extra>"
    )
    return [
        go.Scatter(
            x=[across[a] for _, a in cells.index], y=[down[m] for m, _ in cells.index], mode="markers", customdata=data,
            marker=dict(size=1, opacity=0), name="cells",
            selected=dict(marker=dict(opacity=0)), unselected=dict(marker=dict(opacity=0)),
            hovertemplate=hover.replace("%{x}", "%{text}"), text=[str(a) for _, a in cells.index],
        )
    ]  # fmt: skip


def note_marks(
    tensors: pd.DataFrame, grid: pd.DataFrame, x: str, noted: frozenset[str]
) -> list[go.Scatter]:
    """A flag in the corner of every cell that holds a tensor with a note."""
    rows = tensors[tensors["name"].isin(noted)].dropna(subset=["layer", x])
    if rows.empty:
        return []
    across, down = list(grid.columns), list(grid.index)
    cells = sorted({(across.index(int(a)), down.index(m)) for a, m in zip(rows[x], rows["module"])})
    return [
        go.Scatter(
            x=[i - 0.42 for i, _ in cells], y=[j - 0.3 for _, j in cells], mode="markers", hoverinfo="skip", name="notes",
            marker=dict(symbol="triangle-down", size=10, color=theme.DELTA, line=dict(width=1, color="white")),
        )
    ]  # fmt: skip


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
    names = (
        rows["module"] + rows["tower"].where(rows["tower"] != "language", "").radd(" ").str.rstrip()
    )
    dots = go.Scatter(
        x=values, y=names.map(theme.axis_label), mode="markers+text",
        marker=dict(size=12, color=[theme.BLOCKS[b] for b in rows["block"]]),
        customdata=np.stack([rows["name"], rows["name"].map(theme.literal)], axis=1),
        text=["  " + (label(v, quantity) or "did not move") for v in values],
        textposition="middle right", cliponaxis=False, hovertemplate="%{customdata[1]}: %{x:.4g}<extra></extra>",
    )  # fmt: skip
    sentence = f"Dots of {QUANTITIES[quantity].label} for {len(rows)} tensors without a layer."
    made = theme.figure(
        dots, height=80 + 28 * max(1, len(rows)), alt=sentence, margin=dict(l=230, r=90, t=8, b=46)
    )
    made.update_yaxes(autorange="reversed", dtick=1)
    positive = values[values > 0]
    if log and len(positive):
        low, high = np.log10(positive.min()) - 0.1, np.log10(positive.max()) + 0.15
        places, labels = theme.powers(low, high)
        made.update_xaxes(type="log", range=[low, high], tickvals=places, ticktext=labels)
    return made.update_xaxes(title=QUANTITIES[quantity].label + (" (log)" if log else ""))


def whole_range(tensors: pd.DataFrame, quantity: str) -> tuple[float, float] | None:
    """Colour limits from the least to the largest value of the map; `None` where there is no such
    range.
    """
    values = gridded(tensors, quantity)[0].to_numpy(dtype=float)
    values = values[np.isfinite(values) & ((values > 0) | (not QUANTITIES[quantity].log))]
    return (
        (float(values.min()), float(values.max()))
        if values.size and values.max() > values.min()
        else None
    )
