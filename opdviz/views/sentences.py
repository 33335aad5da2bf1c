"""Reading sentences: what a figure shows, in one line, from its own table. Names from data are escaped here, where they enter.

Each is a function of numbers; what cannot be said of them is not said.
"""

import math

import numpy as np
import pandas as pd

from opdviz.definitions import ERRORS, FEWEST_MOVES, NO_POWER, UNDEFINED_PAIRS
from opdviz.tables.published import FAMILIES, family
from opdviz.words import count, format_name, listing, number, percent, plain

MOVEMENT = ("relative_norm", "delta_norm", "delta_rms", "delta_max", "delta_mean_abs")
SMALL_IS_NEWS = ("stable_rank", "entropy_rank")
SAME = 0.05  # share of the moves that may stand elsewhere for the null to say the same
FEWEST_BINS = 3


def value_of(headline: list[dict], quantity: str, field: str = "value") -> float | None:
    """One number of a headline."""
    return next((row[field] for row in headline if row["quantity"] == quantity), None)


def counted_in(tensors: pd.DataFrame) -> str:
    """The formats in which coordinates are counted, as a sentence begins.

    >>> counted_in(pd.DataFrame({"counted_as": ["bfloat16", "bfloat16"]}))
    'As bf16'
    """
    return "As " + " and ".join(format_name(form) for form in sorted(tensors["counted_as"].unique()))


def overview(headline: list[dict], published: tuple[dict, ...], tensors: pd.DataFrame, unchanged: float | None) -> str:
    """The relative norm beside the published pairs, what did not change, and concentration beside chance.

    `unchanged` is the share of coordinates that kept their value in the formats that they are counted in.
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
            f"{counted_in(tensors)}, {percent(unchanged)} of the coordinates did not change and {percent(small / 100)} moved by "
            "no more than 1e-5."
        )
    top, chance = value_of(headline, "top16_energy"), value_of(headline, "top16_energy", "chance")
    if top is not None and chance:
        words.append(
            f"The top 16 directions hold {number(top)} % of the median matrix's update; of noise {number(chance)} %."
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


def blocks(rows: pd.DataFrame) -> str:
    """Which block holds the energy, beside its parameters, and whether anything outside FFN moved."""
    rows = rows.dropna(subset=["energy_share"])
    if rows.empty:
        return "Nothing moved."
    towers = rows["tower"].nunique() > 1
    names = rows["tower"] + " " + rows["block"] if towers else rows["block"]
    at = rows["energy_share"].astype(float).idxmax()
    first = rows.loc[at]
    outside = names[(rows["block"] != "ffn") & (rows["tensors_moved"] > 0)].unique()
    text = (
        f"**{names[at]} holds {percent(first['energy_share'])} of the update's energy and "
        f"{percent(first['parameter_share'])} of the parameters** (enrichment {number(first['enrichment'])})."
    )
    return text + (f" Outside FFN moved: {', '.join(outside)}." if len(outside) else " Nothing outside FFN moved.")


def layers(rows: pd.DataFrame, label: str, quantity: str, column: str | None = None) -> str:
    """Which module and layers have the most telling values: the largest, or of a rank the smallest.

    `column` holds what is shown, where that is not the quantity itself but its value over chance.
    """
    column = column or quantity
    known = rows.dropna(subset=[column, "layer"])
    if known.empty:
        return "Nothing to compare yet."
    name = label[0].upper() + label[1:] + (" over chance" if column != quantity else "")
    values = known[column].astype(float)
    if not values.any() and column == quantity:
        return f"{name} is 0 everywhere." if quantity not in MOVEMENT else "Nothing of it moved."
    if len(known) == 1:
        return f"One tensor: {plain(known['module'].iloc[0])} of layer {int(known['layer'].iloc[0])}."
    if values.max() == values.min():
        return f"{name} is the same in all {len(known):,} tensors."
    small = quantity in SMALL_IS_NEWS
    top = known.loc[values.sort_values(ascending=small, kind="stable").index[: max(1, len(known) // 20)]]
    module = top["module"].mode().iloc[0]
    where = places(sorted({int(x) for x in top.loc[top["module"] == module, "layer"]}))
    text = f"{name} is {'smallest' if small else 'largest'} in {plain(module)} of {where}."
    return text + (" Movement is not importance." if quantity in MOVEMENT else "")


def places(at: list[int]) -> str:
    """Layers in words: a range only where no layer is missing in it.

    >>> places([3]), places([20, 21, 22]), places([0, 39]), places([1, 3, 5, 7])
    ('layer 3', 'layers 20 to 22', 'layers 0 and 39', 'layers 1, 3, 5 and 1 more')
    """
    if len(at) == 1:
        return f"layer {at[0]}"
    if len(at) > 2 and at[-1] - at[0] == len(at) - 1:
        return f"layers {at[0]} to {at[-1]}"
    return "layers " + listing([str(layer) for layer in at])


def directions(rows: pd.DataFrame) -> str:
    """Median stable rank beside a random update's, and the module that lies most inside the base's directions."""
    known = rows.dropna(subset=["stable_rank", "stable_rank_chance"])
    if known.empty:
        return "No matrix moved."
    ratio = (known["stable_rank"] / known["stable_rank_chance"]).median()
    text = f"In the median matrix the update's stable rank is {number(ratio)} of a random update's."
    inside = (
        known.dropna(subset=["projection_joint", "projection_joint_chance"])
        if "projection_joint" in known
        else known[:0]
    )
    if len(inside):
        joint = (inside["projection_joint"] / inside["projection_joint_chance"]).groupby(inside["module"]).median()
        text += (
            f" Joint projection by module: {number(joint.median())} times chance in the median, "
            f"{number(joint.max())} in {plain(joint.idxmax())}, the largest."
        )
    return text


def rounding(tails: pd.DataFrame) -> str:
    """Whether the spectra's tails can be told from what storing a low-rank update would leave; else the reasons."""
    if tails.empty:
        return "Tails of spectra are judged as soon as they are computed."
    judged = tails.dropna(subset=["verdict"])
    if judged.empty:
        reasons = tails["reason"].dropna().value_counts()
        words = [f"{plain(reason)} ({count(int(total), 'matrix', 'matrices')})" for reason, total in reasons.items()]
        return f"The tails are not held against rounding: {'; '.join(words[:3])}."
    sums = judged["verdict"].value_counts()
    every = len(judged)
    words = []
    if like := int(sums.get("like rounding", 0)):
        words.append(f"in {like} of {every} matrices the tail cannot be told from a rank-16 update and rounding")
    if spread := int(sums.get("spread", 0)):
        words.append(f"in {spread} of {every} it is spread wider than rounding alone would leave it")
    if left_open := int(sums.get("open", 0)):
        words.append(f"in {left_open} of {every} it stays open, since too few coordinates moved")
    text = ", ".join(words)
    middle = judged["position"].median()
    known = (
        f" Median position {number(float(middle), 2)} between rounding (0) and noise (1)." if pd.notna(middle) else ""
    )
    return f"{text[0].upper()}{text[1:]}.{known}"


