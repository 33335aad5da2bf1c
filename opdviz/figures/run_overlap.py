"""How runs lie to each other: a matrix of runs, a map of one pair, and by how many runs a
coordinate was moved.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import axis_label, label_room, module_order, on_modules, ratios
from opdviz.figures.layers import MOST_COLUMNS, MOST_LAYER_LABELS
from opdviz.figures.layers import MOST_LABELS as MOST_TEXT
from opdviz.words import percent

CELL = 46  # pixels: a row of the matrix, which holds two lines
MAP_CELL = 30
NAME = 26  # characters of a run's name beside the matrix


def signed_cells(
    values: np.ndarray,
    words: Sequence[Sequence[str]],
    data: Sequence[Sequence[list]],
    *,
    reach: float,
    hover: str,
    as_ratios: bool = False,
) -> list[go.Heatmap | go.Scatter]:
    """Cells coloured around chance at 0, up to `reach`, with words in each while there is room, and
    invisible marks that take hovers and clicks with their `data`.
    """
    down, across = np.nonzero(np.isfinite(values))
    cells = list(zip(down, across, strict=True))
    shares = ((values[down, across] + reach) / (2 * reach)).clip(0.0, 1.0)
    rows, columns = values.shape
    ticks = ratios(-reach, reach) if as_ratios else {}
    where = {"colour": "black", "size": 1, "showlegend": False}
    unseen = {"marker": {"opacity": 0}}
    traces = [
        marks.cells(
            values,
            list(range(columns)),
            list(range(rows)),
            limits=(-reach, reach),
            colours=theme.SIGNED,
            xgap=1,
            ygap=1,
            colorbar=marks.colour_bar("", **ticks),
        ),
        marks.dots(
            across,
            down,
            "cells",
            **where,
            **unseen,
            selected=unseen,
            unselected=unseen,
            customdata=[data[row][column] for row, column in cells],
            hover=hover,
        ),
    ]
    if values.size <= MOST_TEXT and columns <= MOST_COLUMNS:
        inks = [theme.ink_on(theme.SIGNED, share) for share in shares]
        text = [words[row][column] for row, column in cells]
        font = {"size": 12, "color": inks}
        numbers = marks.dots(
            across, down, "numbers", **where, mode="text", text=text, textfont=font
        )
        traces.insert(1, numbers)
    return traces


def matrix(
    names: Sequence[str],
    values: np.ndarray,
    words: Sequence[Sequence[str]],
    hovers: Sequence[Sequence[str]],
    *,
    reach: float,
    as_ratios: bool,
    what: str,
) -> go.Figure:
    """A cell for each two runs, coloured by `values` around the level of chance, 0, up to `reach`.

    `words` stand in the cells, `hovers` beside the pointer. A click's custom data are both places.
    """
    labels = [axis_label(theme.shortened(name, NAME)) for name in names]
    data = [
        [[row, column, hover] for column, hover in enumerate(hovers[row])]
        for row in range(len(names))
    ]
    figure = theme.figure(
        *signed_cells(
            values, words, data, reach=reach, as_ratios=as_ratios, hover="%{customdata[2]}"
        ),
        height=110 + CELL * max(3, len(names)),
        alt=f"Matrix of {len(names)} runs: {what} of each two.",
        **marks.ON_CELLS,
        margin={"l": label_room(labels), "r": 10, "t": 10, "b": 90},
    )
    return square(figure, labels)


def square(figure: go.Figure, labels: Sequence[str], title: str | None = None) -> go.Figure:
    """The same figure with the same labels on both axes, the first at the top left."""
    ends = [-0.5, len(labels) - 0.5]
    axis = {"tickvals": list(range(len(labels))), "ticktext": list(labels), "showgrid": False}
    figure.update_xaxes(**axis, title=title, range=ends)
    return figure.update_yaxes(**axis, title=title, range=ends[::-1])


def pair_map(rows: pd.DataFrame, *, reach: float, as_ratios: bool, what: str) -> go.Figure:
    """x: layer, y: module of one pair of runs, coloured by the column `colour` around chance at 0;
    the column `words` stands in the cells.

    Columns: layer, module, block, colour, words, hover.
    """
    modules = module_order(rows)
    layers = sorted(int(layer) for layer in rows["layer"].unique())
    across = [layers.index(int(layer)) for layer in rows["layer"]]
    down = [modules.index(module) for module in rows["module"]]
    values = np.full((len(modules), len(layers)), np.nan)
    words, hovers = np.full((2, *values.shape), "", dtype=object)
    for grid, column in ((values, "colour"), (words, "words"), (hovers, "hover")):
        grid[down, across] = rows[column]
    data = [[[hover] for hover in row] for row in hovers]
    figure = theme.figure(
        *signed_cells(
            values, words, data, reach=reach, as_ratios=as_ratios, hover="%{customdata[0]}"
        ),
        height=110 + MAP_CELL * max(5, len(modules)),
        alt=f"Map of {what} by layer and module of two runs.",
        **marks.ON_CELLS,
        margin={"r": 10, "t": 8, "b": 46},
    )
    labelled = range(0, len(layers), max(1, len(layers) // MOST_LAYER_LABELS))
    figure.update_xaxes(
        title="layer",
        tickvals=list(labelled),
        ticktext=[str(layers[at]) for at in labelled],
        range=[-0.5, len(layers) - 0.5],
        showgrid=False,
    )
    return on_modules(figure, modules).update_yaxes(showgrid=False)


def agreement(rows: pd.DataFrame) -> go.Figure:
    """x: by how many runs a coordinate was moved, y: share of the coordinates; dotted: what the
    sizes of the weights alone give. Columns: moved_by, share, expected (share).
    """
    figure = theme.figure(
        marks.bars(
            rows["moved_by"],
            rows["share"],
            "moved by so many runs",
            colour=theme.DELTA,
            text=[percent(share, 2) for share in rows["share"]],
            hover="by %{x} runs: %{y:.3%}",
        ),
        marks.line(
            rows["moved_by"],
            rows["expected"],
            "given the sizes of the weights",
            colour=theme.NULL,
            dash="dot",
            mode="lines+markers",
            hover="by %{x} runs, given the sizes: %{y:.3%}",
        ),
        height=360,
        alt="Share of coordinates by how many runs moved them, beside what sizes alone give.",
        margin={"t": 44},
    )
    figure.update_xaxes(title="runs that moved a coordinate", dtick=1)
    top = 1.15 * float(rows[["share", "expected"]].to_numpy().max())
    return figure.update_yaxes(title="share of coordinates", tickformat=".0%", range=[0, top])


def directions(rows: pd.DataFrame) -> go.Figure:
    """Facets by side, a line a pair of runs: similarity, chance, and what turned updates share.

    Columns: run_a, run_b, side, similarity, chance, null_low, null_high.
    """
    pairs = list(dict.fromkeys(pairs_of(rows)))
    labels = [axis_label(theme.shortened(f"{a} and {b}", 40)) for a, b in pairs]
    figure = marks.facets(["left (outputs)", "right (inputs)"], spacing=0.04)
    for col, side in enumerate(("left", "right"), start=1):
        part = rows[rows["side"] == side]
        y = [pairs.index(pair) for pair in pairs_of(part)]
        traces = [
            marks.segments(
                part["null_low"],
                part["null_high"],
                y,
                "turned at random",
                colour=theme.NULL_AREA,
                width=marks.BAND,
            ),
            marks.dots(
                part["chance"],
                y,
                "chance",
                colour=theme.CHANCE,
                size=12,
                marker={"symbol": "line-ns-open", "line": {"width": 2}},
                hover="chance %{x:.2%}",
            ),
            marks.dots(
                part["similarity"],
                y,
                "similarity, median",
                colour=theme.DELTA,
                hovertext=[theme.literal(f"{a} and {b}") for a, b in pairs_of(part)],
                hover="%{hovertext}: %{x:.2%}",
            ),
        ]
        for trace in traces:
            figure.add_trace(trace.update(showlegend=col == 1), row=1, col=col)
    figure.update_xaxes(title="share of directions", tickformat=".0%", range=[0, 1.02])
    theme.dressed(
        figure,
        height=150 + 24 * max(3, len(pairs)),
        alt="Similarity of the leading directions of each two runs, beside chance and turned"
        " updates.",
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom"},
        margin={"l": label_room(labels), "r": 16, "t": 34, "b": 84},
        dragmode=False,
    )
    return figure.update_yaxes(
        tickvals=list(range(len(pairs))), ticktext=labels, range=[len(pairs) - 0.5, -0.5]
    )


def pairs_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The two runs of each row."""
    return list(zip(rows["run_a"], rows["run_b"], strict=True))
