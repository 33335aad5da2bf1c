"""Small blocks of values, asked for by name: read from the checkpoints by a process of its own,
kept beside the tables.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from opdviz import files, pairing
from opdviz.engine import sources
from opdviz.errors import RequestError, one_line
from opdviz.pairing import Pair
from opdviz.store.store import Stored
from opdviz.store.values import block_path

LARGEST = 512


def keep_block(comparison: Stored, name: str, row: int, column: int, size: int) -> Path:
    """Read base and tuned values of a block of a tensor and keep them as one Parquet file (row,
    column, base, tuned).

    Raises
        RequestError: the checkpoints are gone or changed, no such tensor, or a block outside of it.
    """
    pair = next((p for p in sources.reopen(comparison, "block").pairs if p.name == name), None)
    if pair is None:
        raise RequestError(f"block({one_line(name, limit=80)}): no such tensor in this comparison.")
    rows, columns = pair.shape if len(pair.shape) == 2 else (1, pair.numel)
    if not (1 <= size <= LARGEST and 0 <= row < rows and 0 <= column < columns):
        raise RequestError(
            f"block({one_line(name, limit=80)}): found row {row}, column {column}, size {size};"
            f" expected a start inside {rows} x {columns} and a size from 1 to {LARGEST}."
        )
    base, tuned = (values(pair, side, row, column, size) for side in ("base", "tuned"))
    at = np.indices(base.shape)
    frame = pd.DataFrame({"row": (at[0] + row).ravel(), "column": (at[1] + column).ravel()})
    buffer = io.BytesIO()
    frame.assign(base=base.ravel(), tuned=tuned.ravel()).to_parquet(buffer, index=False)
    path = block_path(comparison.folder, name, row, column, size)
    files.clear_for_file(path)
    files.write(path, buffer.getvalue())
    return path


def values(pair: Pair, side: str, row: int, column: int, size: int) -> np.ndarray:
    """A block of one side; rows alone are read where the tensor is a plain matrix."""
    name = pair.stored_name(pair.name if side == "base" else pair.tuned_name)
    opened = pairing.opened(pair.base_source if side == "base" else pair.tuned_source)
    if pair.kind == "matrix":
        return opened.read(name, row, min(row + size, pair.shape[0]))[:, column : column + size]
    whole = (pair.base if side == "base" else pair.tuned).reshape(
        pair.shape if len(pair.shape) == 2 else (1, -1)
    )
    return whole[row : row + size, column : column + size]
