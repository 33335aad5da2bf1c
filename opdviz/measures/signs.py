"""How many weights changed sign (definitions, 2), beside how many a blind update that shows as
often would flip.
"""

import numpy as np
import scipy

from opdviz.definitions import SIXTEEN_BITS
from opdviz.linalg import Decomposition
from opdviz.measures.nulls import FAR, census
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.measures.visibility import NO_NULLS, magnitudes
from opdviz.pairing import Pair

NAME = "signs"
VERSION = 1
NEEDS = "floats"
TABLES = {
    "signs": {"name": str, "flipped": int, "share": float, "chance": float},
    "skipped": SKIPPED,
}
# Share of visible coordinates from which their number no longer tells the size of a blind update.
NEARLY_ALL = 0.99


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """One row: how many finite coordinates went through zero, and the share that chance alone would
    flip.
    """
    flipped = numel = 0
    for chunk in work.values("stored"):
        base, tuned = chunk.moved_base, chunk.moved_tuned
        # of the signs, not of the product: two small values would multiply to zero
        flipped += chunk.number(((base > 0) & (tuned < 0)) | ((base < 0) & (tuned > 0)))
        numel += chunk.size
    share = flipped / numel if numel else None
    reasons = [skipped(pair, NAME, f"chance: {NO_NULLS}")] if pair.float8 else []
    chance = None if pair.float8 or not numel else blind_flips(work)
    return {
        "signs": [{"name": pair.name, "flipped": flipped, "share": share, "chance": chance}],
        "skipped": reasons,
    }


def blind_flips(work: Decomposition) -> float:
    """The share of coordinates that a blind Gaussian update takes through zero: the mean of
    Phi(-|W| / scale).
    """
    scale, counted = blind_scale(work), census(work, "stored")
    if not scale:
        return 0.0
    if counted.scheme in SIXTEEN_BITS:  # a class is a value
        size = magnitudes(counted.scheme)[counted.without_sign()]
        flips = np.where(size > 0, scipy.special.ndtr(-size / scale), 0.0)
        return float(flips @ counted.count) / counted.numel
    expected = 0.0
    for chunk in work.chunks("stored"):
        size = np.abs(chunk.base)
        # Beyond, the tail is zero in float64; a coordinate that is zero has no sign to lose.
        near = size[(size > 0) & (size < FAR * scale)].astype(np.float64)
        expected += float(scipy.special.ndtr(-near / scale).sum())
    return expected / counted.numel


def blind_scale(work: Decomposition) -> float:
    """The standard deviation of that update.

    A coarse format swallows most of a small update, so its stored norm says too little; how many
    coordinates it shows says how large it was, as long as not nearly all do.
    """
    counted = census(work, "stored")
    if counted.visible[0].sum() < NEARLY_ALL * counted.numel:
        return counted.scale[0]
    squares = [c.total(c.delta.astype(np.float64) ** 2) for c in work.values("stored")]
    return (sum(squares) / counted.numel) ** 0.5
