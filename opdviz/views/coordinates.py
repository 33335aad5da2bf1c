"""Which coordinates moved in the whole run: given their size, by mask, by probe, by steps; with
their sentences.
"""

import numpy as np
import pandas as pd

from opdviz.definitions import WIDE
from opdviz.figures import coordinates as figures
from opdviz.figures.axes import module_order
from opdviz.tables import precision
from opdviz.tables.by_tensor import COVERAGE_ENDS, coverage_claims
from opdviz.views.view import Reader, View, counted_in, has_values, nothing_there, view
from opdviz.words import count, how_many, percent


def moved_given_size(reader: Reader, state: dict) -> View:
    """Which coordinates moved, given the size of the weight."""
    threshold = float(state.get("above") or 0)
    rows = reader.summary("moved_bins")
    title = f"Share that moved (|D| > {threshold:g}) by size of the weight: {reader.name}"
    if rows.empty or rows[rows["threshold"] == threshold].empty:
        return View(
            title,
            nothing_there(
                reader, "No histogram: what a blind update would show of float8 is not known."
            ),
        )
    bins = rows[rows["threshold"] == threshold]
    forms = counted_in(reader.summary("by_tensor"))
    reading = f"{coordinates_reading(bins, forms.removeprefix('As '))} Summed over all tensors."
    return view(title, reading, figures.moved_given_size(bins), bins, ("moved", "null_moved"))


def coverage(reader: Reader, state: dict) -> View:
    """On which weights the moves fall, by module."""
    rows = reader.summary("by_tensor")
    title = f"Where coordinates moved by more than 1e-5 lie, median by module: {reader.name}"
    if not has_values(rows, "principal_coverage"):
        return View(
            title,
            nothing_there(
                reader,
                "No matrix whose coverage can be asked: none moved, or they are stored in float8.",
            ),
        )
    legend = (
        "Violet: typical blind updates; thin line: all of them; grey below: the update turned at"
        " random; a grey dot has nowhere else to be."
    )
    reading = f"{coverage_reading(rows)} {legend}"
    columns = ["name", *(c for c in rows if c.startswith(("principal_", "low_magnitude_")))]
    terms = ("coverage", "null_low", "blind_low", "blind_high", "turned", "lowest")
    figure = figures.dumbbells(coverage_by_module(rows))
    return view(title, reading, figure, rows[columns], terms)


def coverage_by_module(tensors: pd.DataFrame) -> pd.DataFrame:
    """The median coverage of each mask by module, with its limits; in the order of a layer."""
    rows = tensors.dropna(subset=["principal_coverage"])
    columns = [f"{mask}_{end}" for mask in figures.MASKS for end in COVERAGE_ENDS]
    return rows.groupby("module")[columns].median().reindex(module_order(rows))


def sparsity(reader: Reader, state: dict) -> View:
    """How many coordinates did not change, by probe and precision."""
    rows = reader.summary("sparsity_shares")
    title = f"Share unchanged by probe: {reader.name}"
    if rows.empty:
        return View(title, nothing_there(reader, "No coordinate could be counted."))
    reading = unchanged_reading(rows)
    return view(title, reading, figures.sparsity_bars(rows), rows, ("probe", "precision", "share"))


def steps(reader: Reader, state: dict) -> View:
    """By how many grid steps coordinates moved."""
    rows = reader.summary("step_shares")
    title = f"Grid steps moved: {reader.name}"
    if rows.empty:
        return View(
            title, nothing_there(reader, "No grid steps: those of float8 differ by scale block.")
        )
    coarse = rows[
        rows["precision"] == ("bfloat16" if (rows["precision"] == "bfloat16").any() else "stored")
    ]
    one = float(coarse.loc[coarse["steps"] == "1", "share"].sum())
    moved = 1.0 - float(coarse.loc[coarse["steps"] == "0", "share"].sum())
    form = counted_in(reader.summary("by_tensor")).removeprefix("As ")
    reading = "No coordinate moved."
    if moved > 0:
        reading = (
            f"Of the coordinates that moved, {percent(min(one / moved, 1.0))} moved by a single"
            f" step of {form}."
        )
    return view(title, reading, figures.step_bars(rows), rows, ("steps",))


def fingerprint(reader: Reader, state: dict) -> View:
    """Were steps rounded away: moves by octave beside what small weights predict."""
    title = f"Moved beside predicted by small weights, by octave: {reader.name}"
    octaves = precision.with_power(reader.summary("fingerprint"))
    if octaves.empty:
        wide = reader.summary("by_tensor")["tuned_dtype"].isin(WIDE).all()
        why = (
            "Stored in more than 16 bits: no step is rounded away on saving."
            if wide
            else "It cannot be told: in no octave do 500 small weights stand beside large ones that"
            " should have moved, or this was compared before it was asked."
        )
        return View(title, nothing_there(reader, why))
    reading = (
        f"{precision.sentence(reader.summary('fingerprint_summary'))} Only a cliff is evidence, a"
        " drift is not, and stochastic rounding leaves no cliff. That there was a copy in float32,"
        f" no file of 16 bits can show. {len(octaves)} octaves of"
        f" {count(octaves['module'].nunique(), 'module')}."
    )
    return view(title, reading, figures.fingerprint(octaves), octaves, ("ratio", "error"))


SAME = 0.05  # share of the moves that may stand elsewhere for the null to say the same
SMALLEST = 0.1  # of the weights, which claims on weights near zero are about
ERRORS = 3.0  # sampling errors within which a share is that of the null
# Of sizes: with fewer, "which of them moved" is no question.
FEWEST_BINS = 3


