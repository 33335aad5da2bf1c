"""How few channels hold the energy of the update (definitions, 3): the top 10 % of rows (outputs)
and of columns (inputs), beside what a Gaussian update would put there.
"""

import math

import numpy as np

from opdviz.definitions import HEADLINE_SHARE
from opdviz.linalg import Decomposition
from opdviz.measures import blind
from opdviz.measures.coordinates import AXES, axis_sums
from opdviz.pairing import Pair

NAME = "channels"
VERSION = 1
NEEDS = "finite matrix"
TABLES = {
    "channels": {
        "name": str,
        "axis": str,
        "top_share": float,
        "k": int,
        "energy_share": float,
        "chance": float,
    }
}


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """One row an axis: the share of ||D||^2 in its ceil(10 %) channels of most energy; missing
    where nothing moved.
    """
    table = []
    for axis, across in zip(AXES, reversed(pair.shape), strict=True):
        energy = np.sort(axis_sums(pair, work)[axis][2])[::-1]
        k, total = math.ceil(HEADLINE_SHARE * len(energy)), float(energy.sum())
        table.append(
            {"name": pair.name, "axis": axis, "top_share": HEADLINE_SHARE, "k": k}
            | {"energy_share": float(energy[:k].sum()) / total if total else None}
            | {"chance": blind.channel_concentration(k, len(energy), across)}
        )
    return {"channels": table}
