"""What pages ask of a whole comparison, computed once: tables of many rows summed up, kept beside
them.

A large model has millions of rows in its tables and a page may take less than a second. A summary
is written when a comparison is finished, and by whoever asks first where it is missing; its file
name holds the digest of the tables that it was made from, so that a summary of older tables is
never read, and the digest of its own bytes.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from opdviz import files, fingerprint, tables
from opdviz.definitions import MOVED_THRESHOLDS
from opdviz.errors import MachineError
from opdviz.store import columns, parquet, status
from opdviz.store.checking import Fault, clear
from opdviz.store.store import Stored
from opdviz.tables import by_tensor, dense, density, precision, protocols, stored

# Of what is summed up: another one makes every summary anew.
VERSION = 4
# Bytes of a summary that are read at all: what a damaged file claims is not allocated.
LARGEST = 1 << 30
TEXT = {name for table in columns.BY_TABLE.values() for name, kind in table.items() if kind is str}
TEXT |= {"protocol", "quantity", "unit", "aggregation", "counted_as"}
REQUIRED = {
    "by_tensor": {
        *columns.COLUMNS["magnitude"]["tensors"],
        "stable_rank",
        "entropy_rank",
        "counted_as",
    },
    "blocks": {
        "tower",
        "block",
        "tensors",
        "tensors_moved",
        "left_out",
        "numel",
        "moved",
        "relative_norm",
        "energy_share",
        "parameter_share",
        "enrichment",
        "sparsity_absolute",
        "sparsity_relative",
        "top16_energy",
        "stable_rank",
        "entropy_rank",
    },
    "dense_by_layer": {"tower", "numel", "relative_norm", "unchanged", "dense_unchanged"},
    "dense_curve": {"relative_norm", "unchanged"},
    "density": {"name", "threshold", "numel", "moved", "expected", "density", "module", "layer"},
    "fingerprint": set(precision.COLUMNS),
    "fingerprint_summary": {*precision.GROUP, *precision.VERDICT_COLUMNS},
    "headline": {
        "protocol",
        "quantity",
        "value",
        "unit",
        "aggregation",
        "chance",
        "chance_low",
        "chance_high",
    },
    "moved_bins": {"low", "high", "count", "moved", "null_moved", "threshold"},
    "sparsity_shares": {"precision", "probe", "threshold", "unchanged", "numel", "share"},
    "step_shares": {"precision", "steps", "count", "numel", "share"},
    "tails": set(columns.COLUMNS["spectrum"]["tail"]),
}


def headline(comparison: Stored) -> pd.DataFrame:
    """Protocol A's rows."""
    return pd.DataFrame(protocols.headline(comparison))


def moved_bins(comparison: Stored) -> pd.DataFrame:
    """Moves given the size of the weight, over all tensors. Columns: threshold, low, high, count,
    moved, null_moved.
    """
    frames = [
        by_tensor.moved_given_size(comparison, threshold=t).assign(threshold=t)
        for t in MOVED_THRESHOLDS
    ]
    return pd.concat(frames, ignore_index=True)


def sparsity_shares(comparison: Stored) -> pd.DataFrame:
    """Share unchanged over all coordinates by probe, threshold and precision."""
    rows = tables.table(comparison, "sparsity")
    return by_tensor.by_element(
        rows, stored.tensors(comparison), ["precision", "probe", "threshold"]
    )


def step_shares(comparison: Stored) -> pd.DataFrame:
    """Share of all coordinates by grid steps moved."""
    return by_tensor.by_element(
        tables.table(comparison, "steps"), stored.tensors(comparison), ["precision", "steps"]
    )


def tails(comparison: Stored) -> pd.DataFrame:
    """The table of tails: where each matrix's spectrum stands between rounding and noise."""
    return tables.table(comparison, "tail")


def blocks(comparison: Stored) -> pd.DataFrame:
    """The table of blocks."""
    return tables.table(comparison, "blocks")


SUMMARIES: dict[str, Callable[[Stored], pd.DataFrame]] = {
    "by_tensor": by_tensor.quantities_by_tensor,
    "blocks": blocks,
    "dense_by_layer": dense.by_layer,
    "dense_curve": dense.curve,
    "density": density.density,
    "fingerprint": precision.fingerprint,
    "fingerprint_summary": precision.fingerprint_summary,
    "headline": headline,
    "moved_bins": moved_bins,
    "sparsity_shares": sparsity_shares,
    "step_shares": step_shares,
    "tails": tails,
}


def summary(comparison: Stored, name: str) -> pd.DataFrame:
    """One summary of a comparison: kept where all of it is measured, computed from what is there
    otherwise.
    """
    if status.state(comparison) != "done":
        return SUMMARIES[name](comparison)
    folder, beginning = comparison.folder / "summaries", f"{name}.{made_from(comparison)}"
    for path in sorted(folder.glob(f"{beginning}.*.parquet")):
        if (rows := read(path)) is not None:
            return stored.frame(rows)
    rows = pa.Table.from_pandas(
        SUMMARIES[name](comparison), preserve_index=False
    ).replace_schema_metadata(None)
    # a full disk, or a cache that may not be written, costs time and not the answer
    with suppress(MachineError, OSError):
        for old in folder.glob(f"{name}.*.parquet"):
            files.clear(old)
        data = parquet.encoded(rows)
        files.write(folder / f"{beginning}.{fingerprint.of_contents(data)}.parquet", data)
    return stored.frame(rows)


def read(path: Path) -> pa.Table | None:
    """A kept summary; `None` where it is damaged, or not the frame that its name says."""
    name, _, digest, *_ = path.name.split(".")
    try:
        data = files.contents(path, most=LARGEST)
        if fingerprint.of_contents(data) != digest:
            return None
        rows = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
        rows.validate(full=True)
    except parquet.UNREADABLE:
        return None
    return rows if fitting(name, rows) else None


def fitting(name: str, rows: pa.Table) -> bool:
    """Whether these are the columns of a summary: those that it always has where it has rows, each
    of its kind.
    """
    if len(set(rows.column_names)) < rows.num_columns or not all(map(fitting_type, rows.schema)):
        return False
    return not rows.num_rows or REQUIRED[name] <= set(rows.column_names)


def fitting_type(column: pa.Field) -> bool:
    """Whether a column holds text or numbers, as its name says; one without any value may have no
    type.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return True
    if column.name in TEXT:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.types.is_int64(kind) or pa.types.is_float64(kind)


def check(comparison: Stored) -> list[Fault]:
    """Which kept summaries are damaged; those of older tables are never read, and are no fault."""
    current, faults = made_from(comparison), []
    for path in sorted((comparison.folder / "summaries").glob("*")):
        name, source, *rest = [*path.name.split("."), ""]
        if path.name.endswith(files.TEMPORARY) or (
            name in SUMMARIES and source != current and path.is_file()
        ):
            continue
        if name not in SUMMARIES or len(rest) != 3 or read(path) is None:
            faults.append(
                Fault(comparison.key, "summary", f"summaries/{path.name}", parquet.DAMAGED)
            )
    return faults


def made_from(comparison: Stored) -> str:
    """A digest of the tables that summaries are made from, and of this module's version."""
    digests = [f"{name}={digest}" for name, digest in sorted(comparison.manifest.tables.items())]
    return fingerprint.of_bytes(str(VERSION), *digests)[:16]


def write_all(comparison: Stored) -> None:
    """Compute every summary of a finished comparison, so that no page has to; damaged ones go."""
    clear(comparison.folder, check(comparison))
    if status.state(comparison) == "done":
        with stored.asked_together():
            for name in SUMMARIES:
                summary(comparison, name)
