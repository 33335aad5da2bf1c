"""Views of one tensor: energy, moves, angles, spectra, sizes, heads, bands, rows of a vocabulary,
and the values.
"""

import math

import numpy as np
import pandas as pd

from opdviz import slices
from opdviz.definitions import HEADLINE_K, HEADLINE_SHARE, INTRUDER_COSINE, UNDEFINED_PAIRS
from opdviz.figures import coordinates
from opdviz.figures import slices as slice_figures
from opdviz.figures import tensor as figures
from opdviz.tables import by_tensor
from opdviz.tables.sizes import beside_gaussian, gaussian_above
from opdviz.views.coordinates import coordinates_reading
from opdviz.views.view import Reader, View, view
from opdviz.words import format_name, number, percent, plain

# Bars whose tokens can still be read.
MOST_ROWS = 30


def facts(reader: Reader, state: dict) -> pd.Series | None:
    """The tensor's row of the summary, if the state names one that is there."""
    rows = reader.summary("by_tensor")
    rows = rows[rows["name"] == state.get("tensor")] if len(rows) else rows
    return rows.iloc[0] if len(rows) else None


def nothing_to_draw(what: str, reader: Reader, state: dict, measure: str) -> View:
    """Why a view has nothing to draw: the reasons of the measure that it is made from."""
    skipped = reader.rows("skipped", state["tensor"])
    reasons = (
        sorted(set(skipped.loc[skipped["measure"] == measure, "reason"])) if len(skipped) else []
    )
    if reasons:
        text = "; ".join(map(plain, reasons))
    elif not reader.complete:
        text = "Not computed yet."
    elif not facts(reader, state)["moved"]:
        text = "The tensor did not move: there is nothing of it to show."
    else:
        text = f"The comparison holds nothing of it under the measure {measure}."
    return View(titled(what, reader, state), text)


def titled(what: str, reader: Reader, state: dict) -> str:
    """A title that says of which tensor and run a figure is, also where it stands alone."""
    return f"{what}: {state['tensor']} ({reader.name})"


def energy(reader: Reader, state: dict) -> View:
    """Cumulative energy of the leading directions."""
    rows = reader.rows("spectrum", state["tensor"])
    if rows.empty:
        return nothing_to_draw("Energy of the leading directions", reader, state, "spectrum")
    r = int(rows["index"].max())
    curves = rows[rows["matrix"].isin(["delta", "gaussian", "rounding_null"])].dropna(
        subset=["energy"]
    )
    title = titled("Energy of the leading directions of the update", reader, state)
    return view(
        title,
        energy_reading(curves, r),
        figures.cumulative_energy(curves, r),
        curves,
        ("top16_energy", "energy"),
    )


def moved(reader: Reader, state: dict) -> View:
    """Which weights moved, given their size."""
    bins = reader.moved_given_size(state["tensor"])
    if bins.empty:
        return nothing_to_draw(
            "Share that moved by size of the weight", reader, state, "coordinates"
        )
    title = titled("Share that moved by size of the weight", reader, state)
    figure = coordinates.moved_given_size(bins, height=figures.HEIGHT)
    form = format_name(facts(reader, state)["counted_as"])
    return view(title, coordinates_reading(bins, form), figure, bins, ("moved", "null_moved"))


def angles(reader: Reader, state: dict) -> View:
    """Principal angles of the leading subspaces."""
    rows = reader.rows("angle", state["tensor"])
    title = titled("Principal angles between base and tuned", reader, state)
    if rows.empty:
        return nothing_to_draw("Principal angles between base and tuned", reader, state, "geometry")
    r = int(reader.rows("spectrum", state["tensor"])["index"].max())
    rotation = reader.rows("rotation", state["tensor"])
    rotation = rotation[rotation["share"] == HEADLINE_SHARE].set_index("side")
    figure = figures.angles(rows, r, rotation)
    return view(
        title, angles_reading(rotation, r), figure, rows, ("degrees", "rms_sine", "gap", "pairs")
    )


