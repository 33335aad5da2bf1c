"""Views of a whole run: the headline, the map of layers, any two quantities, directions, coordinates."""

import numpy as np
import pandas as pd

from opdviz.figures import coordinates, directions, overview, theme
from opdviz.figures import layers as maps
from opdviz.figures import scatter as scatters
from opdviz.quantities import CHANCE_OF, MAPPED, QUANTITIES
from opdviz.tables import by_tensor, published
from opdviz.views import filters, sentences
from opdviz.views.view import Reader, View, view
from opdviz.words import number, percent

LIMITS = ("2nd to 98th percentile", "all values", "fixed")
FARTHEST = 10.0
MOST_LINES = 24


def headline(reader: Reader, state: dict) -> View:
    """Six headline quantities beside the published pairs and chance."""
    title = f"Six headline quantities beside published pairs: {reader.name}"
    if not reader.complete:
        return View(
            title, "The headline waits until every tensor is measured: partial results are biased by their order."
        )
    rows = reader.summary("headline").replace({np.nan: None}).to_dict("records")
    tensors = by_tensor.counted(reader.summary("by_tensor"))
    paper = [row for row in published.numbers() if row["paper"] == published.PAPERS["A"]]
    reading = sentences.overview(rows, tuple(paper), tensors, by_tensor.share_unchanged(tensors, "exact"))
    reading += " Ticks are the paper's published pairs, by recipe."
    terms = ("relative_norm", "sparsity_absolute", "top16_energy", "stable_rank", "coverage", "null_low")
    return view(title, reading, overview.strips(rows, paper), reader.summary("headline"), terms)


def there(tensors: pd.DataFrame) -> list[str]:
    """The quantities that can be mapped and that some tensor has."""
    return [q for q in MAPPED if q in tensors and tensors[q].notna().any()]


def towers(tensors: pd.DataFrame) -> list[str]:
    """The model's towers, the largest first: layer 3 of one is not layer 3 of another, so a map shows one of them."""
    return tensors["tower"].value_counts().index.tolist() if len(tensors) else [filters.ANY]


def quantity_of(tensors: pd.DataFrame, state: dict, key: str, default: str) -> str:
    """The quantity that a state names, or the default where it is not there."""
    known = there(tensors)
    wanted = state.get(key) or default
    return wanted if wanted in known else known[0]


def chosen(reader: Reader, state: dict) -> tuple[pd.DataFrame, str, bool]:
    """The tensors that fit, the quantity, and whether it is shown over chance (then there is a column `over_chance`: log2)."""
    tensors = reader.summary("by_tensor")
    quantity = quantity_of(tensors, state, "quantity", "relative_norm")
    rows = filters.fitting(tensors, {"tower": towers(tensors)[0]} | state)
    over = bool(state.get("over")) and CHANCE_OF.get(quantity) in rows
    if over:
        ratio = rows[quantity].astype(float) / rows[CHANCE_OF[quantity]].astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            rows = rows.assign(over_chance=np.log2(ratio).clip(-FARTHEST, FARTHEST))
    return rows, quantity, over


def layers(reader: Reader, state: dict) -> View:
    """Any quantity by layer and module, or by expert and module of one layer."""
    rows, quantity, over = chosen(reader, state)
    label = QUANTITIES[quantity].label
    inside = rows[rows["layer"].notna()]
    title = f"{label.capitalize()}{' over chance' if over else ''} by layer and module: {reader.name}"
    if words := filters.described(state):
        title += f" ({words})"
    if inside.empty or not inside[quantity].notna().any():
        return View(title, "No tensor of a layer fits these filters, or none has this quantity.")
    limits = {
        LIMITS[1]: maps.whole_range(inside, quantity),
        LIMITS[2]: (state.get("low") or 0.0, state.get("high") or 1.0),
    }
    figure = maps.heatmap(
        inside, quantity, limits=limits.get(state.get("limits")), over_chance=over, noted=reader.noted,
        clickable=inside["layer"].nunique() * inside["module"].nunique() <= maps.MOST_CLICKS,
    )  # fmt: skip
    columns = ["name", "layer", "module", "expert", quantity, *filter(None, [CHANCE_OF.get(quantity)])]
    reading = sentences.layers(inside, label, quantity, "over_chance" if over else None)
    if not over and (beside := more_outside(rows, inside, quantity)):
        reading += f" Outside the layers {beside}."
    if not over and (chance := CHANCE_OF.get(quantity)):
        middle, by_chance = (inside[c].astype(float).median() for c in (quantity, chance))
        reading += f" Median {maps.label(middle, quantity)}; chance {maps.label(by_chance, quantity)}."
    return view(title, reading, figure, inside[columns], (quantity,))


