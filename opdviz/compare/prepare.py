"""What two checkpoints are to each other before anything is measured: matched, fingerprinted, under a key and a name."""

import json
from dataclasses import dataclass
from pathlib import Path

from opdviz import checkpoint, files, fingerprint, pairing
from opdviz.checkpoint import Checkpoint
from opdviz.compare.progress import Listener, Progress
from opdviz.errors import MachineError, one_line
from opdviz.measures import MEASURES
from opdviz.pairing import Matching
from opdviz.store import bundles
from opdviz.store.columns import PAIRING, PAIRING_TABLES, PAIRS, typed
from opdviz.store.manifest import FORMAT, outdated
from opdviz.store.store import Store

SETTINGS = {"seed": 0, "precision": "float64"}
PLAIN = {
    "model",
    "models",
    "weights",
    "model_weights",
    "checkpoint",
    "checkpoints",
    "final",
    "hf",
    "snapshots",
    "actor",
}


@dataclass(frozen=True)
class Comparison:
    """Two matched checkpoints under the key of their contents."""

    key: str
    name: str | None  # as somebody asked for it
    matching: Matching
    prints: dict[str, list[str]]


def prepare(base: Checkpoint, tuned: Checkpoint, store: Store, name: str | None, listener: Listener) -> Comparison:
    """Match the checkpoints and read their files once for the fingerprints that make the key."""
    matching = pairing.match(base, tuned, look=True)
    memory_ = fingerprint.Memory(store.root / "fingerprints.json")
    size = sum(f.stat().st_size for f in (*base.files, *tuned.files))
    progress = Progress("reading the files", size)

    def advance(count: int) -> None:
        progress.done += count
        listener(progress)

    prints = {
        side: [memory_.fingerprint(f, advance) for f in opened.files]
        for side, opened in (("base", base), ("tuned", tuned))
    }
    try:
        files.clear_for_file(memory_.path)
        memory_.save()
    except OSError as error:
        raise MachineError(f"write({memory_.path.name}): {error.strerror}; make room and run it again.") from None
    settings = [f"{k}={v}" for k, v in sorted(SETTINGS.items())]
    key = fingerprint.of_bytes(*prints["base"], "to", *prints["tuned"], *settings, pairing_digest(matching))[:16]
    adopt(store, key, prints)
    return Comparison(key, name, matching, prints)


def pairing_digest(matching: Matching) -> str:
    """What decides the numbers besides the weights: which tensors pair, how each is cut and named, the sizes of heads.

    A configuration that ties a head or splits attention otherwise gives another comparison, and so do other rules.
    """
    pairs = [(p.name, p.tuned_name, p.shape, p.kind, p.expert, p.head_size, *p.place) for p in matching.pairs]
    return fingerprint.of_bytes(json.dumps([pairs, pairing.head_counts(matching.base.config)], sort_keys=True))


def adopt(store: Store, key: str, prints: dict[str, list[str]]) -> None:
    """Take over what an earlier version kept of these files: its name, board and notes; its tables are measured again."""
    if store.folder(key).exists():
        return
    for old in store.keys():
        manifest = store.manifest(old)
        same = all(manifest[side].get("fingerprints") == prints[side] for side in ("base", "tuned"))
        if same and outdated(manifest) and not files.running(store.folder(old)):
            store.folder(old).rename(store.folder(key))
            return


def label(path: Path) -> str:
    """A short name for a checkpoint: its folder, with the parent's where that says little.

    >>> label(Path("runs/opd/checkpoint-100")), label(Path("org/my-model/model"))
    ('opd/checkpoint-100', 'my-model')
    """
    path = Path(str(path.resolve()).encode("utf-8", "replace").decode())  # a path may be no UTF-8, a name is
    parts = [p for p in path.parts[1:] if p]
    if path.suffix in checkpoint.ENDINGS and len(parts) > 1:
        parts = parts[:-1] if path.stem in ("model", "pytorch_model") else [*parts[:-1], path.stem]
    while len(parts) > 1 and parts[-1].lower() in PLAIN:
        parts = parts[:-1]
    last = parts[-1] if parts else "checkpoint"
    numbered = (last.isdigit() or last.lower().startswith(("checkpoint-", "global_step", "step"))) and len(parts) > 1
    return one_line(f"{parts[-2]}/{last}" if numbered else last) or "checkpoint"


def start_manifest(comparison: Comparison, store: Store) -> dict:
    """The manifest to start from: what is kept, current and undamaged stays, the rest is deleted."""
    matching, key = comparison.matching, comparison.key
    names = [p.name for p in matching.pairs]
    known = store.manifest(key).get("name")  # given by somebody, here or by `rename`
    manifest = {
        "format": FORMAT,
        "key": key,
        "name": comparison.name or known or f"{label(matching.base.path)}..{label(matching.tuned.path)}",
        "base": side_facts(matching.base, comparison.prints["base"]),
        "tuned": side_facts(matching.tuned, comparison.prints["tuned"]),
        "settings": SETTINGS,
        "measures": len(MEASURES),
        "pairs": len(matching.pairs),
        "parameters": matching.parameters,
        "dtypes": sorted({p.base_dtype for p in matching.pairs} | {p.tuned_dtype for p in matching.pairs}),
        "heads": pairing.head_counts(matching.base.config),
        "notes": matching.base.notes + matching.tuned.notes + matching.contradictions,
        "same": comparison.prints["base"] == comparison.prints["tuned"],
    } | bundles.kept(store, key, names)
    for table, columns in PAIRING_TABLES.items():
        rows = typed(table, columns, getattr(matching, table))
        bundles.write_table(store, manifest, f"{table}.{PAIRING}.parquet", rows)
    listed = typed(PAIRS, ("name",), [{"name": name} for name in sorted(names)])
    bundles.write_table(store, manifest, f"{PAIRS}.{PAIRING}.parquet", listed)
    store.write_manifest(key, manifest)
    bundles.delete_others(store, manifest)
    return manifest


def side_facts(side: Checkpoint, prints: list[str]) -> dict:
    """What the manifest keeps of one checkpoint."""
    return {"path": str(side.path.resolve()), "label": label(side.path), "fingerprints": prints}
