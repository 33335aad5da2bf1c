"""The lab's figures: accuracy by recipe, sparsity against gain, the ablation, the moments."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.axes import on_octaves
from opdviz.words import percent

COLOURS = {
    "distillation": theme.RECIPES["OPD"],
    "grpo": theme.RECIPES["RLVR"],
    "sft": theme.RECIPES["SFT"],
    "samples": theme.RECIPES["offline distillation"],
    "self": theme.RECIPES["self-distillation"],
}
OPTIMIZERS = {"AdamW": theme.DELTA, "SGD": theme.BLOCKS["attention"]}
WIDTHS = ("circle", "square", "diamond", "triangle-up")
RATES = ("#e8a25c", "#d97c64", "#c25a78", "#9c4a94", "#7a5ab8", "#5468c4")
# How the moves that are kept are chosen.
CHOICES = {
    "size": ("largest |D|", theme.DELTA, "solid"),
    "steps": ("most steps of the grid", theme.TUNED, "dash"),
    "random": ("at random, as many", theme.NULL, "dot"),
}
ROW = 34
SUBJECT = "small models of the lab"
# As sparse as the papers' runs: half to 95 % of the coordinates keep their bf16 bits.
PUBLISHED_RANGE = (0.5, 0.95)


def accuracy(runs: pd.DataFrame, means: pd.Series, before: float) -> go.Figure:
    """One dot a seed: test accuracy by recipe; a tick at the mean, the base's accuracy as a line.

    `means` has the mean accuracy by recipe, rising: the best recipe stands on top.
    """
    figure = go.Figure()
    for recipe, mean in means.items():
        part = runs[runs["recipe"] == recipe]
        colour = COLOURS[part["loop"].iloc[0]]
        figure.add_trace(seed_dots(part, recipe, colour))
        tick = {"symbol": "line-ns", "line": {"width": 2, "color": colour}}
        figure.add_trace(
            marks.dots(
                [mean], [recipe], "mean", colour=colour, size=20, marker=tick, showlegend=False
            )
        )
    figure.add_vline(x=before, line=marks.CHANCE_STYLE | {"color": theme.BASE})
    base = f"base {percent(before)}"
    figure.add_annotation(
        x=before, y=1.0, yref="paper", yanchor="bottom", showarrow=False, text=base
    )
    figure.update_xaxes(title="accuracy on 2,000 test problems", tickformat=".0%")
    figure.update_yaxes(categoryorder="array", categoryarray=list(means.index))
    theme.dressed(
        figure,
        height=110 + ROW * len(means),
        alt=f"Test accuracy of {len(means)} recipes, one dot a seed, beside the {base}.",
        margin={"l": 170, "r": 20, "t": 30, "b": 48},
    )
    return theme.titled(figure, "Test accuracy by recipe, a dot a seed", SUBJECT)


def seed_dots(runs: pd.DataFrame, recipe: str, colour: str) -> go.Scatter:
    """The runs of one recipe."""
    return marks.dots(
        runs["test"],
        [recipe] * len(runs),
        recipe,
        colour=colour,
        size=13,
        marker={"opacity": 0.75, "line": {"width": 1, "color": "white"}},
        showlegend=False,
        customdata=runs[["seed", "learning_rate", "optimizer"]],
        hover="%{x:.1%} · seed %{customdata[0]}<br>%{customdata[2]}, learning rate"
        " %{customdata[1]:g}<extra>%{y}</extra>",
    )


def sweep(curve: pd.DataFrame, chosen: str = "opd") -> go.Figure:
    """Sparsity against gain along training: a line a learning rate and width, one thicker."""
    rates, widths = sorted(curve["learning_rate"].unique()), sorted(curve["hidden"].unique())
    traces = []
    for (hidden, rate), part in curve.groupby(["hidden", "learning_rate"]):
        shade = RATES[min(rates.index(rate) * len(RATES) // len(rates), len(RATES) - 1)]
        symbol = WIDTHS[widths.index(hidden) % len(WIDTHS)]
        is_chosen = bool((part["recipe"] == chosen).any())
        traces.append(
            marks.line(
                part.sort_values("step")["unchanged_exact"],
                part.sort_values("step")["gain"],
                f"{hidden} wide, {rate:g}" + (" (chosen)" if is_chosen else ""),
                colour=theme.DELTA if is_chosen else shade,
                width=3.5 if is_chosen else 1.2,
                mode="lines+markers",
                marker={"symbol": symbol, "size": 8},
                customdata=part.sort_values("step")[["step", "accuracy"]],
                hover="after %{customdata[0]} steps: %{x:.1%} unchanged, %{customdata[1]:.1%}"
                " right<extra>%{fullData.name}</extra>",
            )
        )
    figure = go.Figure(traces)
    low, high = PUBLISHED_RANGE
    figure.add_vrect(x0=low, x1=high, fillcolor=theme.GREY_AREA, line_width=0, layer="below")
    figure.update_xaxes(
        title="coordinates unchanged as bf16, exactly", tickformat=".0%", range=[1.0, 0.0]
    )
    figure.update_yaxes(title="gain in accuracy on validation problems", tickformat="+.0%")
    theme.dressed(
        figure,
        height=430,
        alt=f"Gain in accuracy against unchanged coordinates along {len(traces)} OPD runs of"
        f" {len(widths)} widths.",
        legend={
            "orientation": "v",
            "x": 1.01,
            "y": 1,
            "xanchor": "left",
            "yanchor": "top",
            "title": "width, learning rate",
        },
        margin={"l": 70, "r": 20, "t": 16, "b": 48},
    )
    return theme.titled(figure, "Sparsity against gain along training", SUBJECT)


def ablation(curve: pd.DataFrame, last: pd.DataFrame) -> go.Figure:
    """Both optimizers over their grids: accuracy at the end by rate, and along training.

    `last` has accuracy by optimizer and learning rate after the last step.
    """
    figure = marks.facets(("after the last step", "along training", "at equal sparsity"))
    for optimizer, colour in OPTIMIZERS.items():
        ends = last[last["optimizer"] == optimizer]
        by_rate = run_line(
            ends["learning_rate"],
            ends["accuracy"],
            optimizer,
            colour,
            hover=f"learning rate %{{x:g}}: %{{y:.1%}}<extra>{optimizer}</extra>",
        )
        figure.add_trace(by_rate, row=1, col=1)
        for rate, part in curve[curve["optimizer"] == optimizer].groupby("learning_rate"):
            part = part.sort_values("step")
            for col, column in ((2, "step"), (3, "unchanged_exact")):
                along = run_line(
                    part[column],
                    part["accuracy"],
                    optimizer,
                    colour,
                    width=1.2,
                    marker={"size": 4},
                    opacity=0.75,
                    showlegend=False,
                    hover=f"%{{x:.4g}}: %{{y:.1%}}<extra>{optimizer} {rate:g}</extra>",
                )
                figure.add_trace(along, row=1, col=col)
    figure.update_xaxes(
        title="learning rate", type="log", dtick=1, exponentformat="power", row=1, col=1
    )
    figure.update_xaxes(title="steps", row=1, col=2)
    figure.update_xaxes(
        title="unchanged as bf16, exactly", tickformat=".0%", range=[1.02, -0.02], row=1, col=3
    )
    figure.update_yaxes(title="accuracy on validation problems", tickformat=".0%", row=1, col=1)
    theme.dressed(
        figure,
        height=400,
        alt="Validation accuracy of AdamW and SGD over their learning rates: at the end, along"
        " training, and against sparsity.",
        legend={"y": 1.12},
        margin={"l": 70, "r": 20, "t": 56, "b": 48},
    )
    return theme.titled(figure, "AdamW against SGD over their learning rates", SUBJECT)


def run_line(x: Sequence, y: Sequence, optimizer: str, colour: str, **more) -> go.Scatter:
    """A line with a mark at every point, in its optimizer's group of the legend."""
    group = {"legendgroup": optimizer, "mode": "lines+markers"}
    return marks.line(x, y, optimizer, colour=colour, **group, **more)


