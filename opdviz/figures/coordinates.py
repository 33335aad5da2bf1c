"""Which coordinates move: given the size of the weight, by mask, by probe and by grid steps."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import theme
from opdviz.figures.layers import module_order
from opdviz.words import percent


def moved_given_size(bins: pd.DataFrame, *, height: int = 360) -> go.Figure:
    """x: log2 |W|, y: share that moved, delta and its Gaussian null; how many weights there are in
    grey.
    """
    bins = bins[(bins["low"] > 0) & (bins["count"] > 0)]
    x = np.log2(bins["low"].to_numpy(dtype=float)) + 0.125
    count = bins["count"].to_numpy(dtype=float)
    dense = count >= max(count.max() * 1e-4, 5) if len(count) else np.zeros(0, dtype=bool)
    told = np.stack([bins["count"], bins["moved"]], axis=1) if len(bins) else None
    traces = [
        go.Bar(x=x, y=count / count.max() if len(count) else [], width=0.25, marker_color=theme.GREY_AREA,
               name="weights", customdata=told, hovertemplate="2^%{x:.2f}: %{customdata[0]:,} weights<extra></extra>"),
        go.Scatter(x=x[dense], y=(bins["moved"] / bins["count"]).to_numpy()[dense], mode="lines", name="moved",
                   line=dict(color=theme.DELTA, width=3), hovertemplate="2^%{x:.2f}: %{y:.1%} moved<extra></extra>"),
        go.Scatter(x=x[dense], y=(bins["null_moved"] / bins["count"]).to_numpy()[dense], mode="lines", name="blind-update null",
                   line=dict(color=theme.NULL, width=2, dash="dot"), hovertemplate="null %{y:.1%}<extra></extra>"),
    ]  # fmt: skip
    made = theme.figure(
        *traces,
        height=height,
        alt="Share of coordinates that moved by size of the base weight, with its null.",
    )
    made.update_xaxes(title="log2 |base weight|", showgrid=False)
    if len(x) and dense.any():
        made.update_xaxes(range=[x[dense].min() - 0.5, x[dense].max() + 0.5])
    made.update_yaxes(title="share that moved", tickformat=".0%", range=[0, 1.04])
    return made.update_layout(bargap=0, margin=dict(t=34))


MASKS = (("principal", "on principal weights"), ("low_magnitude", "on the smallest weights"))
COVERAGE = (
    "coverage",
    "typical",
    "lowest",
    "highest",
    "null_low",
    "null_high",
    "blind_low",
    "blind_high",
)


def dumbbells(tensors: pd.DataFrame) -> go.Figure:
    """Facets by mask, one line a module: median coverage, typical blind updates, all of them, what
    is possible at all.

    Grey where hardly anything else is possible.
    """
    rows = tensors.dropna(subset=["principal_coverage"])
    modules = module_order(rows)
    y = list(range(len(modules)))
    made = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[t for _, t in MASKS],
    )
    for col, (mask, _) in enumerate(MASKS, start=1):
        at = (
            rows.groupby("module")[[f"{mask}_{c}" for c in COVERAGE]]
            .median()
            .reindex(modules)
            .set_axis(COVERAGE, axis=1)
        )
        color = [
            theme.BASE if narrow else theme.DELTA
            for narrow in (at["highest"] - at["lowest"]) < 0.02
        ]
        ends = (at[c] for c in ("coverage", "null_low", "null_high", "blind_low", "blind_high"))
        told = [
            f"{theme.literal(m)}: {percent(v)}; blind {percent(a)} to {percent(b)}, at most"
            f" {percent(c)} to {percent(d)}"
            for m, v, a, b, c, d in zip(modules, *ends, strict=True)
        ]
        for trace in (
            segments(at["lowest"], at["highest"], y, theme.FAINT, 13, "feasible range"),
            segments(at["blind_low"], at["blind_high"], y, theme.NULL, 3, "all blind updates"),
            segments(at["null_low"], at["null_high"], y, theme.NULL_AREA, 13, "typical blind updates"),
            go.Scatter(x=at["coverage"], y=y, mode="markers", name="coverage, median", marker=dict(size=9, color=color),
                       hovertext=told, hovertemplate="%{hovertext}<extra></extra>"),
        ):  # fmt: skip
            made.add_trace(trace.update(showlegend=col == 1), row=1, col=col)
        drawn = at[["coverage", "null_low", "null_high"]].to_numpy(dtype=float)
        top = float(np.nanmax(drawn)) if np.isfinite(drawn).any() else 0.2
        made.update_xaxes(range=[0, min(1.02, max(0.16, 1.25 * top))], row=1, col=col)
    made.update_xaxes(title="share of moved coordinates", tickformat=".0%")
    made.update_yaxes(
        tickvals=y,
        ticktext=[theme.axis_label(m) for m in modules],
        range=[len(modules) - 0.5, -0.5],
    )
    sentence = (
        "Coverage of principal and of small weights by module, beside typical and all blind"
        " updates."
    )
    return theme.dressed(made, height=140 + 26 * max(5, len(modules)), alt=sentence, legend=dict(y=1.1),
                         margin=dict(l=220, r=16, t=60, b=48), dragmode=False)  # fmt: skip


def segments(
    low: pd.Series, high: pd.Series, y: list[int], color: str, width: int, name: str
) -> go.Scatter:
    """Horizontal bars from low to high, one a line."""
    xs = [v for a, b in zip(low, high) for v in (a, b, None)]
    ys = [v for i in y for v in (i, i, None)]
    return go.Scatter(
        x=xs, y=ys, mode="lines", line=dict(color=color, width=width), name=name, hoverinfo="skip"
    )


def sparsity_bars(shares: pd.DataFrame) -> go.Figure:
    """Share unchanged by probe and precision, weighted by element. Columns: probe, threshold,
    precision, share.
    """
    labels = {
        "exact": "D = 0",
        "absolute": "|D| ≤ {:g}",
        "relative": "|D| ≤ {:g} max(|W|, |T|)",
        "base_rms": "|D| < {:g} rms(W)",
    }
    rows = shares.assign(
        label=[labels[p].format(t) for p, t in zip(shares["probe"], shares["threshold"])]
    )
    colors = {"stored": theme.BASE, "bfloat16": theme.TUNED}
    names = {"stored": "as stored", "bfloat16": "as bf16"}
    traces = [
        go.Bar(y=part["label"], x=part["share"], orientation="h", name=names[precision], marker_color=colors[precision],
               text=[percent(v) for v in part["share"]], textposition="outside", cliponaxis=False,
               hovertemplate="%{y}: %{x:.2%}<extra></extra>")
        for precision, part in rows.groupby("precision", sort=False)
    ]  # fmt: skip
    made = theme.figure(
        *traces, height=420, alt="Share of unchanged coordinates by probe, as stored and as bf16."
    )
    made.update_xaxes(title="share unchanged, by element", tickformat=".0%", range=[0, 1.13])
    made.update_yaxes(autorange="reversed", showgrid=False)
    return made.update_layout(barmode="group", margin=dict(l=180, r=16, t=34, b=48), bargap=0.25)


def step_bars(steps: pd.DataFrame) -> go.Figure:
    """Share of coordinates by grid steps moved, weighted by element. Columns: steps, precision,
    share.
    """
    colors, names = (
        {"stored": theme.BASE, "bfloat16": theme.TUNED},
        {"stored": "as stored", "bfloat16": "as bf16"},
    )
    traces = [
        go.Bar(x=part["steps"], y=part["share"], name=names[p], marker_color=colors[p],
               text=[percent(v, 2) for v in part["share"]], textposition="outside", cliponaxis=False)
        for p, part in steps.groupby("precision", sort=False)
    ]  # fmt: skip
    made = theme.figure(
        *traces, height=420, alt="Share of coordinates by number of grid steps moved."
    )
    made.update_xaxes(title="grid steps moved (ulp at the base value)", type="category")
    made.update_yaxes(title="share, by element", tickformat=".0%", range=[0, 1.1])
    return made.update_layout(barmode="group", margin=dict(t=34))
