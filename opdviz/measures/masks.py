"""Which coordinates a mask holds, by class: the largest of the base's reconstructions from its
leading directions, its smallest weights, and what is made of both.
"""

from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import scipy
from jaxtyping import Float, Int, UInt

from opdviz import order
from opdviz.chunks import CODES, Chunk
from opdviz.definitions import FIXED_RANK_SHARES, MASK_RANK, PROBES, SHARES, SIXTEEN_BITS
from opdviz.linalg import Decomposition, rank_of_share
from opdviz.linalg.reconstruction import Ties
from opdviz.measures.nulls import Census, census, classes_of, visible_flags
from opdviz.measures.visibility import FLAGS, Ramps, magnitudes, ramps
from opdviz.order import Cut, places_of

ALL_SHARES = (*SHARES, *FIXED_RANK_SHARES)
NAMES = ("principal", "low_magnitude", "principal_not_low", "nonprincipal_or_low")
NOT_YET = -1  # in place of a position
MEMBERSHIPS = 1 << len(ALL_SHARES)  # one bit a share: in which principal masks it is
# Whether a membership (rows) has the mask of a share (columns).
IS_MEMBER = (np.arange(MEMBERSHIPS)[:, None] >> np.arange(len(ALL_SHARES))) & 1
Integers = Int[np.ndarray, " n"] | UInt[np.ndarray, " n"]


@dataclass(frozen=True)
class Classing:
    """How the coordinates of one precision are classed: a class has the number
    ((group * levels) + level) * FLAGS + visible flags.

    `of_class` has the number of each class of the census' scheme, at its lowest level where the
    scheme does not say which; `low` by share the weight of each level in the mask of the smallest.
    """

    scheme: str
    of_class: UInt[np.ndarray, " classes"]
    thresholds: Float[np.ndarray, " thresholds"]
    groups: int
    low: Float[np.ndarray, "levels shares"]
    nulls: tuple[tuple[np.ndarray, np.ndarray], ...]
    edges: tuple[Ramps, ...]

    @property
    def size(self) -> int:
        """How many classes there can be."""
        return self.groups * len(self.low) * FLAGS

    def numbers(self, chunk: Chunk) -> UInt[np.ndarray, " n"]:
        """The class of each coordinate of a chunk."""
        numbers = self.of_class.take(classes_of(chunk, self.scheme))
        if self.scheme not in SIXTEEN_BITS:
            numbers += level_of(np.abs(chunk.base), self.thresholds).astype(np.uint32) * FLAGS
        numbers[chunk.moved] += visible_flags(chunk)
        return numbers


def classing(work: Decomposition, precision: str) -> Classing:
    """The classes of a pair's coordinates at one precision."""
    counted = census(work, precision)
    group, nulls, edges = joint_groups(counted)
    thresholds, low = magnitude_levels(work, precision, counted)
    of_class = group * np.uint32(len(low) * FLAGS)
    if counted.scheme in SIXTEEN_BITS:  # a class of the scheme is a value, and says the level too
        values = np.tile(magnitudes(counted.scheme), 2)
        of_class += level_of(values, thresholds).astype(np.uint32) * FLAGS
    groups = int(group.max()) + 1
    return Classing(counted.scheme, of_class, thresholds, groups, low, nulls, edges)


