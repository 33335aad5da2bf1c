"""Which coordinates a mask holds, by class: the largest of the base's reconstructions from its
leading directions, its smallest weights, and what is made of both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from opdviz.chunks import CHUNK
from opdviz.definitions import FIXED_RANK_SHARES, MASK_RANK, PROBES, SHARES, SIXTEEN_BITS
from opdviz.linalg import Decomposition, rank_of_share
from opdviz.linalg.reconstruction import LEADING_BITS, Ties, leading_bits, places_of
from opdviz.measures.nulls import Census, census, classes_of, visible_moves
from opdviz.measures.visibility import Ramps, codes, magnitudes, ramps

ALL_SHARES = (*SHARES, *FIXED_RANK_SHARES)
NOT_YET = np.iinfo(np.uint32).max  # in place of a position
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
    numbers = class_numbers(work, precision, counted, group * (levels * FLAGS), thresholds)
    ids, used = in_use(numbers, work.base.size, (int(group.max()) + 1) * levels * FLAGS)
    every = np.zeros((int(group.max()) + 1, levels, FLAGS), dtype=np.int64)
    every.reshape(-1)[used] = tally(ids, used.size)
    return ClassCounts(precision, counted, ids, used, every, low, nulls, edges)


def class_numbers(
    work: Decomposition,
    precision: str,
    counted: Census,
    of_class: np.ndarray,
    thresholds: np.ndarray,
) -> Iterator[np.ndarray]:
    """The number of each coordinate's class, in chunks; `of_class` has that of its first level."""
    kind = np.uint32  # of which numpy makes no eight bytes on the way
    of_class = of_class.astype(kind)
    gridded = counted.scheme in SIXTEEN_BITS
    if gridded:  # a class of the scheme is a value, and says the level too
        values = np.tile(magnitudes(counted.scheme), 2)
        of_class += level_of(values, thresholds).astype(kind) * kind(FLAGS)
    for chunk in work.chunks(precision):
        numbers = of_class[classes_of(chunk, counted.scheme)]
        if not gridded:
            numbers += level_of(np.abs(chunk.base), thresholds).astype(kind) * kind(FLAGS)
        bits = np.zeros(chunk.delta.size, dtype=kind)
        for bit, mask in enumerate(visible_moves(chunk)):
            bits += mask.astype(kind) << kind(bit)
        numbers[chunk.moved] += bits
        yield numbers


def in_use(numbers: Iterable[np.ndarray], numel: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks of numbers below a size as positions among those in use, and these, as they come.

    A position a coordinate is the largest thing here: two bytes, while they are enough.
    """
    ids = np.empty(numel, dtype=np.uint16)
    position, used = np.full(size, NOT_YET, dtype=np.uint32), np.empty(0, dtype=np.uint32)
    first = 0
    for chunk in numbers:
        new = np.unique(chunk[position[chunk] == NOT_YET])
        if new.size:
            position[new] = np.arange(used.size, used.size + new.size)
            used = np.concatenate([used, new])
            if used.size > 1 << 16 and ids.dtype == np.uint16:
                ids = ids.astype(np.uint32)
        ids[first : first + chunk.size] = position[chunk]
        first += chunk.size
    return ids, used


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
    counts = {share: places_of(share, counted.numel) for share in ALL_SHARES}
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
    """The same of any values, in two passes: counts by leading bits say in which bits a place lies,
    and only what shares them is sorted.
    """

    def sizes_of_chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chunk in work.chunks(precision):
            sizes = np.abs(chunk.base)
            yield sizes, leading_bits(sizes.astype(np.float32, copy=False))

    counts = sum(np.bincount(bits, minlength=LEADING_BITS) for _, bits in sizes_of_chunks())
    up_to = np.cumsum(counts)
    bits_of_places = np.searchsorted(up_to, places)
    holds_a_place = np.zeros(LEADING_BITS, dtype=bool)
    holds_a_place[bits_of_places] = True
    near = np.sort(
        np.concatenate([sizes[holds_a_place[bits]] for sizes, bits in sizes_of_chunks()])
    )
    # Of the sorted ones, how many coordinates are below the first of each bits: those not kept.
    left_out = np.cumsum(np.where(holds_a_place, 0, counts))[bits_of_places]
    cuts = []
    for place, missing in zip(places, left_out, strict=True):
        cut = near[place - missing - 1]
        first, last = (int(np.searchsorted(near, cut, side)) for side in ("left", "right"))
        cuts.append((cut, first + int(missing), last - first))
    return cuts


def level_of(sizes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """2 j between thresholds j - 1 and j, 2 j + 1 at threshold j."""
    level = np.zeros(sizes.shape, dtype=np.uint8)
    for threshold in thresholds:
        # Two comparisons a threshold instead of searchsorted, which would widen every block.
        level += sizes >= threshold
        level += sizes > threshold
    return level


def mask_ranks(r: int) -> dict[float, int]:
    """By share the rank of its principal mask, in a matrix of r directions."""
    fixed = min(MASK_RANK, r)
    return {
        share: fixed if share in FIXED_RANK_SHARES else rank_of_share(share, r)
        for share in ALL_SHARES
    }


def principal_counts(
    work: Decomposition, by_precision: list[ClassCounts]
) -> dict[float, tuple[int, list[np.ndarray]]]:
    """By share the rank of its principal mask, and for each precision the classes inside it (ties
    share their places).
    """
    ranks = mask_ranks(work.r)
    # The masks of all precisions are of the stored base: one reconstruction serves them all.
    members, tied = work.largest_of_base(ranks)
    counts = [members_of_classes(classes, members, tied) for classes in by_precision]
    return {share: (ranks[share], [by_share[share] for by_share in counts]) for share in ALL_SHARES}


def members_of_classes(
    classes: ClassCounts, members: np.ndarray, tied: dict[float, Ties]
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
