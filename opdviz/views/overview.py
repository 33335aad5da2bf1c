"""The headline beside published pairs and chance, with its sentence and that of the table of
blocks.

A sentence is a function of numbers; what cannot be said of them is not said. Names from data are
escaped where they enter.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from opdviz.figures import overview as figures
from opdviz.runs import headlines
from opdviz.tables import by_tensor, published
from opdviz.tables.published import FAMILIES, family
from opdviz.views.view import Reader, View, counted_in, view
from opdviz.words import number, percent


def value_of(headline: list[dict], quantity: str, field: str = "value") -> float | None:
    """One number of a headline."""
    return next((row[field] for row in headline if row["quantity"] == quantity), None)


def overview_reading(
    headline: list[dict],
    published: tuple[dict, ...],
    tensors: pd.DataFrame,
    unchanged: float | None,
    width: int | None = None,
) -> str:
    """The relative norm beside the published pairs, what did not change, and concentration beside
    chance.

    `unchanged` is the share of coordinates that kept their value in the formats that they are
    counted in, `width` how many directions the median matrix has.
    """
    norm = value_of(headline, "relative_norm")
    if norm is None:
        return "The relative norm is not measured yet."
    if not norm:
        return nothing_moved(tensors)
    words = [f"**Relative norm {number(norm)} %.** {beside_published(published)}"]
    small = value_of(headline, "sparsity_absolute_1e-5")
    if unchanged is not None and small is not None:
        words.append(
            f"{counted_in(tensors)}, {percent(unchanged)} of the coordinates did not change and"
            f" {percent(small / 100)} moved by no more than 1e-5."
        )
    top, chance = value_of(headline, "top16_energy"), value_of(headline, "top16_energy", "chance")
    if top is not None and chance:
        leading = f"16 of {width:,}" if width else "16"
        words.append(
            f"The top {leading} directions hold {number(top)} % of the median matrix's update; of"
            f" noise {number(chance)} %."
        )
    return " ".join(words)


def nothing_moved(tensors: pd.DataFrame) -> str:
    """What is said where the update as bf16 is zero; it may be there as stored."""
    stored = math.sqrt(float((tensors["delta_norm"] ** 2).sum()))
    base = math.sqrt(float((tensors["base_norm"] ** 2).sum()))
    if not stored or not base:
        return "Nothing moved between these checkpoints."
    return f"As bf16 nothing moved; as stored the relative norm is {percent(stored / base)}."


def beside_published(published: tuple[dict, ...]) -> str:
    """The paper's relative norms by recipe, as values and not as classes."""
    by_family: dict[str, list[float]] = {}
    for row in published:
        if row["quantity"] == "relative_norm":
            by_family.setdefault(family(row["recipe"]), []).append(row["value"])
    values = [f"{name} {span(sorted(by_family[name]))}" for name in FAMILIES if name in by_family]
    if not values:
        return ""
    pairs = f"The paper's pairs (arXiv 2606.13657): {', '.join(values)}."
    return f"{pairs} It follows from learning rate and steps before it follows from the recipe."


def span(values: list[float]) -> str:
    """Rising values: one, both of two, or from the least to the largest.

    >>> span([0.073, 0.497]), span([1.0]), span([0.045, 0.1, 0.142])
    ('0.073 and 0.497', '1', '0.045 to 0.142')
    """
    if len(values) < 3:
        return " and ".join(number(value) for value in values)
    return f"{number(values[0])} to {number(values[-1])}"


def blocks_reading(rows: pd.DataFrame) -> str:
    """Which block holds the energy, beside its parameters, and what outside FFN moved."""
    rows = rows.dropna(subset=["energy_share"])
    if rows.empty:
        return "Nothing moved."
    towers = rows["tower"].nunique() > 1
    names = rows["tower"] + " " + rows["block"] if towers else rows["block"]
    at = rows["energy_share"].astype(float).idxmax()
    first = rows.loc[at]
    outside = names[(rows["block"] != "ffn") & (rows["tensors_moved"] > 0)].unique()
    text = (
        f"**{names[at]} holds {percent(first['energy_share'])} of the update's energy and"
        f" {percent(first['parameter_share'])} of the parameters** (enrichment"
        f" {number(first['enrichment'])})."
    )
    return text + (
        f" Outside FFN moved: {', '.join(outside)}."
        if len(outside)
        else " Nothing outside FFN moved."
    )


def results(headline: pd.DataFrame, tensors: pd.DataFrame) -> dict:
    """What a list of runs says of one, in percent but for the stable rank: relative norm,
    unchanged, top 16 beside chance, stable rank.
    """
    rows = headline.replace({np.nan: None}).to_dict("records")
    unchanged = by_tensor.share_unchanged(by_tensor.counted(tensors), "exact")
    return {
        "relative_norm": value_of(rows, "relative_norm"),
        "unchanged": None if unchanged is None else 100 * unchanged,
        "top16_energy": value_of(rows, "top16_energy"),
        "top16_chance": value_of(rows, "top16_energy", "chance"),
        "stable_rank": value_of(rows, "stable_rank"),
    }


def median_width(tensors: pd.DataFrame) -> int | None:
    """How many directions the median moved matrix has."""
    moved = tensors.dropna(subset=["top16_energy"]) if "top16_energy" in tensors else tensors[:0]
    if moved.empty:
        return None
    return int(moved[["rows", "columns"]].astype(float).min(axis=1).median())


def headline(reader: Reader, state: dict) -> View:
    """Six headline quantities beside the published pairs and chance."""
    title = f"Six headline quantities beside published pairs: {reader.name}"
    if not reader.complete:
        return View(
            title,
            "The headline waits until every tensor is measured: partial results are biased by their"
            " order.",
        )
    rows = reader.summary("headline").replace({np.nan: None}).to_dict("records")
    tensors = by_tensor.counted(reader.summary("by_tensor"))
    paper = [row for row in published.numbers() if row["paper"] == published.PAPERS["A"]]
    unchanged, width = by_tensor.share_unchanged(tensors, "exact"), median_width(tensors)
    reading = overview_reading(rows, tuple(paper), tensors, unchanged, width)
    reading += " Open marks are the paper's published pairs (models of 1 to 4 billion parameters)."
    terms = (
        "relative_norm",
        "sparsity_absolute",
        "top16_energy",
        "stable_rank",
        "coverage",
        "null_low",
    )
    figure = figures.strips(rows, paper, width)
    drawn = view(title, reading, figure, reader.summary("headline"), terms)
    measured = headlines.Measured(reader.name, reader.manifest, rows)
    return replace(drawn, for_paper=headlines.for_paper([measured], "A"))
