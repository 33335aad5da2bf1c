"""What a blind update gives in closed form: independent entries of the same norm, or any update
turned at random.

Sources: first- and second-order perturbation of singular values and vectors (Stewart and Sun,
Matrix Perturbation Theory, chapters IV and V); moments of a random rotation (Collins and Sniady,
Commun. Math. Phys. 264, 2006). Every formula is held against draws in
tests/measures/test_chance.py.
"""

import math

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.definitions import INTRUDER_COSINE

FIRST_ORDER = 0.3  # rms sine above which a subspace no longer turns in proportion to the update
# Times its first order above which the drift of singular values is not expanded any more.
BEYOND_FIRST_ORDER = 3.0
FEW = 20  # largest coordinates below which their mean sizes are taken one by one
LEAST_SIZE = 5  # elements below which the share of the largest one depends on how the rest is drawn
ROWS = 256


def concentration(count: int, numel: int) -> float | None:
    """Energy share of the `count` largest of `numel` independent Gaussian coordinates; missing
    below five elements.

    p + 2 q phi(q) with p = count / numel and q the 1 - p/2 quantile; for few coordinates the mean
    of each largest square, the chi-square quantile at (j - 1/2) / numel, which the smooth formula
    misses by up to 15 %.

    >>> round(concentration(100, 10_000), 4)
    0.0845
    """
    if count == numel:
        return 1.0
    if numel < LEAST_SIZE:
        return None
    if count < FEW:
        # The mean of an order statistic is close to the quantile at its middle position (Blom
        # 1958).
        positions = (np.arange(1, count + 1) - 0.5) / numel
        return float(np.sum(scipy.special.ndtri(1 - positions / 2) ** 2)) / numel
    # The integral of x^2 phi(x) beyond q, both tails, by parts.
    p = count / numel
    q = float(scipy.special.ndtri(1 - p / 2))
    return p + 2 * q * math.exp(-q * q / 2) / math.sqrt(2 * math.pi)


def channel_concentration(count: int, channels: int, width: int) -> float:
    """Energy share of the `count` channels of most energy among `channels` of `width` independent
    Gaussian coordinates: means of the largest of so many chi-square variables.

    >>> round(channel_concentration(10, 100, 64), 3)
    0.133
    """
    # As above, the quantile at the middle position of each.
    positions = (np.arange(1, count + 1) - 0.5) / channels
    return float(np.sum(2 * scipy.special.gammainccinv(width / 2, positions))) / (channels * width)


def participation(s: Float[np.ndarray, " r"]) -> float | None:
    """sum s^4 / (sum s^2)^2: 1 for an update of rank one, 1/r for a flat spectrum; missing for a
    zero matrix.
    """
    # It weighs how far a turned update scatters: one direction lands anywhere, many average out.
    energy = s**2
    total = float(energy.sum())
    return float(np.sum(energy**2)) / total**2 if total else None


def intruders(s: Float[np.ndarray, " k"], m: int, n: int, tau: float) -> float:
    """How many of the leading left directions, of singular values s, an (m, n) update of
    independent entries of deviation tau turns beyond |cosine| 0.5, or drowns.

    The limit of large matrices (Benaych-Georges and Nadakuditi, J. Multivariate Anal. 111, 2012,
    section 3): exact for a base of few directions, near it for others.

    >>> intruders(np.array([100.0, 0.5]), 50, 80, 0.1)
    1.0
    """
    if not tau:
        return 0.0
    ratio, theta = m / n, s / (tau * math.sqrt(n))
    with np.errstate(divide="ignore"):  # a direction of no size is drowned
        lost = ratio * (1 + theta**2) / (theta**2 * (theta**2 + ratio))
    stays = (theta > ratio**0.25) & (1 - lost >= INTRUDER_COSINE**2)
    return float(np.count_nonzero(~stays))


def projection_chances(k: int, m: int, n: int) -> dict[str, float]:
    """Mean share of a randomly turned update inside k fixed directions: k k / (m n), k / m, k / n.

    Exact for any spectrum: E Q'PQ = (k/m) I for an isotropic Q.
    """
    return {"joint": k * k / (m * n), "left": k / m, "right": k / n}


