"""The strip plot of a run's headline quantities beside the published pairs and chance."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import theme
from opdviz.tables.headlines import STRIPS
from opdviz.tables.published import family
from opdviz.words import number


def strips(headline: list[dict], published: list[dict]) -> go.Figure:
    """Six strips: published ticks by recipe, chance dashed, this run a diamond with its value,
    which knows what to map.
    """
    mine = {row["quantity"]: row for row in headline}
    made = make_subplots(rows=len(STRIPS), cols=1, vertical_spacing=0.085)
    shown: set[str] = set()
    for at, strip in enumerate(STRIPS, start=1):
        unit, log = strip.unit.removesuffix("1"), strip.log
        rows = [row for row in published if row["quantity"] == strip.protocol]
        for recipe in theme.RECIPES:
            part = [row for row in rows if family(row["recipe"]) == recipe]
            if part:
                made.add_trace(ticks(part, recipe, unit, recipe not in shown), row=at, col=1)
                shown.add(recipe)
        own = mine.get(strip.protocol, {})
        chance, value = own.get("chance"), own.get("value")
        band = [own.get("chance_low"), own.get("chance_high")]
        if None not in band:
            made.add_trace(blind_band(*band, unit, "band" not in shown), row=at, col=1)
            shown.add("band")
        elif chance is not None:
            made.add_trace(chance_mark(chance, unit, "chance" not in shown), row=at, col=1)
            shown.add("chance")
        # Zero has no place on a logarithmic axis; it stands in words.
        if value is not None and (value > 0 or not log):
            made.add_trace(
                diamond(value, unit, strip.column, "this run" not in shown), row=at, col=1
            )
            shown.add("this run")
        values = [row["value"] for row in rows] + [
            x for x in (chance, value, *band) if x is not None
        ]
        made.update_xaxes(**strip_axis(values, log), row=at, col=1)
        made.update_yaxes(visible=False, range=[0, 1], fixedrange=True, row=at, col=1)
        made.add_annotation(
            text=strip.strip, xref="paper", x=-0.01, xanchor="right", yref=f"y{'' if at == 1 else at} domain", y=0.3,
            showarrow=False, align="right",
        )  # fmt: skip
        told = f"<b>{number(value)}{' ' + unit if unit and value is not None else ''}</b>" + beside(
            chance, *band
        )
        made.add_annotation(
            text=told, xref="paper", x=1.01, xanchor="left", yref=f"y{'' if at == 1 else at} domain", y=0.3,
            showarrow=False, align="left",
        )  # fmt: skip
    # A click opens something; nothing fades.
    made.update_traces(unselected=dict(marker=dict(opacity=1)))
    sentence = (
        "Strip plot of six headline quantities of this run beside published pairs and chance."
    )
    return theme.dressed(
        made,
        height=420,
        alt=sentence,
        margin=dict(l=270, r=130, t=72, b=26),
        legend=dict(y=1.02, x=-0.32, itemsizing="constant", itemwidth=30),
        hovermode="closest",
        dragmode=False,
    )


def beside(chance: float | None, low: float | None, high: float | None) -> str:
    """What stands below a value: the range of typical blind updates, or its chance level."""
    if low is not None and high is not None:
        words = f"blind {number(low)} to {number(high)}"
    elif chance is not None:
        words = f"chance {number(chance)}"
    else:
        return ""
    return f"<br><span style='font-size:12px'>{words}</span>"


def blind_band(low: float, high: float, unit: str, legend: bool) -> go.Scatter:
    """What typical blind updates of these weights give, as a broad line."""
    return go.Scatter(
        x=[low, high], y=[0.3, 0.3], mode="lines", line=dict(color=theme.NULL_AREA, width=13),
        name="blind updates", legendgroup="band", showlegend=legend,
        hovertemplate="blind updates %{x:.3g} " + unit + "<extra></extra>",
    )  # fmt: skip


def ticks(rows: list[dict], recipe: str, unit: str, legend: bool) -> go.Scatter:
    """Published values of one recipe as vertical ticks; model, aggregation and paper on hover."""
    return go.Scatter(
        x=[row["value"] for row in rows],
        y=[0.3] * len(rows),
        mode="markers",
        marker=dict(
            symbol="line-ns",
            size=17,
            line=dict(width=2.5, color=theme.RECIPES[recipe]),
            color=theme.RECIPES[recipe],
        ),
        name=recipe,
        legendgroup=recipe,
        showlegend=legend,
        hovertext=[
            f"{row['recipe']}<br>{row['pair']}<br>{row['aggregation']}, arXiv {row['paper']}"
            for row in rows
        ],
        hovertemplate="%{x} " + unit + " · %{hovertext}<extra></extra>",
    )


def chance_mark(chance: float, unit: str, legend: bool) -> go.Scatter:
    """The chance level as a dashed line."""
    return go.Scatter(
        x=[chance, chance], y=[0.0, 0.75], mode="lines", line=dict(color=theme.CHANCE, dash="dash", width=1.8),
        name="chance", legendgroup="chance", showlegend=legend,
        hovertemplate="chance %{x:.3g} " + unit + "<extra></extra>",
    )  # fmt: skip


def diamond(value: float, unit: str, mapped: str, legend: bool) -> go.Scatter:
    """This run's value."""
    return go.Scatter(
        x=[value], y=[0.3], mode="markers", marker=dict(symbol="diamond", size=15, color=theme.TUNED), cliponaxis=False,
        name="this run", legendgroup="run", showlegend=legend, customdata=[[mapped]],
        hovertemplate="this run %{x:.4g} " + unit + "<extra></extra>",
    )  # fmt: skip


def strip_axis(values: list[float], log: bool) -> dict:
    """Range and ticks of one strip, a little wider than what it shows."""
    values = [v for v in values if v > 0] if log else values
    if not values:
        return {"showgrid": False}
    if log:
        low, high = math.log10(min(values)), math.log10(max(values))
        room = 0.06 * (high - low or 1.0)
        places, labels = theme.powers(low - room, high + room)
        return {
            "type": "log",
            "range": [low - room, high + room],
            "tickvals": places,
            "ticktext": labels,
        }
    room = 0.06 * (max(values) - min(values) or 1.0)
    return {"range": [min(values) - room, max(values) + room], "nticks": 8}
