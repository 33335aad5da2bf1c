"""The leading singular values of large matrices by a random start, for a first look: no
decomposition of r x r.

Subspace iteration with a last step of Rayleigh and Ritz (Halko, Martinsson and Tropp 2011, 4.4; of
its error Parlett 1998, 11.7).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.linalg import PRODUCT, Decomposition

K = 16
# Random directions beside each one that is asked for: near k the values of a base lie close.
OVERSAMPLING = 10
SEED = 0
# Passes over the rows: every one but the last turns the directions towards the leading ones.
PASSES = 4
# Short sides from which there is something to gain; smaller matrices are exact.
LEAST = 2048


@dataclass(frozen=True, slots=True)
class Leading:
    """Leading singular values (k, falling) of a matrix X, how far at most each is from one of X's,
    and ||X||_F^2.
    """

    s: Float[np.ndarray, " k"]
    bound: float
    energy: float


class Sketched(Decomposition):
    """A pair of which only leading singular values are known, and the sizes."""

    sketched = True
    method = f"randomised ({OVERSAMPLING * K} directions, {PASSES} passes, seed {SEED})"

    @property
    def spectra(self) -> dict[str, np.ndarray]:
        """Leading singular values of base, tuned and delta."""
        return {matrix: leading.s for matrix, leading in self.leading.items()}

    @property
    def energies(self) -> dict[str, float]:
        """||X||_F^2 of the three: more than their leading values hold."""
        return {matrix: leading.energy for matrix, leading in self.leading.items()}

    @property
    def bounds(self) -> dict[str, float]:
        """How far their values are from the matrices' own, at most."""
        return {matrix: leading.bound for matrix, leading in self.leading.items()}

    @property
    def delta_energy(self) -> float:
        """||D||_F^2."""
        return self.leading["delta"].energy

    @cached_property
    def leading(self) -> dict[str, Leading]:
        """The leading values of the three matrices, all in the same passes over the rows."""
        random = np.random.default_rng(SEED)
        count = min(OVERSAMPLING * K, self.r)
        start, _ = np.linalg.qr(random.standard_normal((self.r, count)))
        directions = dict.fromkeys(("base", "tuned", "delta"), start)
        energies = dict.fromkeys(directions, 0.0)
        for turn in range(PASSES):
            last = turn == PASSES - 1
            # Directions need no more than float32, values and their bounds do.
            kind = np.float64 if last else np.float32
            along = {matrix: v.astype(kind) for matrix, v in directions.items()}
            sums = {matrix: np.zeros(v.shape) for matrix, v in directions.items()}
            for _, a, d in self.row_blocks(PRODUCT):
                for matrix, x in (("base", a), ("delta", d), ("tuned", a + d)):
                    rows = x.astype(kind, copy=False)
                    sums[matrix] += rows.T @ (rows @ along[matrix])
                    if last:
                        energies[matrix] += float(np.einsum("ij,ij->", x, x))
            if not last:
                directions = {matrix: np.linalg.qr(y)[0] for matrix, y in sums.items()}
        return {matrix: ritz(directions[matrix], sums[matrix], energies[matrix]) for matrix in sums}


def ritz(v: Float[np.ndarray, "r q"], applied: Float[np.ndarray, "r q"], energy: float) -> Leading:
    """Leading values of X from orthonormal directions v, X'X v, and ||X||_F^2."""
    inner = v.T @ applied
    values, vectors = scipy.linalg.eigh((inner + inner.T) / 2, check_finite=False)
    values, vectors = np.maximum(values[::-1][:K], 0.0), vectors[:, ::-1][:, :K]
    s = np.sqrt(values)
    # Of a symmetric matrix an eigenvalue lies within ||X'X u - value u|| of each value. Its root is
    # a singular value: within that over s, and within its root where s is rounding.
    residuals = np.linalg.norm(applied @ vectors - (v @ vectors) * values, axis=0)
    of_roots = np.divide(residuals, s, out=np.full(len(s), np.inf), where=s > 0)
    return Leading(s, float(np.max(np.minimum(of_roots, np.sqrt(residuals)))), energy)
