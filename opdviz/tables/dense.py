"""Is a run sparse, or only small? What a dense update of the same size would leave unchanged.

The reference is an update that is Gaussian in every coordinate, of one relative size in all
tensors, and knows nothing of the weights. Stored in 16 bits, a change of less than half a grid step
is gone; what is left of the others are whole steps. So a small dense update leaves most coordinates
unchanged, and its norm as stored is not the norm that it had. Both follow from the ratio of the
step to the update's size alone, and from the histogram of the weights, which says how many have
which step.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from opdviz.checkpoint.formats import step
from opdviz.definitions import SIXTEEN_BITS, WIDE
from opdviz.store.store import Stored
from opdviz.tables import by_tensor, stored

# Sizes of the reference, in root mean squares of each tensor's weights.
SCALES = np.geomspace(1e-6, 1.0, 61)
# Ratios of the grid step to the update's size that are tabulated. Below the second a change spans
# so many steps that it is as good as continuous.
RATIOS, FINE = np.geomspace(1e-3, 1e7, 3_000), 0.1
STEPS = 100  # of the grid that a change may span from FINE on: ten of the update's sizes


def by_layer(comparison: Stored) -> pd.DataFrame:
    """By tower and layer (missing: outside of all) what did not change, beside what a dense update
    of the same relative norm leaves.

    Columns: tower, layer, numel, relative_norm, unchanged, dense_unchanged; norms and shares are of
    the coordinates as they are counted.
    """
    tensors, sizes = counted(comparison)
    if tensors.empty or sizes.empty:
        return pd.DataFrame()
    groups = tensors.groupby(["tower", "layer"], dropna=False, sort=True)
    tensors = tensors.assign(group=groups.ngroup())
    curves = reference(sizes.merge(tensors[["name", "group", "rms", "counted_as", "fine"]]))
    rows = []
    for (tower, layer), part in groups:
        norm = math.sqrt(float((part["delta"] ** 2).sum() / (part["base"] ** 2).sum()))
        numel = float(part["numel"].sum())
        curve = curves[curves["group"] == tensors.at[part.index[0], "group"]]
        rows.append(
            {
                "tower": tower,
                "layer": layer,
                "numel": numel,
                "relative_norm": norm,
                "unchanged": float(part["unchanged_exact_count"].sum()) / numel,
                "dense_unchanged": at_norm(curve, norm),
            }
        )
    return pd.DataFrame(rows).astype({"layer": "Int64"})


def curve(comparison: Stored) -> pd.DataFrame:
    """What dense updates of rising size leave unchanged in the whole model: relative_norm (as
    counted), unchanged.
    """
    tensors, sizes = counted(comparison)
    if tensors.empty or sizes.empty:
        return pd.DataFrame()
    columns = ["name", "rms", "counted_as", "fine"]
    return reference(sizes.merge(tensors[columns]).assign(group=0)).drop(columns="group")


def counted(comparison: Stored) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tensors that are counted in 16 bits, and the histograms of their weights.

    Their norms as counted (`base`, `delta`), the root mean square of their weights (`rms`) and
    whether the base is stored finer than it is counted (`fine`) stand beside them.
    """
    tensors = by_tensor.quantities_by_tensor(comparison)
    if tensors.empty or "unchanged_exact_count" not in tensors:
        return tensors.iloc[:0], tensors.iloc[:0]
    tensors = by_tensor.counted(tensors).dropna(subset=["unchanged_exact_count"])
    tensors = tensors[tensors["counted_as"].isin(SIXTEEN_BITS) & (tensors["base_norm"] > 0)]
    rounded = tensors["counted_as"] == "bfloat16"
    norms = {
        side: tensors[f"{side}_norm_bfloat16"].where(rounded, tensors[f"{side}_norm"])
        for side in ("base", "delta")
    }
    rms = tensors["base_norm"] / np.sqrt(tensors["numel"].astype(float))
    fine = tensors["base_dtype"].isin(WIDE)
    tensors = tensors.assign(**norms, rms=rms, fine=fine).dropna(subset=["base", "delta"])
    where = (pc.field("of") == "base") & (pc.field("threshold") == 0.0)
    sizes = stored.read(comparison, "histogram", where=where)
    if len(sizes):
        sizes = by_tensor.at_headline_precision(sizes)[["name", "low", "high", "count"]]
    return tensors, sizes


