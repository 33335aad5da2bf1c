"""One decomposition a matrix, in float64, shared by every measure that needs it.

A matrix is turned so that it is tall (L x r, L >= r): rows are the long side. Everything comes from
three products with r columns - the Gram matrices of base and delta and their cross product - which
are summed over blocks of rows, so that a tall embedding is never held in float64. Floors: a
singular value near sqrt(eps) = 1.5e-8 of the largest is not resolved by them.
"""

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.checkpoint.formats import Promoted
from opdviz.chunks import CHUNK, KEPT, Chunk, Remembering, chunks
from opdviz.definitions import FIXED_K, LONG_R, MASK_RANK, NULL_RANK, SHARES
from opdviz.distinct import Values
from opdviz.linalg.gram import (
    FLOOR,
    Products,
    Spectrum,
    mirrored,
    resolved_count,
    spectrum_of_gram,
    tall_rows,
    well_conditioned,
)
from opdviz.linalg.reconstruction import Reconstructions, Ties
from opdviz.linalg.rounding import StoredHere
from opdviz.linalg.subspaces import LongSide, orthonormal, residual_gram

# Elements at a time of a product, each of whose blocks goes through the whole result.
PRODUCT = 1 << 20


def rank_of_share(share: float, r: int) -> int:
    """The k of a share of r: at least 1.

    >>> rank_of_share(0.1, 384)
    38
    """
    return max(1, int(share * r))


