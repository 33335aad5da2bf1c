"""The spectrum of an update without any structure: a Gaussian matrix of the shape."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

# Of the Marchenko-Pastur quadrature: quantiles to 2e-8, of a square matrix to 4e-5 of the largest.
POINTS = 20_001


@lru_cache(maxsize=256)
def gaussian_spectrum(m: int, n: int) -> Float[np.ndarray, " r"]:
    """Singular values of a blind update of norm 1: Marchenko-Pastur quantiles at (i - 1/2) / r,
    falling.

    With x = centre + half * cos(t) the density is smooth in t, which the trapezoid rule likes.
    """
    r, long = min(m, n), max(m, n)
    ratio = r / long
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    t = np.linspace(np.pi, 0.0, POINTS)
    x = (low + high) / 2 + (high - low) / 2 * np.cos(t)
    # The Marchenko-Pastur density in t; its square-root edges, on which a rule in x would converge
    # slowly, are gone.
    density = np.sin(t) ** 2 / np.maximum(x, 1e-12)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    values = np.interp((np.arange(r, 0, -1) - 0.5) / r, mass / mass[-1], x)
    s = np.sqrt(values)
    return s / np.linalg.norm(s)
