"""Two nulls of an update's coordinates, as expected values rather than as draws, and the counts
they start from.

(i) The deltas permuted over the coordinates, (ii) Gaussian noise whose scale gives as many visible
coordinates. Only the order of magnitude of the base enters: both are blind to training. Both are
typical blind updates; what any blind update could give is the hull of `hull.py`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import scipy
from jaxtyping import Float, Int, UInt

from opdviz import order
from opdviz.chunks import Chunk, Coded, on_grid
from opdviz.definitions import PROBES
from opdviz.linalg import Decomposition
from opdviz.measures.visibility import (
    BETWEEN,
    FLAGS,
    Ramps,
    codes,
    magnitudes,
    ramps,
    scheme_of,
    visible_masks,
)

SORTED = 1 << 20  # deltas that are kept one by one; more are counted by size
# Low bits of a float32 that a size class leaves open: half steps of a 16-bit grid are edges of
# classes.
KEPT_BITS = 12
TINY = 1e-300  # a step of zero has no logarithm
FAR = 40.0  # standard deviations: the normal tail there is below the least float64
# Whether a set of probes (rows) has a probe (columns).
SEEN_BY = (np.arange(FLAGS)[:, None] >> np.arange(len(PROBES))) & 1
SCALE_PRECISION = 5e-12  # of the logarithm of a scale


@dataclass(frozen=True)
class Census:
    """Counts of a tensor's coordinates by class: all, and the visible ones of each probe; of the
    classes in use, which are a few hundred of tens of thousands.

    `permuted` and `gaussian` have each class' share that would be visible under both nulls, `scale`
    the Gaussian's, all by probe.
    """

    scheme: str
    numel: int
    classes: Int[np.ndarray, " used"]
    count: Int[np.ndarray, " used"]
    visible: tuple[Int[np.ndarray, " used"], ...]
    permuted: tuple[Float[np.ndarray, " used"], ...]
    gaussian: tuple[Float[np.ndarray, " used"], ...]
    scale: tuple[float, ...]

    def without_sign(self) -> Int[np.ndarray, " used"]:
        """The classes in use as positions in a table of magnitudes."""
        return self.classes % len(magnitudes(self.scheme))


def census(work: Decomposition, precision: str) -> Census:
    """The pair's census at a precision, taken once."""
    return work.once(("census", precision), lambda: take_census(work, precision))


def take_census(work: Decomposition, precision: str) -> Census:
    """Count the classes and work out both nulls, probe by probe."""
    scheme = scheme_of(work.grid(precision), on_grid=lies_on_grid(work, precision))
    size = 2 * len(magnitudes(scheme))
    every, by_flags = count_classes(work, precision, scheme, size)
    classes = np.flatnonzero(every)
    count, visible = every[classes], (by_flags[classes] @ SEEN_BY).T
    # Of the stored values, whatever the precision: rounding first would leave zeros to permute.
    deltas = work.once(("deltas",), lambda: Deltas.of(work))
    nulls = []
    for probe, by_class in zip(PROBES, visible, strict=True):
        edges, total = ramps(scheme, *probe).of(classes), int(by_class.sum())
        nulls.append(null_shares(edges, count, total, deltas))
    numel = int(count.sum())
    return Census(scheme, numel, classes, count, tuple(visible), *zip(*nulls, strict=True))


@singledispatch
def count_classes(
    work: Decomposition, precision: str, scheme: str, size: int
) -> tuple[Int[np.ndarray, " size"], Int[np.ndarray, "size flags"]]:
    """The coordinates of each class of a scheme; and of those that moved, of each class and set of
    probes that see them. A device has its own (`accelerated`).
    """
    count = np.zeros(size, dtype=np.int64)
    by_flags = np.zeros(size * FLAGS, dtype=np.int64)
    for chunk in work.values(precision):
        code = classes_of(chunk, scheme)
        count += order.histogram(code, chunk.often, size)
        joint = code[chunk.moved].astype(np.intp) * FLAGS + visible_flags(chunk)
        # Where they stand: half a million counts would be made and added for every chunk.
        np.add.at(by_flags, joint, 1 if chunk.often is None else chunk.moved_often)
    return count, by_flags.reshape(size, FLAGS)


def classes_of(chunk: Chunk, scheme: str) -> np.ndarray:
    """The class of each coordinate: that of the base as it was before any rounding."""
    if isinstance(chunk, Coded):  # its codes are the classes of its format's scheme
        return chunk.base.codes
    values = chunk.origin if scheme.endswith(BETWEEN) else chunk.base
    return chunk.once(("classes", scheme), lambda: codes(values, scheme))


