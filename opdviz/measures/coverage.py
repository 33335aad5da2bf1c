"""Do the moved coordinates fall on principal or on small weights (QUANTITIES 6)? Beside density, band and two nulls.

A coordinate's contribution depends only on its class (visibility.py), on how it stands to the magnitude thresholds
(`level`), and on which probes see it. One count of these a mask answers every composite mask, probe and null exactly.
"""

import math
from dataclasses import dataclass

import numpy as np

from opdviz.linalg import BLOCK, MASK_RANK, SHARES, Work, rank_of_share
from opdviz.measures.visibility import NO_NULLS, PROBES, Census, census, codes, ramps, visible_masks
from opdviz.pairing import Pair

NAME = "coverage"
VERSION = 1
TABLES = {
    "coverage": (
        "name", "mask", "share", "rank", "probe", "threshold", "precision", "visible", "density", "coverage", "chance",
        "lowest", "highest", "enrichment", "null_low", "null_high",
    ),
    "skipped": ("name", "measure", "reason"),
}  # fmt: skip
FIXED_RANK_SHARES = (0.3, 0.5)
ALL_SHARES = (*SHARES, *FIXED_RANK_SHARES)
FLAGS = 1 << len(PROBES)
SPREAD = 3.0


def rows(pair: Pair, work: Work) -> dict[str, list[dict]]:
    """Rows of `coverage`: four masks, six shares, three probes, every precision."""
    found: dict[str, list[dict]] = {"coverage": [], "skipped": []}
    views = []
    for precision in pair.precisions:
        if not pair.has_nulls(precision):
            reason = f"{precision} coverage: {NO_NULLS}"
            found["skipped"].append({"name": pair.name, "measure": NAME, "reason": reason})
        else:
            views.append(view(pair, work, precision))
    masks = [principal_counts(work, share, views) for share in ALL_SHARES] if views else []
    for at, this in enumerate(views):
        for share, (rank, counts) in zip(ALL_SHARES, masks):
            for row in mask_rows(this, share, counts[at]):
                rank_shown = None if row["mask"] == "low_magnitude" else rank
                where = {"name": pair.name, "share": share, "rank": rank_shown, "precision": this.precision}
                found["coverage"].append(where | row)
    return found


@dataclass(frozen=True)
class View:
    """One precision's classes: an id a coordinate = ((group * levels) + level) * FLAGS + visible flags."""

    precision: str
    taken: Census
    ids: np.ndarray
    counts: np.ndarray
    low: dict[float, np.ndarray]
    nulls: tuple[tuple[np.ndarray, np.ndarray], ...]


def view(pair: Pair, work: Work, precision: str) -> View:
    """Class every coordinate of the pair at one precision, and count the classes."""
    taken = census(pair, work, precision)
    group, nulls = joint_groups(taken)
    thresholds, low = magnitude_levels(work, precision)
    levels = 2 * len(thresholds) + 1
    size = (int(group.max()) + 1) * levels * FLAGS
    kind = np.uint16 if size < 1 << 16 else np.uint32
    ids = np.empty(work.base.size, dtype=kind)
    first = 0
    for w, d in work.elements(precision):
        part = group[codes(w, taken.grid)].astype(kind)
        part *= kind(levels * FLAGS)
        part += level_of(np.abs(w), thresholds).astype(kind) * kind(FLAGS)
        for bit, mask in enumerate(visible_masks(w, d)):
            part += mask.astype(kind) << kind(bit)
        ids[first : first + part.size] = part
        first += part.size
    counts = tally(ids, size).reshape(-1, levels, FLAGS)
    return View(precision, taken, ids, counts, low, nulls)


def tally(ids: np.ndarray, size: int) -> np.ndarray:
    """Counts of ids, block by block: numpy widens what it counts to eight bytes."""
    total = np.zeros(size, dtype=np.int64)
    for first in range(0, ids.size, BLOCK):
        total += np.bincount(ids[first : first + BLOCK], minlength=size)
    return total


def joint_groups(taken: Census) -> tuple[np.ndarray, tuple]:
    """A group number a class, over all probes at once, and P(visible) by group under both nulls for each probe."""
    edges = [ramps(taken.grid, *probe, taken.on_grid).group for probe in PROBES]
    used = np.flatnonzero(taken.count)
    joint = np.zeros(len(taken.count), dtype=np.int64)
    _, first, inverse = np.unique(
        np.stack([e[used] for e in edges], axis=1), axis=0, return_index=True, return_inverse=True
    )
    joint[used] = inverse.reshape(-1)
    at = used[first]
    return joint.astype(np.uint32), tuple((p[at], g[at]) for p, g in zip(taken.permuted, taken.gaussian))


