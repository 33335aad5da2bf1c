"""Which coordinates a mask holds, by class: the largest of the base's reconstructions from its
leading directions, its smallest weights, and what is made of both.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from opdviz.chunks import CHUNK, order_statistics
from opdviz.definitions import FIXED_RANK_SHARES, MASK_RANK, PROBES, SHARES, SIXTEEN_BITS
from opdviz.linalg import Decomposition, rank_of_share
from opdviz.measures.nulls import Census, census, classes_of, visible_moves
from opdviz.measures.visibility import Ramps, codes, magnitudes, ramps

ALL_SHARES = (*SHARES, *FIXED_RANK_SHARES)
LARGEST_NESTED = 8_000_000  # elements of a matrix whose reconstruction is kept in float64
FLAGS = 1 << len(PROBES)  # one bit a probe: which of them see a coordinate


@dataclass(frozen=True)
class ClassCounts:
    """One precision's classes: of those in use, the number = ((group * levels) + level) * FLAGS +
    visible flags; and for each coordinate the position of its own among them.
    """

    precision: str
    taken: Census
    ids: np.ndarray
    used: np.ndarray
    counts: np.ndarray
    low: dict[float, np.ndarray]
    nulls: tuple[tuple[np.ndarray, np.ndarray], ...]
    edges: tuple[Ramps, ...]

    def spread(self, counts: np.ndarray) -> np.ndarray:
        """Counts of the classes in use, in the shape of all: (groups, levels, FLAGS)."""
        every = np.zeros(self.counts.size)
        every[self.used] = counts
        return every.reshape(self.counts.shape)


def class_counts(work: Decomposition, precision: str) -> ClassCounts:
    """Class every coordinate of the pair at one precision, and count the classes."""
    counted = census(work, precision)
    group, nulls, edges = joint_groups(counted)
    thresholds, low = magnitude_levels(work, precision, counted)
    levels = 2 * len(thresholds) + 1
    size = (int(group.max()) + 1) * levels * FLAGS
    # An id a coordinate is the largest thing here: two bytes where they are enough.
    kind = np.uint16 if size < 1 << 16 else np.uint32
    of_class = (group * (levels * FLAGS)).astype(kind)
    gridded = counted.scheme in SIXTEEN_BITS
    if gridded:  # a class is a value, and says the level too
        values = np.tile(magnitudes(counted.scheme), 2)
        of_class += level_of(values, thresholds).astype(kind) * kind(FLAGS)
    ids = np.empty(work.base.size, dtype=kind)
    first = 0
    for chunk in work.chunks(precision):
        part = of_class[classes_of(chunk, counted.scheme)]
        if not gridded:
            part += level_of(np.abs(chunk.base), thresholds).astype(kind) * kind(FLAGS)
        bits = np.zeros(chunk.delta.size, dtype=kind)
        for bit, mask in enumerate(visible_moves(chunk)):
            bits += mask.astype(kind) << kind(bit)
        part[chunk.moved] += bits
        ids[first : first + part.size] = part
        first += part.size
    counts = tally(ids, size)
    used = np.flatnonzero(counts)
    position = np.zeros(size, dtype=kind)
    position[used] = np.arange(used.size)
    # Clipped, as checking would need a copy of all; they are within.
    np.take(position, ids, out=ids, mode="clip")
    return ClassCounts(
        precision, counted, ids, used, counts.reshape(-1, levels, FLAGS), low, nulls, edges
    )


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
    work: Decomposition, precision: str, counted: Census
) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """The distinct thresholds of the low-magnitude masks, and by share each level's weight: 1, a
    tie's part, or 0.
    """
    counts = {share: max(1, math.ceil(share * counted.numel)) for share in ALL_SHARES}
    find = cuts_on_grid if work.grid(precision) in SIXTEEN_BITS else cuts_between
    cuts = find(work, precision, counted, list(counts.values()))
    thresholds = np.unique([value for value, _, _ in cuts])
    low = {}
    for (share, k), (cut, under, tied) in zip(counts.items(), cuts, strict=True):
        at = int(np.searchsorted(thresholds, cut))
        weight = np.zeros(2 * len(thresholds) + 1)
        weight[: 2 * at + 1] = 1.0
        # 16-bit weights tie by the thousand: those at the threshold share the places that are left,
        # as any choice among them would be somebody's order.
        weight[2 * at + 1] = (k - under) / tied
        low[share] = weight
    return thresholds, low


def cuts_on_grid(
    work: Decomposition, precision: str, counted: Census, places: list[int]
) -> list[tuple]:
    """The k-th smallest |W| for some k, how many are below it and how many tie with it: of the
    values of a 16-bit grid, by counts of each.
    """
    grid = work.grid(precision)
    signed = counted.count
    if counted.scheme != grid:  # its classes are of the base before rounding
        signed = sum(
            np.bincount(codes(chunk.base, grid), minlength=1 << 16)
            for chunk in work.chunks(precision)
        )
    counts = signed.reshape(2, -1).sum(axis=0)
    up_to = np.cumsum(counts)
    return [
        (magnitudes(grid)[at], int(up_to[at] - counts[at]), int(counts[at]))
        for at in np.searchsorted(up_to, places)
    ]


def cuts_between(
    work: Decomposition, precision: str, counted: Census, places: list[int]
) -> list[tuple]:
    """The same of any values."""
    sizes = np.concatenate([np.abs(chunk.base) for chunk in work.chunks(precision)])
    at = order_statistics(sizes, (k - 1 for k in places))
    return [
        (cut, int(np.count_nonzero(sizes < cut)), int(np.count_nonzero(sizes == cut)))
        for cut in (at[k - 1] for k in places)
    ]


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
    # One bit a share: which of the masks hold a coordinate for certain, and apart from it the ties.
    members = np.zeros(work.base.size, dtype=np.uint8)
    tied = {}
    # The masks of all precisions are of the stored base: one reconstruction serves them all.
    for rank, sizes in reconstructions(work, sorted(set(ranks.values()))):
        for bit, share in enumerate(ALL_SHARES):
            if ranks[share] == rank:
                tied[share] = mark_largest(sizes, share, members, bit)
    counts = [members_of_classes(classes, members, tied) for classes in by_precision]
    return {share: (ranks[share], [by_share[share] for by_share in counts]) for share in ALL_SHARES}


def mark_largest(
    sizes: np.ndarray, share: float, members: np.ndarray, bit: int
) -> tuple[np.ndarray, float]:
    """Set a bit of the members above the cut that a share of the largest makes; those at the cut,
    and the part of each that belongs to the share.
    """
    k = max(1, math.ceil(share * sizes.size))
    cut = np.partition(sizes, sizes.size - k)[sizes.size - k]
    above = sizes > cut
    members |= above.view(np.uint8) << np.uint8(bit)
    tied = np.flatnonzero(sizes == cut)
    return tied, (k - int(np.count_nonzero(above))) / tied.size


def members_of_classes(
    classes: ClassCounts, members: np.ndarray, tied: dict[float, tuple[np.ndarray, float]]
) -> dict[float, np.ndarray]:
    """By share, how many coordinates of each class are inside its mask; counted once for all
    shares.
    """
    size, combinations = classes.used.size, 1 << len(ALL_SHARES)
    joint = np.zeros(size * combinations, dtype=np.int64)
    for first in range(0, members.size, CHUNK):
        ids = classes.ids[first : first + CHUNK].astype(np.intp)
        ids *= combinations
        ids += members[first : first + CHUNK]
        joint += np.bincount(ids, minlength=joint.size)
    by_members = joint.reshape(size, combinations)
    by_share = {}
    for bit, share in enumerate(ALL_SHARES):
        at, weight = tied[share]
        certain = by_members[:, (np.arange(combinations) >> bit) & 1 == 1].sum(axis=1)
        at_the_cut = np.bincount(classes.ids[at], minlength=size)
        by_share[share] = classes.spread(certain + weight * at_the_cut)
    return by_share


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
        directions = slice(before if nested else 0, rank)
        v = np.ascontiguousarray(work.base_spectrum.v[:, directions].T)
        # Products in float64, kept as float32: only their order is asked for.
        for rows_ in row_slices(work):
            part = work.long_products[0][rows_, directions] @ v
            if nested:
                part = np.add(total[rows_], part, out=total[rows_])
            np.abs(part, out=sizes[rows_], casting="same_kind")
        before = rank
        yield rank, (sizes if work.m >= work.n else sizes.T).reshape(-1)


def row_slices(work: Decomposition) -> Iterator[slice]:
    """The rows of the tall matrix, a few hundred thousand elements at a time."""
    size = max(1, CHUNK // work.r)
    return (slice(first, first + size) for first in range(0, work.long, size))


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
