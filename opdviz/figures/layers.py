"""Where it moved: a heatmap of layer by module, one cell a tensor, and a strip of the others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import (
    axis_label,
    is_share,
    label_room,
    logarithmic,
    module_order,
    on_modules,
    powers,
    ratios,
    value_labels,
)
from opdviz.quantities import QUANTITIES
from opdviz.words import number

# A cell's own number stands in it while there is room for it.
MOST_LABELS = 220
MOST_COLUMNS = 16
MOST_CLICKS = 2_500
MOST_LAYER_LABELS = 30
# What a cell that holds several tensors shows of them.
MEAN, EXTREME = "mean", "most extreme"
BELOW_ALL = -30.0  # log10 of a colour limit that is no positive number
UNMOVED = "did not move"


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of a map by module (rows) and by layer, or expert, (columns); `shows` says what of
    several tensors in one cell: their mean, or the most extreme.
    """

    tensors: pd.DataFrame
    cells: pd.DataFrame
    across: str
    shows: str

    @property
    def modules(self) -> list[str]:
        """The rows' names, first at the top."""
        return list(self.cells.index)

    @property
    def columns(self) -> list[int]:
        """The numbers of the layers or experts."""
        return list(self.cells.columns)

    @property
    def values(self) -> np.ndarray:
        """The cells' values."""
        return self.cells.to_numpy(dtype=float)

    @property
    def placed(self) -> pd.DataFrame:
        """The tensors that stand in a cell."""
        return self.tensors.dropna(subset=["layer", self.across])

    def places(self, rows: pd.DataFrame) -> tuple[list[int], list[int]]:
        """Where some tensors' cells stand, across and down."""
        across = [self.columns.index(int(column)) for column in rows[self.across]]
        return across, [self.modules.index(module) for module in rows["module"]]


def across_of(tensors: pd.DataFrame) -> str:
    """What stands across a map of some tensors: layers, or the experts of one."""
    layers = tensors["layer"].dropna().nunique()
    return "expert" if layers == 1 and tensors["expert"].notna().any() else "layer"


def gridded(tensors: pd.DataFrame, quantity: str, shows: str = MEAN) -> Grid:
    """Cells by module and layer, or by module and expert where one layer is left."""
    across = across_of(tensors)
    # Of a hundred columns those that are read: all would be copied.
    columns = dict.fromkeys(("module", "block", "layer", across, quantity))
    placed = tensors[[*columns]].dropna(subset=["layer", across])
    drawn = placed if shows == MEAN else most_extreme(placed, quantity, across)
    cells = drawn.groupby(["module", across])[quantity].mean().unstack()
    numbers = sorted(int(column) for column in placed[across].unique())
    cells = cells.reindex(index=module_order(placed), columns=numbers)
    return Grid(tensors, cells, across, shows)


def most_extreme(placed: pd.DataFrame, quantity: str, across: str) -> pd.DataFrame:
    """Of each cell's tensors the one that lies farthest from the median of its module, in decades
    where the quantity is read so: one hot or one dead expert does not drown in a mean.
    """
    measured = placed.dropna(subset=[quantity])
    values = measured[quantity].astype(float)
    if QUANTITIES.get(quantity) and QUANTITIES[quantity].log:
        values = np.log10(values.clip(lower=10.0**BELOW_ALL))
    off = (values - values.groupby(measured["module"]).transform("median")).abs()
    return measured.loc[off.groupby([measured["module"], measured[across]]).idxmax()]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a quantity is coloured: over its chance level (as log2), logarithmic, or as it is."""

    quantity: str
    over_chance: bool
    value_label: Callable[[float], str]

    @property
    def colours(self) -> str:
        """The name of the colour scale."""
        return theme.SIGNED if self.over_chance else theme.MAGNITUDES

    @property
    def log(self) -> bool:
        """Whether colours follow the logarithm of the quantity."""
        return QUANTITIES[self.quantity].log and not self.over_chance

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Values as they are coloured; NaN where they have no colour."""
        if self.over_chance:
            return values
        if not self.log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(values)
        return np.where(np.isfinite(logs), logs, np.nan)

    def limits(self, shown: np.ndarray, given: tuple[float, float] | None) -> tuple[float, float]:
        """The limits of the colours: those given in the quantity's unit, or those of most cells."""
        if self.over_chance:
            # As far below chance as above it: its middle is the colour of chance.
            reach = max(1.0, float(np.abs(shown[np.isfinite(shown)]).max(initial=0.0)))
            return -reach, reach
        if given is None:
            return robust(shown)
        if not self.log:
            return given
        low, high = (float(np.log10(limit)) if limit > 0 else BELOW_ALL for limit in given)
        return (low, high) if high > low else (low, low + 1.0)

    def label(self, value: float) -> str:
        """A cell's own number; empty where there is none."""
        return times(value) if self.over_chance else self.value_label(value)

    def ticks(self, low: float, high: float) -> dict:
        """The colour bar's ticks in the quantity's own unit."""
        if self.over_chance:
            return ratios(low, high)
        if not self.log:
            return {"tickformat": ".3~%"} if is_share(self.quantity) else {}
        places, _ = powers(low, high)
        if len(places) < 2:
            places = [10.0**low, 10.0**high]
        return {
            "tickvals": np.log10(places).tolist(),
            "ticktext": [self.value_label(place) for place in places],
        }


