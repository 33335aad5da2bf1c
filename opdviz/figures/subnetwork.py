"""How dense a mask is, and where."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import label_room, on_modules
from opdviz.words import percent

SIDE = 0.22  # of a line's height: how far the dots of a module are spread


def densities(
    tensors: pd.DataFrame, groups: pd.DataFrame, model: float, *, modules: Sequence[str] | None
) -> go.Figure:
    """x: density of the mask, a dot a tensor, a line a group; the group's own and what the sizes of
    its weights give, and the model's across.

    Columns of both: group, density, density_given_sizes; of tensors name. `modules` are the groups
    in their order; `None` where they are layers.
    """
    order = list(groups["group"]) if modules is None else list(modules)
    place = {group: at for at, group in enumerate(order)}
    rows = tensors.assign(y=tensors["group"].map(place).astype(float))
    within = rows.groupby("group").cumcount() / rows.groupby("group")["y"].transform("size")
    y = rows["y"] + SIDE * (2 * within - 1)
    at = groups["group"].map(place)
    tick = {"symbol": "line-ns-open", "line": {"width": 2.5}}
    figure = theme.figure(
        marks.chance(
            [model, model],
            [-0.5, len(order) - 0.5],
            "whole model",
            hover=f"whole model: {percent(model)}",
        ),
        marks.dots(
            rows["density"],
            y,
            "tensors",
            colour=theme.BASE,
            size=6,
            hovertext=[theme.literal(name) for name in rows["name"]],
            customdata=[[name] for name in rows["name"]],
            hover="%{hovertext}: %{x:.2%}",
        ),
        marks.dots(
            groups["density_given_sizes"],
            at,
            "given the sizes of the weights",
            colour=theme.NULL,
            size=18,
            marker=tick,
            hovertext=[theme.literal(str(group)) for group in groups["group"]],
            hover="%{hovertext}: %{x:.2%} given the sizes of its weights",
        ),
        marks.dots(
            groups["density"],
            at,
            "all of a line",
            colour=theme.DELTA,
            size=11,
            hovertext=[theme.literal(str(group)) for group in groups["group"]],
            hover="%{hovertext}: %{x:.2%}",
        ),
        height=150 + 26 * max(5, len(order)),
        alt="Density of the mask by module or layer, beside what weight sizes alone give.",
        legend={"y": 1.0, "yref": "paper", "yanchor": "bottom"},
        margin={"l": label_room(list(map(str, order))), "r": 16, "t": 44, "b": 48},
    )
    top = np.nanmax([*rows["density"], *groups["density_given_sizes"], model])
    figure.update_xaxes(title="density of the mask", tickformat=".0%", range=[0, 1.08 * top])
    if modules is not None:
        return on_modules(figure, order)
    return figure.update_yaxes(
        title="layer",
        tickvals=list(place.values()),
        ticktext=[str(group) for group in order],
        range=[len(order) - 0.5, -0.5],
    )