def spectra(reader: Reader, state: dict) -> View:
    """Singular values of base, tuned and update."""
    rows = reader.rows("spectrum", state["tensor"])
    if rows.empty:
        return nothing_to_draw("Singular values", reader, state, "spectrum")
    row = facts(reader, state)
    reading = "The tensor did not move: it has no update's spectrum."
    if pd.notna(row["stable_rank"]):
        chance = number(row.get("stable_rank_chance"))
        reading = (
            f"The update's stable rank is {number(row['stable_rank'])}; a random update's would be"
            f" {chance}."
        )
    title = titled("Singular values of base, tuned and update", reader, state)
    return view(
        title,
        reading,
        figures.spectra(rows, int(rows["index"].max())),
        rows,
        ("sigma", "stable_rank", "entropy_rank"),
    )


def ranks(reader: Reader, state: dict) -> View:
    """How many directions the update takes, beside what storing and chance alone would take."""
    title = "How many directions the update takes"
    rows = reader.rows("spectrum_summary", state["tensor"])
    if rows.empty:
        return nothing_to_draw(title, reader, state, "spectrum")
    by_tolerance = reader.rows("rank", state["tensor"])
    above = by_tolerance[by_tolerance["tolerance"] == figures.RANK_TOLERANCE]
    counted = rows.merge(above[["matrix", "rank"]], on="matrix", how="left").set_index("matrix")
    columns = ["name", *figures.RANKS]
    counted = counted.loc[[m for m in figures.RANKED if m in counted.index], columns]
    r = int(reader.rows("spectrum", state["tensor"])["index"].max())
    if "delta" not in counted.index or counted.loc["delta"].isna().all():
        return View(titled(title, reader, state), "The tensor did not move: it takes none.")
    tails = reader.rows("tail", state["tensor"])
    reason = None if tails.empty else tails.iloc[0]["reason"]
    return view(
        titled(title, reader, state),
        ranks_reading(counted, r, reason),
        figures.ranks(counted, r),
        counted.reset_index(),
        ("rank", "rank_99", "entropy_rank", "stable_rank"),
    )


def ranks_reading(counted: pd.DataFrame, r: int, reason: str | None) -> str:
    """How many directions hold nearly all energy, and whether storing alone would take as many;
    `reason` says why there is no rounding null, where there is none.
    """

    def takes(matrix: str, column: str) -> str:
        present = matrix in counted.index and pd.notna(counted.loc[matrix, column])
        return f"{int(counted.loc[matrix, column]):,}" if present else "not known"

    sentences = [
        f"**99 % of the energy takes {takes('delta', 'rank_99')} of {r:,} directions**; a random"
        f" update's takes {takes('gaussian', 'rank_99')}."
    ]
    if "rounding_null" in counted.index:
        sentences.append(
            f"Storing an update of rank 16 takes {takes('rounding_null', 'rank_99')}, and"
            f" {takes('rounding_null', 'rank')} lie above 1e-5 of the largest (the update's:"
            f" {takes('delta', 'rank')}): so many are no finding."
        )
    elif reason:
        sentences.append(f"No rounding null: {plain(reason)}.")
    return " ".join(sentences)


def magnitudes(reader: Reader, state: dict) -> View:
    """How large weights and changes are."""
    rows = reader.rows("histogram", state["tensor"])
    if rows.empty:
        return nothing_to_draw("Sizes of weights and changes", reader, state, "coordinates")
    rows = by_tensor.at_headline_precision(rows)
    rows = rows[rows["threshold"] == 0.0]
    row = facts(reader, state)
    norms = "_bfloat16" if row["counted_as"] == "bfloat16" else ""  # of the same update as the bins
    numel = math.sqrt(int(row["numel"]))
    sizes = {side: float(row[f"{side}_norm{norms}"]) / numel for side in ("base", "delta")}
    histograms = {side: beside_gaussian(rows, side, rms) for side, rms in sizes.items()}
    reading = f"Root mean square weight {number(sizes['base'])}, change {number(sizes['delta'])}."
    changes = histograms["delta"]
    large = changes[changes["low"] >= 3 * sizes["delta"]]
    if len(large):
        least = float(large["low"].min())
        by_chance = gaussian_above(least, sizes["delta"])
        reading += (
            f" {percent(large['share'].sum())} of the changes are larger than {number(least)}; of a"
            f" Gaussian of the same norm {percent(by_chance)} would be."
        )
    title = titled("Sizes of weights and changes", reader, state)
    return view(title, reading, figures.magnitudes(histograms), rows, ("of", "count", "chance"))


