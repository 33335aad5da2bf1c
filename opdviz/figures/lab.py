"""The lab's figures: accuracy by recipe and seed, the map of sparsity against gain, the ablation,
the optimizer's moments.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import theme
from opdviz.words import percent

COLOURS = {
    "distillation": theme.RECIPES["OPD"],
    "grpo": theme.RECIPES["RLVR"],
    "sft": theme.RECIPES["SFT"],
    "samples": theme.RECIPES["offline distillation"],
    "self": theme.RECIPES["self-distillation"],
}
OPTIMIZERS = {"AdamW": "#d0641c", "SGD": "#0072b2"}
WIDTHS = ("circle", "square", "diamond", "triangle-up")
RATES = ("#e8a25c", "#d97c64", "#c25a78", "#9c4a94", "#7a5ab8", "#5468c4")
ROW = 34
OF = "small models of the lab"


def accuracy(runs: pd.DataFrame, before: float) -> go.Figure:
    """One dot a seed: test accuracy by recipe, the base's as a line."""
    order = runs.groupby("recipe", sort=False)["test"].mean().sort_values().index
    made = go.Figure()
    for recipe in order:
        part = runs[runs["recipe"] == recipe]
        colour = COLOURS[part["loop"].iloc[0]]
        made.add_trace(
            go.Scatter(
                x=part["test"], y=[recipe] * len(part), mode="markers", showlegend=False,
                marker=dict(size=13, color=colour, opacity=0.75, line=dict(width=1, color="white")),
                customdata=part[["seed", "learning_rate", "optimizer"]],
                hovertemplate="%{x:.1%} · seed %{customdata[0]}<br>%{customdata[2]}, learning rate %{customdata[1]:g}"
                "<extra>%{y}</extra>",
            )
        )  # fmt: skip
        mean = part["test"].mean()
        made.add_trace(
            go.Scatter(
                x=[mean], y=[recipe], mode="markers", showlegend=False, hoverinfo="skip",
                marker=dict(symbol="line-ns", size=20, line=dict(width=2, color=colour)),
            )
        )  # fmt: skip
    made.add_vline(x=before, line=dict(color=theme.BASE, dash="dash", width=1.8))
    made.add_annotation(
        x=before,
        y=1.0,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        text=f"base {percent(before)}",
    )
    made.update_xaxes(title="accuracy on 2,000 test problems", tickformat=".0%")
    made.update_yaxes(categoryorder="array", categoryarray=list(order))
    alt = (
        f"Test accuracy of {len(order)} recipes, one dot a seed, beside the base's"
        f" {percent(before)}."
    )
    made = theme.dressed(
        made, height=110 + ROW * len(order), alt=alt, margin=dict(l=170, r=20, t=30, b=48)
    )
    return theme.titled(made, "Test accuracy by recipe, a dot a seed", OF)


