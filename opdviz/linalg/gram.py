"""Singular values and vectors of a tall matrix from its Gram matrix."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.checkpoint.formats import Promoted

# A Gram matrix squares the condition: below sqrt(eps) of the largest, a value is the rounding of
# its entries.
FLOOR = float(np.sqrt(np.finfo(np.float64).eps))
# Of the largest singular value: what stands above it is no rounding of a Gram matrix, whose error
# grows with the root of its size: 16 leaves room up to r = 8,192 (`spectrum.summary`).
RESOLVED = 16 * FLOOR
# Of the base: its square times eps is 2e-8, and what a Cholesky factor says is as exact as vectors.
MOST_CONDITION = 1e4
# Rows and columns of a square that stays in a core's cache.
SQUARE = 128
# Of all vectors, up to which taking the leading ones alone pays.
MOST_LEADING = 0.5


def tall_rows(
    side: Float[np.ndarray, "m n"] | Promoted, rows: slice
) -> Float[np.ndarray, "rows r"]:
    """Some rows of a matrix's tall orientation in float64, a copy that may be changed.

    Of a wide matrix they stay in columns, as they lie in memory: to turn them would read a line of
    memory a number.
    """
    m, n = side.shape
    if m >= n:
        return np.array(side[rows], dtype=np.float64, order="C")
    return np.array(side[:, rows], dtype=np.float64, order="C").T


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values s (r, falling) and the leading short-side singular vectors as columns of v
    (r, k).
    """

    s: Float[np.ndarray, " r"]
    v: Float[np.ndarray, "r k"]


@dataclass(frozen=True, slots=True)
class Products:
    """A'A, A'D and D'D of the tall base A and delta D, each (r, r), and the energy of each of D's
    long-side rows.
    """

    aa: Float[np.ndarray, "r r"]
    ad: Float[np.ndarray, "r r"]
    dd: Float[np.ndarray, "r r"]
    long_energy: Float[np.ndarray, " long"]


def well_conditioned(s: Float[np.ndarray, " r"]) -> bool:
    """Whether the leading vectors say all that is asked, and a Cholesky factor the rest."""
    return bool(s[-1] * MOST_CONDITION > s[0])


def spectrum_of_gram(gram: Float[np.ndarray, "r r"], k: int) -> Spectrum:
    """The spectrum of a tall matrix from its Gram matrix; `k` leading vectors (0 for none).

    Singular values are square roots of eigenvalues: exact to eps * sigma_1^2 / sigma.
    """
    if 0 < k <= MOST_LEADING * len(gram):
        try:
            return Tridiagonal(gram).spectrum(k)
        except scipy.linalg.LinAlgError:
            pass  # near values whose vectors it cannot tell apart are no trouble to what follows
    if k == 0:
        values = scipy.linalg.eigh(gram, eigvals_only=True, check_finite=False)
        return Spectrum(roots(values), np.empty((len(gram), 0)))
    # Divide and conquer: of all values and vectors it takes half the time of the default.
    values, vectors = scipy.linalg.eigh(gram, driver="evd", check_finite=False)
    return falling(values, vectors, k)


def falling(values: np.ndarray, vectors: np.ndarray, k: int) -> Spectrum:
    """The spectrum of rising eigenvalues and their vectors, of which the last k stay."""
    # A reversed view would make every later product stride backwards through memory.
    return Spectrum(roots(values), np.ascontiguousarray(vectors[:, ::-1][:, :k]))


class Tridiagonal:
    """A Gram matrix reduced to three diagonals: all its eigenvalues, and as many leading vectors as
    are asked for.

    LAPACK's dsytrd, dsterf, dstemr and dormqr in turn (LAPACK Users' Guide, 2.4.4). scipy's own way
    to some of the vectors is bisection and inverse iteration, which takes longer than all of them.

    Raises
        LinAlgError: a step did not converge, or near values whose vectors it cannot tell apart.
    """

    def __init__(self, gram: Float[np.ndarray, "r r"]):
        lapack = scipy.linalg.lapack
        size = int(lapack.dsytrd_lwork(len(gram), lower=1)[0])
        done = lapack.dsytrd(gram, lower=1, lwork=size)
        self.reduced, self.diagonal, self.beside, self.tau, _ = done
        self.values, failed = lapack.dsterf(self.diagonal, self.beside)
        converged(failed)

    def spectrum(self, k: int) -> Spectrum:
        """Singular values, and the k leading vectors."""
        r, lapack = len(self.diagonal), scipy.linalg.lapack
        # By index, 2 of LAPACK's three ways to choose; the last place beside is its workspace.
        choice = (self.diagonal, np.append(self.beside, 0.0), 2, 0.0, 0.0, r - k + 1, r)
        count, _, vectors, failed = lapack.dstemr(*choice)
        converged(failed or count != k)
        # The reflections stand below the subdiagonal and leave the first row alone.
        reflections = np.asfortranarray(self.reduced[1:, :-1])
        leading = vectors[:, :k]
        size = int(lapack.dormqr("L", "N", reflections, self.tau, leading[1:], -1)[1][0])
        leading[1:] = lapack.dormqr("L", "N", reflections, self.tau, leading[1:], size)[0]
        return falling(self.values, leading, k)


def converged(failed: int) -> None:
    """Raise where LAPACK says that a step failed."""
    if failed:
        raise scipy.linalg.LinAlgError("the tridiagonal form did not converge")


def resolved_count(s: Float[np.ndarray, " r"]) -> int:
    """How many singular values from a Gram matrix stand above its rounding."""
    return int(np.count_nonzero(s > RESOLVED * s[0])) if s[0] > 0 else 0


def roots(values: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """Falling square roots of rising eigenvalues; what rounding made negative is zero."""
    return np.sqrt(np.maximum(values[::-1], 0.0))


def mirrored(upper: Float[np.ndarray, "r r"]) -> Float[np.ndarray, "r r"]:
    """A symmetric matrix from its upper triangle, in place."""
    # In squares: across the whole matrix a transposed copy reads a line of memory a number.
    for first in range(0, len(upper), SQUARE):
        rows = slice(first, first + SQUARE)
        corner = upper[rows, rows]
        corner += np.triu(corner, 1).T - np.tril(corner, -1)
        for beyond in range(first + SQUARE, len(upper), SQUARE):
            columns = slice(beyond, beyond + SQUARE)
            upper[columns, rows] = upper[rows, columns].T
    return upper