def heads_of(reader: Reader, state: dict) -> list[slices.Part]:
    """The attention heads of the state's tensor."""
    row = facts(reader, state)
    if (
        row is None
        or row["block"] != "attention"
        or row["tower"] not in ("language", "decoder")
        or pd.isna(row["rows"])
    ):
        return []
    return slices.heads(
        row["module"], (int(row["rows"]), int(row["columns"])), dict(reader.manifest.heads)
    )


def heads(reader: Reader, state: dict) -> View:
    """What each attention head holds of the update, beside an even spread."""
    title = titled("The update by attention head", reader, state)
    rows = (
        slices.by_head(reader.rows("profile", state["tensor"]), heads_of(reader, state))
        if heads_of(reader, state)
        else pd.DataFrame()
    )
    if rows.empty or rows["energy"].isna().any():
        return View(
            title,
            "This tensor has no attention heads that its configuration tells, or it did not move.",
        )
    top = rows.loc[rows["energy"].idxmax()]
    reading = (
        f"{top['part'].capitalize()} holds {percent(top['energy'])} of the update; an even spread"
        f" {percent(top['even'])}."
    )
    return view(title, reading, slice_figures.bars(rows), rows, ("energy_share", "moved"))


def bands(reader: Reader, state: dict) -> View:
    """What bands of rows and of columns hold of the update, or how much of them moved."""
    quantity = "moved" if state.get("profile") == "moved" else "energy"
    rows = reader.rows("profile", state["tensor"])
    title = titled(
        f"{'Share that moved' if quantity == 'moved' else 'Energy'} by rows and columns",
        reader,
        state,
    )
    if rows.empty or (quantity == "energy" and rows["energy"].isna().all()):
        return nothing_to_draw("Energy by rows and columns", reader, state, "coordinates")
    wide = bool(rows["moved_bfloat16"].notna().any())
    column = {"energy": "energy", "moved": "moved_bfloat16" if wide else "moved"}[quantity]
    top = rows.loc[rows[column].idxmax()]
    where = slices.band(top["axis"], int(top["low"]), int(top["high"]))
    even = even_spread(rows, column)
    reading = f"Most in {where}: {percent(top[column])}; an even spread {percent(even[top.name])}."
    figure = slice_figures.profile(rows.assign(even=even), column)
    return view(title, reading, figure, rows, (quantity, "axis"))


def even_spread(bands: pd.DataFrame, column: str) -> pd.Series:
    """What each band would have if all coordinates were alike.

    Of the energy its share of the coordinates, of moves the share that moved of the whole axis.
    """
    axis = bands["axis"]
    size = (bands["high"] - bands["low"]) / bands.groupby("axis")["high"].transform("max")
    if column == "energy":
        return size
    return (bands[column] * size).groupby(axis).transform("sum")


def vocabulary(reader: Reader, state: dict) -> View:
    """The rows of an embedding or a head that moved most, with their tokens."""
    rows = (
        reader.rows("rows", state["tensor"]).sort_values("relative_norm", ascending=False)
        if len(reader.rows("rows", state["tensor"]))
        else None
    )
    title = titled("The most moved rows", reader, state)
    if rows is None:
        return View(title, "Rows are kept for embeddings and heads alone.")
    row = facts(reader, state)
    reading = (
        f"{int(row['untouched_rows']):,} of {int(row['rows']):,} rows are unchanged as stored, "
        f"{int(row['decayed_rows']):,} only shrank. "
        "Dashed: the whole tensor."
    )
    figure = slice_figures.vocabulary(rows.head(MOST_ROWS), float(row["relative_norm"]))
    return view(title, reading, figure, rows, ("relative_norm", "shrink", "token"))