class Tally:
    """Coordinates counted by class and by the principal masks that hold them: of the classes in
    use alone, which are few of the possible ones.
    """

    def __init__(self, size: int):
        self.positions = np.full(size, NOT_YET, dtype=np.intp)
        self.classes = np.empty(0, dtype=np.int64)
        self.counts = np.zeros((0, MEMBERSHIPS), dtype=np.int64)

    def add(self, numbers: UInt[np.ndarray, " n"], members: UInt[np.ndarray, " n"]) -> None:
        """Count some coordinates: the numbers of their classes, and a bit for each mask."""
        joint = self.rows(numbers) * MEMBERSHIPS
        joint += members
        # Where they stand: thousands of classes would be made and added for every chunk.
        np.add.at(self.counts.reshape(-1), joint, 1)

    def rows(self, numbers: Integers) -> Int[np.ndarray, " n"]:
        """The rows of `counts` for some classes: new ones for what comes for the first time."""
        numbers = numbers.astype(np.intp)
        positions = self.positions[numbers]
        if (positions == NOT_YET).any():
            in_use = np.zeros(self.positions.size, dtype=bool)
            in_use[numbers] = True
            new = np.flatnonzero(in_use & (self.positions == NOT_YET))
            self.take(new, np.zeros((new.size, MEMBERSHIPS), dtype=np.int64))
            positions = self.positions[numbers]
        return positions

    def take(
        self, classes: Int[np.ndarray, " new"], counts: Int[np.ndarray, "new memberships"]
    ) -> None:
        """Take classes that are not here yet, and their counts."""
        self.positions[classes] = np.arange(self.classes.size, self.classes.size + classes.size)
        self.classes = np.concatenate([self.classes, classes])
        self.counts = np.concatenate([self.counts, counts])


@dataclass(frozen=True)
class Counted:
    """One precision's coordinates by group and visible flags: of all, and inside each mask.

    `names` has the mask and its share, in the order of `masks`; `nulls` and `edges` have by probe
    the probabilities of the groups under both nulls, and their ramps.
    """

    scheme: str
    whole: Float[np.ndarray, "groups flags"]
    names: list[tuple[str, float]]
    masks: Float[np.ndarray, "masks groups flags"]
    nulls: tuple[tuple[np.ndarray, np.ndarray], ...]
    edges: tuple[Ramps, ...]


def counted(
    work: Decomposition,
    precision: str,
    members: UInt[np.ndarray, " numel"],
    tied: dict[float, Ties],
) -> Counted:
    """The coordinates of a pair at one precision, counted in one pass; `members` has a bit for each
    principal mask that holds a coordinate for certain, `tied` those at its cut.
    """
    classes = classing(work, precision)
    tally, at_the_cut = tally_of(work, precision, classes, members, tied)
    # As float64, in which whole numbers of coordinates are exact, for the sake of a fast product.
    by_members = tally.counts.astype(np.float64)
    principal = by_members @ IS_MEMBER
    for column, share in enumerate(ALL_SHARES):
        counts = np.bincount(at_the_cut[share], minlength=len(principal))
        principal[:, column] += tied[share][1] * counts
    return summed(classes, tally.classes, by_members.sum(axis=1), principal)


@singledispatch
def tally_of(
    work: Decomposition,
    precision: str,
    classes: Classing,
    members: UInt[np.ndarray, " numel"],
    tied: dict[float, Ties],
) -> tuple[Tally, dict[float, Int[np.ndarray, " ties"]]]:
    """The coordinates of a finite pair by class and by the masks that hold them, and by share the
    rows of the tally for those at its cut. A device has its own (`accelerated`).
    """
    tally = Tally(classes.size)
    ties = {share: np.sort(at) for share, (at, _) in tied.items()}
    at_the_cut: dict[float, list[np.ndarray]] = {share: [] for share in tied}
    first = 0
    for chunk in work.chunks(precision):
        numbers = classes.numbers(chunk)
        past = first + numbers.size
        tally.add(numbers, members[first:past])
        for share, at in ties.items():
            places = at[slice(*np.searchsorted(at, [first, past]))] - first
            at_the_cut[share].append(tally.rows(numbers[places]))
        first = past
    return tally, {share: np.concatenate(rows) for share, rows in at_the_cut.items()}


