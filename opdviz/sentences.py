"""Reading sentences: what a figure shows, in one line, from its own table. Names from data are escaped here, where they enter."""

import pandas as pd

from opdviz.figures.overview import recipe_of
from opdviz.tables import TAIL_FACTOR, like_rounding
from opdviz.words import number, percent, plain


def value_of(headline: list[dict], quantity: str, field: str = "value") -> float | None:
    """One number of a headline."""
    return next((row[field] for row in headline if row["quantity"] == quantity), None)


def overview(headline: list[dict], published: tuple[dict, ...]) -> str:
    """Where the relative norm stands among the published pairs, and concentration beside chance."""
    norm = value_of(headline, "relative_norm")
    if not norm:
        return "Nothing moved between these checkpoints."
    words = [f"**Relative norm {number(norm)} %: {among(norm, published)}.**"]
    sparsity = value_of(headline, "sparsity_absolute_1e-5")
    if sparsity is not None:
        words.append(f"As bf16, {number(sparsity)} % of the coordinates did not change.")
    top, chance = value_of(headline, "top16_energy"), value_of(headline, "top16_energy", "chance")
    if top is not None and chance:
        words.append(f"The top 16 directions hold {number(top)} % of a matrix's update; chance {number(chance)} %.")
    return " ".join(words)


def among(norm: float, published: tuple[dict, ...]) -> str:
    """Between which published relative norms a value lies."""
    rows = [row for row in published if row["quantity"] == "relative_norm"]
    families = {}
    for row in rows:
        families.setdefault(recipe_of(row["recipe"]), []).append(row["value"])
    inside = [name for name, values in families.items() if min(values) <= norm <= max(values) and len(values) > 1]
    if inside:
        return "among the paper's " + " and ".join(inside) + " runs"
    opd = families["OPD"]
    if norm > max(opd):
        return f"{number(norm / max(opd), 2)} times the largest of the paper's OPD runs"
    return f"{number(min(opd) / norm, 2)} times smaller than the smallest of the paper's OPD runs"


def blocks(rows: pd.DataFrame) -> str:
    """Which block holds the energy, beside its parameters, and whether anything outside FFN moved."""
    rows = rows.dropna(subset=["energy_share"])
    if rows.empty:
        return "Nothing moved."
    first = rows.sort_values("energy_share", ascending=False).iloc[0]
    outside = rows[(rows["block"] != "ffn") & (rows["tensors_moved"] > 0)]["block"].unique()
    text = (
        f"**{first['block']} holds {percent(first['energy_share'])} of the update's energy and "
        f"{percent(first['parameter_share'])} of the parameters** (enrichment {number(first['enrichment'])})."
    )
    return text + (f" Outside FFN moved: {', '.join(outside)}." if len(outside) else " Nothing outside FFN moved.")


def layers(rows: pd.DataFrame, quantity_label: str, quantity: str) -> str:
    """Which module and layers have the largest values."""
    known = rows.dropna(subset=[quantity, "layer"])
    if known.empty:
        return "Nothing to compare yet."
    top = known.sort_values(quantity, ascending=False).head(max(1, len(known) // 20))
    module = top["module"].mode().iloc[0]
    at = sorted(int(x) for x in top.loc[top["module"] == module, "layer"])
    where = f"layer {at[0]}" if at[0] == at[-1] else f"layers {at[0]} to {at[-1]}"
    found = f"{quantity_label[0].upper()}{quantity_label[1:]} is largest in {plain(module)} of {where}."
    return found + " Movement is not importance."


def directions(rows: pd.DataFrame) -> str:
    """Median stable rank beside a random update's, and the module that lies most inside the base's directions."""
    known = rows.dropna(subset=["stable_rank", "stable_rank_chance"])
    if known.empty:
        return "No matrix moved."
    ratio = (known["stable_rank"] / known["stable_rank_chance"]).median()
    text = f"Median {number(ratio)} of a random update's stable rank"
    inside = known.dropna(subset=["projection_joint"])
    if len(inside):
        joint = (inside["projection_joint"] / inside["projection_joint_chance"]).groupby(inside["module"]).median()
        text += f"; joint projection {number(joint.max())} times chance in {plain(joint.idxmax())}"
    return text + "."


def rounding(ratios: pd.Series, dtype: str) -> str:
    """Whether the spectra's tails can be told from what storing a low-rank update would leave."""
    if ratios.empty:
        return f"Stored as {plain(dtype)}: no rounding null is drawn, rounding lies far below the update."
    near = int(like_rounding(ratios).sum())
    return (
        f"In {near} of {len(ratios)} matrices the tail of the spectrum cannot be told from rounding a rank-16 update "
        f"(within a factor of {TAIL_FACTOR:g}); median ratio {number(ratios.median())}."
    )


def coordinates(bins: pd.DataFrame) -> str:
    """How far the moves given size lie from the null's, weighted by element."""
    bins = bins[(bins["low"] > 0) & (bins["count"] > 0)]
    if not bins["moved"].sum():
        return "No coordinate moved."
    off = (bins["moved"] - bins["null_moved"]).abs().sum() / bins["count"].sum()
    middle = bins["count"].cumsum() <= bins["count"].sum() / 2
    small, large = bins[middle], bins[~middle]
    shares = [part["moved"].sum() / part["count"].sum() if part["count"].sum() else 0.0 for part in (small, large)]
    verdict = "the null says the same" if off < 0.02 else f"the null is off by {percent(off, 2)} on average"
    return f"Of the smaller half of the weights {percent(shares[0])} moved, of the larger half {percent(shares[1])}; {verdict}."


def tensor(energy: pd.DataFrame, r: int) -> str:
    """How much the leading directions hold, beside chance. Columns: matrix, index, energy."""
    k = 16 if r > 16 else max(1, r // 4)
    at = energy[energy["index"] == k].set_index("matrix")["energy"]
    if "delta" not in at:
        return "This tensor did not move, or has no spectrum."
    return (
        f"**{k} of {r:,} directions hold {percent(at['delta'])} of the update; chance {percent(at.get('gaussian'))}.**"
    )
