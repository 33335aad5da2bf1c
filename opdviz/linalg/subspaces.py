"""The leading long-side vectors of two matrices, and what lies between their spans."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.chunks import row_blocks

# Of the largest value: columns of A v / s are orthonormal to eps / 1e-5^2 = 2e-6 at worst above it.
WELL_SCALED = 1e-5


@dataclass(frozen=True, slots=True)
class LongSide:
    """The base's leading long-side vectors U_k (L, k) with A V_k = U_k R; of the tuned's U'_k the
    Gram matrix of what lies outside span(U_k), and U_k' U'_k.

    R is upper triangular, or the singular values alone where it is diagonal.
    """

    vectors: Float[np.ndarray, "long k"]
    factor: Float[np.ndarray, " k"] | Float[np.ndarray, "k k"]
    residual: Float[np.ndarray, "k k"]
    cosines: Float[np.ndarray, "k k"]

    def products(self, rows: slice) -> Float[np.ndarray, "rows k"]:
        """Some rows of A V_k."""
        u, r = self.vectors[rows], self.factor
        return u * r if r.ndim == 1 else u @ r


def residual_gram(
    u: Float[np.ndarray, "rows k"], w: Float[np.ndarray, "rows k"]
) -> tuple[np.ndarray, np.ndarray]:
    """The Gram matrix of w - u (u'w), and u'w."""
    cosines = u.T @ w
    gram = np.zeros(cosines.shape)
    # Summed over blocks: of an embedding's vectors the residual is a quarter of a gigabyte.
    for rows in row_blocks(*w.shape):
        residual = w[rows] - u[rows] @ cosines
        gram += residual.T @ residual
    return gram, cosines


def orthonormal(
    x: Float[np.ndarray, "rows k"], s: Float[np.ndarray, " r"]
) -> tuple[np.ndarray, np.ndarray]:
    """A v scaled to unit columns, in place, and the scales; by QR, and its R, where the values fall
    so far that A v / s is no longer orthonormal.
    """
    k = x.shape[1]
    if s[k - 1] > WELL_SCALED * s[0]:
        # A v_i has length s_i. Where s_i is not far below s_1 dividing is enough, and keeps signs
        # and order.
        x /= s[:k]
        return x, s[:k]
    # A QR leaves signs open; those of the diagonal make it continuous with the branch above.
    q, upper = scipy.linalg.qr(x, mode="economic", check_finite=False)
    signs = np.where(np.diag(upper) < 0, -1.0, 1.0)
    return q * signs, signs[:, None] * upper
