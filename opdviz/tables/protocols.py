"""Headline sets: one call gives a paper's row with that paper's own choices, each number with its
chance level.
"""

import pandas as pd

from opdviz.definitions import FIXED_K, FIXED_RANK_SHARES, HEADLINE_SHARE, LONG_R
from opdviz.errors import RequestError, one_line
from opdviz.store.store import Stored
from opdviz.tables import by_tensor, stored
from opdviz.tables.headlines import MEDIANS, Headline
from opdviz.words import format_name


def headline(comparison: Stored, protocol: str = "A") -> list[dict]:
    """Rows {protocol, quantity, value, unit, aggregation, chance} of one protocol; missing values
    where not computed.

    Raises
        RequestError: unknown protocol.
    """
    makers = {"A": protocol_a, "B": protocol_b, "C": protocol_c, "D": protocol_d}
    if protocol not in makers:
        raise RequestError(
            f"protocol {one_line(protocol, limit=20)!r} is unknown; there are: {', '.join(makers)}."
        )
    tensors = by_tensor.quantities_by_tensor(comparison)
    if tensors.empty:
        return []
    sound = by_tensor.counted(tensors)
    left_out = (
        f"; {len(tensors) - len(sound)} tensors left out" if len(sound) < len(tensors) else ""
    )
    pairs, skipped = comparison.manifest.pairs, stored.read(comparison, "skipped")
    # Integers have no norms.
    described = len(tensors) + (
        int((skipped["measure"] == "magnitude").sum()) if len(skipped) else 0
    )
    if described < pairs:
        left_out += f"; of {len(tensors)} of {pairs} tensors only"
    rows = makers[protocol](comparison, sound)
    return [{"protocol": protocol} | r | {"aggregation": r["aggregation"] + left_out} for r in rows]


def row(
    quantity: str,
    value: float | None,
    unit: str,
    aggregation: str,
    chance: float | None = None,
    **band,
) -> dict:
    """One headline number; percentages are given in percent. `band` may hold `low` and `high`, the
    ends of its chance.
    """
    scale = 100.0 if unit == "%" else 1.0
    value, chance, low, high = (
        None if x is None or pd.isna(x) else float(x) * scale
        for x in (value, chance, band.get("low"), band.get("high"))
    )
    return {
        "quantity": quantity,
        "value": value,
        "unit": unit,
        "aggregation": aggregation,
        "chance": chance,
        "chance_low": low,
        "chance_high": high,
    }


def of_all(rows: pd.DataFrame, column: str, what: str) -> str:
    """How many of some tensors have a quantity, in words; empty where all have."""
    complete = int(rows[column].notna().sum()) if column in rows else 0
    return f", {complete} of {len(rows)} {what}" if complete < len(rows) else ""


def as_counted(rows: pd.DataFrame) -> str:
    """The formats in which the coordinates are counted."""
    return "as " + " and ".join(format_name(form) for form in sorted(rows["counted_as"].unique()))


def root_ratio(above: pd.Series, below: pd.Series) -> float | None:
    """sqrt(sum above^2 / sum below^2); `None` where nothing is below."""
    base = float((below**2).sum())
    return (float((above**2).sum()) / base) ** 0.5 if base else None


def by_count(found: pd.DataFrame, quantity: str, probe: str) -> dict:
    """Share of all coordinates that a probe calls unchanged, over the tensors that it looked at."""
    counted = of_all(found, f"unchanged_{probe}_count", "tensors")
    return row(
        quantity,
        by_tensor.share_unchanged(found, probe),
        "%",
        f"by element, {as_counted(found)}{counted}",
    )


def median_of(moved: pd.DataFrame, column: str | None) -> float | None:
    """The median of a column, where it is there."""
    return moved[column].median() if column in moved else None


AS_BFLOAT16 = "global, both sides rounded to bf16"


def protocol_a(comparison: Stored, found: pd.DataFrame) -> list[dict]:
    """arXiv 2606.13657, whose script casts both sides to bf16 first: norms and counts so, spectra
    of the stored values.

    Medians are over moved matrices, energy shares by block.
    """
    norms = ["delta_norm_bfloat16", "base_norm_bfloat16"]
    with_norms = found.dropna(subset=norms)  # beyond bf16's range there is none
    how = AS_BFLOAT16 + of_all(found, norms[0], "tensors")
    rows = [
        row("relative_norm", root_ratio(*(with_norms[norm] for norm in norms)), "%", how),
        by_count(found, "sparsity_absolute_1e-5", "absolute"),
    ]
    moved = by_tensor.matrices(found[found["moved"] > 0])
    rows += [median_row(headline, moved, found) for headline in MEDIANS if headline.protocol]
    energy, numel = with_norms["delta_norm_bfloat16"] ** 2, float(with_norms["numel"].sum())
    for block, part in with_norms.groupby("block"):
        share = float(energy[part.index].sum() / energy.sum()) if energy.sum() else None
        parameters = float(part["numel"].sum()) / numel if numel else None
        rows.append(row(f"energy_share_{block}", share, "%", how, parameters))
    return rows