def parts_of(reader: Reader, state: dict) -> pd.DataFrame:
    """Every named part of a tensor: heads, rows of a vocabulary, bands. Columns: part, and what is
    known of it.
    """
    profile, rows = reader.rows("profile", state["tensor"]), reader.rows("rows", state["tensor"])
    frames = [slices.by_head(profile, heads_of(reader, state))]
    if len(rows):
        frames.append(
            rows.assign(part=[slices.band("row", int(r), int(r) + 1) for r in rows["row"]])
        )
    if len(profile):
        names = [
            slices.band(a, int(low), int(high))
            for a, low, high in zip(profile["axis"], profile["low"], profile["high"], strict=True)
        ]
        length = profile.groupby("axis")["high"].transform("max")
        frames.append(profile.assign(part=names, even=(profile["high"] - profile["low"]) / length))
    frames = [rows for rows in frames if len(rows)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def pixels(reader: Reader, state: dict) -> View:
    """The values themselves."""
    at = [
        int(state.get(key) or default)
        for key, default in (("row", 0), ("column", 0), ("size", 128))
    ]
    title = titled(f"Update, base and tuned from row {at[0]}, column {at[1]}", reader, state)
    block = reader.block(state["tensor"], *at)
    if block is None:
        return View(title, "These values were not read yet.")
    delta = block["tuned"] - block["base"]
    energy_ = float(np.sqrt((delta.astype(float) ** 2).sum()))
    row = facts(reader, state)
    even = float(np.sqrt(len(block) / int(row["numel"]))) * float(row["delta_norm"])
    reading = (
        f"{percent(float((delta != 0).mean()))} of these {len(block):,} values moved as stored; the"
        f" norm of their update is {number(energy_)}, an even spread of the tensor's"
        f" {number(even)}."
    )
    return view(title, reading, figures.pixels(block), block, ("delta_max", "delta_rms"))


def intruders(reader: Reader, state: dict) -> View:
    """Which of the leading tuned directions the base has nowhere."""
    title = titled("Leading directions of the tuned in the base", reader, state)
    rows, row = reader.rows("match", state["tensor"]), facts(reader, state)
    if rows.empty:
        return nothing_to_draw(
            "Leading directions of the tuned in the base", reader, state, "intruders"
        )
    new, blind = int(row["intruders"]), int(row["intruders_chance"])
    reading = (
        f"**{new} of the {len(rows)} leading left directions of the tuned are nowhere in the base**"
        f" (no |cosine| of {INTRUDER_COSINE:g} or more); a blind update of this norm would make"
        f" {blind}."
    )
    figure = figures.intruders(rows)
    return view(title, reading, figure, rows, ("intruders", "nearest", "least"))


def angles_reading(turned: pd.DataFrame, r: int) -> str:
    """The rms sine of the leading tenth of the directions, by side, beside chance. Index: side; k,
    rms_sine, chance, pairs.
    """
    sides = turned.dropna(subset=["rms_sine"])
    if sides.empty:
        return "Angles by position."
    k = int(sides["k"].iloc[0])
    words = []
    for side, row in sides.iterrows():
        chance = (
            f" (chance {number(row['chance'])})"
            if pd.notna(row["chance"])
            else " (no chance level: not first order)"
        )
        words.append(f"{side} {number(row['rms_sine'])}{chance}")
    text = f"Rms sine of the leading {k:,} of {r:,} directions: {', '.join(words)}."
    if (sides["pairs"] < UNDEFINED_PAIRS).any():
        text += (
            f" The values {k:,} and {k + 1:,} of the base are nearly equal: its data do not define"
            " this subspace."
        )
    return text


def energy_reading(energy: pd.DataFrame, r: int) -> str:
    """How much the leading directions hold, beside chance. Columns: matrix, index, energy."""
    k = HEADLINE_K if r > HEADLINE_K else max(1, r // 4)
    at = energy[energy["index"] == k].set_index("matrix")["energy"]
    if "delta" not in at:
        return "This tensor did not move, or has no spectrum."
    return (
        f"**{k} of {r:,} directions hold {percent(at['delta'])} of the update; of noise"
        f" {percent(at.get('gaussian'))}.**"
    )
