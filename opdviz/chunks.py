"""A pair's coordinates, a few hundred thousand at a time; what is asked of some of them again and
again is worked out once.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from opdviz.checkpoint.formats import Promoted, round_bfloat16, rounded

# Elements at a time: 2 MB in float64, so that a chunk and its copy stay in the second-level cache.
CHUNK = 1 << 18
# Elements of which several arrays stay there from one operation to the next.
BLOCK = 1 << 15
# Elements of a tensor whose chunks stay for the next who asks: of more, what they remember is much
# memory.
KEPT = 1 << 22
CODES = 1 << 16  # of sixteen bits
NO_SIGN = np.uint16(CODES // 2 - 1)
Side = np.ndarray | Promoted


class Remembering:
    """Something of which much is asked more than once."""

    def __init__(self):
        self.memo: dict[Hashable, object] = {}

    def known(self, key: Hashable):
        """What was worked out under a key; `None` where nothing was."""
        return self.memo.get(key)

    def once(self, key: Hashable, make: Callable[[], object]):
        """`make()` the first time that `key` is asked for, the same value afterwards."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


class Chunk(Remembering):
    """Some finite coordinates of a pair at one precision, flat, and those of them that moved.

    `base` and `tuned` are as they are compared, `origin` is the base before any rounding. Where
    `often` says so, each entry stands for as many coordinates.
    """

    def __init__(
        self,
        origin: Side,
        base: Side,
        tuned: Side,
        often: Int[np.ndarray, " n"] | None = None,
    ):
        super().__init__()
        self.origin, self.base, self.tuned, self.often = origin, base, tuned, often
        self.size = base.size if often is None else int(often.sum())

    @cached_property
    def moved(self) -> np.ndarray | slice:
        """The positions of those that changed by value, of which -0.0 and 0.0 are one; a slice
        where all did.
        """
        changed = self.base != self.tuned
        if changed.all():
            return slice(None)
        # Positions, as a mask would be searched by everybody who asks.
        return np.flatnonzero(changed)

    @property
    def is_finite(self) -> Bool[np.ndarray, " n"]:
        """Which of them are finite on both sides, where that is not known of all."""
        return np.isfinite(self.base) & np.isfinite(self.tuned)

    def products(self) -> tuple[float, float, float]:
        """<w, w>, <t, t> and <w, t> of base w and tuned t, in float64."""
        return self.once(("products",), self.summed_products)

    def summed_products(self) -> tuple[float, float, float]:
        """The same, summed."""
        w, t = (np.asarray(side, dtype=np.float64) for side in (self.base, self.tuned))
        if self.often is None:
            return float(w @ w), float(t @ t), float(w @ t)
        return float(self.often @ w**2), float(self.often @ t**2), float(self.often @ (w * t))

    @cached_property
    def moved_base(self) -> np.ndarray:
        """The base's values of those that moved."""
        return self.base[self.moved]

    @cached_property
    def moved_tuned(self) -> np.ndarray:
        """The tuned's values of those that moved."""
        return self.tuned[self.moved]

    @cached_property
    def delta(self) -> np.ndarray:
        """The update of those that moved."""
        return difference(self.moved_base, self.moved_tuned)

    @cached_property
    def moved_often(self) -> Int[np.ndarray, " moved"] | None:
        """How many coordinates each of those that moved stands for; `None` for one."""
        return None if self.often is None else self.often[self.moved]

    @property
    def unmoved(self) -> int:
        """How many did not change."""
        if isinstance(self.moved, slice):
            return 0
        return self.size - (self.moved.size if self.often is None else int(self.moved_often.sum()))

    def number(self, is_so: Bool[np.ndarray, " moved"]) -> int:
        """Of how many coordinates that moved something is so."""
        often = self.moved_often
        return int(np.count_nonzero(is_so) if often is None else often @ is_so)

    def total(self, x: Float[np.ndarray, " moved"]) -> float:
        """The sum of x over the coordinates that moved."""
        return float(x.sum() if self.often is None else self.moved_often @ x)

    def inner(self, x: Float[np.ndarray, " moved"], y: Float[np.ndarray, " moved"]) -> float:
        """The inner product of x and y over the coordinates that moved."""
        return float(x @ y if self.often is None else self.moved_often @ (x * y))


class Coded(Chunk):
    """The same of two sides that are stored in one format of 16 bits: numbers are made where they
    are asked for.
    """

    def __init__(self, base: Promoted, tuned: Promoted, often: Int[np.ndarray, " n"] | None = None):
        super().__init__(base, base, tuned, often)

    @cached_property
    def moved(self) -> np.ndarray | slice:
        """As of any chunk, from the codes."""
        base, tuned = self.base.codes, self.tuned.codes
        moved = np.flatnonzero(base != tuned)
        is_zero = (base[moved] | tuned[moved]) & NO_SIGN == 0
        if is_zero.any():  # of either sign
            moved = moved[~is_zero]
        return slice(None) if moved.size == base.size else moved

    @property
    def is_finite(self) -> Bool[np.ndarray, " n"]:
        """As of any chunk, from the codes."""
        return self.base.is_finite & self.tuned.is_finite


def chunks(origin: Side, base: Side, tuned: Side, *, finite: bool, coarse: bool) -> Iterator[Chunk]:
    """The chunks of a pair, in the order of its elements.

    With `finite` every value is; otherwise coordinates with one that is not are left out. With
    `coarse` both sides are rounded to bfloat16 first.
    """
    before, flat_base, flat_tuned = (side.reshape(-1) for side in (origin, base, tuned))
    coded = not coarse and are_coded(base, tuned)
    for first in range(0, base.size, CHUNK):
        part = slice(first, first + CHUNK)
        if coded:
            w, t = flat_base.part(part), flat_tuned.part(part)
            if not finite:
                both = w.is_finite & t.is_finite
                w, t = w.part(both), t.part(both)
            yield Coded(w, t)
            continue
        w, t = flat_base[part], flat_tuned[part]
        values = w if origin is base else before[part]
        if not finite:
            both = np.isfinite(w) & np.isfinite(t)
            values, w, t = values[both], w[both], t[both]
        yield Chunk(values, *((round_bfloat16(w), round_bfloat16(t)) if coarse else (w, t)))


def are_coded(base: Side, tuned: Side) -> bool:
    """Whether both sides are numbers of 16 bits, in one format."""
    return isinstance(base, Promoted) and isinstance(tuned, Promoted) and base.form == tuned.form


def row_blocks(rows: int, columns: int) -> list[slice]:
    """The rows of a matrix, some elements at a time."""
    size = max(1, CHUNK // max(1, columns))
    return [slice(first, first + size) for first in range(0, rows, size)]


def difference(w: np.ndarray, t: np.ndarray) -> np.ndarray:
    """t - w in the arrays' own type; in float64 where float32 would overflow (3e38 to -3e38)."""
    with np.errstate(over="ignore"):
        d = t - w
    return d if np.isfinite(d).all() else t.astype(np.float64) - w.astype(np.float64)


def on_grid(values: np.ndarray, form: str) -> bool:
    """Whether all values are values of a format; the first block that is not ends the search."""
    flat = values.reshape(-1)
    blocks = (flat[first : first + CHUNK] for first in range(0, flat.size, CHUNK))
    return all(np.array_equal(rounded(block, form), block, equal_nan=True) for block in blocks)
