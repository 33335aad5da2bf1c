"""Every headline quantity of a tensor as a column, and what is summed over tensors."""

from dataclasses import dataclass

import pandas as pd
import pyarrow.compute as pc

from opdviz.definitions import (
    ERRORS,
    FEWEST_MOVES,
    HEADLINE_K,
    HEADLINE_SHARE,
    NO_POWER,
    RELATIVE,
    VISIBLE,
    WIDE,
)
from opdviz.measures import identity
from opdviz.measures.coordinates import AXES
from opdviz.store.store import Stored
from opdviz.tables import stored


def countable(rows: pd.DataFrame) -> pd.Series:
    """Which tensors enter totals: all coordinates finite and every norm known, so that all sums are
    over the same ones.
    """
    return (rows["nonfinite"] == 0) & rows["base_norm"].notna() & rows["delta_norm"].notna()


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The tensors that enter totals."""
    return rows[countable(rows)]


def at_headline_precision(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each tensor as bf16: its bfloat16 rows, or its stored ones where it is stored no
    wider.
    """
    wide = set(rows.loc[rows["precision"] == "bfloat16", "name"])
    return rows[(rows["precision"] == "bfloat16") | ~rows["name"].isin(wide)]


def counted_as(rows: pd.DataFrame) -> pd.Series:
    """The format that each tensor's coordinates are counted in: bfloat16 where a side is stored
    wider, else the tuned's.
    """
    wide = rows["base_dtype"].isin(WIDE) | rows["tuned_dtype"].isin(WIDE)
    return rows["tuned_dtype"].where(~wide, "bfloat16")


@stored.remembered
def quantities_by_tensor(comparison: Stored) -> pd.DataFrame:
    """`tensors` with every headline quantity of a tensor as a column, beside its chance."""
    rows = stored.tensors(comparison)
    if rows.empty:
        return rows
    rows = rows.assign(counted_as=counted_as(rows))
    sparsity = stored.read(comparison, "sparsity")
    if not sparsity.empty:
        sparsity = at_headline_precision(sparsity)
        for probe, threshold in (("absolute", VISIBLE), ("relative", RELATIVE), ("exact", 0.0)):
            part = sparsity[(sparsity["probe"] == probe) & (sparsity["threshold"] == threshold)]
            part = part.rename(
                columns={"unchanged": f"unchanged_{probe}_count", "share": f"sparsity_{probe}"}
            )
            rows = rows.merge(
                part[["name", f"unchanged_{probe}_count", f"sparsity_{probe}"]],
                on="name",
                how="left",
            )
    parts = [columns.set_index("name") for columns in joined_columns(comparison).values()]
    # At once: each merge by itself takes a millisecond, and there are thirty.
    rows = rows.set_index("name").join(parts).reset_index()
    return with_isospectral_residual(with_relative_ranks(rows))


def with_relative_ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """The entropy ranks of the tuned and of the update as multiples of the base's."""
    of_base, of_tuned = "entropy_rank_of_base", "entropy_rank_of_tuned"
    if not {of_base, of_tuned, "entropy_rank"} <= {*rows.columns}:  # while it is computed
        return rows.drop(columns=[of_base, of_tuned], errors="ignore")
    ratios = {
        "entropy_rank_tuned": rows[of_tuned] / rows[of_base],
        "entropy_rank_relative": rows["entropy_rank"] / rows[of_base],
    }
    return rows.drop(columns=[of_base, of_tuned]).assign(**ratios)


def with_isospectral_residual(rows: pd.DataFrame) -> pd.DataFrame:
    """The share of ||D||^2 that changed no singular value, beside that of a blind update."""
    if "nss" not in rows:
        return rows
    # ||s(T) - s(W)||^2 is the least squared norm of a change to these values (Mirsky 1960).
    of_spectrum = {
        "isospectral_residual": rows["nss"] / rows["relative_norm"],
        "isospectral_residual_chance": rows["nss_chance"] / rows["relative_norm"],
    }
    return rows.assign(
        **{column: (1 - share**2).clip(lower=0.0) for column, share in of_spectrum.items()}
    )


@dataclass(frozen=True, slots=True)
class Joined:
    """Columns of a stored table that stand beside each tensor under other names, from the rows that
    fit `where`.
    """

    table: str
    columns: dict[str, str]
    where: pc.Expression | None = None