def visible_flags(chunk: Chunk) -> UInt[np.ndarray, " moved"]:
    """Of those that moved, one bit for each of PROBES that sees them: what did not move none
    does.
    """

    def flags() -> np.ndarray:
        bits = np.zeros(chunk.delta.size, dtype=np.uint8)
        for bit, mask in enumerate(visible_masks(chunk.moved_base, chunk.delta)):
            bits |= mask.view(np.uint8) << np.uint8(bit)
        return bits

    return chunk.once(("visible",), flags)


def lies_on_grid(work: Decomposition, precision: str) -> bool:
    """Whether the base's own values are values of the grid that the update is seen through."""
    if precision == "stored":
        return not work.off_grid
    return work.once(("on bfloat16",), lambda: on_grid(work.origin, "bfloat16"))


@dataclass(frozen=True, slots=True)
class Sizes:
    """The deltas of one sign: sizes rising, how many are up to each position, and their sum up to
    there.
    """

    values: Float[np.ndarray, " sizes"]
    counts: Int[np.ndarray, " positions"]
    sums: Float[np.ndarray, " positions"]

    @classmethod
    def each(
        cls, values: Float[np.ndarray, " sizes"], often: Int[np.ndarray, " sizes"] | None = None
    ) -> "Sizes":
        """Sorted sizes one by one, and how often each occurs where that is not once."""
        sums = summed(values if often is None else values * often)
        return cls(values, order.running(values.size, often), sums)

    def up_to(self, at: np.ndarray, side: str) -> np.ndarray:
        """Positions in the running counts and sums of sizes below (`left`) or up to (`right`) some
        values.

        Compared in the sizes' own type: float64 values would make searchsorted widen them all.
        """
        with np.errstate(over="ignore"):  # what is beyond the type is beyond every size
            return np.searchsorted(self.values, at.astype(self.values.dtype), side)


