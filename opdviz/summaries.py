"""What pages ask of a whole comparison, computed once: tables of many rows summed up, kept beside them.

A large model has millions of rows in its tables and a page may take less than a second. A summary is written when a
comparison is finished, and by whoever asks first where it is missing; its file name holds the digest of the tables that
it was made from, so that a summary of older tables is never read.
"""

from collections.abc import Callable
from contextlib import suppress

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from opdviz import fingerprint, protocols, tables
from opdviz.errors import MachineError
from opdviz.store import Store, write

VERSION = 2
THRESHOLDS = (0.0, tables.HEADLINE_THRESHOLD)


def headline(store: Store, key: str) -> pd.DataFrame:
    """Protocol A's rows."""
    return pd.DataFrame(protocols.headline(store, key))


def moved_bins(store: Store, key: str) -> pd.DataFrame:
    """Moves given the size of the weight, over all tensors. Columns: threshold, low, high, count, moved, null_moved."""
    found = [tables.moved_given_size(store, key, threshold=t).assign(threshold=t) for t in THRESHOLDS]
    return pd.concat(found, ignore_index=True)


def sparsity_shares(store: Store, key: str) -> pd.DataFrame:
    """Share unchanged over all coordinates by probe, threshold and precision."""
    rows = tables.table(store, key, "sparsity")
    return tables.by_element(rows, tables.tensors(store, key), ["precision", "probe", "threshold"])


def step_shares(store: Store, key: str) -> pd.DataFrame:
    """Share of all coordinates by grid steps moved."""
    return tables.by_element(tables.table(store, key, "steps"), tables.tensors(store, key), ["precision", "steps"])


def tails(store: Store, key: str) -> pd.DataFrame:
    """The table of tails: where each matrix's spectrum stands between rounding and noise."""
    return tables.table(store, key, "tail")


def blocks(store: Store, key: str) -> pd.DataFrame:
    """The table of blocks."""
    return tables.table(store, key, "blocks")


SUMMARIES: dict[str, Callable[[Store, str], pd.DataFrame]] = {
    "by_tensor": tables.quantities_by_tensor,
    "blocks": blocks,
    "headline": headline,
    "moved_bins": moved_bins,
    "sparsity_shares": sparsity_shares,
    "step_shares": step_shares,
    "tails": tails,
}


def summary(store: Store, key: str, name: str) -> pd.DataFrame:
    """One summary of a comparison: kept where all of it is measured, computed from what is there otherwise."""
    if tables.state(store, key) != "done":
        return SUMMARIES[name](store, key)
    folder = store.folder(key) / "summaries"
    path = folder / f"{name}.{made_from(store, key)}.parquet"
    with suppress(OSError, pa.ArrowException):
        return tables.frame(pq.read_table(path))
    made = SUMMARIES[name](store, key)
    with suppress(MachineError):  # a full disk or a cache that may not be written costs time, not the answer
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(made, preserve_index=False), sink, compression="zstd")
        for old in folder.glob(f"{name}.*.parquet"):
            old.unlink(missing_ok=True)
        write(path, sink.getvalue().to_pybytes())
    return tables.frame(pa.Table.from_pandas(made, preserve_index=False))


def made_from(store: Store, key: str) -> str:
    """A digest of the tables that summaries are made from, and of this module's version."""
    digests = [f"{name}={digest}" for name, digest in sorted(store.manifest(key)["tables"].items())]
    return fingerprint.of_bytes(str(VERSION), *digests)[:16]


def write_all(store: Store, key: str) -> None:
    """Compute every summary of a finished comparison, so that no page has to."""
    if tables.state(store, key) == "done":
        for name in SUMMARIES:
            summary(store, key, name)