def projection_spreads(k: int, m: int, n: int, participation: float | None) -> dict[str, float]:
    """Standard deviation of those shares; empty for a zero update.

    With P = sum s^4 / (sum s^2)^2, and for the projector on k of m random directions the moments a
    = E M_ii^2, b = E M_ii M_jj, c = E M_ij^2 (and a', b', c' for n): var(joint) = P a a' + (1 -
    P)(b b' + 2 c c') - mean^2; var(left) = 2 k (m - k) / (m^2 (m + 2)) * (m P - 1) / (m - 1).
    """
    if participation is None:
        return {}
    a, b, c = projector_moments(k, m)
    a_, b_, c_ = projector_moments(k, n)
    joint = (
        participation * a * a_
        + (1 - participation) * (b * b_ + 2 * c * c_)
        - (k * k / (m * n)) ** 2
    )
    variances = {
        "joint": joint,
        "left": one_sided(k, m, participation),
        "right": one_sided(k, n, participation),
    }
    return {side: math.sqrt(max(variance, 0.0)) for side, variance in variances.items()}


def projector_moments(k: int, m: int) -> tuple[float, float, float]:
    """E M_ii^2, E M_ii M_jj and E M_ij^2 of a projector M on k random directions of m."""
    a = k * (k + 2) / (m * (m + 2))
    if m == 1:
        return a, 0.0, 0.0
    return a, (k * k / m - a) / (m - 1), k * (m - k) / (m * (m + 2) * (m - 1))


def one_sided(k: int, m: int, participation: float) -> float:
    """Variance of the share of a turned update inside k of m directions."""
    if m == 1:
        return 0.0
    return 2 * k * (m - k) / (m * m * (m + 2)) * (m * participation - 1) / (m - 1)


def rotation_chance(
    s: Float[np.ndarray, " r"], k: int, size: int, tau: float
) -> dict[str, float | None]:
    """`chance`, the rms sine that a blind update of entries tau turns the leading k of `size`
    directions by, and `pairs`.

    To first order rms^2 = (1/k) sum over i <= k < j of t_ij = tau^2 (s_i^2 + s_j^2) / (s_i^2 -
    s_j^2)^2, with size - r more j of s_j = 0. Each t is replaced by t / (1 + 2 t): two levels that
    nearly tie mix by half on average and no further, while one near-tie of first order would carry
    the whole sum. `pairs` = (sum t)^2 / sum t^2 says how many pairs carry the chance: below 5 the
    k-th and the next value are nearly equal and the data do not define the subspace. The chance is
    missing where it is above 0.3, no longer first order.
    """
    # First-order perturbation of singular vectors, squared and averaged over a Gaussian update.
    energy = s**2
    lead, rest = energy[:k, None], energy[None, k:]
    if not tau or lead[-1, 0] <= 0:
        return {"chance": None, "pairs": None}
    with np.errstate(divide="ignore"):
        # t / (1 + 2 t) written as 1 / (1/t + 2), which is 1/2 for a tie instead of Inf / Inf.
        mixed = 1 / ((lead - rest) ** 2 / (tau * tau * (lead + rest)) + 2)
    # The size - r directions in which the base has nothing.
    outside = 1 / (lead[:, 0] / (tau * tau) + 2)
    total = float(mixed.sum()) + (size - len(s)) * float(outside.sum())
    squares = float((mixed**2).sum()) + (size - len(s)) * float((outside**2).sum())
    rms = math.sqrt(total / k)
    return {
        "chance": rms if rms <= FIRST_ORDER else None,
        "pairs": total * total / squares if squares else None,
    }


def nss_chance(s: Float[np.ndarray, " r"], long: int, tau: float) -> float | None:
    """||s(T) - s(W)|| / ||s(W)|| of a blind update of entries tau; missing beyond three times its
    first order.

    Each value moves by tau at random and rises by b_i = tau^2 / (2 s_i) [L - 1 + sum_j (s_i^2 +
    s_j^2) d_ij / (d_ij^2 + 2 tau^2 (s_i^2 + s_j^2))], d_ij = s_i^2 - s_j^2: singular values rise
    under any noise, so the first order alone is low by 1.2 to 6 times at relative norms of 1 to 10
    %. The regular denominator keeps near-ties finite.
    """
    norm2, tau2 = float(np.sum(s**2)), tau * tau
    if not tau or s[-1] <= 0:
        return None
    first_order = len(s) * tau2
    energy, total = s**2, first_order
    for first in range(0, len(s), ROWS):  # r x r terms, a few rows at a time
        lead = energy[first : first + ROWS, None]
        both, apart = lead + energy[None, :], lead - energy[None, :]
        pushes = (both * apart / (apart**2 + 2 * tau2 * both)).sum(axis=1)
        rises = tau2 / (2 * s[first : first + ROWS]) * (long - 1 + pushes)
        total += float(rises @ rises)
    # Beyond it the next order is as large as this one, and a number would only look like a chance
    # level.
    if total > BEYOND_FIRST_ORDER**2 * first_order:
        return None
    return math.sqrt(total / norm2)
