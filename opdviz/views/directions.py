"""Spectra, projections and rotations of the whole run, with their sentences."""

import numpy as np
import pandas as pd

from opdviz.definitions import ERRORS, UNDEFINED_PAIRS
from opdviz.figures import directions as figures
from opdviz.figures import theme
from opdviz.views.view import Reader, View, has_values, nothing_there, view
from opdviz.words import count, how_many, number, plain


def matrices(reader: Reader) -> pd.DataFrame:
    """The tensors that have directions."""
    rows = reader.summary("by_tensor")
    return rows[~rows["kind"].isin(["vector", "scalar"])]


def thinning(count: int, facets: int = 1) -> str:
    """What is said where not every matrix gets a mark in each of some facets."""
    if facets * count <= theme.MOST_MARKS:
        return ""
    return (
        f" Of {count:,} matrices the ends of each module and every n-th between them are drawn; the"
        " sentence speaks of all."
    )


def stable_rank(reader: Reader, state: dict) -> View:
    """Stable rank over that of a random update, a dot a matrix."""
    rows = matrices(reader)
    title = f"Stable rank beside a random update's: {reader.name}"
    if not has_values(rows, "stable_rank_chance"):
        return View(
            title,
            nothing_there(reader, "No matrix moved, so that there is no spectrum of an update."),
        )
    columns = ["name", "module", "block", "layer", "stable_rank", "stable_rank_chance"]
    reading = f"{directions_reading(rows)} Every dot is a matrix.{thinning(len(rows))}"
    return view(title, reading, figures.stable_rank_strip(rows), rows[columns], ("stable_rank",))


def tails(reader: Reader, state: dict) -> View:
    """Where each spectrum's tail stands between a rounded rank-16 update and noise."""
    judged = reader.summary("tails")
    title = f"Beyond 16 directions: {reader.name}"
    reading = rounding_reading(judged)
    if not has_values(judged, "position"):
        return View(title, reading)
    of_matrix = matrices(reader)[["name", "module", "block", "layer"]]
    rows = judged.dropna(subset=["position"]).merge(of_matrix, on="name")
    reading += thinning(len(rows))
    return view(title, reading, figures.tail_strip(rows), rows, ("position", "verdict"))


def projection(reader: Reader, state: dict) -> View:
    """Energy inside the base's leading directions over chance."""
    rows = matrices(reader)
    title = f"Energy inside the base's leading 10 % of directions, over chance: {reader.name}"
    if not has_values(rows, "projection_joint"):
        return View(
            title, nothing_there(reader, "No matrix moved, so that nothing can be projected.")
        )
    ends = ("", "_chance", "_sd", "_profile")
    columns = [
        "name",
        *(f"projection_{side}{end}" for side in ("joint", "left", "right") for end in ends),
    ]
    reading = f"{projection_reading(rows)}{thinning(len(rows), 3)}"
    terms = ("projection_joint", "chance_sd", "chance_profile")
    return view(title, reading, figures.projection_dots(rows), rows[columns], terms)


def rotation(reader: Reader, state: dict) -> View:
    """How far the base's leading directions turned, against a blind update's."""
    rows = matrices(reader)
    title = f"Rotation of the base's leading directions against chance: {reader.name}"
    if not has_values(rows, "rotation_left"):
        return View(title, nothing_there(reader, "No matrix moved, so that nothing turned."))
    columns = [
        "name",
        *(
            f"rotation_{side}{end}"
            for side in ("left", "right")
            for end in ("", "_chance", "_pairs")
        ),
    ]
    missing = "Missing where the chance is not small, or nothing turned."
    reading = f"{rotation_reading(rows)} {missing}{thinning(len(rows), 2)}"
    return view(
        title, reading, figures.rotation_scatter(rows), rows[columns], ("rms_sine", "gap", "pairs")
    )


def directions_reading(rows: pd.DataFrame) -> str:
    """In how many matrices the stable rank is below a random update's, and the median ratio."""
    moved = rows.dropna(subset=["stable_rank", "stable_rank_chance"])
    if moved.empty:
        return "No matrix moved."
    ratio = moved["stable_rank"] / moved["stable_rank_chance"]
    below = int((ratio < 1).sum())
    return (
        f"**The update is concentrated in fewer directions than a random one in"
        f" {how_many(below, len(ratio))} matrices**: its stable rank is {number(ratio.median())} of"
        " a random update's in the median."
    )


