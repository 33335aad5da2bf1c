"""How few coordinates hold the energy of the update (definitions, 3), beside what a Gaussian would
give.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from opdviz import order
from opdviz.definitions import TOP_COORDINATES
from opdviz.linalg import Decomposition
from opdviz.measures import blind
from opdviz.measures.visibility import below
from opdviz.order import Block
from opdviz.pairing import Pair

NAME = "concentration"
VERSION = 2
NEEDS = "floats"
TABLES = {
    "concentration": {"name": str, "top_share": float, "energy_share": float, "chance": float},
}


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """One row a top share; the energy share is missing where nothing moved."""
    numel = work.base.size - work.nonfinite
    sizes = partial(moved_sizes, work)
    energies = top_energy(sizes, moved=work.moved, numel=numel)
    return {
        "concentration": [
            {"name": pair.name, "top_share": share, "energy_share": energy}
            | {"chance": blind.concentration(math.ceil(share * numel), numel) if numel else None}
            for share, energy in zip(TOP_COORDINATES, energies, strict=True)
        ]
    }


def moved_sizes(work: Decomposition) -> Iterator[Block]:
    """|D| of the coordinates that moved, some at a time."""
    return ((np.abs(chunk.delta), chunk.moved_often) for chunk in work.values("stored"))


def top_energy(
    blocks: Callable[[], Iterable[Block]], *, moved: int, numel: int
) -> list[float | None]:
    """The share of sum |D|^2 in the largest ceil(share * numel) coordinates, from the sizes of
    those that moved, which `blocks` gives, and gives again: of an embedding all of them are
    hundreds of megabytes.
    """
    if not moved:
        return [None] * len(TOP_COORDINATES)
    # Where fewer moved than are asked for, they hold all of it.
    counts = [min(math.ceil(share * numel), moved) for share in TOP_COORDINATES]
    cuts = order.cuts(blocks, [moved - k + 1 for k in counts])
    total, above = 0.0, np.zeros(len(cuts))
    for sizes, often in blocks():
        energy = sizes.astype(np.float64) ** 2 * (1 if often is None else often)
        total += float(energy.sum())
        for at, cut in enumerate(cuts):
            above[at] += energy[sizes > below(cut.value, sizes.dtype)].sum()
    # Of those at the cut as many as there are places left.
    at_the_cut = [k - (moved - cut.below - cut.tied) for k, cut in zip(counts, cuts, strict=True)]
    return [
        float(energy + places * cut.value**2) / total if total else None
        for energy, places, cut in zip(above, at_the_cut, cuts, strict=True)
    ]
