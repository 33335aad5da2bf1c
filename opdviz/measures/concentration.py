"""How few coordinates hold the energy of the update (definitions, 3), beside what a Gaussian would
give.
"""

import math

import numpy as np

from opdviz.definitions import TOP_COORDINATES
from opdviz.linalg import CHUNK, Decomposition
from opdviz.measures import blind
from opdviz.pairing import Pair

NAME = "concentration"
VERSION = 2
NEEDS = "floats"
TABLES = {
    "concentration": {"name": str, "top_share": float, "energy_share": float, "chance": float},
}


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """One row a top share; the energy share is missing where nothing moved."""
    size = np.concatenate([np.abs(d) for _, d in work.elements("stored")] or [np.empty(0)])
    numel = size.size
    return {
        "concentration": [
            {"name": pair.name, "top_share": share, "energy_share": energy}
            | {"chance": blind.concentration(math.ceil(share * numel), numel) if numel else None}
            for share, energy in zip(TOP_COORDINATES, top_energy(size), strict=True)
        ]
    }


def top_energy(size: np.ndarray) -> list[float | None]:
    """The share of sum |D|^2 in the largest ceil(share * numel) coordinates; `size` is reordered in
    place.
    """
    if not size.size:
        return [None] * len(TOP_COORDINATES)
    counts = [math.ceil(share * size.size) for share in TOP_COORDINATES]
    # A few order statistics, not a sort: linear in the number of coordinates.
    size.partition(sorted({size.size - k for k in counts}))
    total = energy(size)
    return [energy(size[size.size - k :]) / total if total else None for k in counts]


def energy(x: np.ndarray) -> float:
    """Sum of squares in float64, in blocks."""
    return sum(
        float(np.sum(x[i : i + CHUNK].astype(np.float64) ** 2)) for i in range(0, x.size, CHUNK)
    )
