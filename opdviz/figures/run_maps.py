"""Where several runs moved: a map for each under one colour scale, or as ratios to one of them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import layers as maps
from opdviz.figures import marks, theme
from opdviz.figures.axes import axis_label, label_room
from opdviz.quantities import QUANTITIES

COLUMNS = 2
CELL, BETWEEN = 22, 64  # pixels: a row of a map; between two maps
BAR = 420  # pixels: the longest colour bar
MOST_CLICKS = 400  # cells in all maps: more marks, which take clicks, are slow to draw


def side_by_side(
    by_run: Mapping[str, pd.DataFrame],
    quantity: str,
    *,
    places: Sequence[int],
    against: str | None = None,
    limits: tuple[float, float] | None = None,
    shows: str = maps.MEAN,
) -> go.Figure:
    """A map of layer by module for each run, under one colour scale; with `against` each cell is
    the log2 of its ratio to that run's, in the column `ratio`.

    `by_run` has the tensors of each run that stand in a layer. Of small models cells take clicks: a
    click's custom data is as on the map of one run, and at its end the run's of `places`.
    """
    column = quantity if against is None else "ratio"
    grids = [maps.gridded(tensors, column, shows) for tensors in by_run.values()]
    scale = maps.Scale(quantity, against is not None, value_label_of(grids, quantity))
    modules = list(dict.fromkeys(module for grid in grids for module in grid.modules))
    columns = sorted({number for grid in grids for number in grid.columns})
    cells = [grid.cells.reindex(index=modules, columns=columns) for grid in grids]
    coloured = [scale.shown(one.to_numpy(dtype=float)) for one in cells]
    ends = scale.limits(np.concatenate([one.ravel() for one in coloured]), limits)
    rows = -(-len(grids) // COLUMNS)
    height = CELL * max(5, len(modules))
    plot = height * rows + BETWEEN * (rows - 1)
    figure = make_subplots(
        rows=rows,
        cols=min(COLUMNS, len(grids)),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=BETWEEN / plot if rows > 1 else 0.0,
        subplot_titles=[theme.literal(theme.shortened(name, 40)) for name in by_run],
    )
    bar = marks.colour_bar(
        "times" if against is not None else "", **scale.ticks(*ends), len=min(1.0, BAR / plot)
    )
    clickable = len(grids) * len(columns) * len(modules) <= MOST_CLICKS
    for at, (grid, values) in enumerate(zip(grids, coloured, strict=True)):
        place = {"row": at // COLUMNS + 1, "col": at % COLUMNS + 1}
        shared = maps.Grid(grid.tensors, cells[at], grid.across, shows)
        hovers = {} if clickable else {"text": words_of(shared, scale), "hover": "%{text}"}
        figure.add_trace(
            marks.cells(
                values,
                list(range(len(columns))),
                list(range(len(modules))),
                limits=ends,
                colours=scale.colours,
                xgap=1,
                ygap=1,
                showscale=at == 0,
                colorbar=bar,
                **hovers,
            ),
            **place,
        )
        for trace in maps.clip_marks(values, *ends):
            figure.add_trace(trace, **place)
        for trace in maps.click_marks(shared, scale, at=(places[at],)) if clickable else ():
            figure.add_trace(trace, **place)
    labels = [axis_label(module) for module in modules]
    labelled = range(0, len(columns), max(1, 2 * len(columns) // maps.MOST_LAYER_LABELS))
    figure.update_xaxes(
        tickvals=list(labelled),
        ticktext=[str(columns[at]) for at in labelled],
        range=[-0.5, len(columns) - 0.5],
        showgrid=False,
        fixedrange=True,
    )
    figure.update_xaxes(title=grids[0].across, row=rows)
    figure.update_yaxes(
        tickvals=list(range(len(modules))),
        ticktext=labels,
        range=[len(modules) - 0.5, -0.5],
        showgrid=False,
        fixedrange=True,
    )
    return theme.dressed(
        figure,
        height=plot + 100,
        alt=f"Maps of {QUANTITIES[quantity].label} by {grids[0].across} and module of"
        f" {len(grids)} runs under one colour scale.",
        **marks.ON_CELLS,
        margin={"l": label_room(labels), "r": 10, "t": 34, "b": 52},
    )


def value_label_of(grids: Sequence[maps.Grid], quantity: str) -> Callable[[float], str]:
    """How a map's numbers are written: alike in all runs."""
    return maps.value_labels(np.concatenate([grid.values.ravel() for grid in grids]), quantity)


def words_of(grid: maps.Grid, scale: maps.Scale) -> list[list[str]]:
    """What is said of each cell where the pointer stands."""
    return [
        [
            f"{grid.across} {number} · {theme.literal(module)}<br>"
            f"<b>{scale.label(value) or maps.UNMOVED}</b>"
            for number, value in zip(grid.columns, row, strict=True)
        ]
        for module, row in zip(grid.modules, grid.values, strict=True)
    ]
