"""One stored table of a comparison, whatever state it is in: tables, bundles, and parts that are still loose."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opdviz.errors import CheckFailed
from opdviz.store import columns, parquet
from opdviz.store.columns import PAIRS, typed
from opdviz.store.manifest import outdated
from opdviz.store.parts import decode_part
from opdviz.store.store import Store


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


def sorted_rows(table: pa.Table) -> pa.Table:
    """A table sorted by all of its columns from the left."""
    if not table.num_rows:
        return table
    return table.take(pc.sort_indices(table, sort_keys=[(c, "ascending") for c in table.column_names]))
