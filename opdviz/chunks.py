"""A pair's coordinates, a few hundred thousand at a time; what is asked of some of them again and
again is worked out once.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import cached_property

import numpy as np

from opdviz.checkpoint.formats import round_bfloat16, rounded

# Elements at a time: 2 MB in float64, so that a chunk and its copy stay in the second-level cache.
CHUNK = 1 << 18
# Elements of a tensor whose chunks stay for the next who asks: of more, what they remember is much
# memory.
KEPT = 1 << 22


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

    `base` and `tuned` are as they are compared, `origin` is the base before any rounding.
    """

    def __init__(self, origin: np.ndarray, base: np.ndarray, tuned: np.ndarray):
        super().__init__()
        self.origin, self.base, self.tuned = origin, base, tuned

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

    @property
    def unmoved(self) -> int:
        """How many did not change."""
        return 0 if isinstance(self.moved, slice) else self.base.size - self.moved.size


def chunks(
    origin: np.ndarray, base: np.ndarray, tuned: np.ndarray, *, finite: bool, coarse: bool
) -> Iterator[Chunk]:
    """The chunks of a pair, in the order of its elements.

    With `finite` every value is; otherwise coordinates with one that is not are left out. With
    `coarse` both sides are rounded to bfloat16 first.
    """
    before, flat_base, flat_tuned = (side.reshape(-1) for side in (origin, base, tuned))
    for first in range(0, base.size, CHUNK):
        part = slice(first, first + CHUNK)
        w, t = flat_base[part], flat_tuned[part]
        values = w if origin is base else before[part]
        if not finite:
            both = np.isfinite(w) & np.isfinite(t)
            values, w, t = values[both], w[both], t[both]
        yield Chunk(values, *((round_bfloat16(w), round_bfloat16(t)) if coarse else (w, t)))


def looked_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The entries of a table at whole numbers of any type: numpy takes twice as long where these
    are not of its own index type.
    """
    return table[numbers.astype(np.intp, copy=False)]


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