def summed(
    classes: Classing,
    numbers: Int[np.ndarray, " used"],
    everything: Float[np.ndarray, " used"],
    principal: Float[np.ndarray, "used shares"],
) -> Counted:
    """Counts by class, of all coordinates and inside each principal mask, as counts of every mask:
    the levels do their work, and are summed over.
    """
    level = numbers // FLAGS % len(classes.low)
    cells = numbers // (len(classes.low) * FLAGS) * FLAGS + numbers % FLAGS
    low = classes.low[level]
    # Ties of the two masks are shared out independently of each other.
    not_low = principal * (1 - low)
    every = everything[:, None]
    columns = np.stack([principal, every * low, not_low, every - not_low], axis=2)
    columns = np.concatenate([every, columns.reshape(len(numbers), -1)], axis=1)
    # Summed by cell: a matrix of zeros and ones, as numpy would take each column by itself.
    members_of_cells = scipy.sparse.csr_array(
        (np.ones(cells.size), (cells, np.arange(cells.size))),
        shape=(classes.groups * FLAGS, cells.size),
    )
    sums = (members_of_cells @ columns).T.reshape(-1, classes.groups, FLAGS)
    names = [(mask, share) for share in ALL_SHARES for mask in NAMES]
    return Counted(classes.scheme, sums[0], names, sums[1:], classes.nulls, classes.edges)


def joint_groups(taken: Census) -> tuple[np.ndarray, tuple, tuple[Ramps, ...]]:
    """A group number a class, over all probes at once; by probe, P(visible) by group under both
    nulls, and its ramps.
    """
    by_probe = [ramps(taken.scheme, *probe) for probe in PROBES]
    # Classes that are alike under every probe are one group: ids stay few.
    _, first, inverse = np.unique(
        np.stack([r.group[taken.classes] for r in by_probe], axis=1),
        axis=0,
        return_index=True,
        return_inverse=True,
    )
    joint = np.zeros(2 * len(magnitudes(taken.scheme)), dtype=np.uint32)
    joint[taken.classes] = inverse.reshape(-1)
    nulls = tuple((p[first], g[first]) for p, g in zip(taken.permuted, taken.gaussian, strict=True))
    return joint, nulls, tuple(r.each(taken.classes[first]) for r in by_probe)


def magnitude_levels(
    work: Decomposition, precision: str, counted: Census
) -> tuple[Float[np.ndarray, " thresholds"], Float[np.ndarray, "levels shares"]]:
    """The distinct thresholds of the low-magnitude masks, and each level's weight in the mask of
    each share: 1, a tie's part, or 0.
    """
    places = [places_of(share, counted.numel) for share in ALL_SHARES]
    cuts = cuts_of(work, precision, counted, places)
    thresholds = np.unique([cut.value for cut in cuts])
    low = np.zeros((2 * len(thresholds) + 1, len(places)))
    for column, (k, cut) in enumerate(zip(places, cuts, strict=True)):
        at = int(np.searchsorted(thresholds, cut.value))
        low[: 2 * at + 1, column] = 1.0
        # 16-bit weights tie by the thousand: those at the threshold share the places that are left,
        # as any choice among them would be somebody's order.
        low[2 * at + 1, column] = (k - cut.below) / cut.tied
    return thresholds, low


def cuts_of(work: Decomposition, precision: str, counted: Census, places: list[int]) -> list[Cut]:
    """The k-th smallest |W| for some k: of a 16-bit grid by the counts of its values, which the
    census has.
    """
    if counted.scheme not in SIXTEEN_BITS:
        return order.cuts(lambda: ((np.abs(c.base), None) for c in work.chunks(precision)), places)
    counts = np.zeros(CODES // 2, dtype=np.int64)
    np.add.at(counts, counted.without_sign(), counted.count)
    up_to = np.cumsum(counts)
    return [
        Cut(float(magnitudes(counted.scheme)[at]), int(up_to[at] - counts[at]), int(counts[at]))
        for at in np.searchsorted(up_to, places)
    ]


def level_of(sizes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """2 j between thresholds j - 1 and j, 2 j + 1 at threshold j."""
    level = np.zeros(sizes.shape, dtype=np.uint8)
    # Thresholds are some of the sizes. Two comparisons with each, in their own type, instead of
    # searchsorted, which would widen every block.
    for threshold in thresholds.astype(sizes.dtype):
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
