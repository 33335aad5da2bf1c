"""A training over its steps: any quantity by block or layer, the angles between its updates, how
the mask grows and what of it is taken back.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from opdviz.figures import marks, theme
from opdviz.figures.axes import axis_label, logarithmic, value_label
from opdviz.figures.run_overlap import signed_cells, square
from opdviz.figures.runs import legend_below
from opdviz.quantities import QUANTITIES
from opdviz.words import percent

HEIGHT = 360
# References that are not chance levels look otherwise.
REFERENCES = {
    "turned at random": {"line": {"color": theme.NULL, "width": 1.5, "dash": "dot"}},
    "final subspace": {"line": {"color": theme.BASE, "width": 1.5, "dash": "longdash"}},
}


def lines(
    by_group: Mapping[object, pd.DataFrame],
    quantity: str,
    *,
    by: str,
    references: Mapping[str, pd.DataFrame],
) -> go.Figure:
    """x: step, y: a quantity of each block, or of each layer from dark to light.

    Dashed: references. Columns of all: step, value.
    """
    label, groups = QUANTITIES[quantity].label, list(by_group)
    colours = colours_of(groups, by)
    traces = [
        marks.chance(
            rows["step"], rows["value"], name, hover="%{y:.4g}", **REFERENCES.get(name, {})
        )
        for name, rows in references.items()
    ]
    for group, rows in by_group.items():
        name = f"layer {group}" if by == "layer" else str(group)
        traces.append(
            marks.line(
                rows["step"],
                rows["value"],
                theme.literal(name),
                colour=colours[group],
                mode="lines+markers",
                customdata=[[value_label(value, quantity)] for value in rows["value"]],
                hover=f"step %{{x}}: %{{customdata[0]}}<extra>{theme.literal(name)}</extra>",
            )
        )
    figure = theme.figure(
        *traces,
        alt=f"{label} by {by} over the steps of a training.",
        **legend_below(len(traces), HEIGHT),
    )
    frames = [*by_group.values(), *references.values()]
    values = np.concatenate([rows["value"].to_numpy(dtype=float) for rows in frames])
    values = values[np.isfinite(values) & (values > 0)]
    figure.update_xaxes(title="step")
    if QUANTITIES[quantity].log and len(values):
        scale = logarithmic(*np.log10([values.min() / 1.2, values.max() * 1.2]).tolist())
        scale["ticktext"] = [value_label(place, quantity) for place in scale["tickvals"]]
        return figure.update_yaxes(title=f"{label} (log)", **scale)
    return figure.update_yaxes(title=label)


def colours_of(groups: Sequence, by: str) -> dict:
    """A colour for each group: that of a block, or of a layer; of many layers by their depth."""
    if by == "block":
        return {group: theme.BLOCKS.get(group, theme.BASE) for group in groups}
    if len(groups) <= len(theme.RUNS):
        return dict(zip(groups, theme.RUNS, strict=False))
    depth = np.linspace(0.3, 0.85, len(groups))  # read on both grounds
    return dict(zip(groups, sample_colorscale(theme.MAGNITUDES, depth.tolist()), strict=False))


def growth(rows: pd.DataFrame) -> go.Figure:
    """x: step, y: share of the coordinates that moved since the base, since the step before, and of
    those moved a step before the share that is back at the base's value.

    Columns: step, moved, back (missing at the first step).
    """
    figure = theme.figure(
        marks.line(
            rows["step"],
            rows["moved"],
            "moved since the base",
            colour=theme.DELTA,
            mode="lines+markers",
            width=2.5,
            hover="step %{x}: %{y:.2%} moved since the base",
        ),
        marks.bars(
            rows["step"],
            rows["back"],
            "taken back since the step before",
            colour=theme.GREY_AREA,
            text=[percent(share, 2) if pd.notna(share) else "" for share in rows["back"]],
            hover="step %{x}: %{y:.2%} of what had moved is back",
        ),
        height=HEIGHT,
        alt="Share of coordinates moved by step, and of those moved before that are back.",
        margin={"t": 44},
    )
    figure.update_xaxes(title="step")
    return figure.update_yaxes(title="share", tickformat=".0%", rangemode="tozero")


def angles(steps: Sequence[int], cosines: np.ndarray) -> go.Figure:
    """A matrix of steps: the cosine between the updates from the base to each two of them."""
    labels = [axis_label(str(step)) for step in steps]
    words = [[f"{value:.2f}" for value in row] for row in cosines]
    data = [
        [[labels[row], labels[column], words[row][column]] for column in range(len(steps))]
        for row in range(len(steps))
    ]
    hover = "steps %{customdata[0]} and %{customdata[1]}: %{customdata[2]}"
    figure = theme.figure(
        *signed_cells(cosines, words, data, reach=1.0, hover=hover),
        height=120 + 34 * max(4, len(steps)),
        alt=f"Cosines between the updates to each two of {len(steps)} steps.",
        **marks.ON_CELLS,
        margin={"l": 64, "r": 10, "t": 10, "b": 50},
    )
    return square(figure, labels, "step")
