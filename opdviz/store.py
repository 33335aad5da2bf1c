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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opdviz import columns, files, fingerprint, manifests, parquet
from opdviz.columns import PAIRS, typed
from opdviz.errors import CheckFailed, MachineError, RequestError, one_line
from opdviz.manifests import outdated

TEMPORARY = ".tmp"
LONGEST_NAME = 200
KEY = re.compile(r"^[0-9a-f]{16}$")


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
        times = {key: parquet.state(self.folder(key) / "manifest.json")[-1:] for key in self.folders()}
        return [key for key in sorted(times, key=times.get, reverse=True) if self.manifest(key)]

    def damaged(self) -> list[str]:
        """The folders of comparisons whose manifest is lost or damaged; one whose run is just starting is not."""
        return [key for key in self.folders() if not self.manifest(key) and not running(self.folder(key))]

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
        known += "".join(f"; {one_line(k, limit=40)}: manifest.json is missing or damaged" for k in self.damaged()[:3])
        what = f"fits {len(fitting)} comparisons" if fitting else "is no comparison in the cache"
        raise RequestError(f"{one_line(word, limit=60)!r} {what}; there are: {known}. `opdviz list` shows them.")

    def manifest(self, key: str) -> dict:
        """A comparison's manifest; empty where it cannot be read."""
        manifest = files.json_value(self.folder(key) / "manifest.json")
        return manifest if manifests.sound(manifest, key) else {}

    def sound_manifest(self, key: str) -> dict:
        """A comparison's manifest.

        Raises
            CheckFailed: it is missing or damaged.
        """
        if manifest := self.manifest(key):
            return manifest
        raise CheckFailed(
            f"{one_line(key, limit=40)}: manifest.json is missing or damaged; compare the pair again, which recomputes it."
        )

    def write_manifest(self, key: str, manifest: dict) -> None:
        """Replace a comparison's manifest."""
        files.clear_for_file(self.folder(key) / "manifest.json")
        write(self.folder(key) / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())

    def size(self, key: str) -> int:
        """Bytes that a comparison takes."""
        return sum(f.stat().st_size for f in self.folder(key).rglob("*") if f.is_file())

    def forget(self, key: str) -> None:
        """Delete a comparison; refused while it runs."""
        with lock(self.folder(key)):
            shutil.rmtree(self.folder(key))


def checked_name(name: str) -> str:
    """A comparison's name, if it can be typed and read on one line.

    Raises
        RequestError: empty, longer than 200 characters, not printable, or the form of a key.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or KEY.match(name):
        found = one_line(ascii(name), limit=60)
        raise RequestError(f"name {found}: expected 1 to {LONGEST_NAME} printable characters that are not a key's.")
    return name


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
    files.clear_for_file(folder / "lock")
    with os.fdopen(files.opened(folder / "lock", os.O_WRONLY | os.O_CREAT), "w") as file:
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
        descriptor = files.opened(folder / "lock")
    except OSError:  # not there, or nothing that a process of ours could hold
        return False
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
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
    """A part, or `None` where it is missing, its bytes are not those that were written, what they say is no part of the
    pair and measure of its file's name, or it has not the table `holding`."""
    try:
        digest, _, body = files.contents(path).partition(b"\n")
    except OSError:
        return None
    if holding and f'"{holding}":'.encode() not in body:
        return None
    part = files.parsed(body) if digest == fingerprint.of_bytes(body).encode() else None
    return part if fitting_part(part, path.name) else None


def fitting_part(part: object, file: str) -> bool:
    """Whether this is a part of the pair and the measure that its file's name says."""
    pair, measure, *_ = file.split(".")
    if not (isinstance(part, dict) and manifests.text(name := part.get("name")) and pair_key(name) == pair):
        return False
    known = columns.COLUMNS.get(measure, {}) | columns.SKIPPED
    tables = part.get("tables")
    return isinstance(tables, dict) and all(
        table in known and columns.fitting_rows(table, known[table], name, rows) for table, rows in tables.items()
    )


