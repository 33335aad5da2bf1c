"""Which coordinates moved, given the size of the weight, and where they stand (definitions, 6:
histogram, profile, rows).
"""

import math

import numpy as np
from jaxtyping import Float

from opdviz import checkpoint
from opdviz.checkpoint.formats import round_bfloat16, step
from opdviz.chunks import BLOCK
from opdviz.definitions import MOVED_THRESHOLDS, PROBES
from opdviz.linalg import Decomposition
from opdviz.measures.magnitude import row_products
from opdviz.measures.nulls import Census, census, gaussian_share
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.measures.visibility import BETWEEN, NO_NULLS, ZEROS, below, codes, magnitudes, quarters
from opdviz.order import histogram
from opdviz.pairing import Pair

NAME = "coordinates"
VERSION = 2
NEEDS = "floats"
TABLES = {
    "histogram": {
        "name": str,
        "of": str,
        "precision": str,
        "threshold": float,
        "low": float,
        "high": float,
        "count": int,
        "moved": int,
        "null_moved": float,
    },
    "profile": {
        "name": str,
        "axis": str,
        "bin": int,
        "low": float,
        "high": float,
        "moved": float,
        "moved_bfloat16": float,
        "energy": float,
    },
    "rows": {
        "name": str,
        "row": int,
        "relative_norm": float,
        "moved": float,
        "shrink": float,
        "cosine": float,
        "token": str,
    },
    "skipped": SKIPPED,
}
MOST_ROWS = 100  # of a vocabulary, the most moved ones
MOST_BINS = 64  # bands of an axis
AXES = ("row", "column")
MOVED, COARSE, ENERGY = range(3)  # of the sums of an axis


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of `histogram`; of `profile` and `rows` where the tensor has such."""
    tables: dict[str, list[dict]] = {"histogram": [], "profile": [], "rows": [], "skipped": []}
    for precision in pair.precisions:
        if pair.float8:
            reason = f"{precision} histogram: {NO_NULLS}"
            tables["skipped"].append(skipped(pair, NAME, reason))
            continue
        counted = census(work, precision)
        deltas = delta_bins(work, precision, counted)
        for threshold in MOVED_THRESHOLDS:
            where = {"name": pair.name, "precision": precision, "threshold": threshold}
            tables["histogram"] += [
                where | {"of": "base"} | row for row in base_histogram(counted, threshold)
            ]
            tables["histogram"] += [where | {"of": "delta"} | row for row in deltas[threshold]]
    if pair.is_matrix and not work.nonfinite:
        tables["profile"] = profile(pair, work)
        if pair.place.block in ("embedding", "head"):
            tables["rows"] = most_moved_rows(pair, work)
    return tables


def probe_index(threshold: float) -> int:
    """The position of the absolute probe of a threshold among PROBES."""
    return PROBES.index(("absolute", threshold))


def base_histogram(taken: Census, threshold: float) -> list[dict]:
    """Bins of |W| with all, moved, and the coordinates that move under the Gaussian null."""
    at = probe_index(threshold)
    counts = (taken.count, taken.visible[at], taken.gaussian[at] * taken.count)
    return binned(quarters(taken.scheme)[taken.without_sign()], counts)


def binned(bins: np.ndarray, counts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[dict]:
    """Class counts (all, moved, moved under the null) summed into quarter-octave bins; empty bins
    are left out.
    """
    used = np.flatnonzero(counts[0])
    quarter_octaves, inverse = np.unique(bins[used], return_inverse=True)
    count, moved, null = (
        np.bincount(inverse, weights=c[used], minlength=len(quarter_octaves)) for c in counts
    )
    return [
        edges(int(b)) | {"count": int(c), "moved": int(m), "null_moved": float(n)}
        for b, c, m, n in zip(quarter_octaves, count, moved, null, strict=True)
    ]


def edges(quarter: int) -> dict:
    """The edges of a quarter-octave bin; the bin of zeros has low = high = 0."""
    if quarter <= ZEROS:
        return {"low": 0.0, "high": 0.0}
    return {"low": 2.0 ** (quarter / 4), "high": 2.0 ** ((quarter + 1) / 4)}


def delta_bins(work: Decomposition, precision: str, taken: Census) -> dict[float, list[dict]]:
    """Bins of |D| by threshold: all, those beyond it, and as many under the Gaussian null."""
    bins = quarters("float32")
    count = np.zeros(len(bins), dtype=np.int64)
    beyond = dict.fromkeys(MOVED_THRESHOLDS, 0)
    for chunk in work.values(precision):
        d = np.abs(chunk.delta)
        count += histogram(codes(d, "float32"), chunk.moved_often, len(bins))
        count[0] += chunk.unmoved  # the class of zero
        for t in MOVED_THRESHOLDS:
            beyond[t] += chunk.number(d > below(t, d.dtype))
    used = np.flatnonzero(count)
    by_threshold = {}
    for t in MOVED_THRESHOLDS:
        # Classes rise with |D|: beyond a threshold is all of those above its own, and the rest.
        bin_of_t = int(codes(np.array([t], dtype=np.float32), "float32")[0])
        moved = np.where(np.arange(len(bins)) > bin_of_t, count, 0)
        moved[bin_of_t] = beyond[t] - moved.sum()
        null = np.zeros(len(bins))
        null[used] = null_deltas(taken, t, used)
        by_threshold[t] = binned(bins, (count, moved, null))
    return by_threshold


def null_deltas(taken: Census, threshold: float, used: np.ndarray) -> np.ndarray:
    """Expected coordinates in bins of |D| (float32 classes) beyond a threshold under the Gaussian
    null, by grid step.
    """
    scale = taken.scale[probe_index(threshold)]
    if not scale:
        return np.zeros(len(used))
    sizes = magnitudes(taken.scheme)[taken.without_sign()]
    steps, group = np.unique(step(sizes, taken.scheme.removesuffix(BETWEEN)), return_inverse=True)
    weight = np.bincount(group, weights=taken.count)
    bins = [edges(int(b)) for b in quarters("float32")[used]]
    low, high = np.array([b["low"] for b in bins]), np.array([b["high"] for b in bins])
    u = steps[:, None]
    # The steps at a zero of a wide format are too small to divide by.
    with np.errstate(over="ignore"):
        # The least number of steps that is beyond the threshold.
        first = np.floor(threshold / u) + 1
        reach = [np.maximum(np.ceil(x[None, :] / u), first) * u for x in (low, high)]
    gridded = not taken.scheme.endswith(BETWEEN)
    # From a grid value a delta is stored as its nearest number of steps: a jump half a step before
    # it. From between two, at a place that is taken as even, it rises over the whole step.
    before = 0.5 if gridded else 1.0
    beyond = []
    for end in reach:
        start = (end - before * u).ravel()
        finish = start if gridded else end.ravel()
        beyond.append(
            gaussian_share(np.stack([start] * 2), np.stack([finish] * 2), scale).reshape(end.shape)
        )
    return np.where(high > 0, weight @ (beyond[0] - beyond[1]), 0.0)


def profile(pair: Pair, work: Decomposition) -> list[dict]:
    """Share of moved coordinates and of energy in bands of rows and of columns."""
    (m, n), wide = pair.shape, len(pair.precisions) > 1
    sums = axis_sums(pair, work)
    total = float(sums["row"][ENERGY].sum())
    table = []
    for axis, across in (("row", n), ("column", m)):
        moved, coarse, energy = sums[axis]
        width = band(len(moved), pair.head_size)
        for number, low in enumerate(range(0, len(moved), width)):
            high = min(low + width, len(moved))
            cells = (high - low) * across
            table.append(
                {"name": pair.name, "axis": axis, "bin": number, "low": low, "high": high}
                | {"moved": float(moved[low:high].sum()) / cells}
                | {"moved_bfloat16": float(coarse[low:high].sum()) / cells if wide else None}
                | {"energy": float(energy[low:high].sum()) / total if total else None}
            )
    return table


def axis_sums(pair: Pair, work: Decomposition) -> dict[str, Float[np.ndarray, "3 length"]]:
    """Of each row and of each column how many coordinates moved as stored and as bf16, and their
    energy; worked out once.
    """
    return work.once(("axis sums",), lambda: take_axis_sums(pair, work))


def take_axis_sums(pair: Pair, work: Decomposition) -> dict[str, np.ndarray]:
    """The same, in one pass."""
    (m, n), wide = pair.shape, len(pair.precisions) > 1
    # Moved as stored, moved as bf16, and energy: one pass over the rows fills all three.
    sums = {axis: np.zeros((3, length)) for axis, length in zip(AXES, pair.shape, strict=True)}
    size = max(1, BLOCK // n)
    ones = np.ones(max(size, n))
    for first in range(0, m, size):
        w, t = work.base[first : first + size], work.tuned[first : first + size]
        d = (t - w).astype(np.float64)
        # Counts in float32, which holds those of a block exactly.
        parts = {MOVED: (d != 0).astype(np.float32), ENERGY: d * d}
        if wide:
            parts[COARSE] = (round_bfloat16(w) != round_bfloat16(t)).astype(np.float32)
        # As products with ones: sums along an axis take numpy several times as long.
        for at, part in parts.items():
            side = ones.astype(part.dtype, copy=False)
            sums["row"][at, first : first + size] = part @ side[:n]
            sums["column"][at] += side[: len(d)] @ part
    if not wide:
        for of_axis in sums.values():
            of_axis[COARSE] = of_axis[MOVED]
    return sums


def band(length: int, head: int | None) -> int:
    """The width of a band: about 64 an axis, and never across two attention heads.

    >>> band(384, 32), band(1536, None), band(8192, 128)
    (8, 24, 128)
    """
    least = math.ceil(length / MOST_BINS)
    if not head or length % head:
        return least
    return next((w for w in range(least, head + 1) if head % w == 0), head)


def most_moved_rows(pair: Pair, work: Decomposition) -> list[dict]:
    """The 100 rows of an embedding or a head with the largest relative norm, with their tokens
    where known.
    """
    ww, wd, dd = row_products(work)
    # a row that was zero and moved has no relative norm: it comes first, with missing values
    relative = np.sqrt(np.divide(dd, ww, out=np.where(dd > 0, np.inf, 0.0), where=ww > 0))
    order = np.argsort(-relative, kind="stable")[:MOST_ROWS]
    tokens = checkpoint.tokens(pair.base_source.path)
    if pair.shape[0] < len(tokens) / 2:  # rows of positions or of a pooler, which are no words
        tokens = {}
    return [
        {
            "name": pair.name,
            "row": int(i),
            "relative_norm": float(relative[i]) if ww[i] else None,
            "moved": float(np.count_nonzero(work.base[i] != work.tuned[i])) / pair.shape[1],
            "shrink": float(wd[i] / ww[i]) if ww[i] else None,
            "cosine": float(wd[i] / math.sqrt(ww[i] * dd[i])) if ww[i] else None,
            "token": tokens.get(int(i)),
        }
        for i in order
        if dd[i] > 0
    ]
