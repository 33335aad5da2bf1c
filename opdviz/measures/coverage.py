"""Do the moved coordinates fall on principal or on small weights (definitions, 6)? Beside density,
band and two nulls.

A coordinate's contribution depends only on its class (visibility.py), on how it stands to the
magnitude thresholds (`level`), and on which probes see it. One count of these a mask answers every
composite mask, probe and null exactly. Two updates are typical of blind ones (`null_low`,
`null_high`); all of them lie in the hull (`blind_low`, `blind_high`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from opdviz.definitions import FIXED_RANK_SHARES, MASK_RANK, PROBES, SHARES, SIXTEEN_BITS
from opdviz.linalg import CHUNK, Decomposition, rank_of_share
from opdviz.measures.hull import SPREAD, blind_range
from opdviz.measures.nulls import Census, census, classed
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.measures.visibility import BETWEEN, NO_NULLS, Ramps, ramps, visible_masks
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
ALL_SHARES = (*SHARES, *FIXED_RANK_SHARES)
LARGEST_NESTED = 8_000_000  # elements of a matrix whose reconstruction is kept in float64
FLAGS = 1 << len(PROBES)  # one bit a probe: which of them see a coordinate


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of `coverage`: four masks, six shares, three probes, every precision."""
    tables: dict[str, list[dict]] = {"coverage": [], "skipped": []}
    if pair.float8:
        reason = f"coverage: {NO_NULLS}"
        tables["skipped"].append(skipped(pair, NAME, reason))
        return tables
    counts = [class_counts(work, precision) for precision in pair.precisions]
    masks = principal_counts(work, counts)
    for at, classes in enumerate(counts):
        by_share = [(share, masks[share][0], masks[share][1][at]) for share in ALL_SHARES]
        tables["coverage"] += [
            {"name": pair.name} | row for row in precision_rows(classes, by_share)
        ]
    return tables


@dataclass(frozen=True)
class ClassCounts:
    """One precision's classes: an id a coordinate = ((group * levels) + level) * FLAGS + visible
    flags.
    """

    precision: str
    taken: Census
    ids: np.ndarray
    counts: np.ndarray
    low: dict[float, np.ndarray]
    nulls: tuple[tuple[np.ndarray, np.ndarray], ...]
    edges: tuple[Ramps, ...]


def class_counts(work: Decomposition, precision: str) -> ClassCounts:
    """Class every coordinate of the pair at one precision, and count the classes."""
    counted = census(work, precision)
    group, nulls, edges = joint_groups(counted)
    thresholds, low = magnitude_levels(work, precision)
    levels = 2 * len(thresholds) + 1
    size = (int(group.max()) + 1) * levels * FLAGS
    # An id a coordinate is the largest thing here: two bytes where they are enough.
    kind = np.uint16 if size < 1 << 16 else np.uint32
    ids = np.empty(work.base.size, dtype=kind)
    first = 0
    for code, w, d in classed(work, precision, counted.scheme):
        part = group[code].astype(kind)
        part *= kind(levels * FLAGS)
        part += level_of(np.abs(w), thresholds).astype(kind) * kind(FLAGS)
        for bit, mask in enumerate(visible_masks(w, d)):
            part += mask.astype(kind) << kind(bit)
        ids[first : first + part.size] = part
        first += part.size
    counts = tally(ids, size).reshape(-1, levels, FLAGS)
    return ClassCounts(precision, counted, ids, counts, low, nulls, edges)


def tally(ids: np.ndarray, size: int) -> np.ndarray:
    """Counts of ids, block by block: numpy widens what it counts to eight bytes."""
    total = np.zeros(size, dtype=np.int64)
    for first in range(0, ids.size, CHUNK):
        total += np.bincount(ids[first : first + CHUNK], minlength=size)
    return total


def joint_groups(taken: Census) -> tuple[np.ndarray, tuple, tuple[Ramps, ...]]:
    """A group number a class, over all probes at once; by probe, P(visible) by group under both
    nulls, and its ramps.
    """
    by_probe = [ramps(taken.scheme, *probe) for probe in PROBES]
    used = np.flatnonzero(taken.count)
    # Classes that are alike under every probe are one group: ids stay few.
    joint = np.zeros(len(taken.count), dtype=np.int64)
    _, first, inverse = np.unique(
        np.stack([r.group[used] for r in by_probe], axis=1),
        axis=0,
        return_index=True,
        return_inverse=True,
    )
    joint[used] = inverse.reshape(-1)
    at = used[first]
    nulls = tuple((p[at], g[at]) for p, g in zip(taken.permuted, taken.gaussian, strict=True))
    return joint.astype(np.uint32), nulls, tuple(r.only(r.group[at]) for r in by_probe)