def reference(sizes: pd.DataFrame) -> pd.DataFrame:
    """By group what a dense update of each of SCALES leaves: group, relative_norm, unchanged.

    `sizes` has a row a bin of |W|: group, low, high, count, and of its tensor rms, counted_as and
    whether the base is stored finer than it is counted.
    """
    weights = np.sqrt(sizes["low"].astype(float) * sizes["high"].astype(float)).to_numpy()
    steps = np.empty(len(sizes))
    for grid in sizes["counted_as"].unique():
        of_grid = (sizes["counted_as"] == grid).to_numpy()
        steps[of_grid] = step(weights[of_grid], grid)
    group, count = sizes["group"].to_numpy(), sizes["count"].to_numpy(dtype=float)
    rms, fine = sizes["rms"].to_numpy(dtype=float), sizes["fine"].to_numpy(dtype=bool)
    total, energy = np.bincount(group, count), np.bincount(group, count * rms**2)
    frames = []
    for scale in SCALES:
        ratio = steps / (scale * rms)
        unchanged_shares, squares = (
            np.where(fine, between, on)
            for between, on in zip(between_grid().at(ratio), on_grid().at(ratio), strict=True)
        )
        moved = np.bincount(group, count * squares * (scale * rms) ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            norm, unchanged = (
                np.sqrt(moved / energy),
                np.bincount(group, count * unchanged_shares) / total,
            )
        frames.append(
            pd.DataFrame(
                {"group": np.arange(len(total)), "relative_norm": norm, "unchanged": unchanged}
            )
        )
    return pd.concat(frames, ignore_index=True).sort_values(["group", "relative_norm"])


def at_norm(curve_: pd.DataFrame, norm: float) -> float | None:
    """What a curve leaves unchanged at a relative norm; `None` beyond its ends."""
    norms, unchanged = (curve_[c].to_numpy() for c in ("relative_norm", "unchanged"))
    positive = np.isfinite(norms) & (norms > 0)
    norms, unchanged = norms[positive], unchanged[positive]
    if not len(norms) or not norms[0] <= norm <= norms[-1]:
        return None
    return float(np.interp(math.log(norm), np.log(norms), unchanged))


@dataclass(frozen=True, slots=True)
class Stored16:
    """What is left of Gaussian changes that are stored, at each of RATIOS: the share of unchanged
    coordinates, and the mean square of the stored change over that of the change itself.
    """

    unchanged: np.ndarray
    square: np.ndarray

    def at(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both at other ratios."""
        places = np.log(ratio)
        return tuple(
            np.interp(places, np.log(RATIOS), values) for values in (self.unchanged, self.square)
        )


@lru_cache(maxsize=1)
def on_grid() -> Stored16:
    """Where the weights lie on the grid: a change of k - 1/2 to k + 1/2 steps is stored as k.

    The mean of k^2 is the sum of (2 k + 1) P(more than k steps).
    """
    more = np.stack([beyond(k + 0.5) for k in range(STEPS)])
    return tabulated(1.0 - beyond(0.5), more, 1 / 12)


@lru_cache(maxsize=1)
def between_grid() -> Stored16:
    """Where they lie anywhere between two grid values, and base and tuned are both rounded: a
    change of a steps crosses k or k + 1 midpoints, where a lies between these.

    P(more than k) is the mean of P(a > y) over y from k to k + 1.
    """
    below = [integral(k) for k in range(STEPS + 1)]
    more = np.stack([upper - lower for lower, upper in zip(below, below[1:], strict=False)])
    return tabulated(1.0 - more[0], more, 1 / 6)


def tabulated(unchanged: np.ndarray, more: np.ndarray, excess: float) -> Stored16:
    """The table from P(more than k steps) by k; a continuous change of many steps has `excess` of a
    squared step more than its own square.
    """
    weights = 2.0 * np.arange(STEPS)[:, None] + 1.0
    square = RATIOS**2 * (weights * more).sum(axis=0)
    return Stored16(unchanged, np.where(RATIOS < FINE, 1.0 + excess * RATIOS**2, square))


erfc = np.frompyfunc(math.erfc, 1, 1)


def beyond(steps: float) -> np.ndarray:
    """P(|change| > so many steps) at each of RATIOS."""
    return erfc(steps * RATIOS / math.sqrt(2)).astype(float)


def integral(steps: float) -> np.ndarray:
    """The integral of `beyond` from 0 to so many steps."""
    scale = RATIOS / math.sqrt(2)
    with np.errstate(under="ignore"):
        tail = -np.expm1(-((scale * steps) ** 2))
    return steps * beyond(steps) + tail / (scale * math.sqrt(math.pi))
