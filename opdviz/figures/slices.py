"""Parts of a tensor as bars that can be clicked: attention heads, bands of rows and columns, rows
of a vocabulary.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz import slices
from opdviz.figures import theme
from opdviz.words import percent

MOST_TICKS = 24


def bars(heads: pd.DataFrame) -> go.Figure:
    """x: head, y: share of the update's energy; an even spread dashed. Columns: part, energy, even,
    moved, moved_bfloat16.

    Groups of heads (query, key, value of a fused matrix) stand one after the other.
    """
    moved = heads["moved_bfloat16"].where(heads["moved_bfloat16"].notna(), heads["moved"])
    told = list(zip(heads["part"], [percent(v) for v in moved]))
    made = theme.figure(
        go.Bar(x=list(range(len(heads))), y=heads["energy"], marker_color=theme.DELTA, customdata=told,
               name="energy", showlegend=False,
               hovertemplate="%{customdata[0]}: %{y:.2%} of the energy, %{customdata[1]} moved<extra></extra>"),
        go.Scatter(x=[-0.5, len(heads) - 0.5], y=[heads["even"].iloc[0]] * 2, mode="lines", name="even spread", hoverinfo="skip",
                   line=dict(color=theme.CHANCE, dash="dash", width=1.8)),
        height=300, alt=f"Energy of the update in each of {len(heads)} attention heads, beside an even spread.",
    )  # fmt: skip
    shown = range(0, len(heads), max(1, len(heads) // MOST_TICKS))
    made.update_xaxes(
        tickvals=list(shown),
        ticktext=[heads["part"].iloc[i].removeprefix("head ") for i in shown],
        title="head",
    )
    made.update_yaxes(title="share of ||D||²", tickformat=".3~%", rangemode="tozero")
    return selectable(made, margin=dict(t=34), bargap=0.15)


def profile(rows: pd.DataFrame, column: str) -> go.Figure:
    """Bands of rows and of columns: share of energy or share that moved, beside an even spread.
    Columns: axis, low, high.
    """
    made = make_subplots(
        rows=1,
        cols=2,
        horizontal_spacing=0.09,
        subplot_titles=["by row (output)", "by column (input)"],
    )
    for at, axis in enumerate(("row", "column"), start=1):
        part = rows[rows["axis"] == axis].sort_values("low")
        told = [[slices.band(axis, int(a), int(b))] for a, b in zip(part["low"], part["high"])]
        middle, width = (part["low"] + part["high"]) / 2, part["high"] - part["low"]
        made.add_trace(
            go.Bar(x=middle, y=part[column], width=width, marker=dict(color=theme.DELTA, line=dict(width=0)), customdata=told,
                   name=column, showlegend=False, hovertemplate="%{customdata[0]}: %{y:.3~%}<extra></extra>"),
            row=1, col=at,
        )  # fmt: skip
        if len(part):
            made.add_trace(
                go.Scatter(x=middle, y=even(part, column), mode="lines", name="even spread", showlegend=at == 1,
                           hoverinfo="skip", line=dict(color=theme.CHANCE, dash="dash", width=1.8)),
                row=1, col=at,
            )  # fmt: skip
        made.update_xaxes(title=axis, row=1, col=at)
    made.update_yaxes(tickformat=".3~%", rangemode="tozero")
    made.update_yaxes(title="share of ||D||²" if column == "energy" else "share that moved", col=1)
    theme.dressed(made, height=300, alt="Profile of the update by bands of rows and columns.")
    return selectable(made, margin=dict(t=44), bargap=0.0)


def even(bands: pd.DataFrame, column: str) -> pd.Series:
    """What each band of one axis would have if all coordinates were alike: its share of them, or
    the share that moved of all.
    """
    size = (bands["high"] - bands["low"]) / bands["high"].max()
    return size if column == "energy" else size * 0 + float((bands[column] * size).sum())


def vocabulary(rows: pd.DataFrame, whole: float) -> go.Figure:
    """x: row with its token, most moved first; y: relative norm of the row; dashed: the whole
    tensor's.
    """
    names = [f"{row}" if token is None or token != token else f"{row} {theme.shortened(str(token), 12)}"
             for row, token in zip(rows["row"], rows["token"])]  # fmt: skip
    told = [
        [slices.band("row", int(r), int(r) + 1), theme.literal(n)]
        for r, n in zip(rows["row"], names)
    ]
    made = theme.figure(
        go.Bar(x=list(range(len(rows))), y=rows["relative_norm"], marker_color=theme.DELTA, customdata=told,
               name="row", showlegend=False,
               hovertemplate="%{customdata[1]}: %{y:.3~%}<extra></extra>"),
        go.Scatter(x=[-0.5, len(rows) - 0.5], y=[whole, whole], mode="lines", name="whole tensor", hoverinfo="skip",
                   line=dict(color=theme.CHANCE, dash="dash", width=1.8)),
        height=340, alt=f"Relative norm of the {len(rows)} most moved rows, beside the whole tensor's.",
    )  # fmt: skip
    made.update_xaxes(
        tickvals=list(range(len(rows))), ticktext=[theme.literal(n) for n in names], tickangle=-50
    )
    made.update_yaxes(title="relative norm of the row", tickformat=".3~%", rangemode="tozero")
    return selectable(made, margin=dict(t=34, b=90), bargap=0.2)


def selectable(made: go.Figure, **layout) -> go.Figure:
    """A figure whose bars stay as they are when one is clicked."""
    made.update_traces(
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=1)),
        selector=dict(type="bar"),
    )
    return made.update_layout(dragmode=False, hovermode="closest", **layout)
