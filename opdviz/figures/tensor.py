"""One tensor: cumulative energy, singular values, principal angles, magnitudes, profiles of rows
and columns.
"""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from opdviz.figures import theme
from opdviz.words import number

CURVES = {
    "base": ("base", theme.BASE, "solid"),
    "tuned": ("tuned", theme.TUNED, "solid"),
    "delta": ("update", theme.DELTA, "solid"),
    "gaussian": ("chance", theme.CHANCE, "dash"),
    "rounding_null": ("rank-16 null", theme.NULL, "dot"),
}
HEIGHT = 340


def cumulative_energy(spectrum: pd.DataFrame, r: int) -> go.Figure:
    """x: k (log), y: energy of the leading k directions: update, random, rounding null. Columns:
    matrix, index, energy.
    """
    made = theme.figure(
        height=HEIGHT,
        alt="Cumulative energy of the leading directions of the update, beside chance and null.",
    )
    for matrix in ("delta", "rounding_null", "gaussian"):
        rows = spectrum[spectrum["matrix"] == matrix]
        if rows.empty:
            continue
        name, color, dash = CURVES[matrix]
        made.add_trace(
            go.Scatter(x=rows["index"], y=rows["energy"], mode="lines", name=name,
                       line=dict(color=color, dash=dash, width=3 if matrix == "delta" else 2),
                       hovertemplate="%{x} of " + str(r) + ": %{y:.1%}<extra>" + name + "</extra>")
        )  # fmt: skip
    made.update_xaxes(
        title=f"leading singular directions k (of {r:,}; log)", type="log", **index_ticks(r)
    )
    made.update_yaxes(title="share of ||D||²", tickformat=".0%", range=[0, 1.03])
    if r > 16:
        made.add_vline(x=16, line=dict(color=theme.FAINT, width=1.5))
    return made.update_layout(margin=dict(t=34))


def index_ticks(r: int) -> dict:
    """Ticks of a logarithmic index axis from 1 to r."""
    places, labels = theme.powers(0, np.log10(max(r, 2)))
    return {"tickvals": places, "ticktext": labels, "range": [0, float(np.log10(max(r, 2)))]}


def spectra(spectrum: pd.DataFrame, r: int) -> go.Figure:
    """x: index (log), y: singular value (log): base, tuned, update, random, rounding null."""
    made = theme.figure(
        height=HEIGHT, alt="Singular values of base, tuned and update, beside chance and null."
    )
    for matrix, (name, color, dash) in CURVES.items():
        rows = spectrum[(spectrum["matrix"] == matrix) & (spectrum["sigma"] > 0)]
        if len(rows):
            made.add_trace(go.Scatter(x=rows["index"], y=rows["sigma"], mode="lines", name=name,
                                      line=dict(color=color, dash=dash, width=3 if matrix == "delta" else 2),
                                      hovertemplate="%{x}: %{y:.3g}<extra>" + name + "</extra>"))  # fmt: skip
    made.update_xaxes(title="index (log)", type="log", **index_ticks(r))
    made.update_yaxes(title="singular value (log)", type="log", exponentformat="power", dtick=1)
    return made.update_layout(margin=dict(t=50))


def angles(rows: pd.DataFrame, r: int, turned: pd.DataFrame) -> go.Figure:
    """x: position, y: principal angle in degrees, left and right; dashed: the chance of their rms
    sine, as an angle.

    `turned` has a row a side with the columns k and chance: curves of that k and its chance belong
    together. Angles at another k are thin lines of their own, without chance.
    """
    made = theme.figure(
        height=HEIGHT,
        alt="Principal angles between the leading subspaces of base and tuned, left and right.",
    )
    k = int(turned["k"].iloc[0]) if len(turned) else int(rows["k"].min())
    for side, color, dash in (("left", theme.TUNED, "solid"), ("right", theme.DELTA, "dash")):
        for at, part in rows[rows["side"] == side].groupby("k"):
            name, width = (side, 2.5) if at == k else (f"{side}, k = {at}", 1.0)
            part = part.sort_values("index")
            mode = "lines+markers" if at < 12 else "lines"
            line = dict(color=color, width=width, dash=dash)
            hover = "%{y:.3g} degrees<extra>" + name + "</extra>"
            made.add_trace(
                go.Scatter(
                    x=part["index"],
                    y=part["degrees"],
                    mode=mode,
                    name=name,
                    line=line,
                    hovertemplate=hover,
                )
            )
        chance = float(turned["chance"].get(side, np.nan)) if len(turned) else np.nan
        if np.isfinite(chance):
            height = np.degrees(np.arcsin(min(chance, 1.0)))
            line = dict(color=color, dash="dot", width=1.5)
            made.add_trace(
                go.Scatter(
                    x=[1, k],
                    y=[height] * 2,
                    mode="lines",
                    name=f"chance, {side}",
                    hoverinfo="skip",
                    line=line,
                )
            )
    made.update_xaxes(title=f"principal angle, smallest first (k = {k:,} of {r:,})")
    made.update_yaxes(title="degrees", rangemode="tozero")
    return made.update_layout(margin=dict(t=50))


