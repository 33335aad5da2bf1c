"""Slices of a tensor as bars that can be clicked: heads, bands of rows and columns, words."""

import pandas as pd
import plotly.graph_objects as go

from opdviz import slices
from opdviz.figures import marks, theme
from opdviz.words import percent

MOST_TICKS = 24
LONGEST_TOKEN = 12
AXES = {"row": "by row (output)", "column": "by column (input)"}
TITLES = {"energy": "share of ||D||²"}


def bars(heads: pd.DataFrame) -> go.Figure:
    """x: head, y: share of the update's energy; an even spread dashed.

    Columns: part, energy, even, moved, moved_bfloat16. Groups of heads (query, key, value of a
    fused matrix) stand one after the other.
    """
    moved = heads["moved_bfloat16"].where(heads["moved_bfloat16"].notna(), heads["moved"])
    figure = theme.figure(
        marks.bars(
            list(range(len(heads))),
            heads["energy"],
            "energy",
            colour=theme.DELTA,
            showlegend=False,
            customdata=marks.tooltips(heads, heads["part"], [percent(share) for share in moved]),
            hover="%{customdata[0]}: %{y:.2%} of the energy, %{customdata[1]} moved",
        ),
        level(len(heads), heads["even"].iloc[0], "even spread"),
        height=300,
        alt=f"Energy of the update in each of {len(heads)} attention heads, beside an even spread.",
    )
    labelled = range(0, len(heads), max(1, len(heads) // MOST_TICKS))
    names = [heads["part"].iloc[at].removeprefix("head ") for at in labelled]
    figure.update_xaxes(title="head", tickvals=list(labelled), ticktext=names)
    figure.update_yaxes(title="share of ||D||²", tickformat=".3~%", rangemode="tozero")
    return clickable(figure, margin={"t": 34}, bargap=0.15)


def level(count: int, height: float, name: str) -> go.Scatter:
    """A dashed line across some bars."""
    return marks.chance([-0.5, count - 0.5], [height, height], name)


def profile(rows: pd.DataFrame, column: str) -> go.Figure:
    """Bands of rows and of columns: share of energy or share that moved, beside an even spread.

    Columns: axis, low, high, even, and the one that is shown.
    """
    figure = marks.facets(list(AXES.values()), spacing=0.09, shared=False)
    for col, axis in enumerate(AXES, start=1):
        part = rows[rows["axis"] == axis].sort_values("low")
        ends = zip(part["low"].astype(int), part["high"].astype(int), strict=True)
        middle = (part["low"] + part["high"]) / 2
        band = marks.bars(
            middle,
            part[column],
            column,
            colour=theme.DELTA,
            width=part["high"] - part["low"],
            marker_line_width=0,
            showlegend=False,
            customdata=[[slices.band(axis, low, high)] for low, high in ends],
            hover="%{customdata[0]}: %{y:.3~%}",
        )
        figure.add_trace(band, row=1, col=col)
        if len(part):
            even = marks.chance(middle, part["even"], "even spread", showlegend=col == 1)
            figure.add_trace(even, row=1, col=col)
        figure.update_xaxes(title=axis, row=1, col=col)
    figure.update_yaxes(tickformat=".3~%", rangemode="tozero")
    figure.update_yaxes(title=TITLES.get(column, "share that moved"), col=1)
    theme.dressed(figure, height=300, alt="Profile of the update by bands of rows and columns.")
    return clickable(figure, margin={"t": 44}, bargap=0.0)


def vocabulary(rows: pd.DataFrame, whole: float) -> go.Figure:
    """x: row with its token, most moved first; y: its relative norm; dashed: the whole tensor's."""
    names = [row_name(*row) for row in zip(rows["row"], rows["token"], strict=True)]
    parts = [slices.band("row", int(row), int(row) + 1) for row in rows["row"]]
    places = list(range(len(rows)))
    figure = theme.figure(
        marks.bars(
            places,
            rows["relative_norm"],
            "row",
            colour=theme.DELTA,
            showlegend=False,
            customdata=marks.tooltips(rows, parts, names),
            hover="%{customdata[1]}: %{y:.3~%}",
        ),
        level(len(rows), whole, "whole tensor"),
        height=340,
        alt=f"Relative norm of the {len(rows)} most moved rows, beside the whole tensor's.",
    )
    figure.update_xaxes(tickvals=places, ticktext=names, tickangle=-50)
    figure.update_yaxes(title="relative norm of the row", tickformat=".3~%", rangemode="tozero")
    return clickable(figure, margin={"t": 34, "b": 90}, bargap=0.2)


def row_name(row: int, token: str | None) -> str:
    """A row's number and, where it is known, its token: literal."""
    if pd.isna(token):
        return str(row)
    return theme.literal(f"{row} {theme.shortened(str(token), LONGEST_TOKEN)}")


def clickable(figure: go.Figure, **layout) -> go.Figure:
    """A figure whose bars stay as they are when one is clicked."""
    marks.unfading(figure, type="bar")
    return figure.update_layout(dragmode=False, hovermode="closest", **layout)
