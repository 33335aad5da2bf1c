"""How far comparisons are: their state, the share that is done, the list of them."""

from pathlib import Path

from opdviz import files
from opdviz.store.manifest import LABELS
from opdviz.store.store import Store, Stored

STOP = "stop"  # a file in the folder of a comparison that is to end
# Of a comparison, when every part is there; the rest is writing them as tables.
MEASURED = 0.98


def part_count(comparison: Stored) -> int:
    """How many parts of a running comparison are on disk, loose or in bundles."""
    return comparison.manifest.bundled_parts + sum(
        1 for _ in (comparison.folder / "parts").glob("*.json")
    )


def done_share(comparison: Stored) -> float:
    """The share of a comparison that is done, between 0 and 1: its parts, and the tables."""
    manifest = comparison.manifest
    if manifest.complete:
        return 1.0
    if manifest.outdated or not manifest.pairs * manifest.measures:
        return 0.0
    compacted = len(manifest.compacted) * manifest.pairs
    parts = compacted + part_count(comparison)
    return MEASURED * min(1.0, parts / (manifest.pairs * manifest.measures))


def state(comparison: Stored) -> str:
    """running, done, failed or partial."""
    if comparison.running:
        return "running"
    if comparison.manifest.complete:
        return "done"
    return (
        "failed" if comparison.manifest.failure and not comparison.manifest.outdated else "partial"
    )


def focus(comparison: Stored, name: str) -> None:
    """While a comparison runs, ask for the tensor that someone looks at to go first."""
    if comparison.running:
        files.write(comparison.folder / "focus", name.encode())


def ask_to_stop(comparison: Stored) -> None:
    """While a comparison runs, beside others on its base or alone, have it end where it is; what it
    finished stays, and the others go on.
    """
    if comparison.running:
        files.write(comparison.folder / STOP, b"")


def asked_to_stop(folder: Path) -> bool:
    """Whether somebody asked a comparison that runs to end."""
    return (folder / STOP).is_file()


def listing(store: Store) -> list[dict]:
    """One row a comparison of the cache, newest first."""
    return [
        {
            "key": comparison.key,
            "name": comparison.name,
            "base": comparison.manifest.base.label,
            "tuned": comparison.manifest.tuned.label,
            "state": state(comparison),
            "precision": comparison.manifest.precision,
            **{field: comparison.manifest.labels.get(field) for field in LABELS},
            "pairs": comparison.manifest.pairs,
            "parameters": comparison.manifest.parameters,
            "done_share": done_share(comparison),
            "bytes": comparison.size,
        }
        for comparison in store.all()
    ]
