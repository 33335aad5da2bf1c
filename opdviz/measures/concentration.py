"""How few coordinates hold the energy of the update (QUANTITIES 3), beside what a Gaussian would give."""

import math

import numpy as np
from scipy.special import ndtri

from opdviz.linalg import Work
from opdviz.pairing import Pair

NAME = "concentration"
VERSION = 1
TABLES = {"concentration": ("name", "top_share", "energy_share", "chance")}
TOP_SHARES = (0.001, 0.01, 0.05)


def rows(pair: Pair, work: Work) -> dict[str, list[dict]]:
    """One row a top share; the energy share is missing where nothing moved."""
    size = np.concatenate([np.abs(d) for _, d in work.elements("stored")] or [np.empty(0)])
    shares = top_energy(size)
    return {
        "concentration": [
            {"name": pair.name, "top_share": share, "energy_share": energy, "chance": gaussian_chance(share)}
            for share, energy in zip(TOP_SHARES, shares)
        ]
    }


def top_energy(size: np.ndarray) -> list[float | None]:
    """The share of sum |D|^2 in the largest ceil(share * numel) coordinates; `size` is reordered in place."""
    if not size.size:
        return [None] * len(TOP_SHARES)
    counts = [math.ceil(share * size.size) for share in TOP_SHARES]
    size.partition(sorted({size.size - k for k in counts}))
    total = energy(size)
    return [energy(size[size.size - k :]) / total if total else None for k in counts]


def energy(x: np.ndarray) -> float:
    """Sum of squares in float64, in blocks."""
    return sum(float(np.sum(x[i : i + (1 << 18)].astype(np.float64) ** 2)) for i in range(0, x.size, 1 << 18))


def gaussian_chance(share: float) -> float:
    """Energy share of the largest `share` of independent Gaussian coordinates: p + 2 q phi(q), q the 1 - p/2 quantile.

    >>> round(gaussian_chance(0.01), 4)
    0.0845
    """
    q = float(ndtri(1 - share / 2))
    return share + 2 * q * math.exp(-q * q / 2) / math.sqrt(2 * math.pi)