def rounding_reading(tails: pd.DataFrame) -> str:
    """Whether the spectra's tails can be told from what storing a low-rank update would leave; else
    the reasons.
    """
    if tails.empty:
        return "Tails of spectra are judged as soon as they are computed."
    judged = tails.dropna(subset=["verdict"])
    if judged.empty:
        reasons = tails["reason"].dropna().value_counts()
        words = [
            f"{plain(reason)} ({count(int(total), 'matrix', 'matrices')})"
            for reason, total in reasons.items()
        ]
        return f"The tails are not held against rounding: {'; '.join(words[:3])}."
    sums = judged["verdict"].value_counts()
    every = len(judged)
    sentences = []
    if like := int(sums.get("like rounding", 0)):
        sentences.append(
            f"**No more than rank 16 can be told in {how_many(like, every)} matrices**: what lies"
            " beyond the 16 leading directions is as storing a rank-16 update would leave it."
        )
    if spread := int(sums.get("spread", 0)):
        sentences.append(
            f"**More than rank 16 in {how_many(spread, every)} matrices**: the tail of the spectrum"
            " is spread wider than rounding alone would leave it."
        )
    if left_open := int(sums.get("open", 0)):
        sentences.append(
            f"In {how_many(left_open, every)} it stays open, since too few coordinates moved."
        )
    middle = judged["position"].median()
    if pd.notna(middle):
        sentences.append(
            f"The median matrix stands at {number(float(middle), 2)} between rounding (0) and noise"
            " (1)."
        )
    return " ".join(sentences)


def projection_reading(rows: pd.DataFrame) -> str:
    """How many matrices put more, or less, of the update inside the base's directions than chance
    can.
    """
    judged = rows.dropna(subset=["projection_joint", "projection_joint_sd"])
    if judged.empty:
        return "No matrix moved."
    value, chance, sd = (judged[f"projection_joint{end}"] for end in ("", "_chance", "_sd"))
    above = int((value > chance + ERRORS * sd).sum())
    below = int((value < chance - ERRORS * sd).sum())
    times = value / chance
    by_module = times.groupby(judged["module"]).median()
    every = len(judged)
    text = (
        f"**More of the update lies in the base's leading directions than a randomly turned one"
        f" would put there in {how_many(above, every)} matrices, less in {below or 'none'}**"
        f" (beyond three spreads). From both sides it is {number(float(times.median()))} times"
        f" chance in the median, most in {plain(by_module.idxmax())}"
        f" ({number(float(by_module.max()))})."
    )
    profiles = (
        (value / judged["projection_joint_profile"]).replace([np.inf, -np.inf], np.nan).dropna()
    )
    if len(profiles):
        text += (
            f" It is {number(float(profiles.median()))} times that of an update which spreads over"
            " rows and columns as this one does."
        )
    return text


def rotation_reading(rows: pd.DataFrame) -> str:
    """How far the leading subspaces turned beside a blind update's, and how many of them the data
    do not define.
    """
    sides = []
    for side in ("left", "right"):
        columns = [f"rotation_{side}", f"rotation_{side}_chance", f"rotation_{side}_pairs"]
        sides.append(
            rows.dropna(subset=columns)[columns].set_axis(["sine", "chance", "pairs"], axis=1)
        )
    subspaces = pd.concat(sides)
    defined = subspaces[subspaces["pairs"] >= UNDEFINED_PAIRS]
    if subspaces.empty:
        return "No matrix has a chance that is small enough to be one."
    grey = len(subspaces) - len(defined)
    note = (
        f" {count(grey, 'mark')} in grey: the k-th and the next value are nearly equal."
        if grey
        else ""
    )
    if defined.empty:
        return f"None of the {len(subspaces)} subspaces is defined by its data.{note}"
    ratio = float((defined["sine"] / defined["chance"]).median())
    return (
        f"**The base's leading directions turned {number(ratio, 2)} times as far as a random update"
        f" of the same norm would turn them**, in the median of"
        f" {count(len(defined), 'subspace')}.{note}"
    )
