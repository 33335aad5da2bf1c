"""What is kept of several comparisons together: how the updates of runs on one base lie to each
other.

    relations/<id>/runs.json                  the keys of the runs, in the order of the rows' pairs
    relations/<id>/parts/<tensor>.<group>.json  one tensor's rows of a group's tables, with a digest
    relations/<id>/<table>.<digest>.parquet   all rows of a table; the digest is of its own bytes
    relations/<id>/lock                       held by the process that writes

The id follows from the keys, so that any order of the same runs finds the same folder. Rows name
runs by their keys.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from opdviz import files, fingerprint
from opdviz.store import columns, parquet
from opdviz.store.columns import Columns, typed
from opdviz.store.parts import pair_key

FOLDER, RUNS = "relations", "runs.json"
PROBED: Columns = {"threshold": float, "probe": str, "numel": int}
PAIR: Columns = {"tensor": str, "run_a": str, "run_b": str}
TABLES: dict[str, Columns] = {
    "overlap": PAIR
    | PROBED
    | dict.fromkeys(("a", "b", "both"), int)
    | dict.fromkeys(("jaccard", "a_in_b", "b_in_a"), float)
    | dict.fromkeys(("chance_both", "expected_both", "expected_both_rows"), float)
    | {"jaccard_chance": float},
    "relation": PAIR
    | dict.fromkeys(("numel", "both_moved", "conflict"), int)
    | dict.fromkeys(("conflict_share", "conflict_chance", "cosine", "cosine_spread"), float)
    | dict.fromkeys(("row_jaccard", "row_jaccard_chance"), float)
    | dict.fromkeys(("column_jaccard", "column_jaccard_chance"), float),
    "consensus": {"tensor": str}
    | PROBED
    | {"runs": int, "moved_by": int, "count": int, "expected": float},
    "subspace_similarity": {"name": str, "run_a": str, "run_b": str, "side": str, "k": int}
    | dict.fromkeys(("similarity", "chance", "null_low", "null_high"), float),
    "payload": {"name": str, "run_a": str, "run_b": str}
    | dict.fromkeys(("numel", "moved", "full_bytes", "mask_bytes"), int)
    | dict.fromkeys(("index32_bytes", "gap16_bytes", "xor_zstd_bytes"), int),
}
BASE = "base"  # stands where a run's key would, in rows that go from the base to a run
# Tables that one reading of the checkpoints gives; the second takes decompositions.
COORDINATES, DIRECTIONS, PAYLOAD = "coordinates", "directions", "payload"
GROUPS = {
    COORDINATES: ("overlap", "relation", "consensus"),
    DIRECTIONS: ("subspace_similarity",),
    PAYLOAD: ("payload",),
}


def folder_of(root: Path, keys: Iterable[str]) -> Path:
    """Where the relations of some comparisons are kept, below a cache folder."""
    return root / FOLDER / fingerprint.of_bytes(*sorted(keys))[:16]


def keys_of(folder: Path) -> list[str] | None:
    """The runs of a folder of relations; `None` where its file does not say them."""
    value = files.json_value(folder / RUNS)
    keys = value.get("keys") if isinstance(value, dict) else None
    sound = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return keys if sound and folder_of(folder.parents[1], keys) == folder else None


def begin(folder: Path, keys: Sequence[str]) -> None:
    """Say in a folder whose relations it holds."""
    files.clear_for_file(folder / RUNS)
    files.write(folder / RUNS, json.dumps({"keys": sorted(keys)}).encode())


def table(folder: Path, name: str) -> pa.Table | None:
    """All rows of a table; `None` while it is not whole, or where it is damaged."""
    for path in sorted(folder.glob(f"{name}.*.parquet")):
        if (rows := sound_table(path)) is not None:
            return rows
    return None


def sound_table(path: Path) -> pa.Table | None:
    """The rows of a table's file, if its bytes are those that its name says."""
    name, digest, *_ = path.name.split(".")
    try:
        data = files.contents(path, most=1 << 30)
        if name not in TABLES or fingerprint.of_contents(data) != digest:
            return None
        rows = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
    except parquet.UNREADABLE:
        return None
    return rows if rows.schema.equals(columns.schema(TABLES[name])) else None


def complete(folder: Path, group: str = COORDINATES) -> bool:
    """Whether every table of a group is there and sound."""
    return keys_of(folder) is not None and all(
        table(folder, name) is not None for name in GROUPS[group]
    )


def part(folder: Path, tensor: str, group: str = COORDINATES) -> dict[str, list[dict]] | None:
    """One tensor's rows by table; `None` where they are not there, or are not what was written."""
    try:
        digest, _, body = files.contents(part_path(folder, tensor, group)).partition(b"\n")
    except OSError:
        return None
    value = files.parsed(body) if digest == fingerprint.of_bytes(body).encode() else None
    return value if isinstance(value, dict) and set(value) == set(GROUPS[group]) else None


def part_path(folder: Path, tensor: str, group: str) -> Path:
    """Where one tensor's rows stand."""
    return folder / "parts" / f"{pair_key(tensor)}.{group}.json"


def keep_part(
    folder: Path, tensor: str, tables: dict[str, list[dict]], group: str = COORDINATES
) -> None:
    """Write one tensor's rows of a group's tables."""
    body = json.dumps(tables, allow_nan=False, separators=(",", ":")).encode()
    data = fingerprint.of_bytes(body).encode() + b"\n" + body
    files.write(part_path(folder, tensor, group), data)


def finish(folder: Path, tensors: Sequence[str], group: str = COORDINATES) -> None:
    """Gather the parts of all tensors into a group's tables, and take the parts away."""
    parts = [rows for tensor in tensors if (rows := part(folder, tensor, group))]
    for name in GROUPS[group]:
        for old in folder.glob(f"{name}.*.parquet"):
            files.clear(old)
        rows_of_all = [row for rows in parts for row in rows[name]]
        data = parquet.encoded(typed(TABLES[name], rows_of_all))
        files.write(folder / f"{name}.{fingerprint.of_contents(data)}.parquet", data)
    for tensor in tensors:
        files.clear(part_path(folder, tensor, group))


def drop(root: Path, key: str) -> None:
    """Take away every relation of a comparison that is forgotten."""
    for folder in (root / FOLDER).glob("*"):
        if key in (keys_of(folder) or ()):
            shutil.rmtree(folder, ignore_errors=True)


def faults(root: Path) -> Iterator[tuple[str, str]]:
    """What is wrong below a cache's folder of relations: the file, and what it is."""
    for folder in sorted((root / FOLDER).glob("*")):
        if keys_of(folder) is None:
            yield f"{FOLDER}/{folder.name}", "does not say whose relations it holds; delete it"
            continue
        for path in sorted(folder.glob("*.parquet")):
            if sound_table(path) is None:
                yield f"{FOLDER}/{folder.name}/{path.name}", parquet.DAMAGED
