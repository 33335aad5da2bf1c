"""How large is the update of a tensor (definitions, 1): norms, cosine, shrink, and what did not
move.
"""

import math

import numpy as np

from opdviz.checkpoint.formats import FORMATS
from opdviz.chunks import CHUNK
from opdviz.linalg import Decomposition
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.pairing import Pair, shape_text

NAME = "magnitude"
VERSION = 2
NEEDS = "anything"
DECAY_COSINE = -0.9  # of a row's update and the row: it points against it, and so only shrinks it
TABLES = {
    "tensors": {
        "name": str,
        "tuned_name": str,
        "tower": str,
        "layer": int,
        "block": str,
        "module": str,
        "expert": int,
        "shape": str,
        "rows": int,
        "columns": int,
        "numel": int,
        "base_dtype": str,
        "tuned_dtype": str,
        "kind": str,
        "base_norm": float,
        "tuned_norm": float,
        "delta_norm": float,
        "relative_norm": float,
        "delta_max": float,
        "delta_mean_abs": float,
        "delta_rms": float,
        "base_rms": float,
        "cosine": float,
        "shrink": float,
        "nonfinite": int,
        "moved": int,
        "off_grid": int,
        "base_norm_bfloat16": float,
        "delta_norm_bfloat16": float,
        "untouched_rows": int,
        "decayed_rows": int,
    },
    "skipped": SKIPPED,
}


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """One row of `tensors`; an integer tensor is compared for equality and stands in `skipped`."""
    if "integer" in (FORMATS[pair.base_dtype].kind, FORMATS[pair.tuned_dtype].kind):
        return {"skipped": [skipped(pair, NAME, equality(work))]}
    size = sizes(work)
    row = describe(pair) | size | bfloat16_norms(work, size) | vocabulary_rows(pair, work)
    return {"tensors": [row]}


def equality(work: Decomposition) -> str:
    """Whether two integer tensors are equal, in words."""
    differing = int(np.count_nonzero(work.base != work.tuned))
    return f"integers: differs in {differing:,} places" if differing else "integers: equal"


def describe(pair: Pair) -> dict:
    """The columns that headers alone give."""
    place, matrix = pair.place, len(pair.shape) == 2
    return {
        "name": pair.name,
        "tuned_name": pair.tuned_name if pair.tuned_name != pair.name else None,
        "tower": place.tower,
        "layer": place.layer,
        "block": place.block,
        "module": place.module,
        "expert": place.expert,
        "shape": shape_text(pair.shape),
        "rows": pair.shape[0] if matrix else None,
        "columns": pair.shape[1] if matrix else None,
        "numel": pair.numel,
        "base_dtype": pair.base_dtype,
        "tuned_dtype": pair.tuned_dtype,
        "kind": pair.kind,
    }


def sizes(work: Decomposition) -> dict:
    """Norms and inner products of the finite coordinates, summed in float64.

    The tuned's norm is summed from its own values: ||W||^2 + 2 <W, D> + ||D||^2 cancels where T is
    small beside W.
    """
    sums = np.zeros(3)
    wd = dd = total = largest = 0.0
    count = 0
    for chunk in work.values("stored"):
        sums += chunk.products()
        # Of the stored values: near ones have an exact difference in their own type (Sterbenz).
        d = chunk.delta.astype(np.float64)
        size = np.abs(d)
        dd, wd = dd + chunk.inner(d, d), wd + chunk.inner(chunk.moved_base.astype(np.float64), d)
        total += chunk.total(size)
        largest = max(largest, float(size.max(initial=0.0)))
        count += chunk.size
    ww, tt, wt = sums.tolist()
    return {
        "base_norm": math.sqrt(ww),
        "tuned_norm": math.sqrt(tt),
        "delta_norm": math.sqrt(dd),
        "relative_norm": math.sqrt(dd / ww) if ww else None,
        "delta_max": largest,
        "delta_mean_abs": total / count if count else None,
        "delta_rms": math.sqrt(dd / count) if count else None,
        "base_rms": math.sqrt(ww / count) if count else None,
        # Rounding can carry it beyond 1. One norm after the other: their product may overflow.
        "cosine": max(-1.0, min(wt / math.sqrt(ww) / math.sqrt(tt), 1.0)) if ww and tt else None,
        "shrink": wd / ww if ww else None,
        "nonfinite": work.nonfinite,
        "moved": work.moved,
        "off_grid": work.off_grid,
    }


def bfloat16_norms(work: Decomposition, size: dict) -> dict:
    """Norms of base and update after both sides are rounded to bfloat16, as the paper's own script
    takes them.
    """
    if work.form == "bfloat16":  # both sides lie on that grid
        return {f"{norm}_bfloat16": size[norm] for norm in ("base_norm", "delta_norm")}
    ww = dd = 0.0
    for chunk in work.values("bfloat16"):
        d = chunk.delta.astype(np.float64)
        ww, dd = ww + chunk.products()[0], dd + chunk.inner(d, d)
    return {"base_norm_bfloat16": math.sqrt(ww), "delta_norm_bfloat16": math.sqrt(dd)}


def vocabulary_rows(pair: Pair, work: Decomposition) -> dict:
    """For an embedding or a head: rows in which nothing moved, and rows that only shrank.

    A row only shrank where its update points against it (cosine below -0.9): tokens that training
    never saw, but weight decay did.
    """
    if pair.place.block not in ("embedding", "head") or len(pair.shape) != 2 or work.nonfinite:
        return {"untouched_rows": None, "decayed_rows": None}
    ww, wd, dd = row_products(work)
    return {
        "untouched_rows": int(np.count_nonzero(dd == 0)),
        "decayed_rows": int(np.count_nonzero(wd < DECAY_COSINE * np.sqrt(ww * dd))),
    }


def row_products(work: Decomposition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """<w, w>, <w, d> and <d, d> of each row of a matrix, worked out once."""
    return work.once(("row products",), lambda: take_row_products(work))


def take_row_products(work: Decomposition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same, in one pass."""
    ww, wd, dd = (np.empty(work.m) for _ in range(3))
    size = max(1, CHUNK // work.n)
    for first in range(0, work.m, size):
        block = slice(first, first + size)
        w = work.base[block].astype(np.float64)
        d = work.tuned[block].astype(np.float64) - w
        for sums, a, b in ((ww, w, w), (wd, w, d), (dd, d, d)):
            sums[block] = np.einsum("ij,ij->i", a, b)
    return ww, wd, dd
