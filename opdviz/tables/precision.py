"""The precision fingerprint (definitions, 8): octaves pooled by module, and what they say of how
weights were kept while they were trained.
"""

import numpy as np
import pandas as pd

from opdviz.checkpoint.formats import FORMATS
from opdviz.store.store import Stored
from opdviz.tables import stored
from opdviz.words import number

ONE_DISPLACEMENT, CUT_OFF, CANNOT_TELL = "one displacement", "cut off", "cannot tell"
GROUP = ["block", "module"]
SUMS = ["count", "moved", "predicted_moves", "reference"]
# An octave can tell where that share would move, as many weights, by as many small ones.
SHARE, MOVES, REFERENCE = 0.05, 100, 500
# Ratios that say that all moved, that nothing did, and how far from 1 one displacement lies.
MOVED, STILL, NEAR = 0.8, 0.1, (0.8, 1.25)
DEVIATIONS = 5.0  # of the sampling error, that a cliff is beyond
FEWEST_OCTAVES = 2
OCTAVES = ["octave", "count", "reference", "observed", "predicted", "ratio", "error"]
COLUMNS = [*GROUP, *OCTAVES]
VERDICT_COLUMNS = ["verdict", "octave", "step_low", "step_high", "reason"]


def fingerprint(comparison: Stored) -> pd.DataFrame:
    """One row a module and octave of |W|: how many weights, the share that moved and the share that
    displacements of small weights predict, their ratio and its error.
    """
    rows = placed(comparison)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    return with_ratio(rows.groupby([*GROUP, "octave"], as_index=False)[SUMS].sum())[COLUMNS]


def fingerprint_summary(comparison: Stored) -> pd.DataFrame:
    """One row a module: what its octaves say."""
    rows = placed(comparison)
    if rows.empty:
        return pd.DataFrame(columns=[*GROUP, *VERDICT_COLUMNS])
    tensors = dict(list(with_ratio(rows).groupby(GROUP)))
    return pd.DataFrame(
        dict(zip(GROUP, group, strict=True)) | judged(pooled, tensors[group])
        for group, pooled in fingerprint(comparison).groupby(GROUP, sort=True)
    )


def of_run(comparison: Stored) -> tuple[pd.DataFrame, dict]:
    """The octaves of all modules together, and what they say."""
    rows = placed(comparison)
    if rows.empty:
        return pd.DataFrame(columns=OCTAVES), verdict(CANNOT_TELL, "no tensor can be asked")
    pooled = with_ratio(rows.groupby("octave", as_index=False)[SUMS].sum())
    return pooled[OCTAVES], judged(pooled, with_ratio(rows))


def placed(comparison: Stored) -> pd.DataFrame:
    """The stored octaves with the block, module and format of their tensors."""
    rows = stored.read(comparison, "octaves")
    if rows.empty:
        return rows
    places = stored.read(comparison, "tensors")[["name", *GROUP]]
    return rows.merge(places, on="name")