def sweep(folder: Path) -> None:
    """Delete temporaries that a killed process left; the caller holds the lock."""
    for leftover in folder.rglob(f"*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def read(store: Store, key: str, table: str, *, where: pc.Expression | None = None) -> pa.Table:
    """One stored table of a comparison: compacted files, and the parts of what is still running, by written order.

    `where` keeps the rows that fit; compacted files are read only where such rows can be. An empty table (no columns) where
    nothing of it is stored yet.

    Raises
        CheckFailed: a file is missing or damaged, or an earlier version wrote them.
    """
    if outdated(manifest := store.sound_manifest(key)):
        raise CheckFailed(
            f"{key}: measured by an earlier version; compare the pair again: its name, board and notes stay."
        )
    folder, names = store.folder(key), compacted_names(manifest, table)
    try:
        found = [read_sound(folder, manifest, name, where) for name in names]
    except CheckFailed:
        if compacted_names(store.manifest(key), table) == names:
            raise
        return read(store, key, table, where=where)  # bundles became one file in between
    rows = [row for part in parts(store, key, table) for row in part["tables"].get(table, [])]
    if rows:
        live = typed(table, tuple(dict.fromkeys(c for row in rows for c in row)), rows)
        found.append(live if where is None else live.filter(where))
    if not found:
        return pa.table({})
    return pa.concat_tables(found, promote_options="default")


def read_sound(folder: Path, manifest: dict, name: str, where: pc.Expression | None) -> pa.Table:
    """One compacted file, or its rows that fit, if it is what the manifest says.

    Raises
        CheckFailed: it is missing, damaged, or not this comparison's.
    """
    names, pairs = pair_names(folder, manifest), parquet.pairs_file(folder, manifest)
    refuse(folder.name, name, parquet.quick_fault(folder / "tables" / name, manifest["tables"][name], pairs))
    rows = read_compacted(folder, folder.name, name, where)
    words = parquet.DAMAGED if columns.wrong_values(rows) else ""
    if names is not None and parquet.speaks_of_pairs(name):
        words = words or parquet.foreign(rows["name"], names)
    refuse(folder.name, name, words)
    return rows.replace_schema_metadata(None)


def pair_names(folder: Path, manifest: dict) -> pa.Array | None:
    """The names of all pairs of a comparison; `None` where an earlier version kept no list of them.

    Raises
        CheckFailed: the list is missing or damaged.
    """
    if (path := parquet.pairs_file(folder, manifest)) is None:
        return None
    refuse(folder.name, path.name, parquet.quick_fault(path, manifest["tables"][path.name], None))
    return parquet.names_at(path, parquet.state(path))


def refuse(key: str, file: str, words: str) -> None:
    """Say what is wrong with a stored table, where something is.

    Raises
        CheckFailed: something is.
    """
    if words in (parquet.MISSING, parquet.DAMAGED, parquet.NO_FILE):
        words = "is missing or damaged"
    if words:
        raise CheckFailed(f"{key}: tables/{file} {words}; compare the pair again, which recomputes it.")


def parts(store: Store, key: str, table: str) -> Iterator[dict]:
    """The sound parts with rows of a table that are neither compacted nor in a bundle yet."""
    manifest, paths = store.manifest(key), sorted((store.folder(key) / "parts").glob("*.json"))
    compacted, bundled = set(manifest.get("compacted", [])), {}
    names = pair_names(store.folder(key), manifest) if paths and manifest else None
    known = None if names is None else set(names.to_pylist())
    for path in paths:
        of = "@".join(path.name.split(".")[1:3])
        if of in compacted or not (part := decode_part(path, holding=table)):
            continue
        if known is not None and part["name"] not in known:  # another comparison's, which `verify` says
            continue
        if of not in bundled:
            bundled[of] = bundled_pairs(store, key, of)
        if part["name"] not in bundled[of]:
            yield part


def bundled_pairs(store: Store, key: str, of: str) -> set[str]:
    """The names of the pairs that are in the bundles of a measure and version."""
    names = [f"{PAIRS}.{of.split('@')[0]}.{n}.parquet" for n in store.manifest(key).get("bundled", {}).get(of, {})]
    return {name for f in names for name in read_compacted(store.folder(key), key, f)["name"].to_pylist()}


def compacted_names(manifest: dict, table: str) -> list[str]:
    """The files that a manifest says a table is in."""
    return sorted(name for name in manifest.get("tables", {}) if name.startswith(f"{table}."))


def read_compacted(folder: Path, key: str, name: str, where: pc.Expression | None = None) -> pa.Table:
    """One compacted file, or its rows that fit.

    Raises
        CheckFailed: it is missing or damaged.
    """
    path = folder / "tables" / name
    try:
        if parquet.absence(path):  # a pipe would be waited for, and a folder be read as the files in it
            raise FileNotFoundError
        return pq.read_table(path, filters=where)
    except parquet.UNREADABLE:
        raise CheckFailed(
            f"{key}: tables/{name} is missing or damaged; compare the pair again, which recomputes it."
        ) from None


def part_count(store: Store, key: str) -> int:
    """How many parts of a running comparison are on disk, loose or in bundles."""
    bundled = sum(sum(counts.values()) for counts in store.manifest(key).get("bundled", {}).values())
    return bundled + sum(1 for _ in (store.folder(key) / "parts").glob("*.json"))


def sorted_rows(table: pa.Table) -> pa.Table:
    """A table sorted by all of its columns from the left."""
    if not table.num_rows:
        return table
    return table.take(pc.sort_indices(table, sort_keys=[(c, "ascending") for c in table.column_names]))
