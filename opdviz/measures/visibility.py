"""When is an update visible? The grid of a number format decides, so the chance levels of coordinates start here.

Coordinates are put in classes by their base value: one class a code (sign and magnitude) for formats of 16 bits, one a
sign and quarter octave for wider ones. For a class, the chance that an update d shows up after rounding is a ramp in |d|:
a jump where the base lies on the grid (with ties to even), a straight rise over one grid step where it lies anywhere
between (a float32 base looked at as bf16). From it follow two nulls as expected values rather than as draws: (i) the
deltas permuted over the coordinates, (ii) Gaussian noise whose scale gives as many visible coordinates. Only the order of
magnitude of the base enters: both are blind to training.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from opdviz.checkpoint.formats import FORMATS, round_bfloat16, step
from opdviz.linalg import Work
from opdviz.pairing import Pair

PROBES = (("absolute", 0.0), ("absolute", 1e-5), ("relative", 1e-3))
SAMPLE = 1 << 20
SEED = 0
SIXTEEN = ("bfloat16", "float16")
SIGN_WIDE = 1 << 10
TINY = 1e-300
FAR = 40.0
ZEROS = -(1 << 20)
NO_NULLS = "float8, or a base stored finer than the tuned: storing alone moves it, so a blind update says nothing"
EDGES = np.array([2.0**23 * (2 ** (j / 4) - 1) for j in (1, 2, 3)])


def codes(w: np.ndarray, grid: str) -> np.ndarray:
    """The class of each coordinate by its base value, as uint16."""
    if grid == "float16":
        return w.astype(np.float16).view(np.uint16)
    bits = np.ascontiguousarray(w, dtype=np.float32).view(np.uint32)
    if grid == "bfloat16":
        return (bits >> 16).astype(np.uint16)
    fraction = bits & np.uint32(0x7FFFFF)
    quarter = ((bits >> 23) & np.uint32(0xFF)).astype(np.uint16) * np.uint16(4)
    for edge in EDGES:
        quarter += fraction >= np.uint32(np.ceil(edge))
    return quarter | ((bits >> 31).astype(np.uint16) * np.uint16(SIGN_WIDE))


@lru_cache(maxsize=8)
def magnitudes(grid: str) -> np.ndarray:
    """|w| of each unsigned class: exact for 16 bits, the middle of the quarter octave for wider formats; NaN beyond."""
    if grid == "float16":
        return np.arange(1 << 15, dtype=np.uint16).view(np.float16).astype(np.float64)
    if grid == "bfloat16":
        with np.errstate(invalid="ignore"):
            return (np.arange(1 << 15, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    quarter = np.arange(SIGN_WIDE)
    middle = 2.0 ** (quarter / 4 + 1 / 8 - 127)
    return np.where(quarter < 4, 0.0, middle)


@lru_cache(maxsize=8)
def quarters(grid: str) -> np.ndarray:
    """The histogram bin of each unsigned class: j of [2^(j/4), 2^((j+1)/4)), or the least integer for zero."""
    values = magnitudes(grid)
    with np.errstate(divide="ignore", invalid="ignore"):
        bins = np.floor(4 * np.log2(values) + 1e-9)
    return np.where(np.isfinite(bins), bins, ZEROS).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Ramps:
    """By group of classes, when an update is visible: 0 up to `start`, 1 from `end`, straight between.

    Row 0 of each array is for d > 0, row 1 for d < 0. Where start = end, `tie` says whether d at the jump is visible.
    `group` gives the group of every signed class.
    """

    group: np.ndarray
    start: np.ndarray
    end: np.ndarray
    tie: np.ndarray

    def only(self, used: np.ndarray) -> "Ramps":
        """The ramps of some groups."""
        return Ramps(self.group, self.start[:, used], self.end[:, used], self.tie[:, used])


@lru_cache(maxsize=32)
def ramps(grid: str, probe: str, threshold: float, on_grid: bool) -> Ramps:
    """When an update is visible, for every class of a format and one probe."""
    v = magnitudes(grid)
    with np.errstate(over="ignore", invalid="ignore"):
        upper = v + threshold if probe == "absolute" else v / (1 - threshold)
        lower = v - threshold if probe == "absolute" else v * (1 - threshold)
        find = (jumps if grid in SIXTEEN else fine_jumps) if on_grid else rises
        outward, inward = find(v, upper, lower, grid)
    positive = np.column_stack([*outward, *inward])
    negative = np.column_stack([*inward, *outward])
    signed = np.nan_to_num(np.concatenate([positive, negative]))  # classes of NaN and Inf stay empty
    rows, group = np.unique(signed, axis=0, return_inverse=True)
    start, end, tie = (rows.T[[i, i + 3]] for i in range(3))
    return Ramps(group.reshape(-1).astype(np.uint16), start, end, tie)


def jumps(v: np.ndarray, upper: np.ndarray, lower: np.ndarray, grid: str) -> tuple:
    """(start, end, tie) away from zero and towards it on an enumerated grid: midpoints before the first value beyond."""
    count = int(np.count_nonzero(np.isfinite(v)))
    finite = v[:count]
    signed = np.concatenate([-finite[:0:-1], finite])  # one zero; index count - 1 + j is +finite[j]
    over = np.minimum(np.searchsorted(finite, upper, side="right"), count - 1)
    outward = (finite[over] + finite[np.maximum(over - 1, 0)]) / 2 - v
    under = np.maximum(np.searchsorted(signed, lower, side="left") - 1, 0)
    inward = v - (signed[under] + signed[np.minimum(under + 1, len(signed) - 1)]) / 2
    even = (under - (count - 1)) % 2 == 0
    return (outward, outward, over % 2 == 0), (inward, inward, even)


def fine_jumps(v: np.ndarray, upper: np.ndarray, lower: np.ndarray, grid: str) -> tuple:
    """The same where the grid is far finer than a class: half a step before the first step beyond the limit."""
    u, never = step(v, grid), np.zeros(len(v))
    ends = ((np.floor(x / u) + 0.5) * u for x in (upper - v, v - lower))
    return tuple((at, at, never) for at in ends)


def rises(v: np.ndarray, upper: np.ndarray, lower: np.ndarray, grid: str) -> tuple:
    """The same where the base lies anywhere between grid values: j steps are crossed between (j - 1) u and j u."""
    u, never = step(v, grid), np.zeros(len(v))
    limits = (np.floor(x / u) * u for x in (upper - v, v - lower))
    return tuple((at, at + u, never) for at in limits)


@dataclass(frozen=True)
class Census:
    """Counts of a tensor's coordinates by class: all of them, and the visible ones of each probe."""

    grid: str
    on_grid: bool
    numel: int
    count: np.ndarray
    visible: tuple[np.ndarray, ...]
    permuted: tuple[np.ndarray, ...]
    gaussian: tuple[np.ndarray, ...]
    scale: tuple[float, ...]