def magnitude_levels(
    work: Decomposition, precision: str
) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """The distinct thresholds of the low-magnitude masks, and by share each level's weight: 1, a
    tie's part, or 0.
    """
    sizes = np.concatenate([np.abs(w) for w, _ in work.elements(precision)])
    counts = {share: max(1, math.ceil(share * sizes.size)) for share in ALL_SHARES}
    # A few order statistics, not a sort: linear in the number of weights.
    sizes.partition(sorted({k - 1 for k in counts.values()}))
    cuts = {share: sizes[k - 1] for share, k in counts.items()}
    thresholds = np.unique(list(cuts.values()))
    low = {}
    for share, k in counts.items():
        at = int(np.searchsorted(thresholds, cuts[share]))
        under, tied = (
            int(np.count_nonzero(sizes < cuts[share])),
            int(np.count_nonzero(sizes == cuts[share])),
        )
        weight = np.zeros(2 * len(thresholds) + 1)
        weight[: 2 * at + 1] = 1.0
        # 16-bit weights tie by the thousand: those at the threshold share the places that are left,
        # as any choice among them would be somebody's order.
        weight[2 * at + 1] = (k - under) / tied
        low[share] = weight
    return thresholds, low


def level_of(sizes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """2 j between thresholds j - 1 and j, 2 j + 1 at threshold j."""
    level = np.zeros(sizes.shape, dtype=np.uint8)
    for threshold in thresholds:
        # Two comparisons a threshold instead of searchsorted, which would widen every block.
        level += sizes >= threshold
        level += sizes > threshold
    return level


def principal_counts(
    work: Decomposition, by_precision: list[ClassCounts]
) -> dict[float, tuple[int, list[np.ndarray]]]:
    """By share the rank of its principal mask, and for each precision the classes inside it (ties
    share their places).
    """
    ranks = {
        share: min(MASK_RANK, work.r)
        if share in FIXED_RANK_SHARES
        else rank_of_share(share, work.r)
        for share in ALL_SHARES
    }
    counts = {}
    # The masks of all precisions are of the stored base: one reconstruction serves them all.
    for rank, sizes in reconstructions(work, sorted(set(ranks.values()))):
        for share in (share for share in ALL_SHARES if ranks[share] == rank):
            counts[share] = rank, inside(sizes, share, by_precision)
    return counts


def inside(sizes: np.ndarray, share: float, by_precision: list[ClassCounts]) -> list[np.ndarray]:
    """For each precision, how many coordinates of each class are among a share of the largest."""
    k = max(1, math.ceil(share * sizes.size))
    cut = np.partition(sizes, sizes.size - k)[sizes.size - k]
    above, tied = sizes > cut, np.flatnonzero(sizes == cut)
    weight = (k - int(np.count_nonzero(above))) / tied.size
    counts = []
    for classes in by_precision:
        size = classes.counts.size
        principal = tally(classes.ids[above], size) + weight * np.bincount(
            classes.ids[tied], minlength=size
        )
        counts.append(principal.reshape(classes.counts.shape))
    return counts


def reconstructions(work: Decomposition, ranks: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """|U_k S_k V_k'| of each of some rising ranks k as float32, in the order of the matrix's
    elements.

    Each adds its own columns to the one before: together they cost what the largest costs. A matrix
    of which a float64 copy is much memory is begun anew with each.
    """
    nested = work.base.size <= LARGEST_NESTED
    total = np.zeros((work.long, work.r)) if nested else None
    sizes = np.empty((work.long, work.r), dtype=np.float32)
    before = 0
    for rank in ranks:
        if rank == work.r:  # all directions give the matrix back, without their rounding
            yield rank, np.abs(work.base).reshape(-1).astype(np.float32)
            continue
        v = work.base_spectrum.v[:, before if nested else 0 : rank]
        # Products in float64, kept as float32: only their order is asked for.
        for rows_, a, _ in work.row_blocks():
            part = (a @ v) @ v.T
            if nested:
                part = np.add(total[rows_], part, out=total[rows_])
            np.abs(part, out=sizes[rows_], casting="same_kind")
        before = rank
        yield rank, (sizes if work.m >= work.n else sizes.T).reshape(-1)


def precision_rows(
    classes: ClassCounts, by_share: list[tuple[float, int, np.ndarray]]
) -> list[dict]:
    """Rows of one precision: every mask under every probe, beside the bands of blind updates.

    `by_share` has (share, rank, counts inside the principal mask) of every share.
    """
    table, masks = [], []
    for share, rank, principal in by_share:
        for mask, counts in composite_masks(classes, share, principal).items():
            where = {
                "share": share,
                "rank": None if mask == "low_magnitude" else rank,
                "precision": classes.precision,
            }
            masks.append((where | {"mask": mask}, counts))
    for bit, (probe, threshold) in enumerate(PROBES):
        flags = (np.arange(FLAGS) >> bit) & 1 == 1
        hulls = hull_of_masks(classes, [counts for _, counts in masks], bit, flags)
        for (where, counts), hull in zip(masks, hulls, strict=True):
            row = where | {"probe": probe, "threshold": threshold}
            table.append(
                row
                | coverage(classes.counts, counts, flags)
                | null_band(classes, counts, bit)
                | hull
            )
    return table


def composite_masks(
    classes: ClassCounts, share: float, principal: np.ndarray
) -> dict[str, np.ndarray]:
    """The counts inside each mask of one share: weighted sums of the counts of all and of the
    principal ones.
    """
    low = classes.low[share][None, :, None]
    # Ties of the two masks are shared out independently of each other.
    not_low = principal * (1 - low)
    return {
        "principal": principal,
        "low_magnitude": classes.counts * low,
        "principal_not_low": not_low,
        "nonprincipal_or_low": classes.counts - not_low,
    }


def coverage(everything: np.ndarray, mask: np.ndarray, flags: np.ndarray) -> dict:
    """Share of the visible coordinates inside a mask, its chance (the mask's density), and the
    range it can lie in.
    """
    numel, visible = float(everything.sum()), float(everything[..., flags].sum())
    chance, density = float(mask.sum()) / numel, visible / numel
    row = {"visible": int(visible), "density": density, "chance": chance}
    if not visible:
        return row | dict.fromkeys(("coverage", "lowest", "highest", "enrichment"))
    value = float(mask[..., flags].sum()) / visible
    # Two sets of these densities overlap by d + a - 1 at least, by the smaller at most (Frechet).
    lowest, highest = max(0.0, (density + chance - 1) / density), min(1.0, chance / density)
    return row | {
        "coverage": value,
        "lowest": lowest,
        "highest": highest,
        "enrichment": value / chance if chance else None,
    }


def null_band(classes: ClassCounts, mask: np.ndarray, bit: int) -> dict:
    """The range that two typical blind updates span, three standard errors of such an update's
    coverage at each end.
    """
    ends = []
    whole, within = classes.counts.sum(axis=(1, 2)), mask.sum(axis=(1, 2))
    for p in classes.nulls[bit]:
        visible = float(whole @ p)
        if not visible:
            continue
        value = float(within @ p) / visible
        # The coverage is a ratio of two sums of independent yes and no: its variance by the delta
        # method, in which numerator and denominator vary together.
        spread = within @ (p * (1 - p)) * (1 - 2 * value) + value**2 * float(whole @ (p * (1 - p)))
        error = SPREAD * math.sqrt(max(float(spread), 0.0)) / visible
        ends += [value - error, value + error]
    if not ends:
        return {"null_low": None, "null_high": None}
    return {"null_low": max(min(ends), 0.0), "null_high": min(max(ends), 1.0)}


def hull_of_masks(
    classes: ClassCounts, masks: list[np.ndarray], bit: int, flags: np.ndarray
) -> list[dict]:
    """What any blind update with as many visible coordinates could cover of each mask; missing
    where nothing is visible.

    Classes of formats wider than 16 bits are quarter octaves, inside which a relative probe sees
    small weights first.
    """
    visible = int(classes.counts[..., flags].sum())
    if not visible:
        return [{"blind_low": None, "blind_high": None}] * len(masks)
    whole = classes.counts.sum(axis=(1, 2)).astype(np.float64)
    within = np.stack([mask.sum(axis=(1, 2)) for mask in masks])
    any_order = classes.taken.scheme.removesuffix(BETWEEN) not in SIXTEEN_BITS
    low, high = blind_range(classes.edges[bit], whole, within, visible, any_order=any_order)
    return [{"blind_low": float(a), "blind_high": float(b)} for a, b in zip(low, high, strict=True)]
