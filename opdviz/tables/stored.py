"""Stored tables as frames."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opdviz.store import reading
from opdviz.store.columns import BY_TABLE, PAIRS
from opdviz.store.store import Stored

STORED = tuple(table for table in BY_TABLE if table not in ("tensors", PAIRS))


# By function and comparison what is worked out already, where somebody asks for many things of one.
KEPT: ContextVar[dict | None] = ContextVar("kept", default=None)


@contextmanager
def asked_together() -> Iterator[None]:
    """Within it a comparison stands still: what is remembered of it is worked out once."""
    token = KEPT.set({})
    try:
        yield
    finally:
        KEPT.reset(token)


def remembered(make: Callable[[Stored], pd.DataFrame]) -> Callable[[Stored], pd.DataFrame]:
    """A frame of a comparison that is worked out once where much is `asked_together`."""

    @wraps(make)
    def once(comparison: Stored) -> pd.DataFrame:
        frames = KEPT.get()
        if frames is None:
            return make(comparison)
        key = (make, comparison.folder)
        if key not in frames:
            frames[key] = make(comparison)
        return frames[key].copy(deep=False)

    return once


def read(comparison: Stored, name: str, *, where: pc.Expression | None = None) -> pd.DataFrame:
    """One stored table in its order; an empty frame where nothing of it is there yet. `where` keeps
    rows.
    """
    return frame(reading.sorted_rows(reading.read(comparison, name, where=where)))


def of_tensor(comparison: Stored, name: str, tensor: str) -> pd.DataFrame:
    """The rows of a stored table that speak of one tensor; a large store is not read as a whole for
    them.
    """
    return read(comparison, name, where=pc.field("name") == tensor)


def frame(rows: pa.Table) -> pd.DataFrame:
    """Arrow rows as pandas: whole numbers with missing values stay whole."""
    counts = (column for column in rows.columns if pa.types.is_int64(column.type))
    if not any(column.null_count for column in counts):
        return rows.to_pandas()
    kinds = {pa.int64(): pd.Int64Dtype()}
    result = rows.to_pandas(types_mapper=kinds.get)
    return result.astype(
        {c: "int64" for c in result if result[c].dtype == "Int64" and not result[c].hasnans}
    )


def records(frame: pd.DataFrame) -> list[dict]:
    """Rows as plain dicts, missing values as `None`: what JSON can carry."""
    return [
        {k: None if pd.isna(v) else v for k, v in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


@remembered
def tensors(comparison: Stored) -> pd.DataFrame:
    """One row a pair: place, sizes, and the delta's ranks where they are known."""
    rows = read(comparison, "tensors")
    if rows.empty:
        return rows
    summary = read(comparison, "spectrum_summary", where=pc.field("matrix") == "delta")
    ranks = ["stable_rank", "entropy_rank"]
    if summary.empty:
        return rows.assign(**dict.fromkeys(ranks, float("nan")))
    return rows.merge(summary[["name", *ranks]], on="name", how="left")
