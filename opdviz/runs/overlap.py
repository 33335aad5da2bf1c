"""Do two runs on one base move the same coordinates, beside what chance and the sizes of the
weights alone would give?

Blind updates of bf16 weights already overlap several times more than independent masks, since both
show where the grid is fine: on small weights. `expected_both` takes that into account (definitions,
7), and `expected_both_rows` also that rows differ in scale; only the ratio to the latter speaks of
training.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from opdviz.checkpoint.formats import round_bfloat16
from opdviz.definitions import VISIBLE
from opdviz.errors import RequestError, one_line
from opdviz.measures.visibility import codes, quarters
from opdviz.pairing import Matching
from opdviz.runs.masks import deltas, matching_of_comparison
from opdviz.store.store import Stored

PROBES = (("exact", 0.0), ("absolute", VISIBLE))
COUNTS = ("numel", "a", "b", "both", "chance_both", "expected_both", "expected_both_rows")
CELLS = 1 << 22  # coordinates whose cells of size and row are counted at a time
COLUMNS = (
    "tensor",
    "run_a",
    "run_b",
    "threshold",
    "probe",
    "numel",
    "a",
    "b",
    "both",
    "jaccard",
    "a_in_b",
    "b_in_a",
    "chance_both",
    "expected_both",
    "expected_both_rows",
    "jaccard_chance",
)


def of_runs(a: Stored, b: Stored) -> pd.DataFrame:
    """Table `overlap` of two comparisons: one row a tensor and probe.

    Raises
        RequestError: they are not on one base, or a checkpoint is not what was compared.
    """
    sides = [matching_of_comparison(run) for run in (a, b)]
    if a.manifest.base.fingerprints != b.manifest.base.fingerprints:
        raise RequestError(
            f"overlap: {one_line(a.name, limit=60)} and {one_line(b.name, limit=60)} are not on one"
            " base; expected two runs from the same checkpoint."
        )
    table = pd.DataFrame(rows(*sides, a.name, b.name), columns=list(COLUMNS))
    if table.empty:
        raise RequestError(
            "overlap: found no weights that both runs have; expected tensors of floats in common."
        )
    return table


def rows(a: Matching, b: Matching, run_a: str, run_b: str) -> Iterator[dict]:
    """One row a tensor that both runs have and probe."""
    others = dict.fromkeys(p.stored_name(p.name) for p in b.pairs)
    left, right = deltas(a), deltas(b)
    ahead = next(right, None)
    for name, delta_a in left:
        while ahead is not None and name in others and ahead[0] != name:
            ahead = next(right, None)
        if ahead is None or ahead[0] != name or not delta_a.size:
            continue
        grid = "float16" if a.base.tensors[name].dtype == "float16" else "bfloat16"
        weights = a.base.read(name).ravel()
        bins = quarters(grid)[
            codes(round_bfloat16(weights) if grid == "bfloat16" else weights, grid) & 0x7FFF
        ]
        bins -= bins.min()
        for probe, threshold in PROBES:
            where = {
                "tensor": name,
                "run_a": run_a,
                "run_b": run_b,
                "threshold": threshold,
                "probe": probe,
            }
            length = delta_a.shape[-1] if delta_a.ndim > 1 else delta_a.size
            yield where | counts(
                delta_a.ravel() > threshold, ahead[1].ravel() > threshold, bins, length
            )


def counts(a: np.ndarray, b: np.ndarray, bins: np.ndarray, length: int) -> dict:
    """Counts, shares and expectations of two masks, `bins` giving each coordinate's size class,
    `length` that of a row.
    """
    n, in_a, in_b, both = (int(x) for x in (a.size, a.sum(), b.sum(), (a & b).sum()))
    row = {"numel": n, "a": in_a, "b": in_b, "both": both, "chance_both": in_a * in_b / n}
    row |= {
        "expected_both": expected(a, b, bins),
        "expected_both_rows": expected_given_rows(a, b, bins, length),
    }
    return row | shares(row)


def expected(a: np.ndarray, b: np.ndarray, cells: np.ndarray) -> float:
    """How many coordinates two masks share on average when each is permuted within its cells: sum
    of a_c b_c / n_c.
    """
    in_a, in_b = (np.bincount(cells, weights=mask) for mask in (a, b))
    return float((in_a * in_b / np.maximum(np.bincount(cells), 1)).sum())


def expected_given_rows(a: np.ndarray, b: np.ndarray, bins: np.ndarray, length: int) -> float:
    """The same within cells of one size and one row: rows that move more, in both runs, explain an
    overlap of their own.
    """
    kinds, total = int(bins.max()) + 1, 0.0
    step = max(1, CELLS // max(length, kinds)) * length
    for first in range(0, a.size, step):
        part = slice(first, first + step)
        rows_ = np.arange(bins[part].size) // length
        total += expected(a[part], b[part], rows_ * kinds + bins[part])
    return total


def shares(found: dict) -> dict:
    """What follows from the counts; missing where a mask is empty."""
    n, a, b, both = (found[k] for k in ("numel", "a", "b", "both"))
    p, q = a / n, b / n
    return {
        "jaccard": both / (a + b - both) if a + b else None,
        "a_in_b": both / a if a else None,
        "b_in_a": both / b if b else None,
        "jaccard_chance": p * q / (p + q - p * q) if a + b else None,
    }


def whole(table: pd.DataFrame) -> list[dict]:
    """The same over all tensors, a row a probe: counts and expectations summed tensor by tensor.

    `jaccard_chance` follows from the summed expectation, as masks of each tensor's own density
    would give.
    """
    totals = []
    for (probe, threshold), part in table.groupby(["probe", "threshold"], sort=False):
        total = {k: part[k].sum().item() for k in COUNTS}
        row = {"probe": probe, "threshold": threshold} | total | shares(total)
        for name in ("chance", "expected"):
            expected, either = total[f"{name}_both"], total["a"] + total["b"]
            row[f"jaccard_{name}"] = expected / (either - expected) if either else None
        totals.append(row)
    return totals