def with_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts as shares, with the ratio of observed to predicted and the error of its logarithm."""
    n, reference = rows["count"].astype(float), rows["reference"].astype(float)
    observed, predicted = rows["moved"] / n, rows["predicted_moves"] / n
    with np.errstate(divide="ignore", invalid="ignore"):
        # Both are counted: the weights' own moves, and the small ones' displacements.
        variance = (1 - observed) / rows["moved"] + (1 - predicted) / (reference * predicted)
        ratio = observed / predicted
    return rows.assign(
        observed=observed,
        predicted=predicted,
        ratio=ratio.where(predicted > 0),
        error=np.sqrt(variance).where(np.isfinite(variance)),
    )


def judged(pooled: pd.DataFrame, by_tensor: pd.DataFrame) -> dict:
    """The verdict of a module from its octaves, pooled and by tensor."""
    telling = with_power(pooled)
    if len(telling) < FEWEST_OCTAVES:
        few = f"{len(telling)} octaves of |W|" if len(telling) else "no octave of |W|"
        return verdict(
            CANNOT_TELL, f"{few} with small weights enough that moved far enough to tell"
        )
    if (edge := cliff(pooled)) is not None:
        with_it = [cliff(part, 0) == edge for part in able(by_tensor, edge)]
        if 2 * sum(with_it) > len(with_it):
            return cut_off(edge, by_tensor["grid"].iloc[0], sum(with_it), len(with_it))
    low, high = float(telling["ratio"].min()), float(telling["ratio"].max())
    octaves = f"{len(telling)} octaves, ratio {number(low)} to {number(high)}"
    if NEAR[0] <= low and high <= NEAR[1]:
        return verdict(ONE_DISPLACEMENT, octaves)
    if high <= STILL:
        return verdict(CANNOT_TELL, f"{octaves}: an edge, if there is one, lies below them")
    return verdict(CANNOT_TELL, f"{octaves}: a drift, and only a cliff is evidence")


def verdict(word: str, reason: str, **more) -> dict:
    """A row of the summary."""
    return dict.fromkeys(VERDICT_COLUMNS) | {"verdict": word, "reason": reason} | more


def cut_off(edge: int, form: str, tensors: int, every: int) -> dict:
    """The verdict of a cliff above an octave: what the largest single step was."""
    # A step shows from half of the grid's, which doubles from octave to octave.
    low = 2.0 ** (edge - FORMATS[form].mantissa - 1)
    reason = f"moves end above 2^{edge} in {tensors} of {every} tensors"
    return verdict(CUT_OFF, reason, octave=edge, step_low=low, step_high=2 * low)


def with_power(rows: pd.DataFrame, reference: int = REFERENCE) -> pd.DataFrame:
    """The octaves in which enough weights would move, by enough small ones."""
    expected = rows["predicted"] * rows["count"]
    enough = (expected >= MOVES) & (rows["reference"] >= reference)
    return rows[(rows["predicted"] > SHARE) & enough]


def able(by_tensor: pd.DataFrame, edge: int) -> list[pd.DataFrame]:
    """The rows of each tensor that could show a cliff above an octave: it has power on both sides,
    whatever small weights it has, as their number is in the error.
    """
    telling = with_power(by_tensor, 0)
    both_sides = telling[telling["octave"].isin([edge, edge + 1])].groupby("name")["octave"]
    names = both_sides.nunique()[lambda sides: sides == 2].index
    return [rows for name, rows in by_tensor.groupby("name") if name in names]


def cliff(rows: pd.DataFrame, reference: int = REFERENCE) -> int | None:
    """The octave above which nothing moved that should have; `None` where there is no such edge."""
    by_octave = with_power(rows, reference).set_index("octave")
    for octave in sorted(by_octave.index):
        if octave + 1 not in by_octave.index:
            continue
        here, above = by_octave.loc[octave], by_octave.loc[octave + 1]
        if here["ratio"] >= MOVED and above["ratio"] <= STILL and beyond_error(above):
            return int(octave)
    return None


def beyond_error(row: pd.Series) -> bool:
    """Whether fewer moved than sampling could leave of those expected."""
    n, share, reference = float(row["count"]), float(row["predicted"]), float(row["reference"])
    spread = np.sqrt(n * share * (1 - share) + n**2 * share * (1 - share) / reference)
    missing = n * (share - float(row["observed"]))
    return bool(missing > DEVIATIONS * spread)


def sentence(summary: pd.DataFrame) -> str:
    """What the fingerprints of all modules say of the run, in one sentence; nothing without any."""
    if summary.empty:
        return ""
    counts = summary["verdict"].value_counts()
    cut = summary[summary["verdict"] == CUT_OFF]
    if len(cut) and len(cut) >= counts.get(ONE_DISPLACEMENT, 0):
        low, high = float(cut["step_low"].min()), float(cut["step_high"].max())
        return (
            f"**Steps were rounded away in {len(cut)} of {len(summary)} modules: the weights were"
            f" updated in 16 bits, and the largest single step was between {low:.2g} and"
            f" {high:.2g}.**"
        )
    if counts.get(ONE_DISPLACEMENT, 0):
        return (
            f"In {counts[ONE_DISPLACEMENT]} of {len(summary)} modules large weights moved as far as"
            " small ones, seen through their grid: nothing says that steps were rounded away."
        )
    return "How the weights were kept while they were trained cannot be told."