class Decomposition(Remembering):
    """What is expensive about one pair of tensors: made once, on first use, and gone with the pair.

    `base` and `tuned` are float32 or float64, a matrix (m, n) for everything but `elements`.
    `short` names the paper's side of the r-dimensional space: right where m >= n, left otherwise.

    `form` is the format whose grid the tuned's values lie on. Where the base was stored finer,
    `base` holds its values rounded to that grid and `origin` those of the file: what storing alone
    moves is no update.

    Methods that say "step" are what is heavy: another device has its own (`accelerator`).
    """

    method = "exact"
    # Whether only leading directions are known (`sketch`).
    sketched = False

    def __init__(
        self,
        base: Float[np.ndarray, "..."] | Promoted,
        tuned: Float[np.ndarray, "..."] | Promoted,
        *,
        form: str = "float32",
        origin: Float[np.ndarray, "..."] | None = None,
        of_base: Remembering | None = None,
    ):
        super().__init__()
        # What is of the base alone: worked out once for all runs that are compared with it.
        self.of_base = of_base or Remembering()
        self.base, self.tuned, self.form = base, tuned, form
        self.origin = base if origin is None else origin
        self.m, self.n = base.shape if base.ndim == 2 else (base.size, 1)
        self.r = min(self.m, self.n)
        self.long = max(self.m, self.n)
        self.short, self.far = ("right", "left") if self.m >= self.n else ("left", "right")
        self.k = max(
            rank_of_share(SHARES[-1], self.r),
            min(MASK_RANK, self.r),
            FIXED_K if self.r > LONG_R else 0,
        )

    @cached_property
    def nonfinite(self) -> int:
        """How many coordinates are NaN or infinite on either side."""
        if (counted := self.by_value.every) is not None:
            return self.base.size - sum(part.size for part in counted)
        sides = chunks(self.base, self.base, self.tuned, finite=True, coarse=False)
        return sum(part.size - int(np.count_nonzero(part.is_finite)) for part in sides)

    @cached_property
    def moved(self) -> int:
        """How many finite coordinates changed as stored."""
        return sum(chunk.size - chunk.unmoved for chunk in self.values("stored"))

    @cached_property
    def off_grid(self) -> int:
        """How many base values the tuned's format cannot hold: storing alone moves them."""
        return 0 if self.origin is self.base else int(np.count_nonzero(self.origin != self.base))

    def grid(self, precision: str) -> str:
        """The format whose grid the update is seen through: the tuned's as stored, or bfloat16."""
        return "bfloat16" if precision == "bfloat16" else self.form

    def chunks(self, precision: str) -> Iterable[Chunk]:
        """All finite coordinates, flat; `bfloat16` rounds both sides first."""
        sides = (self.origin, self.base, self.tuned)
        how = {"finite": not self.nonfinite, "coarse": precision == "bfloat16"}
        if self.base.size > KEPT:
            return chunks(*sides, **how)
        return self.once(("chunks", precision), lambda: list(chunks(*sides, **how)))

    @cached_property
    def by_value(self) -> Values:
        """The coordinates as stored, by their values."""
        return Values(self.base, self.tuned)

    def values(self, precision: str) -> Iterable[Chunk]:
        """All finite coordinates, for what does not ask where they stand: where few pairs of values
        are many coordinates each pair once.
        """
        counted = None if precision == "bfloat16" else self.by_value.every
        return self.chunks(precision) if counted is None else counted

    def row_blocks(self, elements: int = CHUNK):
        """(rows, base, delta) of the tall orientation in float64, some elements at a time."""
        size = max(1, elements // self.r)
        for first in range(0, self.long, size):
            rows = slice(first, first + size)
            # In float64 before subtracting: in float32 the difference of near-equal weights loses
            # up to half its digits.
            a, d = tall_rows(self.base, rows), tall_rows(self.tuned, rows)
            d -= a
            yield rows, a, d

    @cached_property
    def products(self) -> Products:
        """The three products and the energy of D's long-side rows, in one pass over the rows."""
        return self.summed_products()

    def summed_products(self) -> Products:
        """Step: those products."""
        # Three products of r columns are all that is asked of the long side: an embedding of
        # 150,000 rows is read once.
        blas, is_wide = scipy.linalg.blas, self.m < self.n
        base_gram = self.of_base.known("aa")
        aa, ad, dd = (np.zeros((self.r, self.r), order="F") for _ in range(3))
        long_energy = np.empty(self.long)
        for rows, a, d in self.row_blocks(PRODUCT):
            long_energy[rows] = np.einsum("ij,ij->i", d, d)
            # In Fortran's order, which those of a wide matrix are in already.
            a, d = (a, d) if is_wide else (a.T, d.T)
            # Added where they stand, and of a symmetric one a half: a sum of blocks that are made
            # first would go through memory twice more.
            if base_gram is None:
                aa = blas.dsyrk(1.0, a, beta=1.0, c=aa, trans=is_wide, overwrite_c=True)
            sides = {"trans_a": is_wide, "trans_b": not is_wide}
            ad = blas.dgemm(1.0, a, d, beta=1.0, c=ad, **sides, overwrite_c=True)
            dd = blas.dsyrk(1.0, d, beta=1.0, c=dd, trans=is_wide, overwrite_c=True)
        return Products(
            self.of_base.once("aa", lambda: mirrored(aa)), ad, mirrored(dd), long_energy
        )

    @cached_property
    def base_spectrum(self) -> Spectrum:
        """The base's singular values and its leading short-side vectors; all of them where it is
        ill-conditioned.
        """
        return self.of_base.once("spectrum", self.resolved_base)

    def resolved_base(self) -> Spectrum:
        """The same, worked out."""
        gram = self.products.aa
        spectrum = self.spectrum_of(gram, self.k)
        if well_conditioned(spectrum.s):
            return spectrum
        return self.resolved(self.spectrum_of(gram, self.r), tuned=False)

    @cached_property
    def tuned_spectrum(self) -> Spectrum:
        """The tuned matrix's singular values and its leading short-side vectors."""
        p = self.products
        # (A + D)'(A + D): the tuned is not read again. Its small values cancel here, which
        # `resolved` mends.
        gram = p.aa + p.ad + p.ad.T + p.dd
        spectrum = self.spectrum_of(gram, self.k)
        # The small values need the vectors that belong to them.
        if 0 < resolved_count(spectrum.s) < self.r:
            spectrum = self.resolved(self.spectrum_of(gram, self.r), tuned=True)
        return Spectrum(spectrum.s, spectrum.v[:, : self.k])

    def spectrum_of(self, gram: Float[np.ndarray, "r r"], k: int) -> Spectrum:
        """Step: the spectrum of a tall matrix from its Gram matrix, with `k` leading vectors."""
        return spectrum_of_gram(gram, k)

    def resolved(self, spectrum: Spectrum, *, tuned: bool) -> Spectrum:
        """A spectrum whose small values are those of X V_rest itself, X the base or the tuned:
        below the floor a Gram matrix holds rounding alone.

        Values then stand down to eps * sigma_1.
        """
        clear = resolved_count(spectrum.s)
        if clear in (0, self.r):  # a zero matrix has nothing to resolve
            return spectrum
        # The vectors of the small values span the right subspace even where the values themselves
        # are rounding.
        gram = self.gram_along(spectrum.v[:, clear:], tuned)
        return Spectrum(
            np.concatenate([spectrum.s[:clear], self.spectrum_of(gram, 0).s]), spectrum.v
        )

    def gram_along(self, v: Float[np.ndarray, "r k"], tuned: bool) -> Float[np.ndarray, "k k"]:
        """Step: the Gram matrix of X v, X the base or the tuned."""
        gram = np.zeros((v.shape[1], v.shape[1]))
        for _, a, d in self.row_blocks():
            rotated = (a + d if tuned else a) @ v
            gram += rotated.T @ rotated
        return gram

    @cached_property
    def delta_spectrum(self) -> Spectrum:
        """The delta's singular values and its leading short-side vectors (those of the rounding
        null).
        """
        return self.spectrum_of(
            self.products.dd, min(NULL_RANK, self.r) if self.r > 2 * NULL_RANK else 0
        )

    @cached_property
    def delta_energy(self) -> float:
        """||D||_F^2."""
        return float(np.trace(self.products.dd))

    @property
    def spectra(self) -> dict[str, np.ndarray]:
        """Singular values of base, tuned and delta."""
        return {
            "base": self.base_spectrum.s,
            "tuned": self.tuned_spectrum.s,
            "delta": self.delta_spectrum.s,
        }

    @property
    def methods(self) -> dict[str, str]:
        """How the singular values of base, tuned and delta are worked out."""
        return dict.fromkeys(self.spectra, self.method)

    @property
    def energies(self) -> dict[str, float]:
        """||X||_F^2 of those matrices whose singular values are not all known."""
        return {}

    @property
    def bounds(self) -> dict[str, float]:
        """How far singular values of base, tuned and delta are from their own, at most."""
        # A Gram matrix's rounding grows with the root of its size: 1.6 times the floor at r = 500.
        growth = FLOOR * math.sqrt(max(2.0, self.r / 32))
        return {matrix: growth * float(s[0]) for matrix, s in self.spectra.items()}

    @cached_property
    def usable(self) -> int:
        """How many of the base's directions stand above the resolution floor."""
        return resolved_count(self.base_spectrum.s)

    @cached_property
    def delta_in_long_base(self) -> Float[np.ndarray, "k r"]:
        """U' D for the base's long-side vectors of which `base_spectrum` has the short-side ones;
        zero beyond `usable`.
        """
        s, v = self.base_spectrum.s, self.base_spectrum.v
        # U_i = A v_i / s_i, and so U'D = S^-1 V'(A'D): the long side is not touched again. Below
        # the floor 1/s is noise.
        inverse = np.zeros(v.shape[1])
        usable = min(self.usable, v.shape[1])
        inverse[:usable] = 1.0 / s[:usable]
        return inverse[:, None] * self.product(v.T, self.products.ad)

    def product(self, x: Float[np.ndarray, "a b"], y: Float[np.ndarray, "b c"]) -> np.ndarray:
        """Step: a product of two matrices of r rows or columns."""
        return x @ y

    @cached_property
    def delta_in_base_bases(self) -> Float[np.ndarray, "k k"]:
        """The same in the base's short-side vectors: U' D V."""
        return self.product(self.delta_in_long_base, self.base_spectrum.v)

    @cached_property
    def short_energy(self) -> Float[np.ndarray, " k"]:
        """||D v_i||^2 for the same short-side vectors."""
        v = self.base_spectrum.v
        return np.einsum("ij,ij->j", v, self.product(self.products.dd, v))

    def energy_inside(self, v: Float[np.ndarray, "r k"]) -> tuple[Float[np.ndarray, " k"], float]:
        """Step: what the span of the base's long side holds of the energy of D v, and of D's, of a
        base that is tall and well-conditioned.
        """
        # A'A = R'R: it is ||R^-T A'D v||^2, without U's trailing vectors.
        upper = scipy.linalg.cholesky(self.products.aa, check_finite=False)
        half = scipy.linalg.solve_triangular(upper, self.products.ad, trans="T", check_finite=False)
        columns = half @ v
        return np.einsum("ij,ij->j", columns, columns), float(np.sum(half**2))

    @cached_property
    def long_side(self) -> LongSide:
        """What the leading k long-side vectors are asked for; only the leading k, as a full U of an
        embedding would be as large as the embedding.
        """
        return self.leading_long_side()

    def leading_long_side(self) -> LongSide:
        """Step: those vectors and products."""

        def of_base() -> tuple[np.ndarray, np.ndarray]:
            v = self.base_spectrum.v[:, : self.k]
            return orthonormal(self.along(self.base, v), self.base_spectrum.s)

        vectors, factor = self.of_base.once("long side", of_base)
        along = self.along(self.tuned, self.tuned_spectrum.v)
        tuned_vectors, _ = orthonormal(along, self.tuned_spectrum.s)
        return LongSide(vectors, factor, *residual_gram(vectors, tuned_vectors))

    def along(self, side, v: Float[np.ndarray, "r k"]) -> Float[np.ndarray, "long k"]:
        """X v of one side X, tall."""
        products, size = np.empty((self.long, v.shape[1])), max(1, CHUNK // self.r)
        for first in range(0, self.long, size):
            rows = slice(first, first + size)
            products[rows] = tall_rows(side, rows) @ v
        return products

    def leverages(self, side: str, k: int) -> Float[np.ndarray, " rows"]:
        """||U_k[i]||^2 of each row i: how much of the leading k directions each output (left) or
        input (right) carries.
        """
        leading = self.base_spectrum.v if side == self.short else self.long_side.vectors
        return np.einsum("ij,ij->i", leading[:, :k], leading[:, :k])

    def energy_profile(self, side: str) -> Float[np.ndarray, " rows"]:
        """The share of ||D||^2 in each output row (left) or input column (right)."""
        energy = np.diag(self.products.dd) if side == self.short else self.products.long_energy
        return energy / self.delta_energy

    def sines(self, side: str, k: int) -> Float[np.ndarray, " k"]:
        """Sines of the principal angles between the leading k-dimensional subspaces of base and
        tuned, falling.

        From U'_k - U_k (U_k' U'_k), never from 1 - cos^2, which loses everything below 1e-8.
        """
        # Of the largest k; a smaller one is a corner of the same products.
        residual, cosines = self.residual_grams[side]
        # What U'_k has outside span(U_K), and what it has in its directions beyond k: a sum of
        # squares, nothing cancels.
        gram = residual[:k, :k] + cosines[k:, :k].T @ cosines[k:, :k]
        # Rounding can carry a sine of 1 above it, and arcsin would make NaN of that.
        return np.minimum(self.spectrum_of(gram, 0).s, 1.0)

    @cached_property
    def residual_grams(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By side: the Gram matrix of the part of U' outside span(U), and U_k' U'_k."""
        near = (self.base_spectrum.v[:, : self.k], self.tuned_spectrum.v)
        far = (self.long_side.residual, self.long_side.cosines)
        return {self.short: residual_gram(*near), self.far: far}

    def largest_of_base(self, ranks: dict[float, int]) -> tuple[np.ndarray, dict[float, Ties]]:
        """Where the base, rebuilt from its leading directions, is largest
        (`Reconstructions.largest`).
        """
        return self.of_base.once(("largest", *ranks.items()), lambda: self.marked_base(ranks))

    def marked_base(self, ranks: dict[float, int]) -> tuple[np.ndarray, dict[float, Ties]]:
        """Step: those coordinates."""
        v, products = self.base_spectrum.v, self.long_side.products
        return Reconstructions(self.base, v, products).largest(ranks)

    def gram_of_stored(self) -> Float[np.ndarray, "r r"] | None:
        """Step: the Gram matrix of what storing leaves of the leading part of D, scaled so that its
        norm is ||D||; `None` where no scale gives that.
        """
        return self.stored_update().gram_at_norm(math.sqrt(self.delta_energy))

    def stored_update(self) -> StoredHere:
        """What storing leaves of D V V', for the leading short-side vectors of D.

        That is the best approximation of its rank (Eckart and Young 1936), without the long side's
        vectors.
        """
        v = self.delta_spectrum.v
        along = np.empty((self.long, v.shape[1]), dtype=np.float32)
        for rows, _, d in self.row_blocks():
            along[rows] = d @ v
        return StoredHere(self.base, self.origin, along, v.astype(np.float32), self.form)