def more_outside(rows: pd.DataFrame, inside: pd.DataFrame, quantity: str) -> str:
    """A tensor without a layer that has more of a movement than any in one, in words; empty without."""
    outside = rows[rows["layer"].isna()].dropna(subset=[quantity])
    if quantity not in sentences.MOVEMENT or outside.empty:
        return ""
    top = outside.loc[outside[quantity].astype(float).idxmax()]
    if not float(top[quantity]) > float(inside[quantity].max()):
        return ""
    return f"{sentences.plain(top['module'])} has more, {maps.label(float(top[quantity]), quantity)}"


def strip(reader: Reader, state: dict) -> View:
    """The tensors that stand in no layer."""
    rows, quantity, _ = chosen(reader, state)
    outside = rows[rows["layer"].isna()]
    title = f"{QUANTITIES[quantity].label.capitalize()} of tensors without a layer: {reader.name}"
    if outside.empty:
        return View(title, "Every tensor that fits stands in a layer.")
    shown = outside.dropna(subset=[quantity]).nlargest(MOST_LINES, quantity) if len(outside) > MOST_LINES else outside
    largest = outside.loc[outside[quantity].astype(float).idxmax()] if outside[quantity].notna().any() else None
    reading = "None of them has this quantity."
    if largest is not None and not float(largest[quantity]) and quantity in sentences.MOVEMENT:
        reading = "Nothing of them moved."
    elif largest is not None:
        reading = f"Largest in {sentences.plain(largest['module'])}: {maps.label(float(largest[quantity]), quantity)}."
    return view(
        title,
        reading,
        maps.strip(shown, quantity, log=QUANTITIES[quantity].log),
        outside[["name", quantity]],
        (quantity,),
    )


def scatter(reader: Reader, state: dict) -> View:
    """Two quantities against each other."""
    rows, quantity, _ = chosen(reader, state)
    known = reader.summary("by_tensor")
    x = quantity_of(known, state, "x", "relative_norm")
    y = quantity_of(known, state, "y", "stable_rank")
    title = f"{QUANTITIES[y].label.capitalize()} against {QUANTITIES[x].label}: {reader.name}"
    if words := filters.described(state):
        title += f" ({words})"
    both = rows.dropna(subset=[x, y])
    if both.empty:
        return View(title, "No tensor that fits has both quantities.")
    rank = (
        float(both[x].rank().corr(both[y].rank())) if len(both) > 2 else np.nan
    )  # Spearman's, without loading scipy for it
    reading = f"{len(both):,} tensors; rank correlation {number(rank, 2)}. Dashed: median chance, where there is one."
    if len(both) > theme.MOST_MARKS:
        reading += " Colour counts tensors; those that stand alone are marks."
    columns = list(dict.fromkeys(["name", "block", x, y, *filter(None, (CHANCE_OF.get(q) for q in (x, y)))]))
    return view(title, reading, scatters.scatter(both, x, y), both[columns], tuple(dict.fromkeys((x, y))))


def matrices(reader: Reader) -> pd.DataFrame:
    """The tensors that have directions."""
    rows = reader.summary("by_tensor")
    return rows[~rows["kind"].isin(["vector", "scalar"])]


def known(rows: pd.DataFrame, column: str) -> bool:
    """Whether any row has a value in a column."""
    return column in rows and bool(rows[column].notna().any())


def thinning(count: int, facets: int = 1) -> str:
    """What is said where not every matrix gets a mark in each of some facets."""
    if facets * count <= theme.MOST_MARKS:
        return ""
    return f" Of {count:,} matrices the ends of each module and every n-th between them are drawn; the sentence speaks of all."


def stable_rank(reader: Reader, state: dict) -> View:
    """Stable rank over that of a random update, a dot a matrix."""
    rows = matrices(reader)
    title = f"Stable rank beside a random update's: {reader.name}"
    if not known(rows, "stable_rank_chance"):
        return View(title, not_there(reader, "No matrix moved, so that there is no spectrum of an update."))
    columns = ["name", "module", "block", "layer", "stable_rank", "stable_rank_chance"]
    reading = f"{sentences.directions(rows)} Every dot is a matrix.{thinning(len(rows))}"
    return view(title, reading, directions.stable_rank_strip(rows), rows[columns], ("stable_rank",))


