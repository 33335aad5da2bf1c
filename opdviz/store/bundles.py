"""What a comparison leaves on disk while it runs: a part for every pair and measure, bundles of them, one table at the end.

A large model has hundreds of thousands of parts, more than any reader opens. As soon as a measure has `BUNDLE` of them they
become a bundle, rows of Parquet files, which the manifest notes before the parts are deleted: whatever ends the run in
between, every pair is read once.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from opdviz import files, fingerprint
from opdviz.measures import MEASURES, measure_id
from opdviz.store import checking
from opdviz.store.columns import PAIRS, group_of, typed
from opdviz.store.manifest import outdated
from opdviz.store.parquet import encoded
from opdviz.store.parts import decode_part, part_path
from opdviz.store.reading import bundled_pairs, read_compacted
from opdviz.store.store import Store

BUNDLE = 512


class Keeper:
    """The writer of one comparison; whoever makes one holds its lock. `manifest` is what stands on disk."""

    def __init__(self, store: Store, manifest: dict):
        """Take up what an earlier run left; `manifest` is one that `kept` has looked at."""
        self.store, self.manifest, self.folder = store, manifest, store.folder(manifest["key"])
        self.bundled = {measure_id(m): bundled_pairs(store, manifest["key"], measure_id(m)) for m in MEASURES}
        self.loose: dict[str, set[str]] = defaultdict(set)

    def missing(self, pair: str, modules: Iterable[ModuleType]) -> list[ModuleType]:
        """The measures of a pair that are nowhere on disk; sound parts that are there are taken up."""
        found = []
        for m in modules:
            of = measure_id(m)
            if of in self.manifest["compacted"] or pair in self.bundled[of] or pair in self.loose[of]:
                continue
            if decode_part(part_path(self.folder, pair, m.NAME, m.VERSION)):
                self.note(m, pair)
            else:
                found.append(m)
        return found

    def keep(self, pair: str, m: ModuleType, data: bytes) -> None:
        """Write one part."""
        files.write(part_path(self.folder, pair, m.NAME, m.VERSION), data)
        self.note(m, pair)

    def note(self, m: ModuleType, pair: str) -> None:
        """A part is on disk: bundle them when there are many."""
        self.loose[measure_id(m)].add(pair)
        if len(self.loose[measure_id(m)]) >= BUNDLE:
            self.bundle(m)

    def bundle(self, m: ModuleType) -> None:
        """Turn the loose parts of a measure into a bundle."""
        of = measure_id(m)
        parts = self.read_loose(m)
        noted = self.manifest["bundled"].setdefault(of, {})
        number = str(1 + max(map(int, noted), default=-1))
        for table, columns in m.TABLES.items():
            write_table(self.store, self.manifest, f"{table}.{m.NAME}.{number}.parquet", rows_of(parts, table, columns))
        write_table(
            self.store, self.manifest, f"{PAIRS}.{m.NAME}.{number}.parquet", typed(PAIRS, ("name",), parts.values())
        )
        noted[number] = len(parts)
        self.store.write_manifest(self.manifest["key"], self.manifest)
        self.bundled[of] |= set(parts)
        del self.loose[of]
        for pair in parts:
            part_path(self.folder, pair, m.NAME, m.VERSION).unlink(missing_ok=True)

    def read_loose(self, m: ModuleType) -> dict[str, dict]:
        """The loose parts of a measure by pair, in order; one damaged meanwhile is left out."""
        found = {
            p: decode_part(part_path(self.folder, p, m.NAME, m.VERSION)) for p in sorted(self.loose[measure_id(m)])
        }
        return {pair: part for pair, part in found.items() if part}

    def compact(self, pairs: Iterable[str]) -> dict:
        """Turn every measure that has all pairs into one file a table, note it, and only then delete the rest."""
        wanted, spent = set(pairs), []
        for m in MEASURES:
            of = measure_id(m)
            if of in self.manifest["compacted"]:
                continue
            parts = self.read_loose(m)
            if not wanted <= self.bundled[of] | set(parts):
                continue
            bundles = self.manifest["bundled"].pop(of, {})
            for table, columns in m.TABLES.items():
                names = [f"{table}.{m.NAME}.{number}.parquet" for number in bundles]
                pieces = [read_compacted(self.folder, self.manifest["key"], name) for name in names]
                rows = pa.concat_tables([*pieces, rows_of(parts, table, columns)])
                # one tensor's rows lie together, where a reader can find them
                write_table(self.store, self.manifest, f"{table}.{m.NAME}.parquet", rows.sort_by("name"))
            old = [t for t in self.manifest["tables"] if group_of(t)[0] == m.NAME and len(group_of(t)) > 1]
            for name in old:
                del self.manifest["tables"][name]
            self.manifest["compacted"] = sorted([*self.manifest["compacted"], of])
            spent += [self.folder / "tables" / name for name in old]
            spent += [part_path(self.folder, pair, m.NAME, m.VERSION) for pair in wanted]
        self.store.write_manifest(self.manifest["key"], self.manifest)
        for path in spent:
            path.unlink(missing_ok=True)
        return self.manifest


def write_table(store: Store, manifest: dict, name: str, rows: pa.Table) -> None:
    """Write one table and note its digest in the manifest."""
    path = store.folder(manifest["key"]) / "tables" / name
    files.write(path, encoded(rows))
    manifest["tables"][name] = fingerprint.of_file(path)


def rows_of(parts: dict[str, dict], table: str, columns: tuple[str, ...]) -> pa.Table:
    """The rows that parts hold for one table."""
    return typed(table, columns, [row for part in parts.values() for row in part["tables"].get(table, [])])


def kept(store: Store, key: str, names: Iterable[str]) -> dict:
    """What of an old manifest stays: `compacted`, `bundled` and `tables` that are current and undamaged. Parts and files of
    anything else can go, and what is damaged goes at once: nothing could be renamed over a folder in a file's place.

    `names` are those of the pairs.
    """
    old, faulty = store.manifest(key), checking.check(store, key, names)
    if outdated(old):
        old = {}
    checking.clear(store, key, faulty)
    current = {measure_id(m): m.NAME for m in MEASURES}
    damaged = {group_of(Path(fault.file).name) for fault in faulty if fault.kind == "table"}
    compacted = {of for of in old.get("compacted", []) if of in current and (current[of],) not in damaged}
    bundled = {
        of: {number: count for number, count in counts.items() if (current[of], number) not in damaged}
        for of, counts in old.get("bundled", {}).items()
        if of in current and of not in compacted
    }
    groups = {(current[of],) for of in compacted} | {(current[of], n) for of, counts in bundled.items() for n in counts}
    tables = {t: digest for t, digest in old.get("tables", {}).items() if group_of(t) in groups}
    return {"compacted": sorted(compacted), "bundled": bundled, "tables": tables}


def delete_others(store: Store, manifest: dict) -> None:
    """Delete tables that a manifest does not name, and parts that are outdated or in its tables already."""
    folder = store.folder(manifest["key"])
    for path in (folder / "tables").glob("*.parquet"):
        if path.name not in manifest["tables"]:
            files.clear(path)
    open_ = {measure_id(m) for m in MEASURES} - set(manifest["compacted"])
    for part in (folder / "parts").glob("*.json"):
        if "@".join(part.name.split(".")[1:3]) not in open_:
            files.clear(part)
