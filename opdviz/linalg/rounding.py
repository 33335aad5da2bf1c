"""What storing leaves of the leading part of an update: the null of a tail of rounding."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.checkpoint.formats import Promoted, rounded
from opdviz.chunks import BLOCK
from opdviz.linalg.gram import mirrored

TRIES = 24
PRECISION = 1e-3  # of the norm: far below what the verdict on a tail can tell
LEAST_POWER = 0.05  # of the scale, in the norm: below, the norm stands on a step
MOST_GROWTH = 8.0  # of the scale from one try to the next
LARGEST_SCALE = 1e6  # of the leading part: one that must grow further cannot reach the norm
GRAM_ROWS = 1024  # rows that are in float64 at a time


class StoredUpdate(ABC):
    """The change of the stored values at a scale of what was added to them."""

    @abstractmethod
    def norm_at(self, scale: float) -> float:
        """The norm of the change at a scale, which is kept."""

    @abstractmethod
    def gram(self) -> Float[np.ndarray, "r r"]:
        """The Gram matrix of the tall change at that scale."""

    def gram_at_norm(self, norm: float) -> Float[np.ndarray, "r r"] | None:
        """The same at the scale where the change has a norm; `None` where none gives that."""
        return None if matching_scale(self.norm_at, norm) is None else self.gram()


class StoredHere(StoredUpdate):
    """What storing leaves of an update of low rank, times a scale.

    In float32, which holds the values of every format that this is drawn for; a sum that it rounds
    onto a tie of such a format is rare, and either neighbour is right. Never whole: a block at a
    time, as large as a cache. `along` are the update's long-side rows and `across` its short-side
    vectors, so that it is `along` times the transposed `across`, turned as the base is.
    """

    def __init__(
        self,
        base: Float[np.ndarray, "m n"] | Promoted,
        origin: Float[np.ndarray, "m n"] | Promoted,
        along: Float[np.ndarray, "long k"],
        across: Float[np.ndarray, "r k"],
        form: str,
    ):
        self.is_tall = base.shape[0] >= base.shape[1]
        self.left, self.right = (along, across) if self.is_tall else (across, along)
        # Added to the base as it was before any rounding, as training would have done.
        self.base, self.origin, self.form = base, origin, form
        self.scale = 1.0

    def change(self, rows: slice, columns: slice) -> np.ndarray:
        """The change in some rows and columns, at the scale."""
        part = self.left[rows] * np.float32(self.scale) @ self.right[columns].T
        part += self.origin[rows, columns]
        part = rounded(part, self.form)
        part -= self.base[rows, columns]
        return part

    def norm_at(self, scale: float) -> float:
        """The norm of the change at a scale, which is kept."""
        self.scale, energy = scale, 0.0
        (m, n), everywhere = self.base.shape, slice(None)
        for rows in slices(m, BLOCK // n):
            flat = self.change(rows, everywhere).reshape(-1)
            energy += float(flat @ flat)
        return math.sqrt(energy)

    def gram(self) -> np.ndarray:
        """The Gram matrix of the tall change, in float64: in float32 the smallest values are
        noise.
        """
        (m, n), everywhere = self.base.shape, slice(None)
        total = np.zeros((min(m, n), min(m, n)), order="F")
        for part in slices(max(m, n), GRAM_ROWS):
            where = (part, everywhere) if self.is_tall else (everywhere, part)
            block = self.change(*where).astype(np.float64)
            # Transposed it is in Fortran's order.
            total = scipy.linalg.blas.dsyrk(
                1.0, block.T, beta=1.0, c=total, trans=not self.is_tall, overwrite_c=True
            )
        return mirrored(total)


def slices(length: int, size: int) -> Iterator[slice]:
    """An axis in pieces of at least one."""
    size = max(1, size)
    return (slice(first, first + size) for first in range(0, length, size))


def matching_scale(norm_at: Callable[[float], float], wanted: float) -> float | None:
    """The scale c with norm_at(c) = wanted to a part in a thousand; `None` where there is none.

    The stored norm does not fall as the scale rises, but by steps, and over a step its slope is
    zero: the secant of the last two tries, in logarithms, counts only inside the bracket.
    """
    low, high = 0.0, math.inf
    scale, power, before = 1.0, 1.0, None
    for _ in range(TRIES):
        norm = norm_at(scale)
        if abs(norm / wanted - 1) < PRECISION:
            return scale
        low, high = (scale, high) if norm < wanted else (low, scale)
        if before and 0 < before[1] != norm > 0:
            power = math.log(norm / before[1]) / math.log(scale / before[0])
        before = scale, norm
        secant = scale * (wanted / norm) ** (1 / power) if norm > 0 and power > LEAST_POWER else 0.0
        middle = (low + high) / 2 if high < math.inf else 2 * low
        scale = secant if low < secant < min(high, MOST_GROWTH * scale) else middle
        if scale > LARGEST_SCALE:
            return None
    return None
