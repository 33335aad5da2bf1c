"""Where it moved: the map, tensors without a layer, any two quantities; with sentences."""

from dataclasses import replace

import numpy as np
import pandas as pd

from opdviz.figures import layers as maps
from opdviz.figures import scatter as scatters
from opdviz.figures import theme
from opdviz.figures.axes import value_label
from opdviz.quantities import CHANCE_OF, MAPPED, QUANTITIES
from opdviz.views import filters
from opdviz.views.view import Reader, View, view
from opdviz.words import listing, number, percent, plain

LIMITS = ("2nd to 98th percentile", "all values", "fixed")
# Relative to the largest: values that differ by less are as good as equal.
ALIKE = 0.05
# In the strip: a model may have hundreds of tensors without a layer.
MOST_LINES = 24


def mappable(tensors: pd.DataFrame) -> list[str]:
    """The quantities that can be mapped and that some tensor has."""
    return [q for q in MAPPED if q in tensors and tensors[q].notna().any()]


def towers(tensors: pd.DataFrame) -> list[str]:
    """The model's towers, the largest first: layer 3 of one is not layer 3 of another, so a map
    shows one of them.
    """
    return tensors["tower"].value_counts().index.tolist() if len(tensors) else [filters.ANY]


def several_in_a_cell(tensors: pd.DataFrame) -> bool:
    """Whether some cell of the map holds several tensors, as with experts."""
    return bool(tensors.dropna(subset=["layer"]).duplicated(["tower", "layer", "module"]).any())


def quantity_of(tensors: pd.DataFrame, state: dict, key: str, default: str) -> str:
    """The quantity that a state names, or the default where it is not there."""
    quantities = mappable(tensors)
    quantity = state.get(key) or default
    return quantity if quantity in quantities else quantities[0]


def selected_tensors(reader: Reader, state: dict) -> tuple[pd.DataFrame, str, bool]:
    """The tensors that fit, the quantity, and whether it is shown over chance (then there is a
    column `over_chance`: log2).
    """
    tensors = reader.summary("by_tensor")
    quantity = quantity_of(tensors, state, "quantity", "relative_norm")
    rows = filters.fitting(tensors, {"tower": towers(tensors)[0]} | state)
    over = bool(state.get("over")) and CHANCE_OF.get(quantity) in rows
    if over:
        ratio = rows[quantity].astype(float) / rows[CHANCE_OF[quantity]].astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            log2 = np.log2(ratio).clip(-theme.FARTHEST, theme.FARTHEST)
        rows = rows.assign(over_chance=log2)
    return rows, quantity, over


def layers(reader: Reader, state: dict) -> View:
    """Any quantity by layer and module, or by expert and module of one layer."""
    rows, quantity, over = selected_tensors(reader, state)
    label = QUANTITIES[quantity].label
    in_layers = rows[rows["layer"].notna()]
    across = maps.across_of(in_layers)
    shows = state.get("cells") or maps.MEAN
    title = f"{label.capitalize()}{' over chance' if over else ''} by {across} and module"
    title += f"{'' if shows == maps.MEAN else f', {shows} tensor'}: {reader.name}"
    if words := filters.described(state):
        title += f" ({words})"
    if in_layers.empty or not in_layers[quantity].notna().any():
        return View(title, "No tensor of a layer fits these filters, or none has this quantity.")
    limits = {
        LIMITS[1]: maps.whole_range(in_layers, quantity),
        LIMITS[2]: (state.get("low") or 0.0, state.get("high") or 1.0),
    }
    figure = maps.heatmap(
        in_layers,
        quantity,
        limits=limits.get(state.get("limits")),
        over_chance=over,
        shows=shows,
        noted=reader.noted,
        clickable=in_layers["layer"].nunique() * in_layers["module"].nunique() <= maps.MOST_CLICKS,
    )
    columns = [
        "name",
        "layer",
        "module",
        "expert",
        quantity,
        *filter(None, [CHANCE_OF.get(quantity)]),
    ]
    reading = layers_reading(in_layers, label, quantity, "over_chance" if over else None)
    if not over and (alike := spread(in_layers[quantity])):
        reading += f" {alike}"
    if not over and (beside := more_outside(rows, in_layers, quantity)):
        reading += f" Outside the layers {beside}."
    if not over and (chance := CHANCE_OF.get(quantity)):
        middle, by_chance = (in_layers[c].astype(float).median() for c in (quantity, chance))
        reading += (
            f" Median {value_label(middle, quantity)}; chance {value_label(by_chance, quantity)}."
        )
    drawn = view(title, reading, figure, in_layers[columns], (quantity,))
    return replace(drawn, nodes=rows.set_index("name")[quantity])


def spread(values: pd.Series) -> str:
    """That values hardly differ, where they do not: colours, which show their order, would say
    otherwise.

    >>> spread(pd.Series([0.0302, 0.0304])), spread(pd.Series([1.0, 2.0])), spread(pd.Series([0.0]))
    ('All of them lie within 0.658 % of the largest.', '', '')
    """
    sizes = values.dropna().astype(float).abs()
    largest = sizes.max() if len(sizes) > 1 else 0.0
    if not largest or not 0 < 1 - sizes.min() / largest < ALIKE:
        return ""
    return f"All of them lie within {percent(1 - sizes.min() / largest)} of the largest."


