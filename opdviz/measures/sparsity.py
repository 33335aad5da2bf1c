"""How many coordinates did not change (definitions, 2), by four probes, as stored and as bf16; and
by how many grid steps.
"""

from itertools import pairwise

import numpy as np

from opdviz.checkpoint.formats import step
from opdviz.definitions import ABSOLUTE, BASE_RMS, RELATIVE
from opdviz.linalg import Decomposition
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.measures.visibility import below
from opdviz.pairing import Pair

NAME = "sparsity"
VERSION = 2
NEEDS = "floats"
TABLES = {
    "sparsity": {
        "name": str,
        "precision": str,
        "probe": str,
        "threshold": float,
        "unchanged": int,
        "share": float,
    },
    "steps": {"name": str, "precision": str, "steps": str, "count": int, "share": float},
    "skipped": SKIPPED,
}
STEPS = (("0", 0), ("1", 1), ("2", 2), ("3-4", 4), ("5-8", 8))


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of `sparsity` and `steps` for every precision of the pair."""
    tables: dict[str, list[dict]] = {"sparsity": [], "steps": [], "skipped": []}
    for precision in pair.precisions:
        where = {"name": pair.name, "precision": precision}
        counts, numel = unchanged(work, precision)
        for (probe, threshold), count in counts.items():
            tables["sparsity"].append(
                where
                | {
                    "probe": probe,
                    "threshold": threshold,
                    "unchanged": count,
                    "share": count / numel if numel else None,
                }
            )
        grid = work.grid(precision)
        if pair.float8:
            reason = "grid steps: float8 steps differ by scale block"
            tables["skipped"].append(skipped(pair, NAME, reason))
            continue
        for label, count in steps(work, precision, grid).items():
            tables["steps"].append(
                where | {"steps": label, "count": count, "share": count / numel if numel else None}
            )
    return tables


def unchanged(work: Decomposition, precision: str) -> tuple[dict[tuple[str, float], int], int]:
    """Counts of unchanged coordinates by (probe, threshold), and of all finite ones."""
    probes = [("exact", 0.0), *(("absolute", t) for t in ABSOLUTE), ("relative", RELATIVE)]
    changed = dict.fromkeys([*probes, *(("base_rms", t) for t in BASE_RMS)], 0)
    rms, numel = base_rms(work, precision)
    for chunk in work.values(precision):
        w, d = chunk.moved_base, chunk.delta
        size = np.abs(d)
        changed["exact", 0.0] += chunk.size - chunk.unmoved
        for t in ABSOLUTE:
            changed["absolute", t] += chunk.number(size > below(t, size.dtype))
        # By the larger of base and tuned, so that swapping the two changes nothing.
        reach = RELATIVE * np.maximum(np.abs(w), np.abs(w + d))
        changed["relative", RELATIVE] += chunk.number(size > reach)
        for t in BASE_RMS:
            # Nothing is small beside a base of zeros, not even what did not move.
            changed["base_rms", t] += chunk.number(size >= t * rms) if t * rms else chunk.size
    return {probe: numel - count for probe, count in changed.items()}, numel


def base_rms(work: Decomposition, precision: str) -> tuple[float, int]:
    """Root mean square of the base's finite coordinates, and how many there are."""
    total, count = 0.0, 0
    for chunk in work.values(precision):
        total += chunk.products()[0]
        count += chunk.size
    return (total / count) ** 0.5 if count else 0.0, count


def steps(work: Decomposition, precision: str, grid: str) -> dict[str, int]:
    """Counts of |D| in steps of the format at the base value: none, up to 1, up to 2, up to 4, up
    to 8, more.
    """
    within = dict.fromkeys([label for label, _ in STEPS], 0)
    total = 0
    for chunk in work.values(precision):
        size, u = np.abs(chunk.delta), grid_step(chunk.moved_base, grid)
        total += chunk.size
        for label, most in STEPS:
            within[label] += chunk.unmoved
            if most:
                within[label] += chunk.number(size <= most * u)
    # Counted up to each limit; a label holds what its limit adds to the one before.
    cumulative = [*within.values(), total]
    differences = [b - a for a, b in pairwise([0, *cumulative])]
    return dict(zip([*within, "9+"], differences, strict=True))


def grid_step(w: np.ndarray, grid: str) -> np.ndarray:
    """The format's step at each value, in the array's own type: by exponent bits for float32, by
    frexp for float64.
    """
    if w.dtype == np.float64:
        return step(w, grid)
    # The step depends on the exponent alone: a table of 256, looked up by bits.
    exponents = (w.view(np.uint32) >> 23) & np.uint32(0xFF)
    values = 2.0 ** (np.arange(256) - 127.0)
    values[0] = 0.0
    return step(values, grid).astype(np.float32).take(exponents)
