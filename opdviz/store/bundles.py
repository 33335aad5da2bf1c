"""What a comparison leaves on disk while it runs: a part for every pair and measure, bundles of
them, one table at the end.

A large model has hundreds of thousands of parts, more than any reader opens. As soon as a measure
has `BUNDLE` of them they become a bundle, rows of Parquet files, which the manifest notes before
the parts are deleted: whatever ends the run in between, every pair is read once.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from opdviz import files, fingerprint
from opdviz.measures import MEASURES, measure_id
from opdviz.store import checking
from opdviz.store import manifest as manifests
from opdviz.store.columns import NAMES, PAIRS, Columns, group_of, typed
from opdviz.store.manifest import Manifest
from opdviz.store.parquet import encoded
from opdviz.store.parts import decode_part, decode_parts, part_path
from opdviz.store.reading import bundled_pairs, read_compacted
from opdviz.store.store import Stored

BUNDLE = 512


class Writer:
    """The writer of one comparison; whoever makes one holds its lock. `comparison` is what stands
    on disk.
    """

    def __init__(self, comparison: Stored):
        """Take up what an earlier run left; `still_valid` has looked at its manifest."""
        self.comparison = comparison
        self.bundled = {measure_id(m): bundled_pairs(comparison, measure_id(m)) for m in MEASURES}
        self.loose: dict[str, set[str]] = defaultdict(set)

    @property
    def folder(self) -> Path:
        """The comparison's folder."""
        return self.comparison.folder

    def missing(self, pair: str, modules: Iterable[ModuleType]) -> list[ModuleType]:
        """The measures of a pair that are nowhere on disk; sound parts that are, are taken up."""
        missing = []
        for m in modules:
            measure = measure_id(m)
            whole = measure in self.comparison.manifest.compacted
            if whole or pair in self.bundled[measure] or pair in self.loose[measure]:
                continue
            if decode_part(part_path(self.folder, pair, m.NAME, m.VERSION)):
                self.count_part(pair, m)
            else:
                missing.append(m)
        return missing

    def write_part(self, pair: str, m: ModuleType, data: bytes) -> None:
        """Write one part."""
        files.write(part_path(self.folder, pair, m.NAME, m.VERSION), data)
        self.count_part(pair, m)

    def count_part(self, pair: str, m: ModuleType) -> None:
        """A part is on disk: bundle them when there are many."""
        self.loose[measure_id(m)].add(pair)
        if len(self.loose[measure_id(m)]) >= BUNDLE:
            self.bundle(m)

    def bundle(self, m: ModuleType) -> None:
        """Turn the loose parts of a measure into a bundle."""
        measure, parts = measure_id(m), self.read_loose(m)
        manifest = self.comparison.manifest
        earlier = manifest.bundled.get(measure, {})
        number = str(1 + max(map(int, earlier), default=-1))
        tables = dict(manifest.tables)
        for table, columns in m.TABLES.items():
            name = f"{table}.{m.NAME}.{number}.parquet"
            tables[name] = write_table(self.folder, name, rows_of(parts, table, columns))
        name = f"{PAIRS}.{m.NAME}.{number}.parquet"
        tables[name] = write_table(self.folder, name, typed(NAMES, parts.values()))
        bundled = {**manifest.bundled, measure: {**earlier, number: len(parts)}}
        self.comparison = self.comparison.changed(bundled=bundled, tables=tables)
        self.bundled[measure] |= set(parts)
        del self.loose[measure]
        for pair in parts:  # only now: the manifest names the bundle that they are in
            part_path(self.folder, pair, m.NAME, m.VERSION).unlink(missing_ok=True)

    def read_loose(self, m: ModuleType) -> dict[str, dict]:
        """The loose parts of a measure by pair, in order; one damaged meanwhile is left out."""
        pairs = sorted(self.loose[measure_id(m)])
        paths = [part_path(self.folder, pair, m.NAME, m.VERSION) for pair in pairs]
        decoded = zip(pairs, decode_parts(paths), strict=True)
        return {pair: part for pair, part in decoded if part}

    def compact(self, pairs: Iterable[str]) -> Stored:
        """Turn every measure that has all pairs into one file a table, note it, and only then
        delete the rest.
        """
        names, spent = set(pairs), []
        manifest = self.comparison.manifest
        compacted, bundled, tables = (
            set(manifest.compacted),
            dict(manifest.bundled),
            dict(manifest.tables),
        )
        for m in MEASURES:
            measure = measure_id(m)
            if measure in compacted:
                continue
            parts = self.read_loose(m)
            if not names <= self.bundled[measure] | set(parts):
                continue
            numbers = bundled.pop(measure, {})
            for table, columns in m.TABLES.items():
                pieces = [
                    read_compacted(self.folder, f"{table}.{m.NAME}.{number}.parquet")
                    for number in numbers
                ]
                rows = pa.concat_tables([*pieces, rows_of(parts, table, columns)])
                # one tensor's rows lie together, where a reader can find them
                name = f"{table}.{m.NAME}.parquet"
                tables[name] = write_table(self.folder, name, rows.sort_by("name"))
            for name in [t for t in tables if group_of(t)[0] == m.NAME and len(group_of(t)) > 1]:
                del tables[name]
                spent.append(self.folder / "tables" / name)
            compacted.add(measure)
            spent += [part_path(self.folder, pair, m.NAME, m.VERSION) for pair in names]
        self.comparison = self.comparison.changed(
            compacted=tuple(sorted(compacted)), bundled=bundled, tables=tables
        )
        for path in spent:
            path.unlink(missing_ok=True)
        return self.comparison


