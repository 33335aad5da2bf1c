"""When is an update visible? The grid of a number format decides, so the chance levels of
coordinates start here.

Coordinates are put in classes by their base value, in one of three schemes: one class a code (sign
and magnitude) where the base lies on a grid of 16 bits (`bfloat16`), one a sign and quarter octave
where it lies on a finer one (`float32`), and one a sign, quarter octave and place between two grid
values where it does not lie on the grid that it is seen through (`bfloat16 between`). For a class,
the chance that an update d shows up after rounding is a ramp in |d|: a jump where the base lies on
the grid (with ties to even), a straight rise over the width of its places otherwise: a base that
was itself trained from 16 bits lies nearer to grid values than by chance. What blind updates show
follows from these ramps alone (nulls.py, hull.py).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from opdviz.checkpoint.formats import step
from opdviz.definitions import PROBES, SIXTEEN_BITS

BETWEEN = " between"
# Between two grid values: enough that a blind update's share is known to a part in a thousand.
PLACES = 32
SIGN_WIDE = 1 << 10  # classes of one sign: 256 exponents of float32 in quarters
FLAGS = 1 << len(PROBES)  # one bit a probe: which of them see a coordinate
ZEROS = -(1 << 20)  # the bin of zeros, below every other
NO_NULLS = (
    "the steps of float8 differ by scale block, so what a blind update would show is not known"
)
# Mantissas at which a quarter octave ends, as the 23 fraction bits of a float32: comparing bits is
# exact and fast.
EDGES = np.array([2.0**23 * (2 ** (j / 4) - 1) for j in (1, 2, 3)])


def scheme_of(grid: str, *, on_grid: bool) -> str:
    """The scheme of classes of a base that is seen through a grid."""
    return grid if on_grid else grid + BETWEEN


def codes(w: Float[np.ndarray, "*n"], scheme: str) -> UInt[np.ndarray, "*n"]:
    """The class of each coordinate by its base value, as uint16."""
    if scheme.endswith(BETWEEN):
        return quarter_codes(w) * np.uint16(PLACES) + places(w, scheme.removesuffix(BETWEEN))
    # The values lie on the grid, so nothing is rounded here: the bits of the format are the class.
    if scheme == "float16":
        return w.astype(np.float16).view(np.uint16)
    if scheme == "bfloat16":
        # bfloat16 is the upper half of a float32.
        return (np.ascontiguousarray(w, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return quarter_codes(w)


def quarter_codes(w: Float[np.ndarray, "*n"]) -> UInt[np.ndarray, "*n"]:
    """Sign and quarter octave of each value."""
    bits = np.ascontiguousarray(w, dtype=np.float32).view(np.uint32)
    # By bits, as log2 of every coordinate would take ten times as long.
    fraction = bits & np.uint32(0x7FFFFF)
    quarter = ((bits >> 23) & np.uint32(0xFF)).astype(np.uint16) * np.uint16(4)
    for edge in EDGES:
        quarter += fraction >= np.uint32(np.ceil(edge))
    return quarter | ((bits >> 31).astype(np.uint16) * np.uint16(SIGN_WIDE))


def places(w: Float[np.ndarray, "*n"], grid: str) -> UInt[np.ndarray, "*n"]:
    """Where each value lies between the grid value below it in size (0) and the next one, in 32
    places.
    """
    # What bfloat16 cuts off a float32 is the way to the next grid value; five bits are 32 places.
    if grid == "bfloat16" and w.dtype == np.float32:
        return ((np.ascontiguousarray(w).view(np.uint32) >> 11) & np.uint32(PLACES - 1)).astype(
            np.uint16
        )
    # Elsewhere in float64, where the fraction of a step has digits to spare.
    steps = np.abs(w).astype(np.float64) / step(w, grid)
    return (PLACES * (steps - np.floor(steps))).astype(np.uint16)


@lru_cache(maxsize=8)
def magnitudes(scheme: str) -> Float[np.ndarray, " classes"]:
    """|w| of each unsigned class: exact for 16 bits, else the middle of the quarter octave; NaN
    beyond.
    """
    if scheme == "float16":
        return np.arange(1 << 15, dtype=np.uint16).view(np.float16).astype(np.float64)
    if scheme == "bfloat16":
        with np.errstate(invalid="ignore"):
            return (np.arange(1 << 15, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    quarter = np.arange(SIGN_WIDE)
    # 127 is the bias of float32's exponent, 1/8 the middle of a quarter on the logarithm. Below the
    # normal numbers a class counts as zero.
    middle = np.where(quarter < 4, 0.0, 2.0 ** (quarter / 4 + 1 / 8 - 127))
    return np.repeat(middle, PLACES) if scheme.endswith(BETWEEN) else middle


@lru_cache(maxsize=8)
def quarters(scheme: str) -> Int[np.ndarray, " classes"]:
    """The histogram bin of each unsigned class: j of [2^(j/4), 2^((j+1)/4)), or the least integer
    for zero.
    """
    values = magnitudes(scheme)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log2 of an exact power of two may come out just below it, and would fall into the bin
        # before.
        bins = np.floor(4 * np.log2(values) + 1e-9)
    return np.where(np.isfinite(bins), bins, ZEROS).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Ramps:
    """By group of classes, when an update is visible: 0 up to `start`, 1 from `end`, straight
    between.

    Row 0 of each array is for d > 0, row 1 for d < 0. Where start = end, `tie` says whether d at
    the jump is visible. `group` gives the group of every signed class.
    """

    group: Int[np.ndarray, " classes"]
    start: Float[np.ndarray, "2 groups"]
    end: Float[np.ndarray, "2 groups"]
    tie: Float[np.ndarray, "2 groups"]

    def of(self, classes: Int[np.ndarray, " some"]) -> "Ramps":
        """The ramps of some classes, and their groups alone: a few hundred of thousands."""
        used, group = np.unique(self.group[classes], return_inverse=True)
        return Ramps(group, self.start[:, used], self.end[:, used], self.tie[:, used])

    def each(self, classes: Int[np.ndarray, " some"]) -> "Ramps":
        """The ramps of some classes, each a group of its own."""
        used, group = self.group[classes], np.arange(len(classes))
        return Ramps(group, self.start[:, used], self.end[:, used], self.tie[:, used])


@lru_cache(maxsize=32)
def ramps(scheme: str, probe: str, threshold: float) -> Ramps:
    """When an update is visible, for every class of a scheme and one probe."""
    v, grid = magnitudes(scheme), scheme.removesuffix(BETWEEN)
    with np.errstate(over="ignore", invalid="ignore"):
        # The first value of T on either side at which the probe says changed. The relative probe
        # measures by the larger of |W| and |T|: outwards that is T, so T > W / (1 - eta); inwards
        # it is W.
        upper = v + threshold if probe == "absolute" else v / (1 - threshold)
        lower = v - threshold if probe == "absolute" else v * (1 - threshold)
        find = rises if scheme != grid else jumps if grid in SIXTEEN_BITS else fine_jumps
        outward, inward = find(v, upper, lower, grid)
    # Of a positive weight d > 0 leads outwards; of a negative one it leads towards zero.
    positive = np.column_stack([*outward, *inward])
    negative = np.column_stack([*inward, *outward])
    # Classes of NaN and Inf stay empty.
    signed = np.nan_to_num(np.concatenate([positive, negative]))
    # Thousands of codes of a format have the same ramp: all that follows works on a few hundred
    # groups.
    rows, group = distinct_rows(signed)
    start, end, tie = (rows.T[[i, i + 3]] for i in range(3))
    return Ramps(group, start, end, tie)


def distinct_rows(
    rows: Float[np.ndarray, "n columns"],
) -> tuple[Float[np.ndarray, "groups columns"], Int[np.ndarray, " n"]]:
    """The distinct rows in lexicographic order, and which of them each row is: what `np.unique`
    gives along an axis, in a fifth of its time, since no row is compared as a whole.

    >>> distinct_rows(np.array([[2.0, 1.0], [1.0, 5.0], [2.0, 1.0]]))
    (array([[1., 5.],
           [2., 1.]]), array([1, 0, 1]))
    """
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(rows), dtype=np.int64)
    group[order] = np.cumsum(is_first) - 1
    return ordered[is_first], group


Values = Float[np.ndarray, " classes"]


def jumps(v: Values, upper: Values, lower: Values, grid: str) -> tuple:
    """(start, end, tie) away from zero and towards it on an enumerated grid: midpoints before the
    first value beyond.
    """
    count = int(np.count_nonzero(np.isfinite(v)))
    finite = v[:count]
    signed = np.concatenate([-finite[:0:-1], finite])  # one zero; index count - 1 + j is +finite[j]
    over = np.minimum(np.searchsorted(finite, upper, side="right"), count - 1)
    # Rounding to nearest: what is stored changes at the midpoint before the first value beyond the
    # limit.
    outward = (finite[over] + finite[np.maximum(over - 1, 0)]) / 2 - v
    under = np.maximum(np.searchsorted(signed, lower, side="left") - 1, 0)
    inward = v - (signed[under] + signed[np.minimum(under + 1, len(signed) - 1)]) / 2
    # Ties go to even: whether the midpoint itself counts depends on the last bit of the value
    # beyond.
    even = (under - (count - 1)) % 2 == 0
    return (outward, outward, over % 2 == 0), (inward, inward, even)


def fine_jumps(v: Values, upper: Values, lower: Values, grid: str) -> tuple:
    """The same where the grid is far finer than a class: half a step before the first step beyond
    the limit.
    """
    # A tie would need one value out of millions in a class: none is counted.
    u, never = step(v, grid), np.zeros(len(v))
    ends = ((np.floor(x / u) + 0.5) * u for x in (upper - v, v - lower))
    return tuple((at, at, never) for at in ends)


def rises(v: Values, upper: Values, lower: Values, grid: str) -> tuple:
    """The same where the base lies between grid values, by place: the boundary to the next one is
    half a step from each.

    At a share f of the way the first boundary outwards is 1/2 - f steps away where f < 1/2 and 3/2
    - f where it is not, and inwards 1/2 + f and f - 1/2. Every further step is one more.
    """
    u, never = step(v, grid), np.zeros(len(v))
    # Classes are (magnitude, place): the places of one magnitude lie side by side.
    low = np.tile(np.arange(PLACES) / PLACES, len(v) // PLACES)
    high, past = low + 1 / PLACES, low >= 0.5
    outward = np.where(past, 1.5, 0.5) - np.stack([high, low])
    inward = np.where(past, -0.5, 0.5) + np.stack([low, high])
    whole = (np.floor(x / u) for x in (upper - v, v - lower))
    return tuple(
        ((steps + near) * u, (steps + far) * u, never)
        for steps, (near, far) in zip(whole, (outward, inward), strict=True)
    )


def visible_masks(
    w: Float[np.ndarray, " n"], d: Float[np.ndarray, " n"]
) -> list[Bool[np.ndarray, " n"]]:
    """Which coordinates are visible, for each of PROBES."""
    size = np.abs(d)
    masks = []
    for probe, threshold in PROBES:
        if probe == "absolute":
            masks.append(size > below(threshold, size.dtype))
        else:
            # Beside the larger of base and tuned, so that swapping the two changes nothing.
            masks.append(size > threshold * np.maximum(np.abs(w), np.abs(w + d)))
    return masks


def below(threshold: float, dtype: np.dtype) -> np.floating:
    """The largest number of `dtype` that is not above a threshold, so that comparing in it is
    exact.

    >>> bool(below(1e-5, np.dtype("float32")) <= 1e-5)
    True
    """
    # 1e-5 itself is no float32, and comparing in float64 would widen every block.
    with np.errstate(over="ignore"):  # what no such number reaches
        value = dtype.type(threshold)
    return value if float(value) <= threshold else np.nextafter(value, dtype.type(-np.inf))