def projection(reader: Reader, state: dict) -> View:
    """Energy inside the base's leading directions over chance."""
    rows = matrices(reader)
    title = f"Energy inside the base's leading 10 % of directions, over chance: {reader.name}"
    if not known(rows, "projection_joint"):
        return View(title, not_there(reader, "No matrix moved, so that nothing can be projected."))
    ends = ("", "_chance", "_sd", "_profile")
    columns = ["name", *(f"projection_{side}{end}" for side in ("joint", "left", "right") for end in ends)]
    reading = f"{sentences.projection(rows)} Medians hide single layers.{thinning(len(rows), 3)}"
    terms = ("projection_joint", "chance_sd", "chance_profile")
    return view(title, reading, directions.projection_dots(rows), rows[columns], terms)


def rotation(reader: Reader, state: dict) -> View:
    """How far the base's leading directions turned, against a blind update's."""
    rows = matrices(reader)
    title = f"Rotation of the base's leading directions against chance: {reader.name}"
    if not known(rows, "rotation_left"):
        return View(title, not_there(reader, "No matrix moved, so that nothing turned."))
    columns = ["name", *(f"rotation_{side}{end}" for side in ("left", "right") for end in ("", "_chance", "_pairs"))]
    reading = f"{sentences.rotation(rows)} Missing where the chance is not small.{thinning(len(rows), 2)}"
    return view(title, reading, directions.rotation_scatter(rows), rows[columns], ("rms_sine", "gap", "pairs"))


def moved_given_size(reader: Reader, state: dict) -> View:
    """Which coordinates moved, given the size of the weight."""
    threshold = float(state.get("above") or 0)
    rows = reader.summary("moved_bins")
    title = f"Share that moved (|D| > {threshold:g}) by size of the weight: {reader.name}"
    if rows.empty or rows[rows["threshold"] == threshold].empty:
        return View(title, not_there(reader, "No histogram: what a blind update would show of float8 is not known."))
    bins = rows[rows["threshold"] == threshold]
    forms = sentences.counted_in(reader.summary("by_tensor")).lower()
    reading = f"**{sentences.coordinates(bins)}** Summed over all tensors, {forms}."
    return view(title, reading, coordinates.moved_given_size(bins), bins, ("moved", "null_moved"))


def coverage(reader: Reader, state: dict) -> View:
    """On which weights the moves fall, by module."""
    rows = reader.summary("by_tensor")
    title = f"Where coordinates moved by more than 1e-5 lie, median by module: {reader.name}"
    if not known(rows, "principal_coverage"):
        return View(
            title, not_there(reader, "No matrix whose coverage can be asked: none moved, or they are stored in float8.")
        )
    legend = "Violet: typical blind updates; thin line: all of them; a grey dot has nowhere else to be."
    reading = f"{sentences.coverage(rows)} {legend}"
    columns = ["name", *(c for c in rows if c.startswith(("principal_", "low_magnitude_")))]
    terms = ("coverage", "null_low", "blind_low", "blind_high", "lowest")
    return view(title, reading, coordinates.dumbbells(rows), rows[columns], terms)


def sparsity(reader: Reader, state: dict) -> View:
    """How many coordinates did not change, by probe and precision."""
    rows = reader.summary("sparsity_shares")
    title = f"Share unchanged by probe: {reader.name}"
    if rows.empty:
        return View(title, not_there(reader, "No coordinate could be counted."))
    reading = sentences.unchanged(rows)
    return view(title, reading, coordinates.sparsity_bars(rows), rows, ("probe", "precision", "share"))


def steps(reader: Reader, state: dict) -> View:
    """By how many grid steps coordinates moved."""
    rows = reader.summary("step_shares")
    title = f"Grid steps moved: {reader.name}"
    if rows.empty:
        return View(title, not_there(reader, "No grid steps: those of float8 differ by scale block."))
    coarse = rows[rows["precision"] == ("bfloat16" if (rows["precision"] == "bfloat16").any() else "stored")]
    one = float(coarse.loc[coarse["steps"] == "1", "share"].sum())
    moved = 1.0 - float(coarse.loc[coarse["steps"] == "0", "share"].sum())
    form = sentences.counted_in(reader.summary("by_tensor")).removeprefix("As ")
    reading = "No coordinate moved."
    if moved > 0:
        reading = f"Of the coordinates that moved, {percent(min(one / moved, 1.0))} moved by a single step of {form}."
    return view(title, reading, coordinates.step_bars(rows), rows, ("steps",))


def not_there(reader: Reader, why: str) -> str:
    """Why a figure of a whole run has nothing to show: it is still to come, or there is none for these formats."""
    return why if reader.complete else "Not computed yet. It appears here as soon as it is."
