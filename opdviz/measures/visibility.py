"""When is an update visible? The grid of a number format decides, so the chance levels of coordinates start here.

Coordinates are put in classes by their base value: one class a code (sign and magnitude) for formats of 16 bits, one a
sign and quarter octave for wider ones. For a class, the least |d| that shows up after rounding is known. From it follow
two nulls as expected values rather than as draws: (i) the deltas permuted over the coordinates, (ii) Gaussian noise whose
scale gives as many visible coordinates. Only the order of magnitude of the base enters: both are blind to training.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from opdviz.checkpoint.formats import step
from opdviz.linalg import Work
from opdviz.pairing import Pair

PROBES = (("absolute", 0.0), ("absolute", 1e-5), ("relative", 1e-3))
SAMPLE = 1 << 20
SEED = 0
SIXTEEN = ("bfloat16", "float16")
SIGN_WIDE = 1 << 10
TINY = 1e-300
ZEROS = -(1 << 20)
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
class Boundaries:
    """By signed class: least |d| away from zero and towards it that is visible, and whether a tie rounds that way.

    `group` numbers the distinct rows; the arrays hold one entry a group.
    """

    group: np.ndarray
    outward: np.ndarray
    inward: np.ndarray
    tie_outward: np.ndarray
    tie_inward: np.ndarray
    negative: np.ndarray


@lru_cache(maxsize=16)
def boundaries(grid: str, probe: str, threshold: float) -> Boundaries:
    """What an update must exceed to be visible, for every class of a format and one probe."""
    v = magnitudes(grid)
    with np.errstate(over="ignore", invalid="ignore"):
        upper = v + threshold if probe == "absolute" else v / (1 - threshold)
        lower = v - threshold if probe == "absolute" else v * (1 - threshold)
        find = on_grid if grid in SIXTEEN else on_fine_grid
        table = np.nan_to_num(np.stack(find(v, upper, lower, grid), axis=1))  # classes of NaN and Inf stay empty
    signed = np.concatenate([np.c_[table, np.zeros(len(v))], np.c_[table, np.ones(len(v))]])
    rows, group = np.unique(signed, axis=0, return_inverse=True)
    return Boundaries(group.reshape(-1).astype(np.uint16), *rows.T)


def on_grid(v: np.ndarray, upper: np.ndarray, lower: np.ndarray, grid: str) -> tuple:
    """Boundaries on an enumerated grid: midpoints before the first value beyond each limit, ties to even."""
    count = int(np.count_nonzero(np.isfinite(v)))
    finite = v[:count]
    signed = np.concatenate([-finite[:0:-1], finite])  # one zero; index count - 1 + j is +finite[j]
    over = np.minimum(np.searchsorted(finite, upper, side="right"), count - 1)
    outward = (finite[over] + finite[np.maximum(over - 1, 0)]) / 2 - v
    under = np.maximum(np.searchsorted(signed, lower, side="left") - 1, 0)
    inward = v - (signed[under] + signed[np.minimum(under + 1, len(signed) - 1)]) / 2
    even = np.abs(under - (count - 1)) % 2 == 0
    return outward, inward, over % 2 == 0, even


def on_fine_grid(v: np.ndarray, upper: np.ndarray, lower: np.ndarray, grid: str) -> tuple:
    """Boundaries where the grid is far finer than a class: half a step before the first step beyond the limit."""
    u = step(v, grid)
    never = np.zeros(len(v))
    return tuple((np.floor(x / u) + 0.5) * u for x in (upper - v, v - lower)) + (never, never)


@dataclass(frozen=True)
class Census:
    """Counts of a tensor's coordinates by class: all of them, and the visible ones of each probe."""

    grid: str
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
    sample = sampled_deltas(work, precision)
    nulls = [null_shares(grid, probe, count, seen, sample) for probe, seen in zip(PROBES, visible)]
    return Census(grid, int(count.sum()), count, tuple(visible), *zip(*nulls))


def sampled_deltas(work: Work, precision: str) -> np.ndarray:
    """The deltas in rising order: all of them, or a seeded draw of about a million."""
    total = work.base.size
    generator = np.random.default_rng(SEED)
    parts = []
    for _, d in work.elements(precision):
        if total > SAMPLE:
            d = d[generator.random(d.size, dtype=np.float32) < SAMPLE / total]
        parts.append(d)
    return np.sort(np.concatenate(parts))


def null_shares(grid: str, probe: tuple, count: np.ndarray, seen: np.ndarray, sample: np.ndarray) -> tuple:
    """P(visible) of every class under null (i) permuted and (ii) Gaussian, and the Gaussian's scale."""
    edge = boundaries(grid, *probe)
    weight = np.bincount(edge.group, weights=count, minlength=len(edge.outward))
    permuted = permuted_share(edge, sample, weight)
    used = weight > 0
    scale = matching_scale(edge.outward[used], edge.inward[used], weight[used], int(seen.sum()))
    gaussian = gaussian_share(edge.outward, edge.inward, scale)
    return permuted[edge.group], gaussian[edge.group], scale


def permuted_share(edge: Boundaries, sample: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """By group, the share of the deltas that would be visible there."""
    used = weight > 0
    share = np.zeros(len(weight))
    if not sample.size:
        return share
    sign = np.where(edge.negative[used] > 0, -1, 1)
    up = np.where(sign > 0, edge.outward[used], edge.inward[used])
    down = np.where(sign > 0, edge.inward[used], edge.outward[used])
    tie_up = np.where(sign > 0, edge.tie_outward[used], edge.tie_inward[used])
    tie_down = np.where(sign > 0, edge.tie_inward[used], edge.tie_outward[used])
    above = sample.size - np.searchsorted(sample, up, side="right")
    at_up = sample.size - np.searchsorted(sample, up, side="left") - above
    beneath = np.searchsorted(sample, -down, side="left")
    at_down = np.searchsorted(sample, -down, side="right") - beneath
    share[used] = (above + beneath + tie_up * at_up + tie_down * at_down) / sample.size
    return share


def gaussian_share(outward: np.ndarray, inward: np.ndarray, scale: float) -> np.ndarray:
    """By group, the probability that Gaussian noise of a scale is visible there."""
    if scale == 0:
        return np.zeros(len(outward))
    with np.errstate(over="ignore"):  # a boundary far beyond the noise is at minus infinity: probability 0
        return ndtr(-outward / scale) + ndtr(-inward / scale)


def matching_scale(outward: np.ndarray, inward: np.ndarray, weight: np.ndarray, visible: int) -> float:
    """The scale at which Gaussian noise would show as many coordinates; 0 where none did, a large one where all did."""
    if not visible:
        return 0.0
    low = math.log(max(float(np.min(inward)), TINY)) - 8
    high = math.log(max(float(np.max(outward)), TINY)) + 16
    for _ in range(60):
        middle = (low + high) / 2
        if float(weight @ gaussian_share(outward, inward, math.exp(middle))) < visible:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