def magnitudes(bins: pd.DataFrame, sizes: dict[str, float]) -> go.Figure:
    """Histograms of |W| and |D| in quarter octaves on one axis, beside Gaussians of the same norm;
    zeros apart at the left.

    `sizes` has the root mean squares of `base` and `delta`.
    """
    made = make_subplots(
        rows=1, cols=2, column_widths=[0.12, 0.88], horizontal_spacing=0.02, shared_yaxes=True
    )
    for of, name, color in (
        ("base", "|base weight|", theme.BASE),
        ("delta", "|change|", theme.DELTA),
    ):
        rows = beside_gaussian(bins, of, sizes[of])
        zero = 1.0 - float(rows["share"].sum()) if len(rows) else 0.0
        made.add_trace(go.Bar(x=[name], y=[zero], marker_color=color, showlegend=False, opacity=0.75,
                              hovertemplate="exactly zero: %{y:.2%}<extra></extra>"), row=1, col=1)  # fmt: skip
        middle = np.log2(rows["low"].astype(float)) + 0.125
        made.add_trace(go.Scatter(x=middle, y=rows["share"], mode="lines", name=name,
                                  line=dict(color=color, width=2.5, shape="hvh"), fill="tozeroy",
                                  hovertemplate="2^%{x:.2f}: %{y:.2%}<extra></extra>"), row=1, col=2)  # fmt: skip
        made.add_trace(go.Scatter(x=middle, y=rows["chance"], mode="lines", name=f"{name}, chance", hoverinfo="skip",
                                  line=dict(color=color, width=1.5, dash="dash")), row=1, col=2)  # fmt: skip
    sentence = (
        "Histogram of the sizes of base weights and of changes, beside Gaussians of the same norm;"
        " zeros apart."
    )
    theme.dressed(made, height=HEIGHT, alt=sentence, margin=dict(t=34), barmode="group")
    made.update_xaxes(title="log2 size", row=1, col=2)
    made.update_xaxes(title="zero", showticklabels=False, row=1, col=1)
    made.update_yaxes(tickformat=".0%", row=1, col=1, title="share of coordinates")
    return made


def beside_gaussian(bins: pd.DataFrame, of: str, size: float) -> pd.DataFrame:
    """The bins of |W| or |D| above zero: low, high, `share` of all coordinates and `chance`, a
    Gaussian's of that rms.
    """
    rows = bins[bins["of"] == of]
    total = float(rows["count"].sum()) or 1.0
    rows = rows[rows["high"] > 0].astype({"low": float, "high": float})
    chance = [
        gaussian_above(low, size) - gaussian_above(high, size)
        for low, high in zip(rows["low"], rows["high"])
    ]
    return rows.assign(share=rows["count"] / total, chance=chance)[
        ["low", "high", "share", "chance"]
    ]


def gaussian_above(value: float, size: float) -> float:
    """P(|x| > value) for a Gaussian of root mean square `size`.

    >>> round(gaussian_above(3.0, 1.0), 4)
    0.0027
    """
    return math.erfc(value / (size * math.sqrt(2))) if size > 0 else 0.0


def pixels(block: pd.DataFrame) -> go.Figure:
    """The values themselves, one pixel a coordinate: update (signed, symmetric), base and tuned on
    one scale.
    """
    delta = block["tuned"] - block["base"]
    grids = {
        "update": block.assign(v=delta), "base": block.assign(v=block["base"]), "tuned": block.assign(v=block["tuned"])
    }  # fmt: skip
    made = make_subplots(
        rows=1, cols=3, horizontal_spacing=0.05, subplot_titles=list(grids), shared_yaxes=True
    )
    reach = {"update": robust_reach(delta), "base": robust_reach(block["base"])}
    reach["tuned"] = reach["base"]
    for at, (title, rows) in enumerate(grids.items(), start=1):
        grid = rows.pivot(index="row", columns="column", values="v")
        ends = [-reach[title], 0, reach[title]]
        bar = dict(
            orientation="h", len=0.3, thickness=9, x=(0.15, 0.68, 0.0)[at - 1], xanchor="center", y=-0.2, yanchor="top",
            outlinewidth=0, tickvals=ends, ticktext=[f"≤{number(ends[0], 2)}", "0", f"≥{number(ends[2], 2)}"],
        )  # fmt: skip
        made.add_trace(
            go.Heatmap(z=grid.to_numpy(), x=grid.columns, y=grid.index, zmin=-reach[title], zmax=reach[title], zmid=0,
                       colorscale=theme.SIGNED, showscale=at < 3, colorbar=bar,
                       hovertemplate="row %{y}, column %{x}: %{z:.4g}<extra>" + title + "</extra>"),
            row=1, col=at,
        )  # fmt: skip
    made.update_yaxes(autorange="reversed", showgrid=False)
    made.update_yaxes(title="row", col=1)
    made.update_xaxes(showgrid=False, title=dict(text="column", standoff=4))
    sentence = "Values of the update, the base and the tuned matrix, one pixel a coordinate."
    return theme.dressed(
        made, height=460, alt=sentence, margin=dict(l=60, r=10, t=40, b=100), dragmode=False
    )


def robust_reach(values: pd.Series) -> float:
    """The 99th percentile of the size of finite values, for symmetric colour limits."""
    size = values[np.isfinite(values)].abs()
    return float(size.quantile(0.99)) or float(size.max()) or 1.0
