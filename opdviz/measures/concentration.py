"""How few coordinates hold the energy of the update (definitions, 3), beside what a Gaussian would
give.
"""

import math

import numpy as np

from opdviz.chunks import CHUNK
from opdviz.definitions import TOP_COORDINATES
from opdviz.linalg import Decomposition
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
    size = sizes_of_moved(work)
    numel = work.base.size - work.nonfinite
    return {
        "concentration": [
            {"name": pair.name, "top_share": share, "energy_share": energy}
            | {"chance": blind.concentration(math.ceil(share * numel), numel) if numel else None}
            for share, energy in zip(TOP_COORDINATES, top_energy(size, numel), strict=True)
        ]
    }


def sizes_of_moved(work: Decomposition) -> np.ndarray:
    """|D| of the coordinates that moved: filled in place, as an embedding's are hundreds of
    megabytes, and pieces of them would be there beside the whole.
    """
    size, first = np.empty(work.moved, dtype=work.base.dtype), 0
    for chunk in work.chunks("stored"):
        d = np.abs(chunk.delta)
        # float64 from where float32 overflows, and for good.
        size = size.astype(np.result_type(size, d), copy=False)
        size[first : first + d.size] = d
        first += d.size
    return size


def top_energy(size: np.ndarray, numel: int) -> list[float | None]:
    """The share of sum |D|^2 in the largest ceil(share * numel) coordinates, from the sizes of
    those that moved; they are reordered in place.
    """
    if not size.size:
        return [None] * len(TOP_COORDINATES)
    # Where fewer moved than are asked for, they hold all of it.
    counts = [min(math.ceil(share * numel), size.size) for share in TOP_COORDINATES]
    # One place after the other, each in what the one before left: numpy parts by one place several
    # times as fast as by many at once.
    largest = size
    for k in sorted(counts, reverse=True):
        largest.partition(largest.size - k)
        largest = largest[largest.size - k :]
    total = energy(size)
    return [energy(size[size.size - k :]) / total if total else None for k in counts]


def energy(x: np.ndarray) -> float:
    """Sum of squares in float64, in blocks."""
    return sum(
        float(np.sum(x[i : i + CHUNK].astype(np.float64) ** 2)) for i in range(0, x.size, CHUNK)
    )