def coordinates(bins: pd.DataFrame) -> str:
    """How the moves given size lie to the null's: the share of them that would have to stand elsewhere."""
    bins = bins[(bins["low"] > 0) & (bins["count"] > 0)].sort_values("low")
    moved, every = float(bins["moved"].sum()), float(bins["count"].sum())
    if not moved:
        return "No coordinate moved."
    if len(bins) < FEWEST_BINS:
        return f"{percent(moved / every)} moved; the weights are of too few sizes to ask which."
    off, error = elsewhere(bins)
    if off <= max(SAME, error):
        verdict = "a blind update that shows as often moves the same weights"
        if error > SAME:
            verdict += f", as far as so few moves can tell (to {percent(error, 2)})"
    else:
        verdict = f"{percent(off, 2)} of the moves stand elsewhere than a blind update's that shows as often"
    small, large = halves(bins)
    return f"Of the smaller half of the weights {percent(small)} moved, of the larger half {percent(large)}; {verdict}."


def elsewhere(bins: pd.DataFrame) -> tuple[float, float]:
    """Total variation of the moves from the null's over the bins, and what sampling alone would make of it.

    A binomial count lies sqrt(2 / pi) standard deviations from its mean on average.
    """
    moved, null, every = (bins[c].to_numpy(dtype=float) for c in ("moved", "null_moved", "count"))
    total = 2 * moved.sum()
    spread = np.sqrt(np.maximum(null * (1 - np.minimum(null / every, 1.0)), 0.0))
    return float(np.abs(moved - null).sum() / total), float(np.sqrt(2 / np.pi) * spread.sum() / total)


def halves(bins: pd.DataFrame) -> tuple[float, float]:
    """The share that moved of the smaller and of the larger half of the weights; a bin across the middle counts in both."""
    every = bins["count"].to_numpy(dtype=float)
    before = np.concatenate([[0.0], np.cumsum(every)[:-1]])
    lower = np.clip((every.sum() / 2 - before) / every, 0.0, 1.0)
    moved = bins["moved"].to_numpy(dtype=float)
    return float(moved @ lower / (every @ lower)), float(moved @ (1 - lower) / (every @ (1 - lower)))


