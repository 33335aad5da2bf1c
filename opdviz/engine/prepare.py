"""What two checkpoints are to each other before anything is measured: matched, fingerprinted, under
a key and a name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opdviz import checkpoint, files, fingerprint, naming, pairing
from opdviz.checkpoint import Checkpoint, hub
from opdviz.definitions import EXACT
from opdviz.engine.progress import Listener, Progress
from opdviz.errors import one_line
from opdviz.measures import MEASURES
from opdviz.pairing import Matching
from opdviz.store import bundles
from opdviz.store import manifest as manifests
from opdviz.store.columns import NAMES, PAIRING, PAIRING_TABLES, PAIRS, typed
from opdviz.store.manifest import Manifest, Side
from opdviz.store.store import Store, Stored

SEED = 0
STEPS = ("steps", "checkpoints")  # folders of steps, which say nothing of whose they are
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
    "huggingface",
}


@dataclass(frozen=True)
class Prepared:
    """Two matched checkpoints under the key of their contents."""

    key: str
    name: str | None  # as somebody asked for it
    matching: Matching
    prints: dict[str, tuple[str, ...]]
    precision: str = EXACT
    labels: Mapping[str, str] = field(default_factory=dict)  # as somebody asked for them

    @property
    def settings(self) -> dict[str, object]:
        """What decides the numbers besides the checkpoints."""
        return {"seed": SEED, "precision": self.precision}


def prepare(
    base: Checkpoint,
    tuned: Checkpoint,
    store: Store,
    name: str | None,
    listener: Listener,
    *,
    precision: str = EXACT,
    labels: Mapping[str, str] | None = None,
) -> Prepared:
    """Match the checkpoints and read their files once for the fingerprints that make the key."""
    matching = pairing.match(base, tuned, look=True)
    memory = fingerprint.Memory(store.root / "fingerprints.json")
    size = sum(f.stat().st_size for f in (*base.files, *tuned.files))
    progress = Progress("reading the files", size, ahead=True)

    def advance(count: int) -> None:
        progress.advance(count)
        listener(progress)

    prints = {
        side: tuple(memory.fingerprint(f, advance) for f in opened.files)
        for side, opened in (("base", base), ("tuned", tuned))
    }
    memory.save()
    settings = [f"precision={precision}", f"seed={SEED}"]
    key = fingerprint.of_bytes(
        *prints["base"], "to", *prints["tuned"], *settings, pairing_digest(matching)
    )[:16]
    adopt(store, key, prints, precision)
    return Prepared(key, name, matching, prints, precision, labels or {})


def pairing_digest(matching: Matching) -> str:
    """What decides the numbers besides the weights: which tensors pair, how each is cut and named,
    the sizes of heads.

    A configuration that ties a head or splits attention otherwise gives another comparison, and so
    do other rules.
    """
    pairs = [
        (p.name, p.tuned_name, p.shape, p.kind, p.expert, p.head_size, *p.place)
        for p in matching.pairs
    ]
    rules = [side.source.rules for side in (matching.base, matching.tuned)]
    facts = [pairs, naming.head_counts(matching.base.config), *(rules if any(rules) else ())]
    return fingerprint.of_bytes(json.dumps(facts, sort_keys=True))


def adopt(store: Store, key: str, prints: dict[str, tuple[str, ...]], precision: str) -> None:
    """Take over what an earlier version kept of these files: its name, board and notes; its tables
    are measured again.
    """
    if store.folder(key).exists():
        return
    for old in store.all():
        fingerprints = {
            "base": old.manifest.base.fingerprints,
            "tuned": old.manifest.tuned.fingerprints,
        }
        alike = fingerprints == prints and old.manifest.precision == precision
        if alike and old.manifest.outdated and not old.running:
            files.move(old.folder, store.folder(key))
            return


def label_of(path: Path) -> str:
    """A short name for a checkpoint: its folder, with the parent's where that says little.

    >>> label_of(Path("runs/opd/checkpoint-100")), label_of(Path("org/my-model/model"))
    ('opd/checkpoint-100', 'my-model')
    >>> label_of(Path("runs/opd/steps/25"))
    'opd/25'
    """
    # A path may be no UTF-8, a name is.
    path = Path(str(path.resolve()).encode("utf-8", "replace").decode())
    parts = [p for p in path.parts[1:] if p]
    if path.suffix in checkpoint.ENDINGS and len(parts) > 1:
        parts = parts[:-1] if path.stem in ("model", "pytorch_model") else [*parts[:-1], path.stem]
    while len(parts) > 1 and parts[-1].lower() in PLAIN:
        parts = parts[:-1]
    last = parts[-1] if parts else "checkpoint"
    numbered = (
        last.isdigit() or last.lower().startswith(("checkpoint-", "global_step", "step"))
    ) and len(parts) > 1
    if numbered and parts[-2] in STEPS and len(parts) > 2:  # opd/steps/25 is opd's
        parts = [*parts[:-2], last]
    return one_line(f"{parts[-2]}/{last}" if numbered else last) or "checkpoint"


def start(prepared: Prepared, store: Store) -> Stored:
    """The comparison to start from: what is current and undamaged stays, the rest is deleted."""
    matching, folder = prepared.matching, store.folder(prepared.key)
    names = [p.name for p in matching.pairs]
    earlier = manifests.read(folder)  # its name was given by somebody, here or by `rename`
    sides = [side_facts(matching.base, ()), side_facts(matching.tuned, ())]
    label = "..".join(side.label for side in sides)
    label = manifests.titled(label, prepared.precision)
    manifest = Manifest(
        key=prepared.key,
        name=prepared.name or (earlier.name if earlier else label),
        labels={**(earlier.labels if earlier else {}), **prepared.labels},
        base=side_facts(matching.base, prepared.prints["base"]),
        tuned=side_facts(matching.tuned, prepared.prints["tuned"]),
        settings=prepared.settings,
        measures=len(MEASURES),
        pairs=len(matching.pairs),
        parameters=matching.parameters,
        dtypes=tuple(
            sorted({p.base_dtype for p in matching.pairs} | {p.tuned_dtype for p in matching.pairs})
        ),
        heads=naming.head_counts(matching.base.config),
        notes=(*matching.base.notes, *matching.tuned.notes, *matching.contradictions),
        same=prepared.prints["base"] == prepared.prints["tuned"],
        **bundles.still_valid(folder, names),
    )
    written = {
        f"{table}.{PAIRING}.parquet": typed(columns, getattr(matching, table))
        for table, columns in PAIRING_TABLES.items()
    }
    written[f"{PAIRS}.{PAIRING}.parquet"] = typed(NAMES, [{"name": name} for name in sorted(names)])
    digests = {name: bundles.write_table(folder, name, rows) for name, rows in written.items()}
    comparison = Stored(folder, manifest).changed(tables={**manifest.tables, **digests})
    bundles.delete_others(folder, comparison.manifest)
    return comparison


def side_facts(side: Checkpoint, prints: tuple[str, ...]) -> Side:
    """What the manifest keeps of one checkpoint."""
    if side.word:
        return Side(side.word, hub.place_of(side.word).label, prints)
    return Side(str(side.path.resolve()), label_of(side.path), prints)