def heatmap(
    tensors: pd.DataFrame,
    quantity: str,
    *,
    limits: tuple[float, float] | None = None,
    over_chance: bool = False,
    noted: frozenset[str] = frozenset(),
    clickable: bool = True,
    shows: str = MEAN,
) -> go.Figure:
    """One cell a (layer, module) of one tower, or a (expert, module) of one layer.

    Of several tensors a cell `shows` the mean, or the most extreme. `limits` are colour limits in
    the quantity's own unit; cells beyond them are marked with a dot, tensors in `noted` with a
    flag. Click marks carry what a cell is: the tensor's name, or its layer and module where it
    holds several.
    """
    grid = gridded(tensors, "over_chance" if over_chance else quantity, shows)
    scale = Scale(quantity, over_chance, value_labels(grid.values, quantity))
    coloured = scale.shown(grid.values)
    ends = scale.limits(coloured, limits)
    layers, modules = len(grid.columns), len(grid.modules)
    title = QUANTITIES[quantity].label + (" over chance" if over_chance else "")
    beyond = clip_marks(coloured, *ends)
    bar = marks.colour_bar("times chance" if over_chance else "", **scale.ticks(*ends))
    figure = theme.figure(
        marks.cells(
            coloured,
            list(range(layers)),
            list(range(modules)),
            limits=ends,
            colours=scale.colours,
            xgap=1,
            ygap=1,
            colorbar=bar,
        ),
        *number_marks(grid.values, scale, ends),
        *beyond,
        *note_marks(grid, noted),
        *(click_marks(grid, scale) if clickable else []),
        height=120 + max(6, modules) * 30,
        alt=f"Heatmap of {title} by {grid.across} and module, {modules} modules by {layers}"
        f" {grid.across}s.",
        **marks.ON_CELLS,
        margin={"r": 10, "t": 28 if beyond else 8, "b": 46},
    )
    if beyond:
        explain_clipping(figure)
    labelled = range(0, layers, max(1, layers // MOST_LAYER_LABELS))
    figure.update_xaxes(
        title=grid.across,
        tickvals=list(labelled),
        ticktext=[str(grid.columns[at]) for at in labelled],
        range=[-0.5, layers - 0.5],
        showgrid=False,
        fixedrange=True,
    )
    return on_modules(figure, grid.modules).update_yaxes(showgrid=False, fixedrange=True)


def number_marks(values: np.ndarray, scale: Scale, ends: tuple[float, float]) -> list[go.Scatter]:
    """Each cell's own number, where there is room for it, in black or white as its colour wants."""
    if values.size > MOST_LABELS or values.shape[1] > MOST_COLUMNS:
        return []
    down, across = np.nonzero(np.isfinite(scale.shown(values)))
    low, high = ends
    shares = (scale.shown(values)[down, across] - low) / ((high - low) or 1.0)
    inks = [theme.ink_on(scale.colours, share) for share in shares.clip(0.0, 1.0)]
    return [
        marks.dots(
            across,
            down,
            "numbers",
            colour="black",
            mode="text",
            showlegend=False,
            text=[scale.label(value) for value in values[down, across]],
            textfont={"size": 12, "color": inks},
        )
    ]


def times(log2: float) -> str:
    """A ratio to chance, from its log2."""
    return f"{number(2.0**log2, 2)}×" if np.isfinite(log2) else ""


def robust(shown: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of the values that are there."""
    values = shown[np.isfinite(shown)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(values, [2, 98]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def click_marks(grid: Grid, scale: Scale, *, at: tuple = ()) -> list[go.Scatter]:
    """Invisible points in the middle of the cells, which take the clicks.

    The nearest takes a click, so larger ones would take their neighbours'. Custom data: the
    tensor's name (empty where several share the cell), the layer, the module as it is shown and as
    it is, how many tensors, the value in words, and what is in `at`.
    """
    by_cell = grid.placed.groupby(["module", grid.across])
    cells = by_cell.agg(
        name=("name", "first"), count=("name", "size"), in_layer=("layer", "first")
    ).reset_index()
    x, y = grid.places(cells)
    values = grid.values[y, x]
    customdata = [
        [*cell_data(cell, grid.shows, scale.label(value)), *at]
        for cell, value in zip(cells.itertuples(), values, strict=True)
    ]
    return [
        marks.dots(
            x,
            y,
            "cells",
            colour="black",
            size=1,
            marker={"opacity": 0},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            text=[str(column) for column in cells[grid.across]],
            customdata=customdata,
            hover=f"{grid.across} %{{text}} · %{{customdata[2]}}<br><b>%{{customdata[5]}}</b>"
            " · %{customdata[4]}",
        )
    ]


def cell_data(cell: tuple, shows: str, value: str) -> list:
    """What the mark of one cell carries."""
    several = cell.count > 1
    return [
        "" if several else cell.name,
        int(cell.in_layer),
        theme.literal(cell.module),
        cell.module,
        f"{shows} of {cell.count} tensors" if several else "one tensor",
        value or UNMOVED,
    ]


def note_marks(grid: Grid, noted: frozenset[str]) -> list[go.Scatter]:
    """A flag in the corner of every cell that holds a tensor with a note."""
    rows = grid.placed[grid.placed["name"].isin(noted)]
    if rows.empty:
        return []
    cells = sorted(set(zip(*grid.places(rows), strict=True)))
    return [
        marks.dots(
            [across - 0.42 for across, _ in cells],
            [down - 0.3 for _, down in cells],
            "notes",
            colour=theme.DELTA,
            size=10,
            marker={"symbol": "triangle-down", "line": {"width": 1, "color": "white"}},
        )
    ]


def clip_marks(shown: np.ndarray, low: float, high: float) -> list[go.Scatter]:
    """A small dot in the corner of every cell whose value lies beyond the colour limits."""
    down, across = np.nonzero((shown < low) | (shown > high))
    if not len(across):
        return []
    name = "beyond the colour limits"
    return [marks.dots(across + 0.4, down - 0.3, name, colour=theme.DELTA, size=4)]


def explain_clipping(figure: go.Figure) -> None:
    """Say over the map what its small dots mean."""
    figure.add_annotation(
        text=f"<span style='color:{theme.DELTA}'>●</span> beyond the colour limits",
        x=1.0,
        xref="paper",
        xanchor="right",
        y=1.0,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
    )


def strip(tensors: pd.DataFrame, quantity: str, *, log: bool) -> go.Figure:
    """Dots for the tensors that stand in no layer: embeddings, heads, final norms."""
    rows = tensors[tensors["layer"].isna()].sort_values("name")
    values = rows[quantity].astype(float)
    tower = rows["tower"].where(rows["tower"] != "language", "")
    names = rows["module"] + tower.radd(" ").str.rstrip()
    labels = names.map(axis_label).tolist()
    label = value_labels(values.to_numpy(), quantity)
    figure = theme.figure(
        marks.dots(
            values,
            labels,
            "tensors",
            colour=[theme.BLOCKS[block] for block in rows["block"]],
            size=12,
            mode="markers+text",
            text=["  " + (label(value) or UNMOVED) for value in values],
            textposition="middle right",
            cliponaxis=False,
            customdata=np.stack([rows["name"], rows["name"].map(theme.literal)], axis=1),
            hover="%{customdata[1]}: %{x:.4g}",
        ),
        height=80 + 28 * max(1, len(rows)),
        alt=f"Dots of {QUANTITIES[quantity].label} for {len(rows)} tensors without a layer.",
        margin={"l": label_room(labels), "r": 90, "t": 8, "b": 46},
    )
    figure.update_yaxes(autorange="reversed", dtick=1)
    positive = values[values > 0]
    if log and len(positive):
        ends = np.log10(positive.min()) - 0.1, np.log10(positive.max()) + 0.15
        figure.update_xaxes(**logarithmic(*ends))
    return figure.update_xaxes(title=QUANTITIES[quantity].label + (" (log)" if log else ""))


def whole_range(tensors: pd.DataFrame, quantity: str) -> tuple[float, float] | None:
    """Colour limits from the least to the largest value of the map; `None` without such a range."""
    values = gridded(tensors, quantity).values
    has_colour = (values > 0) | (not QUANTITIES[quantity].log)
    values = values[np.isfinite(values) & has_colour]
    if not values.size or values.max() == values.min():
        return None
    return float(values.min()), float(values.max())