def median_row(headline: Headline, moved: pd.DataFrame, tensors: pd.DataFrame) -> dict:
    """The median of a headline quantity over moved matrices, beside that of its chance."""
    ends = (
        {end: median_of(moved, f"{headline.band}_{end}") for end in ("low", "high")}
        if headline.band
        else {}
    )
    what = as_counted(tensors) if headline.counted else "of the stored values"
    aggregation = f"median of moved matrices, {what}{of_all(moved, headline.column, 'matrices')}"
    value, chance = median_of(moved, headline.column), median_of(moved, headline.chance)
    return row(headline.protocol, value, headline.unit, aggregation, chance, **ends)


def protocol_b(comparison: Stored, found: pd.DataFrame) -> list[dict]:
    """arXiv 2606.07082: relative probe, means over matrices of nss and angles, coverage with rank
    64.
    """
    return [*sparsity_and_geometry(comparison, found), *fixed_rank_coverage(comparison, found)]


def protocol_c(comparison: Stored, found: pd.DataFrame) -> list[dict]:
    """arXiv 2511.08567: sparsity, nss and angles as in B."""
    return sparsity_and_geometry(comparison, found)


def layer_matrices(found: pd.DataFrame) -> pd.DataFrame:
    """The matrices that B and C average over: those of attention and ffn in a layer, where anything
    moved.
    """
    in_layers = found[found["block"].isin(["attention", "ffn"]) & found["layer"].notna()]
    return by_tensor.matrices(in_layers[in_layers["moved"] > 0])


def sparsity_and_geometry(comparison: Stored, found: pd.DataFrame) -> list[dict]:
    """The quantities that B and C share."""
    rows, used = [by_count(found, "sparsity_relative_1e-3", "relative")], layer_matrices(found)
    if "nss" in found:
        how = f"mean of {len(used)} moved layer matrices{of_all(used, 'nss', 'matrices')}"
        rows.append(row("nss", used["nss"].mean(), "1", how, used["nss_chance"].mean()))
    angle = stored.read(comparison, "angle")
    if angle.empty:
        return rows
    ranks = used.assign(r=used[["rows", "columns"]].min(axis=1).astype(int))[["name", "r"]]
    angle = angle.merge(ranks, on="name")
    long = angle["r"] > LONG_R
    tenth = (angle["r"] * HEADLINE_SHARE).astype(int).clip(lower=1)
    angle = angle[angle["k"] == tenth.where(~long, FIXED_K)]
    fixed, every = angle.loc[angle["r"] > LONG_R, "name"].nunique(), angle["name"].nunique()
    how = (
        f"mean of {every} moved layer matrices, k = {FIXED_K} in {fixed}, 10 % of r in"
        f" {every - fixed}"
    )
    for side, part in angle.groupby("side"):
        rows.append(
            row(f"mean_angle_{side}", part.groupby("name")["degrees"].mean().mean(), "degrees", how)
        )
    return rows


def fixed_rank_coverage(comparison: Stored, found: pd.DataFrame) -> list[dict]:
    """Coverage of rank-64 principal masks of 50 and 30 % by the relative probe, mean."""
    coverage = stored.read(comparison, "coverage")
    if coverage.empty:
        return []
    used = layer_matrices(found)
    coverage = by_tensor.at_headline_precision(coverage[coverage["name"].isin(used["name"])])
    coverage = coverage.assign(typical=(coverage["null_low"] + coverage["null_high"]) / 2)
    coverage = coverage[
        (coverage["probe"] == "relative") & (coverage["mask"].isin(["principal", "low_magnitude"]))
    ]
    rows = []
    for (mask, share), part in coverage[coverage["share"].isin(FIXED_RANK_SHARES)].groupby(
        ["mask", "share"]
    ):
        name = f"coverage_{mask}_{round(share * 100)}pct" + (
            "_rank64" if mask == "principal" else ""
        )
        how = f"mean of {part['name'].nunique()} moved layer matrices, {as_counted(found)}"
        ends = {end: part[f"null_{end}"].mean() for end in ("low", "high")}
        rows.append(row(name, part["coverage"].mean(), "%", how, part["typical"].mean(), **ends))
    return rows


def protocol_d(comparison: Stored, found: pd.DataFrame) -> list[dict]:
    """arXiv 2505.11711: both sparsities over all parameters, mean rank share of the update over all
    matrices.
    """
    rows = [
        by_count(found, "sparsity_absolute_1e-5", "absolute"),
        by_count(found, "sparsity_exact", "exact"),
    ]
    ranks = stored.read(comparison, "rank")
    if not ranks.empty:
        ranks = ranks.merge(found[["name", "rows", "columns"]], on="name")
        ranks = ranks[
            ranks["tolerance"] == ranks[["rows", "columns"]].max(axis=1).astype(float) * 2.0**-23
        ]
        share = ranks.groupby("matrix")["share"].mean()
        how = "unweighted mean of matrices, sigma > max(m, n) 2^-23 sigma_1, of the stored values"
        rows.append(row("rank_share", share.get("delta"), "%", how, share.get("gaussian")))
    return rows