def visible_masks(w: np.ndarray, d: np.ndarray) -> list[np.ndarray]:
    """Which coordinates are visible, for each of PROBES."""
    size = np.abs(d)
    masks = []
    for probe, threshold in PROBES:
        if probe == "absolute":
            masks.append(size > below(threshold, size.dtype))
        else:
            masks.append(size > threshold * np.maximum(np.abs(w), np.abs(w + d)))
    return masks


def below(threshold: float, dtype: np.dtype) -> np.floating:
    """The largest number of `dtype` that is not above a threshold, so that comparing in it is exact.

    >>> bool(below(1e-5, np.dtype("float32")) <= 1e-5)
    True
    """
    value = dtype.type(threshold)
    return value if float(value) <= threshold else np.nextafter(value, dtype.type(-np.inf))


def census(pair: Pair, work: Work, precision: str) -> Census:
    """The pair's census at a precision, taken once."""
    return work.once(("census", precision), lambda: take_census(pair, work, precision))


def take_census(pair: Pair, work: Work, precision: str) -> Census:
    """Count the classes and work out both nulls, probe by probe."""
    grid = pair.grid(precision)
    size = 2 * len(magnitudes(grid))
    count = np.zeros(size, dtype=np.int64)
    visible = [np.zeros(size, dtype=np.int64) for _ in PROBES]
    for w, d in work.elements(precision):
        code = codes(w, grid)
        count += np.bincount(code, minlength=size)
        for total, mask in zip(visible, visible_masks(w, d)):
            total += np.bincount(code[mask], minlength=size)
    sample = work.once(("sample",), lambda: Sample.of(work))
    on_grid = lies_on_grid(pair, work, precision)
    nulls = []
    for probe, seen in zip(PROBES, visible):
        found = ramps(grid, *probe, on_grid)
        nulls.append(null_shares(found, count, int(seen.sum()), sample))
    return Census(grid, on_grid, int(count.sum()), count, tuple(visible), *zip(*nulls))


