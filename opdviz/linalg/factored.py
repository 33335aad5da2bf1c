"""A pair whose update is a product of two thin factors, as an adapter adds it: the update's
spectrum, rank and projections from the factors, without the update itself.

What is counted coordinate by coordinate (`chunks`) is of the sum as it is stored; what is asked of
directions is of the product before it was rounded, whose rank that rounding hides.
"""

from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.chunks import CHUNK
from opdviz.definitions import NULL_RANK
from opdviz.linalg import PRODUCT, Decomposition
from opdviz.linalg.gram import Products, Spectrum, tall_rows


class Factored(Decomposition):
    """The decomposition of a pair with an update `left @ right`, (m, q) and (q, n)."""

    def __init__(self, *sides, factors: tuple[np.ndarray, np.ndarray], **rest):
        super().__init__(*sides, **rest)
        left, right = factors
        # Of the tall orientation: D = far near', the long side first.
        self.of_long, self.of_short = (left, right.T) if self.m >= self.n else (right.T, left)

    @cached_property
    def methods(self) -> dict[str, str]:
        """How the spectra of base, tuned and delta are worked out."""
        return super().methods | {"delta": "exact (QR of the adapter's factors)"}

    @cached_property
    def of_delta(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """D = U diag(s) V': (long, q), (q,), (r, q)."""
        # QR of both factors and a core of q x q (Golub and Van Loan, 5.4.8): nothing is squared,
        # so that values down to eps of the largest are right.
        far, upper = scipy.linalg.qr(self.of_long, mode="economic", check_finite=False)
        near, other = scipy.linalg.qr(self.of_short, mode="economic", check_finite=False)
        u, s, vt = scipy.linalg.svd(upper @ other.T, full_matrices=False, check_finite=False)
        return far @ u, s, near @ vt.T

    def base_blocks(self, elements: int):
        """(rows, base) of the tall orientation in float64, some elements at a time."""
        size = max(1, elements // self.r)
        for first in range(0, self.long, size):
            rows = slice(first, first + size)
            yield rows, tall_rows(self.base, rows)

    def row_blocks(self, elements: int = CHUNK):
        """(rows, base, delta) of the tall orientation, the delta from its factors."""
        for rows, a in self.base_blocks(elements):
            yield rows, a, self.of_long[rows] @ self.of_short.T

    def summed_products(self) -> Products:
        """The three products: of the delta's from its factors alone."""
        u, s, v = self.of_delta
        base_gram = self.of_base.known("aa")
        aa, au = np.zeros((self.r, self.r)), np.zeros(v.shape)
        for rows, a in self.base_blocks(PRODUCT):
            if base_gram is None:
                aa += a.T @ a
            au += a.T @ u[rows]
        scaled = s[:, None] * v.T
        return Products(
            self.of_base.once("aa", lambda: aa),
            au @ scaled,
            scaled.T @ scaled,
            np.einsum("ij,ij->i", u * s, u * s),
        )

    @cached_property
    def delta_spectrum(self) -> Spectrum:
        """The delta's singular values, zeros beyond the factors' rank, and its leading vectors."""
        _, s, v = self.of_delta
        vectors = min(NULL_RANK, self.r) if self.r > 2 * NULL_RANK else 0
        values = np.zeros(self.r)
        values[: len(s)] = s[: self.r]
        return Spectrum(values, v[:, :vectors])

    @property
    def bounds(self) -> dict[str, float]:
        """How far singular values are from their own, at most: of the delta by rounding in QR."""
        rounding = np.finfo(np.float64).eps * self.long * float(self.delta_spectrum.s[0])
        return super().bounds | {"delta": rounding}

    def along(self, side, v: Float[np.ndarray, "r k"]) -> Float[np.ndarray, "long k"]:
        """X v of one side X, tall; of the tuned as it was before rounding."""
        along = super().along(self.base, v)
        return along if side is self.base else along + self.of_long @ (self.of_short.T @ v)
