"""Where finished work is kept: JSON parts and bundles of them while a comparison runs, one Parquet a table and measure then.

Layout under the cache folder:

    comparisons/<key>/manifest.json                    what was compared, how, which measures at which version
    comparisons/<key>/parts/<pair>.<measure>.<v>.json  one pair under one measure, with a digest of its own bytes
    comparisons/<key>/tables/<table>.<measure>.parquet compacted rows; their digests stand in the manifest
    comparisons/<key>/tables/<table>.<measure>.<n>.parquet the same of a bundle of pairs; the table `pairs` names them
    comparisons/<key>/blocks/<pair>.<row>.<column>.<size>.parquet   values that someone asked to see
    comparisons/<key>/summaries/<name>.<digest>.parquet what pages ask of the whole, made from these tables
    comparisons/<key>/board.json                       pins and notes
    comparisons/<key>/lock                             held by the process that writes; dies with it
    fingerprints.json, jobs/

Everything is written under a temporary name and renamed, so a file is whole or not there.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opdviz import fingerprint
from opdviz.errors import CheckFailed, MachineError, RequestError, one_line

FORMAT = 2  # of what is stored: tables of an earlier one are computed again, names and boards stay
TEMPORARY = ".tmp"
LONGEST_NAME = 200
PAIRS = "pairs"  # the table of a bundle that says whose parts it holds
ROW_GROUP = 1 << 15  # rows of one tensor stand in one or two groups: reading it skips the rest
KEY = re.compile(r"^[0-9a-f]{16}$")
TEXT = {
    "name", "tuned_name", "tower", "block", "module", "shape", "base_dtype", "tuned_dtype", "kind", "precision", "probe",
    "steps", "matrix", "method", "side", "row_bin", "column_bin", "mask", "of", "axis", "token", "measure", "reason",
    "rule", "detail", "verdict",
}  # fmt: skip
WHOLE = {
    "layer", "expert", "rows", "columns", "numel", "nonfinite", "untouched_rows", "decayed_rows", "unchanged", "off_grid",
    "count",
    "index", "rank", "rank_50", "rank_90", "rank_99", "k", "visible", "bin", "row",
}  # fmt: skip


@dataclass(frozen=True)
class Store:
    """The cache folder."""

    root: Path

    @property
    def comparisons(self) -> Path:
        """The folder of comparisons."""
        return self.root / "comparisons"

    def folder(self, key: str) -> Path:
        """One comparison's folder."""
        return self.comparisons / key

    def keys(self) -> list[str]:
        """The keys of all comparisons with a sound manifest, newest first."""
        found = sorted(self.comparisons.glob("*/manifest.json"), key=lambda p: -p.stat().st_mtime_ns)
        return [p.parent.name for p in found if self.manifest(p.parent.name)]

    def folders(self) -> list[str]:
        """Every folder of comparisons, also those whose manifest is lost."""
        return sorted(p.name for p in self.comparisons.glob("*") if p.is_dir())

    def resolve(self, word: str) -> str:
        """The key that a key, a unique prefix or a name (its newest) stands for.

        Raises
            RequestError: nothing or more than one fits.
        """
        keys = self.keys()
        named = [k for k in keys if self.manifest(k).get("name") == word]
        fitting = [k for k in keys if word and k.startswith(word)]
        if word in self.folders() or named or len(fitting) == 1:
            return word if word in self.folders() else (named or fitting)[0]
        known = ", ".join(one_line(self.manifest(k).get("name", k), limit=40) for k in keys[:6]) or "none yet"
        what = f"fits {len(fitting)} comparisons" if fitting else "is no comparison in the cache"
        raise RequestError(f"{one_line(word, limit=60)!r} {what}; there are: {known}. `opdviz list` shows them.")

    def manifest(self, key: str) -> dict:
        """A comparison's manifest; empty where it cannot be read."""
        try:
            found = json.loads((self.folder(key) / "manifest.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if sound(found) else {}

    def write_manifest(self, key: str, manifest: dict) -> None:
        """Replace a comparison's manifest."""
        write(self.folder(key) / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())

    def size(self, key: str) -> int:
        """Bytes that a comparison takes."""
        return sum(f.stat().st_size for f in self.folder(key).rglob("*") if f.is_file())

    def forget(self, key: str) -> None:
        """Delete a comparison; refused while it runs."""
        with lock(self.folder(key)):
            shutil.rmtree(self.folder(key))


KINDS = {
    "name": str, "pairs": int, "parameters": int, "measures": int, "compacted": list, "tables": dict, "dtypes": list,
    "base": dict, "tuned": dict,
}  # fmt: skip


def checked_name(name: str) -> str:
    """A comparison's name, if it can be typed and read on one line.

    Raises
        RequestError: empty, longer than 200 characters, not printable, or the form of a key.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or KEY.match(name):
        found = one_line(ascii(name), limit=60)
        raise RequestError(f"name {found}: expected 1 to {LONGEST_NAME} printable characters that are not a key's.")
    return name


def sound(found: object) -> bool:
    """Whether a manifest has everything that commands and pages rely on; one that has not is damaged."""
    if not isinstance(found, dict) or not all(isinstance(found.get(k), kind) for k, kind in KINDS.items()):
        return False
    if not isinstance(bundled := found.get("bundled", {}), dict) or not all(map(counts_of_bundles, bundled.values())):
        return False
    return all(isinstance(found[side].get(k), str) for side in ("base", "tuned") for k in ("path", "label"))


def outdated(manifest: dict) -> bool:
    """Whether a comparison was measured by an earlier version, whose tables mean other things."""
    return bool(manifest) and manifest.get("format") != FORMAT


def counts_of_bundles(found: object) -> bool:
    """Whether this says how many pairs each numbered bundle has."""
    return isinstance(found, dict) and all(n.isdecimal() and type(count) is int for n, count in found.items())


def write(path: Path, data: bytes) -> None:
    """Write bytes under a temporary name and rename.

    Raises
        MachineError: the disk is full or the file may not grow; nothing half-written stays.
    """
    temporary = path.with_name(f"{os.urandom(8).hex()}{TEMPORARY}")  # the name may be as long as a disk takes already
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise MachineError(
            f"write({path.name}): {error.strerror or error}; what was finished before is kept. Make room and run it again."
        ) from None


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a comparison for writing; the lock dies with its process.

    Raises
        RequestError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequestError(
                f"{folder.name[:12]} is being written by another process; wait for it or cancel it."
            ) from None
        yield


def running(folder: Path) -> bool:
    """Whether a living process holds a folder: a comparison that is written, or a job."""
    try:
        with open(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def pair_key(name: str) -> str:
    """The file-name form of a pair's name."""
    return fingerprint.of_bytes(name)[:20]


def part_path(folder: Path, name: str, measure: str, version: int) -> Path:
    """Where a part stands."""
    return folder / "parts" / f"{pair_key(name)}.{measure}.{version}.json"


def block_path(folder: Path, name: str, row: int, column: int, size: int) -> Path:
    """Where a block of values stands."""
    return folder / "blocks" / f"{pair_key(name)}.{row}.{column}.{size}.parquet"


def encode_part(name: str, tables: dict[str, list[dict]]) -> bytes:
    """A part's bytes: a digest line, then the pair's rows of every table."""
    body = json.dumps({"name": name, "tables": tables}, allow_nan=False, separators=(",", ":")).encode()
    return fingerprint.of_bytes(body).encode() + b"\n" + body


def decode_part(path: Path, *, holding: str = "") -> dict | None:
    """A part, or `None` where it is missing, its bytes are not those that were written, or it has not the table `holding`."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if holding and f'"{holding}":'.encode() not in body:
        return None
    return json.loads(body) if digest.decode("ascii", "replace") == fingerprint.of_bytes(body) else None


def sweep(folder: Path) -> None:
    """Delete temporaries that a killed process left; the caller holds the lock."""
    for leftover in folder.rglob(f"*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def column_type(table: str, column: str) -> pa.DataType:
    """The stored type of a column: fixed by its name, so that a table of missing values has the same type as a full one."""
    if column in TEXT:
        return pa.string()
    if column in WHOLE or (table, column) == ("tensors", "moved") or (table, column) == ("histogram", "moved"):
        return pa.int64()
    return pa.float64()


def typed(table: str, columns: tuple[str, ...], rows: Iterable[dict]) -> pa.Table:
    """Rows with every column typed."""
    rows = list(rows)
    schema = pa.schema([(c, column_type(table, c)) for c in columns])
    return pa.Table.from_arrays(
        [pa.array([row.get(c) for row in rows], type=schema.field(c).type) for c in columns], schema=schema
    )


def encoded(rows: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.combine_chunks(), sink, compression="zstd", row_group_size=ROW_GROUP)
    return sink.getvalue().to_pybytes()


def read(store: Store, key: str, table: str, *, where: pc.Expression | None = None) -> pa.Table:
    """One stored table of a comparison: compacted files, and the parts of what is still running, by written order.

    `where` keeps the rows that fit; compacted files are read only where such rows can be. An empty table (no columns) where
    nothing of it is stored yet.

    Raises
        CheckFailed: a file is missing or damaged, or an earlier version wrote them.
    """
    if outdated(store.manifest(key)):
        raise CheckFailed(
            f"{key}: measured by an earlier version; compare the pair again: its name, board and notes stay."
        )
    folder, files = store.folder(key), compacted_names(store, key, table)
    try:
        found = [read_compacted(folder, key, name, where) for name in files]
    except CheckFailed:
        if compacted_names(store, key, table) == files:
            raise
        return read(store, key, table, where=where)  # bundles became one file in between
    rows = [row for part in parts(store, key, table) for row in part["tables"].get(table, [])]
    if rows:
        live = typed(table, tuple(dict.fromkeys(c for row in rows for c in row)), rows)
        found.append(live if where is None else live.filter(where))
    if not found:
        return pa.table({})
    return pa.concat_tables(found, promote_options="default")


def parts(store: Store, key: str, table: str) -> Iterator[dict]:
    """The sound parts with rows of a table that are neither compacted nor in a bundle yet."""
    compacted, bundled = set(store.manifest(key).get("compacted", [])), {}
    for path in sorted((store.folder(key) / "parts").glob("*.json")):
        of = "@".join(path.name.split(".")[1:3])
        if of in compacted or not (part := decode_part(path, holding=table)):
            continue
        if of not in bundled:
            bundled[of] = bundled_pairs(store, key, of)
        if part["name"] not in bundled[of]:
            yield part


def bundled_pairs(store: Store, key: str, of: str) -> set[str]:
    """The names of the pairs that are in the bundles of a measure and version."""
    files = [f"{PAIRS}.{of.split('@')[0]}.{n}.parquet" for n in store.manifest(key).get("bundled", {}).get(of, {})]
    return {name for f in files for name in read_compacted(store.folder(key), key, f)["name"].to_pylist()}


def group_of(file: str) -> tuple[str, ...]:
    """What a stored table belongs to: a measure, or a measure and the number of a bundle.

    >>> group_of("spectrum.geometry.parquet"), group_of("spectrum.geometry.3.parquet")
    (('geometry',), ('geometry', '3'))
    """
    return tuple(file.split(".")[1:-1])


def compacted_names(store: Store, key: str, table: str) -> list[str]:
    """The files that the manifest says a table is in."""
    return sorted(name for name in store.manifest(key).get("tables", {}) if name.startswith(f"{table}."))


def read_compacted(folder: Path, key: str, name: str, where: pc.Expression | None = None) -> pa.Table:
    """One compacted file, or its rows that fit.

    Raises
        CheckFailed: it is missing or damaged.
    """
    try:
        return pq.read_table(folder / "tables" / name, filters=where)
    except (OSError, pa.ArrowException):
        raise CheckFailed(
            f"{key}: tables/{name} is missing or damaged; compare the pair again, which recomputes it."
        ) from None


def part_count(store: Store, key: str) -> int:
    """How many parts of a running comparison are on disk, loose or in bundles."""
    bundled = sum(sum(counts.values()) for counts in store.manifest(key).get("bundled", {}).values())
    return bundled + sum(1 for _ in (store.folder(key) / "parts").glob("*.json"))


def check(store: Store, key: str) -> list[str]:
    """Everything that is wrong with a comparison's files; leftover temporaries are no fault."""
    folder, manifest = store.folder(key), store.manifest(key)
    if not manifest:
        return [f"{key}: manifest.json is missing or unreadable"]
    faults = []
    for name, digest in manifest.get("tables", {}).items():
        path = folder / "tables" / name
        if not path.is_file():
            faults.append(f"{key}: tables/{name} is missing")
        elif fingerprint.of_file(path) != digest:
            faults.append(f"{key}: tables/{name} is damaged")
    for path in sorted((folder / "parts").glob("*.json")):
        if decode_part(path) is None:
            faults.append(f"{key}: parts/{path.name} is damaged")
    return faults


def sorted_rows(table: pa.Table) -> pa.Table:
    """A table sorted by all of its columns from the left."""
    if not table.num_rows:
        return table
    return table.take(pc.sort_indices(table, sort_keys=[(c, "ascending") for c in table.column_names]))