def moments(means: pd.DataFrame) -> go.Figure:
    """What the optimizers see along training: how unequal and how steady the gradients are.

    `means` has cv_sqrt_v and cosine by optimizer and step.
    """
    columns = {
        "cv_sqrt_v": "spread of √v over coordinates: 0 would make AdamW an SGD",
        "cosine": "cosine of momentum and gradient",
    }
    figure = marks.facets(list(columns.values()), spacing=0.08, shared=False)
    for optimizer, colour in OPTIMIZERS.items():
        part = means[means["optimizer"] == optimizer]
        for col, column in enumerate(columns, start=1):
            trace = run_line(
                part["step"],
                part[column],
                optimizer,
                colour,
                showlegend=col == 1,
                hover=f"step %{{x}}: %{{y:.3g}}<extra>{optimizer}</extra>",
            )
            figure.add_trace(trace, row=1, col=col)
    figure.update_xaxes(title="steps")
    figure.update_yaxes(title="coefficient of variation", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="cosine", row=1, col=2)
    theme.dressed(
        figure,
        height=340,
        alt="Coefficient of variation of the second moment's root, and cosine of momentum and"
        " gradient, along training.",
        legend={"y": 1.14},
        margin={"l": 70, "r": 20, "t": 60, "b": 48},
    )
    return theme.titled(figure, "What each optimizer saw of the gradient", SUBJECT)