def summed(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n_and_one"]:
    """Running sums from 0, in float64."""
    sums = np.empty(values.size + 1)
    sums[0], sums[1:] = 0.0, values
    return np.cumsum(sums, out=sums)


@dataclass(frozen=True, slots=True)
class Deltas:
    """The stored deltas that are not zero, by sign: by their values up to a million, counted by
    size class beyond. `size` is that of the tensor.

    Drawing a million of them instead was tried: a draw's error is wider than the band that the
    nulls make (docs/decisions.md).
    """

    size: int
    sides: tuple[Sizes, Sizes]

    @classmethod
    def of(cls, work: Decomposition) -> "Deltas":
        """The deltas of a pair."""
        numel = work.base.size - work.nonfinite
        if sum(chunk.delta.size for chunk in work.values("stored")) > SORTED:
            return cls.counted((chunk.delta for chunk in work.chunks("stored")), numel)
        blocks = ((chunk.delta, chunk.moved_often) for chunk in work.values("stored"))
        d, often = order.ordered(blocks)
        first = int(np.searchsorted(d, 0))  # none of them is zero
        sides = [d[first:], -d[:first][::-1]]
        often_of = [None, None] if often is None else [often[first:], often[:first][::-1]]
        return cls(numel, tuple(map(Sizes.each, sides, often_of)))

    @classmethod
    def counted(cls, deltas: Iterable[np.ndarray], numel: int) -> "Deltas":
        """Counts by the leading 20 bits of a float32, and apart those that are exactly the class's
        lower edge.

        A threshold of a 16-bit grid is half a step at some number of steps: an edge, and so every
        comparison with it is exact. Between edges a class stands at its mean, 2^-12 apart.
        """
        classes = 1 << (33 - KEPT_BITS)
        counts, sums = np.zeros(classes, dtype=np.int64), np.zeros(classes)
        for d in deltas:
            # Sorted, a class is a run: two million classes would be added up for every chunk.
            d = np.sort(d)
            bits = d.astype(np.float32).view(np.uint32)
            # Twice the leading bits, and one more where any later bit is set: an edge stands apart
            # from what lies beyond it.
            code = 2 * (bits >> KEPT_BITS) + ((bits & ((1 << KEPT_BITS) - 1)) != 0)
            starts = np.flatnonzero(np.diff(code, prepend=~code[:1]))
            counts[code[starts]] += np.diff(starts, append=d.size)
            sums[code[starts]] += np.add.reduceat(np.abs(d), starts, dtype=np.float64)
        half = classes // 2  # the sign is the highest bit
        parts = ((counts[first : first + half], sums[first : first + half]) for first in (0, half))
        return cls(numel, tuple(cls.side(*part) for part in parts))

    @staticmethod
    def side(counts: np.ndarray, sums: np.ndarray) -> Sizes:
        """The classes of one sign that are not empty, zeros left out."""
        used = np.flatnonzero(counts)
        used = used[used > 0]
        held = np.concatenate([[0], np.cumsum(counts[used])])
        return Sizes(sums[used] / counts[used], held, summed(sums[used]))

    def visible_share(self, edges: Ramps) -> np.ndarray:
        """By group, the share of the deltas that would be visible there."""
        total = np.zeros(edges.start.shape[1])
        for sizes, start, end, tie in zip(
            self.sides, edges.start, edges.end, edges.tie, strict=True
        ):
            # Of sizes up to `start` none shows, from `end` on all do; in between a size d shows
            # with (d - start) / (end - start), whose sum needs the sizes' count and sum alone.
            below, up_to = sizes.up_to(end, "left"), sizes.up_to(start, "right")
            low, high, every = sizes.counts[up_to], sizes.counts[below], sizes.counts[-1]
            width = np.where(end > start, end - start, 1.0)
            between = sizes.sums[np.maximum(below, up_to)] - sizes.sums[up_to]
            rising = (between - (high - low) * start) / width
            # At a jump low counts the ties, high does not.
            at_jump = tie * np.maximum(low - high, 0)
            total += np.where(end > start, rising + (every - high), every - low + at_jump)
        return total / self.size if self.size else total


def null_shares(edges: Ramps, count: np.ndarray, visible: int, deltas: Deltas) -> tuple:
    """P(visible) of every class under null (i) permuted and (ii) Gaussian, and the Gaussian's
    scale.
    """
    weight = np.bincount(edges.group, weights=count, minlength=edges.start.shape[1])
    permuted = deltas.visible_share(edges)
    scale = matching_scale(edges, weight, visible)
    gaussian = gaussian_share(edges.start, edges.end, scale)
    return permuted[edges.group], gaussian[edges.group], scale


def gaussian_share(
    start: Float[np.ndarray, "2 groups"], end: Float[np.ndarray, "2 groups"], scale: float
) -> Float[np.ndarray, " groups"]:
    """By group, the probability that Gaussian noise of a scale is visible there.

    The mean of a ramp from a to b is the mean of P(d > t) for t between a and b; the integral of
    the normal tail Q is y Q(y) - phi(y).
    """
    if scale == 0:  # nothing showed, and nothing would
        return np.zeros(start.shape[1])
    with np.errstate(over="ignore", under="ignore"):
        # Beyond 40 standard deviations the tail is zero in float64, and its integral the difference
        # of two equal numbers.
        a, b = np.minimum(start / scale, FAR), np.minimum(end / scale, FAR)
        # A narrow ramp would divide the rounding of two tails by its width; a jump is exact there.
        wide = b - a > 1e-6
        if not wide.any():
            return scipy.special.ndtr(-a).sum(axis=0)
        mean = (tail_integral(b) - tail_integral(a)) / np.where(wide, b - a, 1.0)
        return np.where(wide, mean, scipy.special.ndtr(-a)).sum(axis=0)


def tail_integral(y: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """An antiderivative of the normal distribution's upper tail."""
    return y * scipy.special.ndtr(-y) - np.exp(-y * y / 2) / math.sqrt(2 * math.pi)


def matching_scale(edges: Ramps, weight: np.ndarray, visible: int) -> float:
    """The scale at which Gaussian noise would show as many coordinates; 0 where none did, a large
    one where all did.
    """
    if not visible:
        return 0.0
    # In the logarithm, as scales lie between subnormal steps and the largest weights.
    # Eight e-folds below the smallest step nothing shows; sixteen above the largest all does.
    low = math.log(max(float(np.min(edges.end)), TINY)) - 8
    high = min(math.log(max(float(np.max(edges.end)), TINY)) + 16, 700.0)

    def excess(log_scale: float) -> float:
        share = gaussian_share(edges.start, edges.end, math.exp(log_scale))
        return float(weight @ share) - visible

    # Some show under any noise, and all may have shown: then an end is as near as any.
    if excess(low) >= 0:
        return math.exp(low)
    if excess(high) <= 0:
        return math.exp(high)
    # Bracketed: where few coordinates are left to show, the share is flat and a slope misleads.
    return math.exp(scipy.optimize.brentq(excess, low, high, xtol=SCALE_PRECISION))
