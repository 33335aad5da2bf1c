"""Intruder dimensions: leading left directions of the tuned matrix that the base has nowhere.

A tuned left singular vector among the first ten intrudes where no base vector reaches |cosine| 0.5
with it (Shuttleworth et al., arXiv 2410.21228; the threshold and the ten are PEFT's). LoRA is known
to make them where full training does not.
"""

import numpy as np
from jaxtyping import Float

from opdviz.definitions import INTRUDER_COSINE, LEADING_TUNED
from opdviz.linalg import Decomposition
from opdviz.measures import blind
from opdviz.measures.geometry import tau
from opdviz.measures.skipping import SKIPPED
from opdviz.pairing import Pair

NAME = "intruders"
VERSION = 1
NEEDS = "finite matrix"
TABLES = {
    "intruder": {"name": str, "probed": int, "intruders": int, "least": float, "chance": float},
    "match": {"name": str, "index": int, "nearest": int, "cosine": float},
    "skipped": SKIPPED,
}


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """How many of the leading tuned directions intrude, and of each the base's nearest; nothing
    where the base is zero.
    """
    tables: dict[str, list[dict]] = {table: [] for table in TABLES}
    s, k = work.base_spectrum.s, min(LEADING_TUNED, work.r)
    if not s[0] or not work.tuned_spectrum.s[0]:
        return tables
    if work.delta_energy:
        nearest, cosines = matches(work, k)
    else:  # the same matrix has the same directions
        nearest, cosines = np.arange(k), np.ones(k)
    tables["match"] = [
        {"name": pair.name, "index": i + 1, "nearest": int(nearest[i]) + 1, "cosine": cosines[i]}
        for i in range(len(cosines))
    ]
    row = {
        "name": pair.name,
        "probed": len(cosines),
        "intruders": int(np.count_nonzero(cosines < INTRUDER_COSINE)),
        "least": float(cosines.min()),
        "chance": blind.intruders(s[:k], work.m, work.n, tau(work)),
    }
    tables["intruder"] = [row]
    return tables


def matches(work: Decomposition, k: int) -> tuple[np.ndarray, Float[np.ndarray, " k"]]:
    """Of each of the k leading tuned left vectors which base vector is nearest, and |cosine|.

    Leading base vectors answer for nearly all of them: what a vector has outside their span bounds
    every other cosine. All vectors of the base are made only where that leaves an answer open.
    """
    k = int(min(k, np.count_nonzero(work.tuned_spectrum.s > work.tuned_spectrum.s[0] * 1e-12)))
    nearest, cosines, outside = nearest_of(work, work.base_spectrum.v, k)
    if work.base_spectrum.v.shape[1] < work.r and np.any(
        (cosines < INTRUDER_COSINE) & (outside >= INTRUDER_COSINE**2)
    ):
        every = work.of_base.once(
            "every vector", lambda: work.spectrum_of(work.products.aa, work.r).v
        )
        nearest, cosines, _ = nearest_of(work, every, k)
    return nearest, cosines


def nearest_of(
    work: Decomposition, v: Float[np.ndarray, "r q"], k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Among the base vectors whose short-side ones are `v`: the nearest to each tuned vector,
    |cosine| with it, and the share of its square outside their span.
    """
    tuned = work.tuned_spectrum.v[:, :k]
    if work.short == "left":
        cosines = v.T @ tuned
    else:
        # u_i'u'_j = v_i' A'T v'_j / (s_i s'_j): the long side is not touched.
        p, usable = work.products, min(work.usable, v.shape[1])
        crossed = v[:, :usable].T @ ((p.aa + p.ad) @ tuned)
        s, its = work.base_spectrum.s[:usable], work.tuned_spectrum.s[:k]
        cosines = crossed / (s[:, None] * its)
    cosines = np.minimum(np.abs(cosines), 1.0)
    nearest = np.argmax(cosines, axis=0)
    outside = 1.0 - np.einsum("ij,ij->j", cosines, cosines)
    return nearest, cosines[nearest, np.arange(k)], outside