def magnitude_levels(work: Work, precision: str) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """The distinct thresholds of the low-magnitude masks, and by share each level's weight: 1, a tie's part, or 0."""
    sizes = np.concatenate([np.abs(w) for w, _ in work.elements(precision)])
    counts = {share: max(1, math.ceil(share * sizes.size)) for share in ALL_SHARES}
    sizes.partition(sorted({k - 1 for k in counts.values()}))
    cuts = {share: sizes[k - 1] for share, k in counts.items()}
    thresholds = np.unique(list(cuts.values()))
    low = {}
    for share, k in counts.items():
        at = int(np.searchsorted(thresholds, cuts[share]))
        under, tied = int(np.count_nonzero(sizes < cuts[share])), int(np.count_nonzero(sizes == cuts[share]))
        weight = np.zeros(2 * len(thresholds) + 1)
        weight[: 2 * at + 1] = 1.0
        weight[2 * at + 1] = (k - under) / tied
        low[share] = weight
    return thresholds, low


def level_of(sizes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """2 j between thresholds j - 1 and j, 2 j + 1 at threshold j."""
    level = np.zeros(sizes.shape, dtype=np.uint8)
    for threshold in thresholds:
        level += sizes >= threshold
        level += sizes > threshold
    return level


def principal_counts(work: Work, share: float, views: list[View]) -> tuple[int, list[np.ndarray]]:
    """The rank of a share's principal mask, and for each view the classes inside it (ties share their places)."""
    r = work.r
    rank = min(MASK_RANK, r) if share in FIXED_RANK_SHARES else rank_of_share(share, r)
    sizes = reconstruction(work, rank)
    k = max(1, math.ceil(share * sizes.size))
    cut = np.partition(sizes, sizes.size - k)[sizes.size - k]
    inside, tied = sizes > cut, np.flatnonzero(sizes == cut)
    weight = (k - int(np.count_nonzero(inside))) / tied.size
    counts = []
    for this in views:
        size = this.counts.size
        found = tally(this.ids[inside], size) + weight * np.bincount(this.ids[tied], minlength=size)
        counts.append(found.reshape(this.counts.shape))
    return rank, counts


def reconstruction(work: Work, rank: int) -> np.ndarray:
    """|U_k S_k V_k'| as float32, in the order of the matrix's elements."""
    if rank == work.r:
        return np.abs(work.base).reshape(-1).astype(np.float32)
    v = work.base_spectrum.v[:, :rank]
    out = np.empty((work.long, work.r), dtype=np.float32)
    for rows_, a, _ in work.blocks():
        np.abs((a @ v) @ v.T, out=out[rows_], casting="same_kind")
    return (out if work.m >= work.n else out.T).reshape(-1)


def mask_rows(this: View, share: float, principal: np.ndarray) -> list[dict]:
    """Rows of one share: each mask's classes are weighted sums of the counts of all and of the principal ones."""
    low = this.low[share][None, :, None]
    not_low = principal * (1 - low)
    masks = {
        "principal": principal,
        "low_magnitude": this.counts * low,
        "principal_not_low": not_low,
        "nonprincipal_or_low": this.counts - not_low,
    }
    found = []
    for bit, (probe, threshold) in enumerate(PROBES):
        flags = (np.arange(FLAGS) >> bit) & 1 == 1
        for mask, counts in masks.items():
            row = {"mask": mask, "probe": probe, "threshold": threshold}
            found.append(row | coverage(this.counts, counts, flags) | null_band(this, counts, bit))
    return found


def coverage(everything: np.ndarray, mask: np.ndarray, flags: np.ndarray) -> dict:
    """Share of the visible coordinates inside a mask, its chance (the mask's density), and the range it can lie in."""
    numel, visible = float(everything.sum()), float(everything[..., flags].sum())
    chance, density = float(mask.sum()) / numel, visible / numel
    row = {"visible": int(visible), "density": density, "chance": chance}
    if not visible:
        return row | dict.fromkeys(("coverage", "lowest", "highest", "enrichment"))
    value = float(mask[..., flags].sum()) / visible
    lowest, highest = max(0.0, (density + chance - 1) / density), min(1.0, chance / density)
    return row | {
        "coverage": value,
        "lowest": lowest,
        "highest": highest,
        "enrichment": value / chance if chance else None,
    }


def null_band(this: View, mask: np.ndarray, bit: int) -> dict:
    """The range that two blind updates span, three standard errors of such an update's coverage added at each end."""
    ends = []
    whole, inside = this.counts.sum(axis=(1, 2)), mask.sum(axis=(1, 2))
    for p in this.nulls[bit]:
        visible = float(whole @ p)
        if not visible:
            continue
        value = float(inside @ p) / visible
        spread = inside @ (p * (1 - p)) * (1 - 2 * value) + value**2 * float(whole @ (p * (1 - p)))
        error = SPREAD * math.sqrt(max(float(spread), 0.0)) / visible
        ends += [value - error, value + error]
    if not ends:
        return {"null_low": None, "null_high": None}
    return {"null_low": max(min(ends), 0.0), "null_high": min(max(ends), 1.0)}
