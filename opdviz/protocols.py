"""Headline sets: one call gives a paper's row with that paper's own choices, each number with its chance level."""

import pandas as pd

from opdviz import tables
from opdviz.errors import RequestError, one_line
from opdviz.store import Store

PROTOCOLS = ("A", "B", "C", "D")
FIXED_K = 512


def headline(store: Store, key: str, protocol: str = "A") -> list[dict]:
    """Rows {protocol, quantity, value, unit, aggregation, chance} of one protocol; missing values where not computed.

    Raises
        RequestError: unknown protocol.
    """
    makers = {"A": protocol_a, "B": protocol_b, "C": protocol_c, "D": protocol_d}
    if protocol not in makers:
        raise RequestError(f"--protocol: {one_line(protocol, limit=20)!r} is unknown; there are: {', '.join(makers)}.")
    found = tables.quantities_by_tensor(store, key)
    if found.empty:
        return []
    kept = tables.counted(found)
    left_out = f"; {len(found) - len(kept)} tensors left out" if len(kept) < len(found) else ""
    pairs, skipped = store.manifest(key)["pairs"], tables.table(store, key, "skipped")
    known = len(found) + (
        int((skipped["measure"] == "magnitude").sum()) if len(skipped) else 0
    )  # integers have no norms
    if known < pairs:
        left_out += f"; of {len(found)} of {pairs} tensors only"
    rows = makers[protocol](store, key, kept)
    return [{"protocol": protocol} | r | {"aggregation": r["aggregation"] + left_out} for r in rows]


def row(quantity: str, value: float | None, unit: str, aggregation: str, chance: float | None = None) -> dict:
    """One headline number; percentages are given in percent."""
    scale = 100.0 if unit == "%" else 1.0
    value, chance = ((None if x is None or pd.isna(x) else float(x) * scale) for x in (value, chance))
    return {"quantity": quantity, "value": value, "unit": unit, "aggregation": aggregation, "chance": chance}


def relative_norm(found: pd.DataFrame) -> float | None:
    """sqrt(sum ||D||^2) / sqrt(sum ||W||^2)."""
    base = float((found["base_norm"] ** 2).sum())
    return (float((found["delta_norm"] ** 2).sum()) / base) ** 0.5 if base else None


def by_count(found: pd.DataFrame, probe: str) -> float | None:
    """Share of all coordinates that a probe calls unchanged."""
    column = f"unchanged_{probe}"
    total = float(found["numel"].sum())
    return float(found[column].sum()) / total if column in found and total else None


def median(found: pd.DataFrame, column: str) -> float | None:
    """Median over the moved matrices."""
    moved = found[found["moved"] > 0]
    return moved[column].median() if column in moved else None


MEDIANS = (
    ("top16_energy", "top16_energy", "%", "top16_chance"),
    ("stable_rank", "stable_rank", "1", "stable_rank_chance"),
    ("coverage_principal_10pct", "principal_coverage", "%", "principal_chance"),
    ("coverage_low_magnitude_10pct", "low_magnitude_coverage", "%", "low_magnitude_chance"),
    ("projection_joint_10pct", "projection_joint", "%", "projection_joint_chance"),
)


def protocol_a(store: Store, key: str, found: pd.DataFrame) -> list[dict]:
    """arXiv 2606.13657: coordinates as bf16, medians over moved matrices, energy share by block."""
    rows = [
        row("relative_norm", relative_norm(found), "%", "global"),
        row("sparsity_absolute_1e-5", by_count(found, "absolute"), "%", "by element"),
    ]
    for quantity, column, unit, chance in MEDIANS:
        rows.append(row(quantity, median(found, column), unit, "median of moved matrices", median(found, chance)))
    total, numel = float((found["delta_norm"] ** 2).sum()), float(found["numel"].sum())
    for block, part in found.groupby("block"):
        share = float((part["delta_norm"] ** 2).sum()) / total if total else None
        rows.append(
            row(f"energy_share_{block}", share, "%", "global", float(part["numel"].sum()) / numel if numel else None)
        )
    return rows


def protocol_b(store: Store, key: str, found: pd.DataFrame) -> list[dict]:
    """arXiv 2606.07082: relative probe, means over matrices of nss and angles, coverage with rank 64."""
    return [*sparsity_and_geometry(store, key, found), *fixed_rank_coverage(store, key)]


def protocol_c(store: Store, key: str, found: pd.DataFrame) -> list[dict]:
    """arXiv 2511.08567: sparsity, nss and angles as in B."""
    return sparsity_and_geometry(store, key, found)


def sparsity_and_geometry(store: Store, key: str, found: pd.DataFrame) -> list[dict]:
    """The quantities that B and C share."""
    rows = [row("sparsity_relative_1e-3", by_count(found, "relative"), "%", "by element")]
    if "nss" in found:
        rows.append(row("nss", found["nss"].mean(), "1", "mean of matrices", found["nss_chance"].mean()))
    angle = tables.table(store, key, "angle")
    if angle.empty:
        return rows
    largest = angle.groupby("name")["k"].transform("max")
    used = angle[(angle["k"] == largest) & angle["name"].isin(found["name"])]
    fixed = used.loc[used["k"] == FIXED_K, "name"].nunique()
    how = f"k = 512 in {fixed} matrices, 10 % of r in {used['name'].nunique() - fixed}"
    for side, part in used.groupby("side"):
        mean = part.groupby("name")["degrees"].mean().mean()
        rows.append(row(f"mean_angle_{side}", mean, "degrees", f"mean of matrices, {how}"))
    return rows


def fixed_rank_coverage(store: Store, key: str) -> list[dict]:
    """Coverage of rank-64 principal masks of 50 and 30 % by the relative probe, mean over matrices."""
    coverage = tables.table(store, key, "coverage")
    if coverage.empty:
        return []
    coverage = tables.at_headline_precision(coverage)
    coverage = coverage[(coverage["probe"] == "relative") & (coverage["mask"].isin(["principal", "low_magnitude"]))]
    rows = []
    for (mask, share), part in coverage[coverage["share"].isin([0.3, 0.5])].groupby(["mask", "share"]):
        name = f"coverage_{mask}_{round(share * 100)}pct" + ("_rank64" if mask == "principal" else "")
        rows.append(row(name, part["coverage"].mean(), "%", "mean of matrices", part["chance"].mean()))
    return rows


def protocol_d(store: Store, key: str, found: pd.DataFrame) -> list[dict]:
    """arXiv 2505.11711: both sparsities over all parameters, mean rank share of the update."""
    rows = [
        row("sparsity_absolute_1e-5", by_count(found, "absolute"), "%", "by element"),
        row("sparsity_exact", by_count(found, "exact"), "%", "by element"),
    ]
    ranks = tables.table(store, key, "rank")
    if not ranks.empty:
        ranks = ranks.merge(found[["name", "rows", "columns"]], on="name")
        ranks = ranks[ranks["tolerance"] == ranks[["rows", "columns"]].max(axis=1).astype(float) * 2.0**-23]
        share = ranks.groupby("matrix")["share"].mean()
        how = "unweighted mean of matrices, sigma > max(m, n) 2^-23 sigma_1, of the stored values"
        rows.append(row("rank_share", share.get("delta"), "%", how, share.get("gaussian")))
    return rows