def more_outside(rows: pd.DataFrame, inside: pd.DataFrame, quantity: str) -> str:
    """A tensor without a layer that has more of a movement than any in one, in words; empty
    without.
    """
    outside = rows[rows["layer"].isna()].dropna(subset=[quantity])
    if quantity not in MOVEMENT or outside.empty:
        return ""
    top = outside.loc[outside[quantity].astype(float).idxmax()]
    if not float(top[quantity]) > float(inside[quantity].max()):
        return ""
    return f"{plain(top['module'])} has more, {value_label(float(top[quantity]), quantity)}"


def strip(reader: Reader, state: dict) -> View:
    """The tensors that stand in no layer."""
    rows, quantity, _ = selected_tensors(reader, state)
    outside = rows[rows["layer"].isna()]
    title = f"{QUANTITIES[quantity].label.capitalize()} of tensors without a layer: {reader.name}"
    if outside.empty:
        return View(title, "Every tensor that fits stands in a layer.")
    drawn = (
        outside.dropna(subset=[quantity]).nlargest(MOST_LINES, quantity)
        if len(outside) > MOST_LINES
        else outside
    )
    largest = (
        outside.loc[outside[quantity].astype(float).idxmax()]
        if outside[quantity].notna().any()
        else None
    )
    reading = "None of them has this quantity."
    if largest is not None and not float(largest[quantity]) and quantity in MOVEMENT:
        reading = "Nothing of them moved."
    elif largest is not None:
        reading = (
            f"Largest in {plain(largest['module'])}:"
            f" {value_label(float(largest[quantity]), quantity)}."
        )
    figure = maps.strip(drawn, quantity, log=QUANTITIES[quantity].log)
    stands = view(title, reading, figure, outside[["name", quantity]], (quantity,))
    return replace(stands, nodes=rows.set_index("name")[quantity])


def scatter(reader: Reader, state: dict) -> View:
    """Two quantities against each other."""
    rows, quantity, _ = selected_tensors(reader, state)
    tensors = reader.summary("by_tensor")
    x = quantity_of(tensors, state, "x", "relative_norm")
    y = quantity_of(tensors, state, "y", "stable_rank")
    title = f"{QUANTITIES[y].label.capitalize()} against {QUANTITIES[x].label}: {reader.name}"
    if words := filters.described(state):
        title += f" ({words})"
    both = rows.dropna(subset=[x, y])
    if both.empty:
        return View(title, "No tensor that fits has both quantities.")
    # Spearman's, without loading scipy for it.
    rank = float(both[x].rank().corr(both[y].rank())) if len(both) > 2 else np.nan
    reading = (
        f"{len(both):,} tensors; rank correlation {number(rank, 2)}. Dashed: median chance, where"
        " there is one."
    )
    if len(both) > theme.MOST_MARKS:
        reading += " Colour counts tensors; those that stand alone are marks."
    columns = list(
        dict.fromkeys(["name", "block", x, y, *filter(None, (CHANCE_OF.get(q) for q in (x, y)))])
    )
    return view(
        title, reading, scatters.scatter(both, x, y), both[columns], tuple(dict.fromkeys((x, y)))
    )


# Quantities of which 0 means that nothing moved.
MOVEMENT = ("relative_norm", "delta_norm", "delta_rms", "delta_max", "delta_mean_abs")
# A small one says more than a large one, which any noise has.
SMALL_IS_NEWS = ("stable_rank", "entropy_rank", "isospectral_residual")


def layers_reading(rows: pd.DataFrame, label: str, quantity: str, column: str | None = None) -> str:
    """Which module and layers have the most telling values: the largest, or of a rank the smallest.

    `column` holds what is shown, where that is not the quantity itself but its value over chance.
    """
    column = column or quantity
    measured = rows.dropna(subset=[column, "layer"])
    if measured.empty:
        return "Nothing to compare yet."
    name = label[0].upper() + label[1:] + (" over chance" if column != quantity else "")
    values = measured[column].astype(float)
    if not values.any() and column == quantity:
        return f"{name} is 0 everywhere." if quantity not in MOVEMENT else "Nothing of it moved."
    if len(measured) == 1:
        row = measured.iloc[0]
        return f"One tensor: {plain(row['module'])} of layer {int(row['layer'])}."
    if values.max() == values.min():
        return f"{name} is the same in all {len(measured):,} tensors."
    small = quantity in SMALL_IS_NEWS
    top = measured.loc[
        values.sort_values(ascending=small, kind="stable").index[: max(1, len(measured) // 20)]
    ]
    module = top["module"].mode().iloc[0]
    same_module = top[top["module"] == module]
    where = places(sorted({int(layer) for layer in same_module["layer"]}))
    if maps.across_of(measured) == "expert":
        experts = sorted({int(expert) for expert in same_module["expert"]})
        where = f"{places(experts, 'expert')}, {where}"
    return f"{name} is {'smallest' if small else 'largest'} in {plain(module)} of {where}."


def places(at: list[int], what: str = "layer") -> str:
    """Layers, or experts, in words: a range only where none is missing in it.

    >>> places([3]), places([20, 21, 22]), places([0, 39]), places([1, 3, 5, 7], "expert")
    ('layer 3', 'layers 20 to 22', 'layers 0 and 39', 'experts 1, 3, 5 and 1 more')
    """
    if len(at) == 1:
        return f"{what} {at[0]}"
    if len(at) > 2 and at[-1] - at[0] == len(at) - 1:
        return f"{what}s {at[0]} to {at[-1]}"
    return f"{what}s " + listing([str(one) for one in at])