def sweep(curve: pd.DataFrame, chosen: str = "opd") -> go.Figure:
    """Sparsity against gain along training: a line a learning rate and width, the chosen recipe's
    thicker.
    """
    made = go.Figure()
    rates = sorted(curve["learning_rate"].unique())
    widths = sorted(curve["hidden"].unique())
    for (hidden, rate), part in curve.groupby(["hidden", "learning_rate"]):
        part = part.sort_values("step")
        mine = (part["recipe"] == chosen).any()
        colour = RATES[min(rates.index(rate) * len(RATES) // len(rates), len(RATES) - 1)]
        made.add_trace(
            go.Scatter(
                x=part["unchanged_exact"], y=part["gain"], mode="lines+markers",
                name=f"{hidden} wide, {rate:g}" + (" (chosen)" if mine else ""),
                line=dict(width=3.5 if mine else 1.2, color=theme.DELTA if mine else colour),
                marker=dict(symbol=WIDTHS[widths.index(hidden) % len(WIDTHS)], size=8),
                customdata=part[["step", "accuracy"]],
                hovertemplate="after %{customdata[0]} steps: %{x:.1%} unchanged, %{customdata[1]:.1%} right"
                "<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    made.add_vrect(x0=0.5, x1=0.95, fillcolor=theme.GREY_AREA, line_width=0, layer="below")
    made.update_xaxes(
        title="coordinates unchanged as bf16, exactly", tickformat=".0%", range=[1.0, 0.0]
    )
    made.update_yaxes(title="gain in accuracy on validation problems", tickformat="+.0%")
    alt = (
        f"Gain in accuracy against unchanged coordinates along {len(made.data)} OPD runs of"
        f" {len(widths)} widths."
    )
    legend = dict(
        orientation="v", x=1.01, y=1, xanchor="left", yanchor="top", title="width, learning rate"
    )
    made = theme.dressed(
        made, height=430, alt=alt, legend=legend, margin=dict(l=70, r=20, t=16, b=48)
    )
    return theme.titled(made, "Sparsity against gain along training", OF)


def ablation(curve: pd.DataFrame) -> go.Figure:
    """Both optimizers over their grids: accuracy at the end by learning rate, and along training
    against steps and sparsity.
    """
    titles = ("after the last step", "along training", "at equal sparsity")
    made = make_subplots(
        rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles
    )
    for optimizer, colour in OPTIMIZERS.items():
        rows = curve[curve["optimizer"] == optimizer]
        last = (
            rows[rows["step"] == rows["steps"]]
            .groupby("learning_rate", as_index=False)["accuracy"]
            .mean()
        )
        made.add_trace(
            go.Scatter(
                x=last["learning_rate"], y=last["accuracy"], mode="lines+markers", name=optimizer, legendgroup=optimizer,
                line=dict(color=colour), hovertemplate="learning rate %{x:g}: %{y:.1%}<extra>" + optimizer + "</extra>",
            ), row=1, col=1,
        )  # fmt: skip
        for rate, part in rows.groupby("learning_rate"):
            part = part.sort_values("step")
            name = f"{optimizer} {rate:g}"
            for at, column in ((2, "step"), (3, "unchanged_exact")):
                made.add_trace(
                    go.Scatter(
                        x=part[column], y=part["accuracy"], mode="lines+markers", showlegend=False, legendgroup=optimizer,
                        line=dict(color=colour, width=1.2), marker=dict(size=4), opacity=0.75,
                        hovertemplate="%{x:.4g}: %{y:.1%}<extra>" + name + "</extra>",
                    ), row=1, col=at,
                )  # fmt: skip
    made.update_xaxes(
        title="learning rate", type="log", dtick=1, exponentformat="power", row=1, col=1
    )
    made.update_xaxes(title="steps", row=1, col=2)
    made.update_xaxes(
        title="unchanged as bf16, exactly", tickformat=".0%", range=[1.02, -0.02], row=1, col=3
    )
    made.update_yaxes(title="accuracy on validation problems", tickformat=".0%", row=1, col=1)
    alt = (
        "Validation accuracy of AdamW and SGD over their learning rates: at the end, along"
        " training, and against sparsity."
    )
    made = theme.dressed(
        made, height=400, alt=alt, legend=dict(y=1.12), margin=dict(l=70, r=20, t=56, b=48)
    )
    return theme.titled(made, "AdamW against SGD over their learning rates", OF)


def moments(rows: pd.DataFrame) -> go.Figure:
    """What the optimizers see along training: how unequal the gradients' sizes are, and how steady
    their direction.
    """
    titles = (
        "spread of √v over coordinates: 0 would make AdamW an SGD",
        "cosine of momentum and gradient",
    )
    made = make_subplots(rows=1, cols=2, horizontal_spacing=0.08, subplot_titles=titles)
    for optimizer, colour in OPTIMIZERS.items():
        part = (
            rows[rows["optimizer"] == optimizer]
            .groupby("step", as_index=False)[["cv_sqrt_v", "cosine"]]
            .mean()
        )
        for at, column in ((1, "cv_sqrt_v"), (2, "cosine")):
            made.add_trace(
                go.Scatter(
                    x=part["step"], y=part[column], mode="lines+markers", name=optimizer, legendgroup=optimizer,
                    showlegend=at == 1, line=dict(color=colour),
                    hovertemplate="step %{x}: %{y:.3g}<extra>" + optimizer + "</extra>",
                ), row=1, col=at,
            )  # fmt: skip
    made.update_xaxes(title="steps")
    made.update_yaxes(title="coefficient of variation", rangemode="tozero", row=1, col=1)
    made.update_yaxes(title="cosine", row=1, col=2)
    alt = (
        "Coefficient of variation of the second moment's root, and cosine of momentum and gradient,"
        " along training."
    )
    made = theme.dressed(
        made, height=340, alt=alt, legend=dict(y=1.14), margin=dict(l=70, r=20, t=60, b=48)
    )
    return theme.titled(made, "What each optimizer saw of the gradient", OF)


def summary(runs: pd.DataFrame) -> str:
    """The reading sentence of the dots.

    >>> rows = [("opd", 0, 0.7), ("opd", 1, 0.8), ("sft", 0, 0.6)]
    >>> summary(pd.DataFrame(rows, columns=["recipe", "seed", "test"]))
    'opd ends highest, at 75 % in the mean of 2 seeds; sft lowest, at 60 %.'
    """
    if runs.empty:
        return "No run with AdamW yet."
    mean = runs.groupby("recipe")["test"].mean().sort_values()
    seeds = runs["seed"].nunique()
    of = f" in the mean of {seeds} seeds" if seeds > 1 else ""
    return (
        f"{mean.index[-1]} ends highest, at {percent(mean.iloc[-1])}{of}; {mean.index[0]} lowest,"
        f" at {percent(mean.iloc[0])}."
    )