def lies_on_grid(pair: Pair, work: Work, precision: str) -> bool:
    """Whether the base's values are values of the grid that the update is seen through."""
    if precision == "stored" or FORMATS[pair.base_dtype].mantissa <= FORMATS["bfloat16"].mantissa:
        return True
    return all(np.array_equal(round_bfloat16(w), w) for w, _ in work.elements("stored"))


@dataclass(frozen=True)
class Sample:
    """The stored deltas, or a seeded draw of about a million of them: |d| rising with its running sums, by sign."""

    size: int
    sides: tuple[np.ndarray, np.ndarray]
    sums: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, work: Work) -> "Sample":
        """The sample of a pair's stored deltas."""
        generator, share = np.random.default_rng(SEED), SAMPLE / work.base.size
        parts = [
            d if share >= 1 else d[generator.random(d.size, dtype=np.float32) < share]
            for _, d in work.elements("stored")
        ]
        d = np.sort(np.concatenate(parts)) if parts else np.empty(0)
        first, last = np.searchsorted(d, 0, side="left"), np.searchsorted(d, 0, side="right")
        sides = (d[last:], -d[:first][::-1])
        sums = tuple(np.concatenate([[0.0], np.cumsum(side, dtype=np.float64)]) for side in sides)
        return cls(d.size, sides, sums)

    def visible_share(self, found: Ramps) -> np.ndarray:
        """By group, the expected share of the deltas that would be visible there."""
        total = np.zeros(found.start.shape[1])
        for d, sums, start, end, tie in zip(self.sides, self.sums, found.start, found.end, found.tie):
            # compare in the deltas' own type: a float64 threshold would make searchsorted widen them all
            low, high = (
                np.searchsorted(d, start.astype(d.dtype), "right"),
                np.searchsorted(d, end.astype(d.dtype), "left"),
            )
            width = np.where(end > start, end - start, 1.0)
            rising = (sums[np.maximum(high, low)] - sums[low] - (high - low) * start) / width
            at_jump = tie * np.maximum(low - high, 0)
            total += np.where(end > start, rising + (d.size - high), d.size - low + at_jump)
        return total / self.size if self.size else total


def null_shares(found: Ramps, count: np.ndarray, visible: int, sample: Sample) -> tuple:
    """P(visible) of every class under null (i) permuted and (ii) Gaussian, and the Gaussian's scale."""
    weight = np.bincount(found.group, weights=count, minlength=found.start.shape[1])
    used = weight > 0
    part = found.only(used)
    permuted, gaussian = np.zeros(len(weight)), np.zeros(len(weight))
    permuted[used] = sample.visible_share(part)
    scale = matching_scale(part, weight[used], visible)
    gaussian[used] = gaussian_share(part.start, part.end, scale)
    return permuted[found.group], gaussian[found.group], scale


def gaussian_share(start: np.ndarray, end: np.ndarray, scale: float) -> np.ndarray:
    """By group, the probability that Gaussian noise of a scale is visible there.

    The mean of a ramp from a to b is the mean of P(d > t) for t between a and b; the integral of the normal tail Q is
    y Q(y) - phi(y).
    """
    if scale == 0:
        return np.zeros(start.shape[1])
    with np.errstate(over="ignore", under="ignore"):
        a, b = np.minimum(start / scale, FAR), np.minimum(end / scale, FAR)
        wide = b - a > 1e-6
        mean = (tail_integral(b) - tail_integral(a)) / np.where(wide, b - a, 1.0)
        return np.where(wide, mean, ndtr(-a)).sum(axis=0)


def tail_integral(y: np.ndarray) -> np.ndarray:
    """An antiderivative of the normal distribution's upper tail."""
    return y * ndtr(-y) - np.exp(-y * y / 2) / math.sqrt(2 * math.pi)


def matching_scale(found: Ramps, weight: np.ndarray, visible: int) -> float:
    """The scale at which Gaussian noise would show as many coordinates; 0 where none did, a large one where all did."""
    if not visible:
        return 0.0
    low = math.log(max(float(np.min(found.end)), TINY)) - 8
    high = min(math.log(max(float(np.max(found.end)), TINY)) + 16, 700.0)
    for _ in range(48):
        middle = (low + high) / 2
        if float(weight @ gaussian_share(found.start, found.end, math.exp(middle))) < visible:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