def write_table(folder: Path, name: str, rows: pa.Table) -> str:
    """Write one table of a comparison's folder; its digest, for the manifest."""
    path = folder / "tables" / name
    files.write(path, encoded(rows))
    return fingerprint.of_file(path)


def rows_of(parts: dict[str, dict], table: str, columns: Columns) -> pa.Table:
    """The rows that parts hold for one table."""
    return typed(columns, [row for part in parts.values() for row in part["tables"].get(table, [])])


def still_valid(folder: Path, names: Iterable[str]) -> dict:
    """What of an old manifest stays: `compacted`, `bundled` and `tables` that are current and
    undamaged.

    Parts and files of anything else can go, and what is damaged goes at once: nothing could be
    renamed over a folder in a file's place. `names` are those of the pairs.
    """
    faults = checking.check(folder, names)
    checking.clear(folder, faults)
    old = manifests.read(folder)
    if old is None or old.outdated:
        return {"compacted": (), "bundled": {}, "tables": {}}
    current = {measure_id(m): m.NAME for m in MEASURES}
    damaged = {group_of(Path(fault.file).name) for fault in faults if fault.kind == "table"}
    compacted = [id_ for id_ in old.compacted if id_ in current and (current[id_],) not in damaged]
    bundled = {
        id_: {
            number: count
            for number, count in counts.items()
            if (current[id_], number) not in damaged
        }
        for id_, counts in old.bundled.items()
        if id_ in current and id_ not in compacted
    }
    groups = {(current[id_],) for id_ in compacted}
    groups |= {(current[id_], number) for id_, counts in bundled.items() for number in counts}
    tables = {name: digest for name, digest in old.tables.items() if group_of(name) in groups}
    return {"compacted": tuple(sorted(compacted)), "bundled": bundled, "tables": tables}


def delete_others(folder: Path, manifest: Manifest) -> None:
    """Delete tables that a manifest does not name, and parts that are outdated or in its tables
    already.
    """
    for path in (folder / "tables").glob("*.parquet"):
        if path.name not in manifest.tables:
            files.clear(path)
    loose = {measure_id(m) for m in MEASURES} - set(manifest.compacted)
    for part in (folder / "parts").glob("*.json"):
        if "@".join(part.name.split(".")[1:3]) not in loose:
            files.clear(part)