def at_side(side: str) -> pc.Expression:
    """The rows of one side at the headline's share."""
    return (pc.field("share") == HEADLINE_SHARE) & (pc.field("side") == side)


def with_ends(column: str, ends: dict[str, str]) -> dict[str, str]:
    """Names of what stands beside a column: `stored: <column>_<end>`."""
    return {stored_name: f"{column}_{end}" for stored_name, end in ends.items()}


OF_DELTA, OF_GAUSSIAN = (pc.field("matrix") == matrix for matrix in ("delta", "gaussian"))
PROJECTED = {"chance": "chance", "chance_sd": "sd", "chance_profile": "profile"}
TURNED = {"chance": "chance", "pairs": "pairs"}
JOINED = (
    Joined("identity", {c: c for c in identity.TABLES["identity"] if c != "name"}),
    *(
        Joined(
            "channels",
            {"energy_share": f"top_{axis}s", "chance": f"top_{axis}s_chance"},
            pc.field("axis") == axis,
        )
        for axis in AXES
    ),
    Joined("intruder", {"intruders": "intruders", "chance": "intruders_chance"}),
    Joined("signs", {"share": "sign_flips", "chance": "sign_flips_chance"}),
    Joined(
        "top_energy",
        {"energy": "top16_energy", "chance": "top16_chance"},
        OF_DELTA & (pc.field("k") == HEADLINE_K),
    ),
    Joined("spectrum_summary", {"stable_rank": "stable_rank_chance"}, OF_GAUSSIAN),
    *(
        Joined(
            "spectrum_summary",
            {"entropy_rank": f"entropy_rank_of_{side}"},
            pc.field("matrix") == side,
        )
        for side in ("base", "tuned")
    ),
    Joined("tail", {"position": "position", "verdict": "verdict"}),
    Joined("drift", {"nss": "nss", "chance": "nss_chance"}),
    *(
        Joined(
            "projection",
            {"energy": f"projection_{side}"} | with_ends(f"projection_{side}", PROJECTED),
            at_side(side),
        )
        for side in ("joint", "left", "right")
    ),
    *(
        Joined(
            "rotation",
            {"rms_sine": f"rotation_{side}"} | with_ends(f"rotation_{side}", TURNED),
            at_side(side),
        )
        for side in ("left", "right")
    ),
)


def joined_columns(comparison: Stored) -> dict[str, pd.DataFrame]:
    """What is joined to each tensor's row on `name`, as far as it is computed."""
    parts = {}
    for at, joined in enumerate(JOINED):
        rows = stored.read(comparison, joined.table, where=joined.where)
        parts[f"{joined.table}_{at}"] = renamed(rows, joined.columns)
    headline = (pc.field("share") == HEADLINE_SHARE) & (pc.field("probe") == "absolute")
    coverage = stored.read(
        comparison, "coverage", where=headline & (pc.field("threshold") == VISIBLE)
    )
    if len(coverage):
        of_turned = stored.read(comparison, "turned")
        parts |= coverage_columns(at_headline_precision(coverage), of_turned)
    return {name: columns for name, columns in parts.items() if len(columns)}


