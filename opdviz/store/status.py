"""How far comparisons are: their state, the share that is done, the list of them."""

from opdviz import files
from opdviz.store.manifest import outdated
from opdviz.store.store import Store


def part_count(store: Store, key: str) -> int:
    """How many parts of a running comparison are on disk, loose or in bundles."""
    bundled = sum(sum(counts.values()) for counts in store.manifest(key).get("bundled", {}).values())
    return bundled + sum(1 for _ in (store.folder(key) / "parts").glob("*.json"))


def focus(store: Store, key: str, name: str) -> None:
    """While a comparison runs, ask for the tensor that someone looks at to go first."""
    if files.running(store.folder(key)):
        files.write(store.folder(key) / "focus", name.encode())


def done_share(store: Store, key: str) -> float:
    """The share of a comparison's parts that are computed, between 0 and 1."""
    manifest = store.manifest(key)
    if outdated(manifest):
        return 0.0
    compacted = len(manifest.get("compacted", [])) * manifest.get("pairs", 0)
    wanted = manifest.get("pairs", 0) * manifest.get("measures", 1)
    return min(1.0, (compacted + part_count(store, key)) / wanted) if wanted else 0.0


def state(store: Store, key: str) -> str:
    """running, done, failed or partial."""
    manifest = store.manifest(key)
    if files.running(store.folder(key)):
        return "running"
    if outdated(manifest):
        return "partial"
    if len(manifest.get("compacted", [])) >= manifest.get("measures", 1):
        return "done"
    return "failed" if manifest.get("failure") else "partial"


def listing(store: Store) -> list[dict]:
    """One row a comparison of the cache, newest first."""
    rows = []
    for key in store.keys():
        manifest = store.manifest(key)
        rows.append(
            {
                "key": key,
                "name": manifest.get("name", key),
                "base": manifest.get("base", {}).get("label"),
                "tuned": manifest.get("tuned", {}).get("label"),
                "state": state(store, key),
                "pairs": manifest.get("pairs"),
                "parameters": manifest.get("parameters"),
                "done_share": done_share(store, key),
                "bytes": store.size(key),
            }
        )
    return rows
