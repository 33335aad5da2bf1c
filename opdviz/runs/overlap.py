"""Do two runs on one base move the same coordinates, beside what chance and the sizes of the
weights alone would give?

Blind updates of bf16 weights already overlap several times more than independent masks, since both
show where the grid is fine: on small weights. `expected_both` takes that into account (definitions,
7), and `expected_both_rows` also that rows differ in scale; only the ratio to the latter speaks of
training.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from opdviz.definitions import HEADLINE_K
from opdviz.naming import parse
from opdviz.pairing import Matching
from opdviz.runs import relations
from opdviz.runs.relations import shares
from opdviz.store.relations import BASE, TABLES

COLUMNS = tuple(TABLES["overlap"])
COUNTS = ("numel", "a", "b", "both", "chance_both", "expected_both", "expected_both_rows")
PAIR = ["run_a", "run_b"]
# What tensors are gathered by; all of a model have the same empty place.
GROUPS = {"tensor": ["tensor"], "module": ["module"], "block": ["block"], "layer": ["layer"]}
GROUPS |= {"cell": ["layer", "module"], "model": []}


def rows(a: Matching, b: Matching, run_a: str, run_b: str) -> Iterator[dict]:
    """One row a tensor that both runs have and probe."""
    for tensor in relations.shared([a, b]):
        yield from relations.of_tensor(tensor, [run_a, run_b])["overlap"]


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


def placed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with the place of their tensors: layer, block, module, tower."""
    places = {name: parse(name) for name in table["tensor"].unique()}
    columns = {
        column: table["tensor"].map(
            {name: getattr(place, column) for name, place in places.items()}
        )
        for column in ("layer", "block", "module", "tower")
    }
    return table.assign(**columns).astype({"layer": "Int64"})


def gathered(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Overlaps of each pair of runs by one of GROUPS, under each probe: counts and expectations
    summed, the shares that follow, and `over_size` and `over_rows`, how many times more both moved
    than sizes, and sizes and rows, explain.
    """
    where = [*PAIR, "probe", "threshold", *GROUPS[by]]
    sums = (
        placed(table).groupby(where, dropna=False, sort=False, as_index=False)[list(COUNTS)].sum()
    )
    n, a, b, both = (sums[column].astype(float) for column in ("numel", "a", "b", "both"))
    p, q = a / n, b / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums.assign(
            jaccard=both / (a + b - both).where(a + b > 0),
            a_in_b=both / a.where(a > 0),
            b_in_a=both / b.where(b > 0),
            jaccard_chance=p * q / (p + q - p * q).where(a + b > 0),
            over_size=both / sums["expected_both"].where(sums["expected_both"] > 0),
            over_rows=both / sums["expected_both_rows"].where(sums["expected_both_rows"] > 0),
        )


def related(table: pd.DataFrame, norms: dict[str, pd.Series], by: str) -> pd.DataFrame:
    """Directions of each pair of runs by one of GROUPS: `conflict_share` of the coordinates that
    both moved with its sampling error, the cosine of the updates with its spread by chance, and the
    mean Jaccard index of their channels.

    `norms` has, by run, the norm of each tensor's update: a cosine is of the whole group, as if it
    were one vector.
    """
    rows_ = placed(table)
    norm_a, norm_b = (norms_of(rows_, run, norms) for run in PAIR)
    rows_ = rows_.assign(
        product=rows_["cosine"].fillna(0.0) * norm_a * norm_b,
        square_a=norm_a**2,
        square_b=norm_b**2,
    )
    channels = [f"{axis}_jaccard{end}" for axis in ("row", "column") for end in ("", "_chance")]
    summed = ["numel", "both_moved", "conflict", "product", "square_a", "square_b"]
    groups = rows_.groupby([*PAIR, *GROUPS[by]], dropna=False, sort=False, as_index=False)
    sums = groups[summed].sum().merge(groups[channels].mean())
    both = sums["both_moved"].where(sums["both_moved"] > 0).astype(float)
    squares = sums["square_a"] * sums["square_b"]
    relations_ = sums.assign(
        conflict_share=sums["conflict"] / both,
        conflict_error=0.5 / np.sqrt(both),
        cosine=sums["product"] / np.sqrt(squares.where(squares > 0)),
        cosine_spread=sums["numel"].astype(float) ** -0.5,
    )
    first = ["cosine", "cosine_spread", "conflict_share", "conflict_error"]
    return relations_[[*PAIR, *GROUPS[by], *first, *channels, "both_moved", "conflict", "numel"]]


def norms_of(rows_: pd.DataFrame, column: str, norms: dict[str, pd.Series]) -> pd.Series:
    """The norm of each row's tensor in the run that a column names."""
    values = [
        norms[run].get(tensor, 0.0)
        for run, tensor in zip(rows_[column], rows_["tensor"], strict=True)
    ]
    return pd.Series(values, index=rows_.index, dtype=float)


def delta_norms(tensors: pd.DataFrame) -> pd.Series:
    """The norm of each stored tensor's update, slices of a stack together, by the tensor's name."""
    stored_names = tensors["name"].str.replace(r"\[[0-9]{1,6}\]$", "", regex=True)
    squares = tensors["delta_norm"].astype(float) ** 2
    return np.sqrt(squares.groupby(stored_names).sum())


def similarities(table: pd.DataFrame) -> pd.DataFrame:
    """Similarity of the leading directions of each two runs in the median matrix, by side and rank.

    `ranks` is 16 or a tenth of each matrix's own; `beyond` counts the matrices above the null.
    """
    rows = table.dropna(subset=["similarity", "null_low"])
    ranks = np.where(rows["k"] == HEADLINE_K, str(HEADLINE_K), "a tenth")
    rows = rows.assign(ranks=ranks, beyond=rows["similarity"] > rows["null_high"])
    medians = dict.fromkeys(("similarity", "chance", "null_low", "null_high"), "median")
    return rows.groupby([*PAIR, "side", "ranks"], sort=False, as_index=False).agg(
        **{name: (name, how) for name, how in medians.items()},
        matrices=("name", "size"),
        beyond=("beyond", "sum"),
    )


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """How many coordinates so many of the runs moved, over the tensors that all of them have,
    beside what sizes alone give: probe, threshold, runs, moved_by, count, expected.
    """
    every = table[table["runs"] == table["runs"].max()] if len(table) else table
    by = ["probe", "threshold", "runs", "moved_by"]
    return every.groupby(by, sort=False, as_index=False)[["count", "expected"]].sum()


def names_in(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """A table whose runs stand under their names instead of their keys; the base stays `base`."""
    columns: Sequence[str] = [column for column in PAIR if column in table]
    called = names | {BASE: BASE}
    return table.assign(**{column: table[column].map(called) for column in columns})
