"""Do the moved coordinates fall on principal or on small weights (definitions, 6)? Beside density,
band and two nulls.

A coordinate's contribution depends only on its class (visibility.py), on how it stands to the
magnitude thresholds (`level`), and on which probes see it. One count of these a mask answers every
composite mask, probe and null exactly. Two updates are typical of blind ones (`null_low`,
`null_high`); all of them lie in the hull (`blind_low`, `blind_high`).
"""

import numpy as np
from jaxtyping import Bool, Float

from opdviz.definitions import PROBES, SIXTEEN_BITS
from opdviz.linalg import Decomposition
from opdviz.measures.hull import SPREAD, blind_range
from opdviz.measures.masks import (
    Counted,
    counted,
    mask_ranks,
)
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.measures.visibility import BETWEEN, FLAGS, NO_NULLS
from opdviz.pairing import Pair

NAME = "coverage"
VERSION = 2
NEEDS = "finite matrix"
TABLES = {
    "coverage": {
        "name": str,
        "mask": str,
        "share": float,
        "rank": int,
        "probe": str,
        "threshold": float,
        "precision": str,
        "visible": int,
        "density": float,
        "coverage": float,
        "chance": float,
        "lowest": float,
        "highest": float,
        "enrichment": float,
        "null_low": float,
        "null_high": float,
        "blind_low": float,
        "blind_high": float,
    },
    "skipped": SKIPPED,
}


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of `coverage`: four masks, six shares, three probes, every precision."""
    tables: dict[str, list[dict]] = {"coverage": [], "skipped": []}
    if pair.float8:
        reason = f"coverage: {NO_NULLS}"
        tables["skipped"].append(skipped(pair, NAME, reason))
        return tables
    ranks = mask_ranks(work.r)
    # The masks of all precisions are of the stored base: one reconstruction serves them all.
    members, tied = work.largest_of_base(ranks)
    for precision in pair.precisions:
        counts = counted(work, precision, members, tied)
        where = {"name": pair.name, "precision": precision}
        tables["coverage"] += [where | row for row in precision_rows(counts, ranks)]
    return tables


def precision_rows(counts: Counted, ranks: dict[float, int]) -> list[dict]:
    """Rows of one precision: every mask under every probe, beside the bands of blind updates."""
    names = [
        {"mask": mask, "share": share, "rank": None if mask == "low_magnitude" else ranks[share]}
        for mask, share in counts.names
    ]
    whole, masks = counts.whole, counts.masks
    table = []
    for bit, (probe, threshold) in enumerate(PROBES):
        flags = (np.arange(FLAGS) >> bit) & 1 == 1
        columns = (
            coverages(whole, masks, flags)
            | null_bands(counts, whole.sum(axis=-1), masks.sum(axis=-1), bit)
            | hulls(counts, bit, flags)
        )
        where = {"probe": probe, "threshold": threshold}
        for i, name in enumerate(names):
            table.append(name | where | {column: values[i] for column, values in columns.items()})
    return table


def coverages(
    whole: Float[np.ndarray, "groups flags"],
    masks: Float[np.ndarray, "masks groups flags"],
    flags: Bool[np.ndarray, " flags"],
) -> dict[str, list]:
    """By column, of each mask: share of the visible coordinates inside it, its chance (the mask's
    density), and the range it can lie in.
    """
    numel, visible = float(whole.sum()), float(whole[:, flags].sum())
    chance, density = masks.sum(axis=(1, 2)) / numel, visible / numel
    count = len(masks)
    columns = {
        "visible": [int(visible)] * count,
        "density": [density] * count,
        "chance": chance.tolist(),
    }
    if not visible:
        missing = ("coverage", "lowest", "highest", "enrichment")
        return columns | dict.fromkeys(missing, [None] * count)
    value = masks[:, :, flags].sum(axis=(1, 2)) / visible
    # Two sets of these densities overlap by d + a - 1 at least, by the smaller at most (Frechet).
    return columns | {
        "coverage": value.tolist(),
        "lowest": np.maximum(0.0, (density + chance - 1) / density).tolist(),
        "highest": np.minimum(1.0, chance / density).tolist(),
        "enrichment": [float(v / c) if c else None for v, c in zip(value, chance, strict=True)],
    }


def null_bands(
    counts: Counted,
    whole: Float[np.ndarray, " groups"],
    within: Float[np.ndarray, "masks groups"],
    bit: int,
) -> dict[str, list]:
    """By column, the range that two typical blind updates span of each mask, three standard errors
    of such an update's coverage at each end.
    """
    ends = []
    for p in counts.nulls[bit]:
        visible = float(whole @ p)
        if not visible:
            continue
        value = within @ p / visible
        # The coverage is a ratio of two sums of independent yes and no: its variance by the delta
        # method, in which numerator and denominator vary together.
        spread = within @ (p * (1 - p)) * (1 - 2 * value) + value**2 * float(whole @ (p * (1 - p)))
        error = SPREAD * np.sqrt(np.maximum(spread, 0.0)) / visible
        ends += [value - error, value + error]
    if not ends:
        return dict.fromkeys(("null_low", "null_high"), [None] * len(within))
    return {
        "null_low": np.maximum(np.min(ends, axis=0), 0.0).tolist(),
        "null_high": np.minimum(np.max(ends, axis=0), 1.0).tolist(),
    }


def hulls(counts: Counted, bit: int, flags: Bool[np.ndarray, " flags"]) -> dict[str, list]:
    """By column, what any blind update with as many visible coordinates could cover of each mask;
    missing where nothing is visible.

    Classes of formats wider than 16 bits are quarter octaves, inside which a relative probe sees
    small weights first.
    """
    visible = int(counts.whole[:, flags].sum())
    if not visible:
        return dict.fromkeys(("blind_low", "blind_high"), [None] * len(counts.masks))
    any_order = counts.scheme.removesuffix(BETWEEN) not in SIXTEEN_BITS
    everything, within = counts.whole.sum(axis=-1), counts.masks.sum(axis=-1)
    low, high = blind_range(counts.edges[bit], everything, within, visible, any_order=any_order)
    return {"blind_low": low.tolist(), "blind_high": high.tolist()}
