"""One stored Parquet file: what it must be, how it is written, what is wrong with it."""

import os
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opdviz import fingerprint
from opdviz.errors import one_line
from opdviz.store.columns import PAIRING, PAIRS, group_of, schema_of_file, wrong_values
from opdviz.store.manifest import Manifest

ROW_GROUP = 1 << 15  # rows of one tensor stand in one or two groups: reading it skips the rest
UNREADABLE = (OSError, ValueError, pa.ArrowException)
MISSING, DAMAGED, NO_FILE = "is missing", "is damaged", "is no plain file"


def encoded(rows: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.combine_chunks(), sink, compression="zstd", row_group_size=ROW_GROUP)
    return sink.getvalue().to_pybytes()


def state(path: Path) -> tuple[int, ...]:
    """What changes when a file does; empty where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return ()
    return facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns


def absence(path: Path) -> str:
    """Why there is nothing to read at a path, in words that go on after its name; empty where a
    plain file is.
    """
    if path.is_file():
        return ""
    return NO_FILE if path.exists() else MISSING


def speaks_of_pairs(file: str) -> bool:
    """Whether the names in a stored table are those of pairs: left-overs are none."""
    return group_of(file) != (PAIRING,)


@lru_cache(maxsize=16)
def names_at(path: Path, state_: tuple) -> pa.Array:
    """The names in a file, while it is in one state."""
    return pq.read_table(path, columns=["name"])["name"].combine_chunks()


def quick_fault(path: Path, digest: str, pairs: Path | None) -> str:
    """What is wrong with a stored table, looked at once a process for every state of the file; its
    rows are not read.

    Empty where nothing is. `pairs` is the file with the names of all pairs.
    """
    return quick_fault_of(path, state(path), digest, pairs, state(pairs) if pairs else ())


@lru_cache(maxsize=4_096)
def quick_fault_of(
    path: Path, state_: tuple, digest: str, pairs: Path | None, pairs_state: tuple
) -> str:
    """The same by what it depends on: the digest, the columns, and the names at both ends of every
    row group.
    """
    if words := outer_fault(path, digest):
        return words
    try:
        if pairs is None or not speaks_of_pairs(path.name):
            return ""
        metadata = pq.read_metadata(path)
        at = metadata.schema.to_arrow_schema().get_field_index("name")
        ends = (metadata.row_group(i).column(at).statistics for i in range(metadata.num_row_groups))
        names = [
            name
            for end in ends
            if end is not None and end.has_min_max
            for name in (end.min, end.max)
        ]
        return foreign(pa.array(names, pa.string()), names_at(pairs, pairs_state))
    except UNREADABLE:
        return DAMAGED


def outer_fault(path: Path, digest: str) -> str:
    """What is wrong with a stored table from outside: its bytes and its columns."""
    if words := absence(path):
        return words
    schema = schema_of_file(path.name)
    try:
        if fingerprint.of_file(path) != digest:
            return DAMAGED
        if schema is None:
            return "is no table of this version"
        return (
            ""
            if pq.read_schema(path).equals(schema)
            else "has other columns than this version reads"
        )
    except UNREADABLE:
        return DAMAGED


def fault(path: Path, digest: str, names: pa.Array | None) -> str:
    """What is wrong with a stored table, every row of it read; empty where nothing is. `names` are
    those of all pairs.
    """
    if words := outer_fault(path, digest):
        return words
    try:
        with pq.ParquetFile(path) as file:
            for rows in file.iter_batches(1 << 20):
                if wrong_values(table := pa.Table.from_batches([rows])):
                    return DAMAGED
                if (
                    names is not None
                    and speaks_of_pairs(path.name)
                    and (words := foreign(table["name"], names))
                ):
                    return words
    except UNREADABLE:
        return DAMAGED
    return ""


def foreign(column: pa.Array | pa.ChunkedArray, names: pa.Array) -> str:
    """Whether there is a name that no pair has, in words; empty where all are pairs'."""
    distinct = pc.unique(column)
    others = distinct.filter(pc.invert(pc.is_in(distinct, value_set=names)))
    if not len(others):
        return ""
    return (
        "holds tensors that are not in this comparison,"
        f" {one_line(repr(others[0].as_py()), limit=80)} the first"
    )


def pairs_fault(path: Path, digest: str, pairs: int) -> str:
    """What is wrong with the list of all pairs, which has to hold `pairs` names, none of them
    twice.
    """
    if words := fault(path, digest, None):
        return words
    names = names_at(path, state(path))
    return "" if len(pc.unique(names)) == len(names) == pairs and not names.null_count else DAMAGED


def pairs_file(folder: Path, manifest: Manifest) -> Path | None:
    """The file with the names of all pairs, where a manifest names one."""
    name = f"{PAIRS}.{PAIRING}.parquet"
    return folder / "tables" / name if name in manifest.tables else None
