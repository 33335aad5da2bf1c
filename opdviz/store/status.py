"""How far comparisons are: their state, the share that is done, the list of them."""

from opdviz import files
from opdviz.store.store import Store, Stored


def part_count(comparison: Stored) -> int:
    """How many parts of a running comparison are on disk, loose or in bundles."""
    return comparison.manifest.bundled_parts + sum(
        1 for _ in (comparison.folder / "parts").glob("*.json")
    )


def done_share(comparison: Stored) -> float:
    """The share of a comparison's parts that are computed, between 0 and 1."""
    manifest = comparison.manifest
    if manifest.outdated or not manifest.pairs * manifest.measures:
        return 0.0
    compacted = len(manifest.compacted) * manifest.pairs
    return min(1.0, (compacted + part_count(comparison)) / (manifest.pairs * manifest.measures))


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


def listing(store: Store) -> list[dict]:
    """One row a comparison of the cache, newest first."""
    return [
        {
            "key": comparison.key,
            "name": comparison.name,
            "base": comparison.manifest.base.label,
            "tuned": comparison.manifest.tuned.label,
            "state": state(comparison),
            "pairs": comparison.manifest.pairs,
            "parameters": comparison.manifest.parameters,
            "done_share": done_share(comparison),
            "bytes": comparison.size,
        }
        for comparison in store.all()
    ]