def octaves(rows: pd.DataFrame) -> go.Figure:
    """x: octave of |W|; y: the share that moved over what small weights predict, a line a seed; as
    published, a copy of float32, beside weights of 16 bits.

    Columns: recipe, loop, seed, weights, octave, ratio.
    """
    traces, named = [], set()
    for (recipe, seed), part in rows.sort_values("octave").groupby(["recipe", "seed"]):
        first = part.iloc[0]
        traces.append(
            marks.line(
                part["octave"],
                part["ratio"],
                recipe,
                colour=COLOURS[first["loop"]],
                dash="solid" if first["weights"] == "float32" else "dot",
                mode="lines+markers",
                legendgroup=recipe,
                showlegend=recipe not in named,
                hover=f"{recipe}, seed {seed}, 2^%{{x}}: %{{y:.3f}}",
            )
        )
        named.add(recipe)
    figure = theme.figure(
        *traces,
        height=340,
        alt="Moved over predicted by octave of the weight, by recipe and seed.",
        margin={"t": 44},
    )
    return theme.titled(
        on_octaves(figure, top=1.3), "Moves beside what small weights predict", SUBJECT
    )


def part_kept(parts: pd.DataFrame) -> go.Figure:
    """x: share of the moves that is kept (log), y: accuracy, a line a way to choose them, with the
    range of seeds; accuracy of the base and with all moves across.

    Columns: by, share, accuracy, low, high; all moves and none are of `size`.
    """
    ends = parts[parts["by"] == "size"].set_index("share")["accuracy"]
    base, whole = ends[0.0], ends[1.0]
    rows = parts[(parts["share"] > 0) & (parts["share"] < 1)]
    traces = []
    for by, (name, colour, dash) in CHOICES.items():
        part = rows[rows["by"] == by].sort_values("share")
        spread = {
            "type": "data",
            "symmetric": False,
            "array": part["high"] - part["accuracy"],
            "arrayminus": part["accuracy"] - part["low"],
            "thickness": 1,
            "width": 0,
        }
        traces.append(
            marks.line(
                part["share"],
                part["accuracy"],
                name,
                colour=colour,
                dash=dash,
                mode="lines+markers",
                error_y=spread,
                hover=f"{name}: %{{x:.1%}} of the moves, %{{y:.2%}} right",
            )
        )
    figure = theme.figure(
        *traces,
        height=360,
        alt="Accuracy against the share of the moves that is kept, by how they are chosen.",
        margin={"t": 44, "r": 90},
    )
    for level, words in ((base, "base"), (whole, "all moves")):
        figure.add_hline(y=level, line=marks.CHANCE_STYLE)
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=6, y=level, showarrow=False, text=words
        )
    shares = sorted(rows["share"].unique())
    figure.update_xaxes(
        title="share of the moves that is kept (log)",
        type="log",
        tickvals=shares,
        ticktext=[percent(share) for share in shares],
    )
    figure.update_yaxes(title="accuracy", tickformat=".0%")
    return theme.titled(figure, "Accuracy by the share of the moves that is kept", SUBJECT)
