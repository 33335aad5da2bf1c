"""One stored table of a comparison, whatever state it is in: tables, bundles, and parts that are
still loose.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opdviz.errors import CheckFailed
from opdviz.store import columns, parquet
from opdviz.store.columns import BY_TABLE, PAIRS, typed
from opdviz.store.manifest import Manifest
from opdviz.store.parts import decode_part
from opdviz.store.store import Stored


def read(comparison: Stored, table: str, *, where: pc.Expression | None = None) -> pa.Table:
    """One stored table of a comparison: compacted files, and the parts of what is still running, by
    written order.

    `where` keeps the rows that fit; compacted files are read only where such rows can be. An empty
    table (no columns) where nothing of it is comparison yet.

    Raises
        CheckFailed: a file is missing or damaged, or an earlier version wrote them.
    """
    if comparison.manifest.outdated:
        raise CheckFailed(
            f"{comparison.key}: measured by an earlier version; compare the pair again: its name,"
            " board and notes stay."
        )
    names = compacted_names(comparison.manifest, table)
    try:
        pieces = [read_sound(comparison, name, where) for name in names]
    except CheckFailed:
        now = comparison.again()
        if compacted_names(now.manifest, table) == names:
            raise
        return read(now, table, where=where)  # bundles became one file in between
    rows = [row for part in loose_parts(comparison, table) for row in part["tables"].get(table, [])]
    if rows:
        live = typed(BY_TABLE[table], rows)
        pieces.append(live if where is None else live.filter(where))
    if not pieces:
        return pa.table({})
    return pa.concat_tables(pieces, promote_options="default")


def read_sound(comparison: Stored, name: str, where: pc.Expression | None) -> pa.Table:
    """One compacted file, or its rows that fit, if it is what the manifest says.

    Raises
        CheckFailed: it is missing, damaged, or not this comparison's.
    """
    names, pairs = (
        pair_names(comparison),
        parquet.pairs_file(comparison.folder, comparison.manifest),
    )
    digest = comparison.manifest.tables[name]
    refuse(
        comparison.key,
        name,
        parquet.quick_fault(comparison.folder / "tables" / name, digest, pairs),
    )
    rows = read_compacted(comparison.folder, name, where)
    words = parquet.DAMAGED if columns.wrong_values(rows) else ""
    if names is not None and parquet.speaks_of_pairs(name):
        words = words or parquet.foreign(rows["name"], names)
    refuse(comparison.key, name, words)
    return rows.replace_schema_metadata(None)


def pair_names(comparison: Stored) -> pa.Array | None:
    """The names of all pairs of a comparison; `None` where an earlier version kept no list of them.

    Raises
        CheckFailed: the list is missing or damaged.
    """
    if (path := parquet.pairs_file(comparison.folder, comparison.manifest)) is None:
        return None
    refuse(
        comparison.key,
        path.name,
        parquet.quick_fault(path, comparison.manifest.tables[path.name], None),
    )
    return parquet.names_at(path, parquet.state(path))


def refuse(key: str, file: str, words: str) -> None:
    """Say what is wrong with a stored table, where something is.

    Raises
        CheckFailed: something is.
    """
    if words in (parquet.MISSING, parquet.DAMAGED, parquet.NO_FILE):
        words = "is missing or damaged"
    if words:
        raise CheckFailed(
            f"{key}: tables/{file} {words}; compare the pair again, which recomputes it."
        )


def loose_parts(comparison: Stored, table: str) -> Iterator[dict]:
    """The sound parts with rows of a table that are neither compacted nor in a bundle yet."""
    paths = sorted((comparison.folder / "parts").glob("*.json"))
    compacted, bundled = set(comparison.manifest.compacted), {}
    names = pair_names(comparison) if paths else None
    pairs = None if names is None else set(names.to_pylist())
    for path in paths:
        measure = "@".join(path.name.split(".")[1:3])
        if measure in compacted or not (part := decode_part(path, holding=table)):
            continue
        # Another comparison's, which `verify` says.
        if pairs is not None and part["name"] not in pairs:
            continue
        if measure not in bundled:
            bundled[measure] = bundled_pairs(comparison, measure)
        if part["name"] not in bundled[measure]:
            yield part


def bundled_pairs(comparison: Stored, measure: str) -> set[str]:
    """The names of the pairs that are in the bundles of a measure (`name@version`)."""
    names: set[str] = set()
    for number in comparison.manifest.bundled.get(measure, {}):
        file = f"{PAIRS}.{measure.split('@')[0]}.{number}.parquet"
        names.update(read_compacted(comparison.folder, file)["name"].to_pylist())
    return names


def compacted_names(manifest: Manifest, table: str) -> list[str]:
    """The files that a manifest says a table is in."""
    return sorted(name for name in manifest.tables if name.startswith(f"{table}."))


def read_compacted(folder: Path, name: str, where: pc.Expression | None = None) -> pa.Table:
    """One compacted file, or its rows that fit.

    Raises
        CheckFailed: it is missing or damaged.
    """
    path = folder / "tables" / name
    try:
        # A pipe would be waited for, and a folder be read as the files in it.
        if parquet.absence(path):
            raise FileNotFoundError
        return pq.read_table(path, filters=where)
    except parquet.UNREADABLE:
        raise CheckFailed(
            f"{folder.name}: tables/{name} is missing or damaged; compare the pair again, which"
            " recomputes it."
        ) from None


def sorted_rows(table: pa.Table) -> pa.Table:
    """A table sorted by all of its columns from the left."""
    if not table.num_rows:
        return table
    return table.take(
        pc.sort_indices(table, sort_keys=[(c, "ascending") for c in table.column_names])
    )
