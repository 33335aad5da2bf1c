"""Blocks of values that somebody asked to see, read only where they are what was kept."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from opdviz.store import parquet
from opdviz.store.parts import pair_key

if TYPE_CHECKING:  # the workers of a comparison look at no block
    import pandas as pd

NAMES = ["row", "column", "base", "tuned"]
FILE = re.compile(r"[0-9a-f]{20}\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,4})\.parquet")


def read(path: Path, shape: tuple[int, int] | None) -> "pd.DataFrame | None":
    """Base and tuned values of a block (row, column, base, tuned); `None` where it is not there, or
    is not the block that its name says. `shape` is the tensor's, where it is known.
    """
    place = FILE.fullmatch(path.name)
    if place is None or parquet.absence(path):
        return None
    try:
        schema = pq.read_schema(path)
        if not fitting(schema):
            return None
        rows = pq.read_table(path)
        rows.validate(full=True)
    except parquet.UNREADABLE:
        return None
    block = rows.replace_schema_metadata(None).to_pandas()
    return block if is_grid(block, tuple(map(int, place.groups())), shape) else None


def fitting(schema: pa.Schema) -> bool:
    """Whether a file has a block's columns: two places, and two numbers."""
    number = all(
        pa.types.is_floating(field.type)
        or pa.types.is_integer(field.type)
        or pa.types.is_boolean(field.type)
        for field in schema
    )
    return (
        schema.names == NAMES and number and all(schema.field(i).type == pa.int64() for i in (0, 1))
    )


def is_grid(
    block: "pd.DataFrame", place: tuple[int, int, int], shape: tuple[int, int] | None
) -> bool:
    """Whether a block's places are those of a grid from its start, row by row, as large as asked
    for or as the tensor.
    """
    row, column, size = place
    if not len(block) or block[["row", "column"]].isna().any(axis=None):
        return False
    width = int((block["row"] == row).sum())
    height = len(block) // max(1, width)
    shape_asked = (
        (min(size, shape[0] - row), min(size, shape[1] - column)) if shape else (height, width)
    )
    if (height, width) != shape_asked or max(height, width) > size or height * width != len(block):
        return False
    at = np.indices((height, width))
    rows, columns = (block[name].to_numpy() for name in NAMES[:2])
    return bool(
        np.array_equal(rows, (at[0] + row).ravel())
        and np.array_equal(columns, (at[1] + column).ravel())
    )


def block_path(folder: Path, name: str, row: int, column: int, size: int) -> Path:
    """Where a block of values stands."""
    return folder / "blocks" / f"{pair_key(name)}.{row}.{column}.{size}.parquet"
