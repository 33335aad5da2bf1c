"""What changed between the tables of two caches: column by column, over the comparisons that both
have by name.

python -m tests.bench.changes OLD NEW
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

KEYS = {
    "sparsity": ["precision", "probe", "threshold"],
    "steps": ["precision", "steps"],
    "concentration": ["top_share"],
    "spectrum": ["matrix", "index"],
    "spectrum_summary": ["matrix"],
    "rank": ["matrix", "tolerance"],
    "top_energy": ["matrix", "k"],
    "projection": ["side", "share"],
    "rotation": ["side", "share"],
    "angle": ["side", "k", "index"],
    "basis_energy": ["row_bin", "column_bin"],
    "coverage": ["mask", "share", "probe", "threshold", "precision"],
    "histogram": ["of", "precision", "threshold", "low"],
    "profile": ["axis", "bin"],
    "rows": ["row"],
    "channels": ["axis", "top_share"],
    "octaves": ["octave"],
    "turned": ["mask", "share", "probe", "threshold", "precision"],
    "match": ["index"],
    "skipped": ["measure", "reason"],
}


def tables(cache: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Every table that speaks of tensors, by comparison."""
    found = {}
    for manifest in cache.glob("comparisons/*/manifest.json"):
        pieces = defaultdict(list)
        for file in (manifest.parent / "tables").glob("*.parquet"):
            rows = pq.read_table(file).to_pandas()
            if len(rows) and "side" not in rows.columns[:1]:
                pieces[file.name.split(".")[0]].append(rows)
        found[json.loads(manifest.read_text())["name"]] = {
            t: pd.concat(rows) for t, rows in pieces.items()
        }
    return found


def changes(
    old: pd.DataFrame, new: pd.DataFrame, keys: list[str]
) -> dict[str, tuple[float, int, int]]:
    """By column that changed: the largest relative change, how many values are missing now, and how
    many are there now.
    """
    both = old.merge(new, on=keys, suffixes=("", "_new"))
    changed = {}
    for column in new.columns.difference(keys):
        if column not in old:
            changed[column] = (float("nan"), 0, 0)
            continue
        before, after = both[column], both[f"{column}_new"]
        if pd.api.types.is_numeric_dtype(before):
            before, after = before.astype(float), after.astype(float)
            relative = ((after - before).abs() / before.abs()).where(before != after, 0.0).max()
        else:
            relative = float((before.fillna("") != after.fillna("")).any())
        gone, came = (
            int((before.notna() & after.isna()).sum()),
            int((before.isna() & after.notna()).sum()),
        )
        if relative > 0 or gone or came:
            changed[column] = (float(relative), gone, came)
    return changed


def main(old: Path, new: Path) -> None:
    """Print one line a column that changed in any comparison."""
    before, after = tables(old), tables(new)
    found: dict[tuple[str, str], list[tuple[float, int, int]]] = defaultdict(list)
    for name in sorted(before.keys() & after.keys()):
        for table, rows in after[name].items():
            keys = ["name", *KEYS.get(table, [])]
            if table not in before[name]:
                found[table, "(a new table)"].append((float("nan"), 0, 0))
            elif set(keys) <= set(rows):
                lost = len(before[name][table]) - len(rows)
                if lost:
                    found[table, "(rows)"].append((float("nan"), max(lost, 0), max(-lost, 0)))
                for column, change in changes(before[name][table], rows, keys).items():
                    found[table, column].append(change)
    print(f"{len(before.keys() & after.keys())} comparisons")
    for (table, column), seen in sorted(found.items()):
        most, gone, came = max(c[0] for c in seen), sum(c[1] for c in seen), sum(c[2] for c in seen)
        what = (
            f"new, missing now {gone}, there now {came}"
            if most != most
            else f"largest relative change {most:.3g}, missing now {gone}, there now {came}"
        )
        print(f"{table}.{column}: {what} ({len(seen)} comparisons)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
