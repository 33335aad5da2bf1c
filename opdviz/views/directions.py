"""Spectra, projections and rotations of the whole run, with their sentences."""

import numpy as np
import pandas as pd

from opdviz.definitions import ERRORS, UNDEFINED_PAIRS
from opdviz.figures import directions as figures
from opdviz.figures import theme
from opdviz.views.view import Reader, View, has_values, nothing_there, view
from opdviz.words import count, number, plain


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
    reading = f"{projection_reading(rows)} Medians hide single layers.{thinning(len(rows), 3)}"
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
    """Median stable rank beside a random update's, and the module that lies most inside the base's
    directions.
    """
    moved = rows.dropna(subset=["stable_rank", "stable_rank_chance"])
    if moved.empty:
        return "No matrix moved."
    ratio = (moved["stable_rank"] / moved["stable_rank_chance"]).median()
    text = f"In the median matrix the update's stable rank is {number(ratio)} of a random update's."
    projected = (
        moved.dropna(subset=["projection_joint", "projection_joint_chance"])
        if "projection_joint" in moved
        else moved[:0]
    )
    if len(projected):
        joint = (
            (projected["projection_joint"] / projected["projection_joint_chance"])
            .groupby(projected["module"])
            .median()
        )
        text += (
            f" Joint projection by module: {number(joint.median())} times chance in the median, "
            f"{number(joint.max())} in {plain(joint.idxmax())}, the largest."
        )
    return text


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
    words = []
    if like := int(sums.get("like rounding", 0)):
        words.append(
            f"in {like} of {every} matrices the tail cannot be told from a rank-16 update and"
            " rounding"
        )
    if spread := int(sums.get("spread", 0)):
        words.append(
            f"in {spread} of {every} it is spread wider than rounding alone would leave it"
        )
    if left_open := int(sums.get("open", 0)):
        words.append(f"in {left_open} of {every} it stays open, since too few coordinates moved")
    text = ", ".join(words)
    middle = judged["position"].median()
    position = (
        f" Median position {number(float(middle), 2)} between rounding (0) and noise (1)."
        if pd.notna(middle)
        else ""
    )
    return f"{text[0].upper()}{text[1:]}.{position}"


def projection_reading(rows: pd.DataFrame) -> str:
    """How many matrices put more, or less, of the update inside the base's directions than chance
    can.
    """
    judged = rows.dropna(subset=["projection_joint", "projection_joint_sd"])
    if judged.empty:
        return "No matrix moved."
    value, chance, sd = (judged[f"projection_joint{end}"] for end in ("", "_chance", "_sd"))
    above, below = (
        int((value > chance + ERRORS * sd).sum()),
        int((value < chance - ERRORS * sd).sum()),
    )
    text = (
        f"Joint projection: median {number(float((value / chance).median()), 2)} times chance;"
        f" beyond three spreads of a randomly turned update in {above} of {len(judged)} matrices"
        f" above and in {below} below."
    )
    profiles = (
        (value / judged["projection_joint_profile"]).replace([np.inf, -np.inf], np.nan).dropna()
    )
    if len(profiles):
        text += (
            " Of an update with the same row and column energies the median is"
            f" {number(float(profiles.median()), 2)} times."
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
        f"Median {number(ratio, 2)} times a blind update of the same norm; above the diagonal it"
        f" turned further.{note}"
    )