def unchanged(shares: pd.DataFrame) -> str:
    """How many coordinates kept their bits, in each precision that was counted. Columns: precision, probe, share."""
    exact = shares[shares["probe"] == "exact"].set_index("precision")["share"]
    text = f"{percent(float(exact['stored']))} of the coordinates kept their stored bits"
    return f"{text}, {percent(float(exact['bfloat16']))} as bf16." if "bfloat16" in exact else f"{text}."


def coverage(rows: pd.DataFrame) -> str:
    """In how many matrices the moves lie beyond what any blind update could give, mask by mask."""
    words = []
    for mask, label in (("principal", "principal weights"), ("low_magnitude", "the smallest weights")):
        known = rows.dropna(subset=[f"{mask}_coverage", f"{mask}_blind_low"])
        if known.empty:
            continue
        value, low, high = (known[f"{mask}_{end}"] for end in ("coverage", "blind_low", "blind_high"))
        telling = (high - low <= NO_POWER) & (known[f"{mask}_visible"] >= FEWEST_MOVES)
        above, below = int(((value > high) & telling).sum()), int(((value < low) & telling).sum())
        text = (
            f"on {label} {above} of {len(known)} matrices hold more of the moves than any blind update could put there"
        )
        text += f" and {below} fewer"
        if blunt := int((~telling).sum()):
            text += f"; in {blunt} nothing can be told: too few moved, or blind updates could give almost any share"
        words.append(text)
    if not words:
        return "No matrix moved so far that it could be asked."
    return ". ".join(f"{text[0].upper()}{text[1:]}" for text in words) + "."


def projection(rows: pd.DataFrame) -> str:
    """How many matrices put more, or less, of the update inside the base's directions than chance can."""
    known = rows.dropna(subset=["projection_joint", "projection_joint_sd"])
    if known.empty:
        return "No matrix moved."
    value, chance, sd = (known[f"projection_joint{end}"] for end in ("", "_chance", "_sd"))
    above, below = int((value > chance + ERRORS * sd).sum()), int((value < chance - ERRORS * sd).sum())
    text = (
        f"Joint projection: median {number(float((value / chance).median()), 2)} times chance; beyond three spreads of a "
        f"randomly turned update in {above} of {len(known)} matrices above and in {below} below."
    )
    profiles = (value / known["projection_joint_profile"]).replace([np.inf, -np.inf], np.nan).dropna()
    if len(profiles):
        text += f" Of an update with the same row and column energies the median is {number(float(profiles.median()), 2)} times."
    return text


def rotation(rows: pd.DataFrame) -> str:
    """How far the leading subspaces turned beside a blind update's, and how many of them the data do not define."""
    sides = []
    for side in ("left", "right"):
        columns = [f"rotation_{side}", f"rotation_{side}_chance", f"rotation_{side}_pairs"]
        sides.append(rows.dropna(subset=columns)[columns].set_axis(["sine", "chance", "pairs"], axis=1))
    known = pd.concat(sides)
    defined = known[known["pairs"] >= UNDEFINED_PAIRS]
    if known.empty:
        return "No matrix has a chance that is small enough to be one."
    grey = len(known) - len(defined)
    note = f" {count(grey, 'mark')} in grey: the k-th and the next value are nearly equal." if grey else ""
    if defined.empty:
        return f"None of the {len(known)} subspaces is defined by its data.{note}"
    ratio = float((defined["sine"] / defined["chance"]).median())
    return (
        f"Median {number(ratio, 2)} times a blind update of the same norm; above the diagonal it turned further.{note}"
    )


def angles(turned: pd.DataFrame, r: int) -> str:
    """The rms sine of the leading tenth of the directions, by side, beside chance. Index: side; k, rms_sine, chance, pairs."""
    known = turned.dropna(subset=["rms_sine"])
    if known.empty:
        return "Angles by position."
    k = int(known["k"].iloc[0])
    words = []
    for side, row in known.iterrows():
        chance = (
            f" (chance {number(row['chance'])})" if pd.notna(row["chance"]) else " (no chance level: not first order)"
        )
        words.append(f"{side} {number(row['rms_sine'])}{chance}")
    text = f"Rms sine of the leading {k:,} of {r:,} directions: {', '.join(words)}."
    if (known["pairs"] < UNDEFINED_PAIRS).any():
        text += f" The values {k:,} and {k + 1:,} of the base are nearly equal: its data do not define this subspace."
    return text


def tensor(energy: pd.DataFrame, r: int) -> str:
    """How much the leading directions hold, beside chance. Columns: matrix, index, energy."""
    k = 16 if r > 16 else max(1, r // 4)
    at = energy[energy["index"] == k].set_index("matrix")["energy"]
    if "delta" not in at:
        return "This tensor did not move, or has no spectrum."
    return f"**{k} of {r:,} directions hold {percent(at['delta'])} of the update; of noise {percent(at.get('gaussian'))}.**"
