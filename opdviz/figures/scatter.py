"""Any two quantities against each other, one mark a tensor.

Of a large model a density is drawn, with its outermost tensors as marks.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import is_share, logarithmic, value_label
from opdviz.quantities import CHANCE_OF, QUANTITIES

BINS = (90, 60)
LONE = 2  # tensors in a cell of the grid up to which each of them is a mark
TICKS = (1, 10, 100, 1_000, 10_000)


def scatter(tensors: pd.DataFrame, x: str, y: str) -> go.Figure:
    """x, y: two quantities, log where they spread so; colour: block; dashed: each median chance."""
    rows = tensors.dropna(subset=[x, y])
    for quantity in (x, y):
        rows = rows[rows[quantity] > 0] if QUANTITIES[quantity].log else rows
    many = len(rows) > theme.MOST_MARKS
    traces = [density(rows, x, y)] if many else []
    figure = theme.figure(
        *traces,
        *block_marks(outermost(rows, x, y) if many else rows, x, y),
        height=440,
        alt=f"Scatter of {QUANTITIES[y].label} against {QUANTITIES[x].label}, one mark a tensor.",
        hovermode="closest",
        dragmode=False,
        margin={"t": 40, "l": 80},
    )
    figure.update_xaxes(**axis(rows[x].to_numpy(dtype=float), x))
    figure.update_yaxes(**axis(rows[y].to_numpy(dtype=float), y))
    marks.chance_line(figure, x=median_chance(rows, x), y=median_chance(rows, y))
    return figure


def median_chance(rows: pd.DataFrame, quantity: str) -> float | None:
    """The median chance level of a quantity; `None` where it has none."""
    column = CHANCE_OF.get(quantity)
    if column not in rows or not rows[column].notna().any():
        return None
    return float(rows[column].median())


def axis(values: np.ndarray, quantity: str) -> dict:
    """Title, scale and ticks of one axis."""
    label = QUANTITIES[quantity].label
    if not (QUANTITIES[quantity].log and values.size):
        tick_format = ".3~%" if is_share(quantity) else None
        return {"title": label, "type": "linear", "tickformat": tick_format}
    ends = logarithmic(*np.log10([values.min() * 0.85, values.max() * 1.18]).tolist())
    labels = [value_label(place, quantity) for place in ends["tickvals"]]
    return ends | {"title": f"{label} (log)", "ticktext": labels}


def scaled(values: pd.Series, quantity: str) -> np.ndarray:
    """Values as the axis shows them."""
    values = values.to_numpy(dtype=float)
    return np.log10(values) if QUANTITIES[quantity].log else values


def unscaled(places: np.ndarray, quantity: str) -> np.ndarray:
    """The values at places of the axis."""
    return 10.0**places if QUANTITIES[quantity].log else places


def outermost(rows: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The tensors that stand nearly alone: at most a screen's worth of marks."""
    cells = []
    for quantity, bins in zip((x, y), BINS, strict=True):
        places = scaled(rows[quantity], quantity)
        cells.append(np.digitize(places, np.histogram_bin_edges(places, bins)))
    cell = pd.Series(list(zip(*cells, strict=True)), index=rows.index)
    alone = rows[cell.map(cell.value_counts()) <= LONE]
    return alone.iloc[:: max(1, len(alone) // theme.MOST_MARKS + 1)]


def density(rows: pd.DataFrame, x: str, y: str) -> go.Heatmap:
    """How many tensors lie in each cell of a grid, on the axes' own scale."""
    counts, x_edges, y_edges = np.histogram2d(scaled(rows[x], x), scaled(rows[y], y), bins=BINS)
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    with np.errstate(divide="ignore"):
        logs = np.where(counts > LONE, np.log10(counts), np.nan).T
    return go.Heatmap(
        x=unscaled(middles[0], x),
        y=unscaled(middles[1], y),
        z=logs,
        name="tensors",
        colorscale=theme.MAGNITUDES,
        customdata=counts.T,
        colorbar=marks.colour_bar(
            "tensors",
            tickvals=np.log10(TICKS).tolist(),
            ticktext=[f"{tick:,}" for tick in TICKS],
        ),
        **marks.hovering("%{customdata} tensors"),
    )


def block_marks(rows: pd.DataFrame, x: str, y: str) -> list[go.Scatter]:
    """One trace a block; marks carry the tensor's name."""
    hover = (
        f"%{{customdata[1]}}<br>{QUANTITIES[x].label} %{{customdata[2]}}<br>"
        f"{QUANTITIES[y].label} %{{customdata[3]}}"
    )
    traces = []
    for block, part in rows.groupby("block"):
        labels = ([value_label(value, q) for value in part[q]] for q in (x, y))
        traces.append(
            marks.dots(
                part[x],
                part[y],
                block,
                colour=theme.BLOCKS[block],
                size=8,
                marker={"opacity": 0.75},
                customdata=np.stack(
                    [part["name"], part["name"].map(theme.literal), *labels], axis=1
                ),
                hover=hover,
            )
        )
    return traces