def coordinates_reading(bins: pd.DataFrame, form: str) -> str:
    """How the moves given size lie to the null's: the share of them that would have to stand
    elsewhere. `form` says in which number format they were counted.
    """
    bins = bins[(bins["low"] > 0) & (bins["count"] > 0)].sort_values("low")
    moved, every = float(bins["moved"].sum()), float(bins["count"].sum())
    if not moved:
        return "No coordinate moved."
    if len(bins) < FEWEST_BINS:
        return f"{percent(moved / every)} moved; the weights are of too few sizes to ask which."
    off, error = elsewhere(bins)
    random = f"a random update stored in {form}, seen in as many weights,"
    if off <= max(SAME, error):
        verdict = f"**The weights that moved are those that {random} would move"
        verdict += f", as far as so few moves can tell (to {percent(error, 2)})" * (error > SAME)
    else:
        verdict = f"**{percent(off, 2)} of the moves stand elsewhere than those of {random} would"
    small, large = halves(bins)
    return (
        f"{verdict}.** Of the smaller half of the weights {percent(small)} moved, of the larger"
        f" half {percent(large)}.{smallest_reading(bins)}"
    )


def smallest_reading(bins: pd.DataFrame) -> str:
    """That the smallest tenth of the weights moved otherwise than the null, where it did: it is too
    small a part for the verdict, and a claim on weights near zero is about it.
    """
    counts = {name: bins[name].to_numpy(dtype=float) for name in ("count", "moved", "null_moved")}
    lower = share_below(counts["count"], SMALLEST)
    every = float(counts["count"] @ lower)
    moved, null = (float(counts[name] @ lower) / every for name in ("moved", "null_moved"))
    error = ERRORS * float(np.sqrt(max(null * (1 - null), 0.0) / every))
    if abs(moved - null) <= max(SAME, error):
        return ""
    return f" Of the smallest tenth {percent(moved)} moved; of that update {percent(null)} would."


def elsewhere(bins: pd.DataFrame) -> tuple[float, float]:
    """Total variation of the moves from the null's over the bins, and what sampling alone would
    make of it.

    A binomial count lies sqrt(2 / pi) standard deviations from its mean on average.
    """
    moved, null, every = (bins[c].to_numpy(dtype=float) for c in ("moved", "null_moved", "count"))
    total = 2 * moved.sum()
    spread = np.sqrt(np.maximum(null * (1 - np.minimum(null / every, 1.0)), 0.0))
    return float(np.abs(moved - null).sum() / total), float(
        np.sqrt(2 / np.pi) * spread.sum() / total
    )


def halves(bins: pd.DataFrame) -> tuple[float, float]:
    """The share that moved of the smaller and of the larger half of the weights; a bin across the
    middle counts in both.
    """
    every = bins["count"].to_numpy(dtype=float)
    lower = share_below(every, 0.5)
    moved = bins["moved"].to_numpy(dtype=float)
    return float(moved @ lower / (every @ lower)), float(
        moved @ (1 - lower) / (every @ (1 - lower))
    )


def share_below(counts: np.ndarray, share: float) -> np.ndarray:
    """Of each bin, in order, the part that belongs to the first `share` of all."""
    before = np.concatenate([[0.0], np.cumsum(counts)[:-1]])
    return np.clip((counts.sum() * share - before) / counts, 0.0, 1.0)


def unchanged_reading(shares: pd.DataFrame) -> str:
    """How many coordinates kept their bits, in each precision that was counted. Columns: precision,
    probe, share.
    """
    exact = shares[shares["probe"] == "exact"].set_index("precision")["share"]
    text = f"{percent(float(exact['stored']))} of the coordinates kept their stored bits"
    return (
        f"{text}, {percent(float(exact['bfloat16']))} as bf16."
        if "bfloat16" in exact
        else f"{text}."
    )


def coverage_reading(rows: pd.DataFrame) -> str:
    """In how many matrices the moves lie beyond what any blind update could give, mask by mask."""
    sentences = []
    for mask, label in (
        ("principal", "principal weights"),
        ("low_magnitude", "the smallest weights"),
    ):
        judged = rows.dropna(subset=[f"{mask}_coverage", f"{mask}_blind_low"])
        if judged.empty:
            continue
        claims = coverage_claims(judged, mask)
        telling = claims["telling"]
        above, below, withheld = (int(claims[c].sum()) for c in ("above", "below", "withheld"))
        sentences += mask_verdict(label, above, below, int(telling.sum()))
        if withheld:
            sentences.append(
                f"{count(withheld, 'more lies', 'more lie')} beyond random updates, but not beyond"
                " their own singular values in random directions."
            )
        sentences += beside_typical(judged[telling], mask)
        if blunt := int((~telling).sum()):
            sentences.append(
                f"On {label} nothing can be told in {count(blunt, 'matrix', 'matrices')}: too few"
                " moved, or random updates could give almost any share."
            )
    return " ".join(sentences) or "No matrix moved so far that it could be asked."


def mask_verdict(label: str, above: int, below: int, telling: int) -> list[str]:
    """What the matrices that can tell say of one mask; nothing where there are none."""
    if not telling:
        return []
    if not above and not below:
        return [f"**On {label}: as many of the moves as a random update could put there.**"]
    return [
        f"**On {label}: more of the moves than any random update could put there in"
        f" {how_many(above, telling)} matrices, fewer in {below or 'none'}.**"
    ]


def beside_typical(rows: pd.DataFrame, mask: str) -> list[str]:
    """The median coverage of a mask beside that of typical blind updates; nothing without."""
    columns = [f"{mask}_{end}" for end in ("coverage", "null_low", "null_high")]
    typical = rows.dropna(subset=columns) if set(columns) <= set(rows) else rows[:0]
    if typical.empty:
        return []
    value, low, high = (percent(typical[column].median()) for column in columns)
    return [
        f"The median matrix has {value} of its moves there, typical random ones {low} to {high}."
    ]
