"""How dense the visible update is in each tensor, beside what the sizes of its weights give.

A blind update shows where weights are small, so a module of small weights is denser than another
without having been trained more. Expected of a tensor is what it would have if a weight moved as
often as all weights of the model of its size do (quarter octaves).
"""

import pandas as pd
import pyarrow.compute as pc

from opdviz.store.store import Stored
from opdviz.tables import by_tensor, stored

PLACE = ("name", "tower", "layer", "block", "module")


def density(comparison: Stored) -> pd.DataFrame:
    """One row a tensor and threshold: its place, numel, moved, expected, and the shares `density`
    and `density_given_sizes`.
    """
    bins = stored.read(comparison, "histogram", where=pc.field("of") == "base")
    tensors = by_tensor.counted(stored.tensors(comparison))
    if bins.empty or tensors.empty:
        return pd.DataFrame()
    bins = by_tensor.at_headline_precision(bins)
    bins = bins[bins["name"].isin(tensors["name"])]
    of_size = bins.groupby(["threshold", "low"])[["count", "moved"]].transform("sum")
    bins = bins.assign(expected=bins["count"] * of_size["moved"] / of_size["count"])
    counts = bins.groupby(["name", "threshold"], as_index=False, sort=False)[
        ["count", "moved", "expected"]
    ].sum()
    rows = counts.rename(columns={"count": "numel"})
    rows = rows.assign(
        density=rows["moved"] / rows["numel"],
        density_given_sizes=rows["expected"] / rows["numel"],
    )
    return rows.merge(tensors[list(PLACE)], on="name", how="left")
