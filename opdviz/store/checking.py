"""What is wrong with a store: of one comparison's files, of its summaries and board, and of what
lies between comparisons.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from opdviz import files
from opdviz.errors import one_line
from opdviz.store import manifest as manifests
from opdviz.store import parquet, relations, values
from opdviz.store.columns import COLUMNS, PAIRING, PAIRS, wanted_files
from opdviz.store.manifest import Manifest
from opdviz.store.parts import decode_part, pair_key
from opdviz.store.store import KEY, Store

FOLDERS = ("tables", "parts", "blocks", "summaries")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the comparison's key, the kind of the file, its place in the folder,
    and what is wrong.
    """

    key: str
    kind: str
    file: str
    words: str

    def __str__(self) -> str:
        """The sentence that says it."""
        return f"{one_line(self.key, limit=40)}: {one_line(self.file, limit=120)} {self.words}"


def check(folder: Path, names: Iterable[str] | None = None) -> list[Fault]:
    """Everything that is wrong with a comparison's files; leftover temporaries are no fault.

    `names` are those of its pairs, where somebody matched the checkpoints again; otherwise they are
    those it keeps.
    """
    key, manifest = folder.name, manifests.read(folder)
    faults = list(places(folder, key))
    if manifest is None:
        return [*faults, Fault(key, "manifest", manifests.FILE, "is missing or unreadable")]
    if manifest.outdated:  # its tables are never read
        return faults
    pair_names = (
        kept_names(folder, manifest) if names is None else pa.array(list(names), pa.string())
    )
    faults += of_manifest(key, manifest)
    faults += of_tables(folder, key, manifest, pair_names)
    pairs = None if pair_names is None else set(pair_names.to_pylist())
    faults += of_parts(folder, key, pairs)
    return faults + list(of_blocks(folder, key, manifest, pairs))


def places(folder: Path, key: str) -> Iterator[Fault]:
    """What stands where a folder or a lock belongs and is none."""
    for name in FOLDERS:
        if (folder / name).exists() and not (folder / name).is_dir():
            yield Fault(key, "folder", name, "is no folder")
    for name in ("lock", "board.lock", "focus"):
        if (folder / name).exists() and not (folder / name).is_file():
            yield Fault(key, "lock", name, parquet.NO_FILE)


def kept_names(folder: Path, manifest: Manifest) -> pa.Array | None:
    """The names of all pairs as a comparison keeps them; `None` where they are not there or
    damaged.
    """
    path = parquet.pairs_file(folder, manifest)
    if path is None or parquet.pairs_fault(path, manifest.tables[path.name], manifest.pairs):
        return None
    return parquet.names_at(path, parquet.state(path))


def of_manifest(key: str, manifest: Manifest) -> Iterator[Fault]:
    """What a manifest should name and does not, and measures that no version of ours has."""
    for measure in sorted({*manifest.compacted, *manifest.bundled}):
        if measure.split("@")[0] not in COLUMNS or measure.split("@")[0] == PAIRING:
            yield Fault(
                key,
                "manifest",
                manifests.FILE,
                f"names a measure that is unknown: {one_line(measure, limit=40)}",
            )
    for name in sorted(wanted_files(manifest) - set(manifest.tables)):
        yield Fault(key, "table", f"tables/{name}", "is not named in manifest.json")


def of_tables(
    folder: Path, key: str, manifest: Manifest, names: pa.Array | None
) -> Iterator[Fault]:
    """What is wrong with the stored tables."""
    pairs = f"{PAIRS}.{PAIRING}.parquet"
    for name, digest in manifest.tables.items():
        path = folder / "tables" / name
        words = (
            parquet.pairs_fault(path, digest, manifest.pairs)
            if name == pairs
            else parquet.fault(path, digest, names)
        )
        if words:
            yield Fault(key, "table", f"tables/{name}", words)


def of_parts(folder: Path, key: str, pairs: set[str] | None) -> Iterator[Fault]:
    """Which parts are damaged, or another comparison's."""
    for path in sorted((folder / "parts").glob("*.json")):
        part = decode_part(path)
        if part is None:
            yield Fault(key, "part", f"parts/{path.name}", parquet.DAMAGED)
        elif pairs is not None and part["name"] not in pairs:
            yield Fault(
                key, "part", f"parts/{path.name}", "is of a tensor that is not in this comparison"
            )


def of_blocks(
    folder: Path, key: str, manifest: Manifest, pairs: set[str] | None
) -> Iterator[Fault]:
    """Which kept blocks of values are damaged, or of no tensor of this comparison."""
    paths = sorted((folder / "blocks").glob("*.parquet"))
    keys = {pair_key(name) for name in pairs} if paths and pairs is not None else None
    shapes = known_shapes(folder, manifest) if paths else {}
    for path in paths:
        pair = path.name.split(".")[0]
        if keys is not None and pair not in keys:
            yield Fault(
                key, "block", f"blocks/{path.name}", "is of a tensor that is not in this comparison"
            )
        elif values.read(path, shapes.get(pair)) is None:
            yield Fault(key, "block", f"blocks/{path.name}", parquet.DAMAGED)


def known_shapes(folder: Path, manifest: Manifest) -> dict[str, tuple[int, int]]:
    """The shapes that tensors are shown in, by the beginning of their files' names; empty where
    they cannot be read.
    """
    name = "tensors.magnitude.parquet"
    path = folder / "tables" / name
    if name not in manifest.tables or parquet.quick_fault(path, manifest.tables[name], None):
        return {}
    try:
        rows = pq.read_table(path, columns=["name", "rows", "columns", "numel"]).to_pylist()
    except parquet.UNREADABLE:
        return {}
    return {
        pair_key(row["name"]): (
            (1, row["numel"]) if row["rows"] is None else (row["rows"], row["columns"])
        )
        for row in rows
        if row["name"] is not None
    }


def between(store: Store) -> Iterator[Fault]:
    """What lies in the store and belongs to no comparison."""
    if store.comparisons.exists() and not store.comparisons.is_dir():
        yield Fault("store", "folder", "comparisons", "is no folder")
    for path in sorted(store.comparisons.glob("*")):
        if not path.is_dir():
            yield Fault(
                "store",
                "folder",
                f"comparisons/{path.name}",
                "is no comparison's folder; delete it",
            )
        elif not KEY.match(path.name) and not manifests.read(path):
            yield Fault(
                "store", "folder", f"comparisons/{path.name}", "has no comparison's name; delete it"
            )
    memory = store.root / "fingerprints.json"
    if memory.exists() and not isinstance(files.json_value(memory), dict):
        yield Fault("store", "memory", "fingerprints.json", "is unreadable")
    for file, words in relations.faults(store.root):
        yield Fault("store", "relation", file, words)
    for path in sorted((store.root / "jobs").glob("*/*")):
        if path.name in ("request.json", "status.json") and not isinstance(
            files.json_value(path), dict
        ):
            yield Fault("store", "job", f"jobs/{path.parent.name}/{path.name}", "is unreadable")
        elif path.name in ("lock", "log.txt", "pid") and not path.is_file():
            yield Fault("store", "job", f"jobs/{path.parent.name}/{path.name}", parquet.NO_FILE)


def clear(folder: Path, faults: Iterable[Fault]) -> None:
    """Take away a comparison's files that are no good, so that they are made again; the caller
    holds the lock.

    What people wrote - the board - is not among them.
    """
    for fault in faults:
        if fault.kind in ("table", "part", "block", "summary", "folder"):
            files.clear(folder / fault.file)
        elif fault.file in ("board.lock", "focus"):
            files.clear_for_file(folder / fault.file)
