"""How dense the mask of a run is, and where."""

import pandas as pd

from opdviz.figures import subnetwork as figures
from opdviz.figures.axes import module_order
from opdviz.views.view import Reader, View, view
from opdviz.words import number, percent, plain

BY = ("module", "layer")


def densities(reader: Reader, state: dict) -> View:
    """The density of the visible update by module or layer, beside the sizes of the weights."""
    threshold = float(state.get("above") or 0)
    by = state.get("by") if state.get("by") in BY else BY[0]
    title = f"How dense the mask is, by {by} (|D| > {threshold:g}): {reader.name}"
    rows = reader.summary("density")
    rows = rows[rows["threshold"] == threshold] if len(rows) else rows
    if rows.empty:
        return View(title, "No histogram: what moves given its size is not known of float8.")
    total = rows[["numel", "moved"]].sum()
    model = float(total["moved"] / total["numel"])
    rows = rows.dropna(subset=[by]) if by == "layer" else rows
    if rows.empty:
        return View(title, "No tensor of this model stands in a layer.")
    rows = rows.assign(group=rows[by])
    groups = rows.groupby("group", as_index=False)[["numel", "moved", "expected"]].sum()
    groups = groups.assign(
        density=groups["moved"] / groups["numel"],
        density_given_sizes=groups["expected"] / groups["numel"],
    )
    order = module_order(rows) if by == "module" else None
    figure = figures.densities(rows, groups, model, modules=order)
    columns = ["name", "layer", "module", "threshold", "numel", "moved", "expected"]
    data = rows[[*columns, "density", "density_given_sizes"]]
    terms = ("density", "density_given_sizes")
    return view(title, reading(groups, model, by), figure, data, terms)


def reading(groups: pd.DataFrame, model: float, by: str) -> str:
    """The groups that are densest and least dense of those that moved, beside the model, and what
    the sizes of their weights give.
    """
    if not model:
        return "Nothing moved so far: the mask is empty."
    groups = groups[groups["moved"] > 0]
    groups = groups.assign(
        ratio=groups["density"] / model, given_sizes=groups["density_given_sizes"] / model
    )
    most, least = groups.loc[groups["ratio"].idxmax()], groups.loc[groups["ratio"].idxmin()]
    densest, sparsest = (
        f"layer {int(row['group'])}" if by == "layer" else plain(row["group"])
        for row in (most, least)
    )
    return (
        f"**{capitalised(densest, by)} is {number(most['ratio'])} times as dense as the model**"
        f" ({percent(model)} of all coordinates), {sparsest} {number(least['ratio'])} times. The"
        f" sizes of their weights alone would give {number(most['given_sizes'])} and"
        f" {number(least['given_sizes'])} times."
    )


def capitalised(words: str, by: str) -> str:
    """Words that begin a sentence; a module's name stays as it is written."""
    return words.capitalize() if by == "layer" else words