def renamed(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """`name` and some columns under other names; empty where there are no rows."""
    return rows[["name", *columns]].rename(columns=columns) if len(rows) else rows


# What stands of a mask's coverage beside each tensor.
COVERAGE_ENDS = (
    "coverage",
    "chance",
    "typical",
    "lowest",
    "highest",
    "null_low",
    "null_high",
    "blind_low",
    "blind_high",
    "turned_low",
    "turned_high",
    "visible",
)


def coverage_columns(coverage: pd.DataFrame, of_turned: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Coverage by tensor, a column group a mask; the rows are those of the headline's share, probe
    and threshold.

    `typical` is the middle of what typical blind updates cover: the level that a coverage stands
    beside. `turned_low` and `turned_high` are three standard deviations to either side of updates
    turned at random; missing where the comparison was made before they were measured.
    """
    coverage = coverage.assign(typical=(coverage["null_low"] + coverage["null_high"]) / 2)
    of_turned = of_turned.reindex(columns=["name", "mask", "turned", "turned_sd"])
    coverage = coverage.merge(of_turned, on=["name", "mask"], how="left")
    reach = ERRORS * coverage["turned_sd"]
    coverage["turned_low"] = (coverage["turned"] - reach).clip(lower=0.0)
    coverage["turned_high"] = (coverage["turned"] + reach).clip(upper=1.0)
    return {
        mask: renamed(
            coverage[coverage["mask"] == mask], {end: f"{mask}_{end}" for end in COVERAGE_ENDS}
        )
        for mask in ("principal", "low_magnitude")
    }


def coverage_claims(rows: pd.DataFrame, mask: str) -> pd.DataFrame:
    """What can be claimed of each matrix's coverage of a mask, as columns of yes and no: `telling`,
    whether anything can; `above` and `below`, whether it lies beyond all blind updates and the
    update turned at random; `withheld`, whether it lies beyond the former alone.
    """
    ends = ("coverage", "blind_low", "blind_high", "visible", "turned_low", "turned_high")
    value, low, high, visible, turned_low, turned_high = (
        rows.reindex(columns=[f"{mask}_{end}"]).iloc[:, 0].astype(float) for end in ends
    )
    telling = (high - low <= NO_POWER) & (visible >= FEWEST_MOVES)
    # Of low rank, an update aims at nothing and still lies beyond the hull: where its few rows and
    # columns are.
    by_lot = (value >= turned_low) & (value <= turned_high)
    above, below = telling & (value > high), telling & (value < low)
    return pd.DataFrame(
        {
            "telling": telling,
            "above": above & ~by_lot,
            "below": below & ~by_lot,
            "withheld": (above | below) & by_lot,
        }
    )


def share_unchanged(rows: pd.DataFrame, probe: str) -> float | None:
    """Share of the coordinates that a probe calls unchanged, over the tensors that it looked at;
    `None` without any.
    """
    column = f"unchanged_{probe}_count"
    counted_rows = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    total = float(counted_rows["numel"].sum())
    return float(counted_rows[column].sum()) / total if total else None


def matrices(rows: pd.DataFrame) -> pd.DataFrame:
    """The tensors that have directions: two axes, both longer than one."""
    return rows[
        (rows["rows"] > 1).fillna(False).astype(bool)
        & (rows["columns"] > 1).fillna(False).astype(bool)
    ]


def moved_given_size(
    comparison: Stored, *, name: str | None = None, threshold: float = 0.0
) -> pd.DataFrame:
    """Bins of |W| with count, moved and null_moved, as bf16 where that was counted: of one tensor
    or of all summed.
    """
    where = (pc.field("of") == "base") & (pc.field("threshold") == threshold)
    rows = stored.read(
        comparison, "histogram", where=where if name is None else where & (pc.field("name") == name)
    )
    if rows.empty:
        return rows
    return (
        at_headline_precision(rows)
        .groupby(["low", "high"], as_index=False)[["count", "moved", "null_moved"]]
        .sum()
    )


def by_element(rows: pd.DataFrame, tensors_: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Shares over all coordinates by some columns, each tensor weighted by its elements.

    A tensor stored no wider than bf16 has only `stored` rows; it counts in both precisions.
    """
    if rows.empty:
        return pd.DataFrame(columns=[*by, "share"])
    count = "unchanged" if "unchanged" in rows else "count"
    rows = rows[rows["name"].isin(counted(tensors_)["name"])]
    if (rows["precision"] == "bfloat16").any():
        wide = set(rows.loc[rows["precision"] == "bfloat16", "name"])
        rows = pd.concat([rows, rows[~rows["name"].isin(wide)].assign(precision="bfloat16")])
    rows = rows.merge(tensors_[["name", "numel"]], on="name")
    sums = rows.groupby(by, as_index=False, sort=True)[[count, "numel"]].sum()
    sums["share"] = sums[count] / sums["numel"]
    order = {"exact": 0, "absolute": 1, "relative": 2, "base_rms": 3}
    if "probe" in sums:
        sums = sums.sort_values(
            ["precision", "probe", "threshold"],
            key=lambda c: c.map(order) if c.name == "probe" else c,
        )
    return sums.sort_values("precision", ascending=False, kind="stable")
