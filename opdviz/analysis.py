"""Compare two checkpoints: fingerprint, pair, measure over a pool of processes, keep every finished part.

Coordinates come first for all tensors, then spectra; a tensor that someone looks at goes first. Whatever stops the run,
the parts on disk are whole and the next run takes them up.
"""

import fnmatch
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from opdviz import checkpoint, files, fingerprint, keeping, pairing
from opdviz.checkpoint import Checkpoint
from opdviz.columns import PAIRING, PAIRING_TABLES, PAIRS, typed
from opdviz.errors import MachineError, OpdvizError, RequestError, one_line
from opdviz.estimate import cost
from opdviz.manifests import FORMAT, outdated
from opdviz.measures import FIRST_PASS, MEASURES, SECOND_PASS, measure
from opdviz.measures.sides import work_of
from opdviz.pairing import Matching, Pair
from opdviz.store import Store, encode_part, lock, running, sweep

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


@dataclass
class Progress:
    """How far a run is, in seconds of estimated work; told to the listener after every part."""

    phase: str
    total: float
    done: float = 0.0
    pairs: int = 0
    pairs_done: int = 0
    current: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.done / self.total if self.total else 1.0

    @property
    def left(self) -> float | None:
        """Seconds left at the rate so far; `None` before there is one."""
        passed = time.monotonic() - self.started
        return passed * (1 - self.share) / self.share if self.share > 0.01 else None


Listener = Callable[[Progress], None]


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
        if same and outdated(manifest) and not running(store.folder(old)):
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


def chosen_measures(names: list[str] | None) -> tuple[ModuleType, ...]:
    """The measures of some names, in their own order, and magnitude, beside which all are read; all without names.

    Raises
        RequestError: an unknown name.
    """
    known = {m.NAME: m for m in MEASURES}
    for name in names if names is not None else []:
        if name not in known:
            raise RequestError(f"--measures: {one_line(name, limit=40)!r} is unknown; there are: {', '.join(known)}.")
    return tuple(m for m in MEASURES if names is None or m.NAME in names or m is MEASURES[0])


def chosen_pairs(pairs: list[Pair], pattern: str | None) -> list[Pair]:
    """The pairs whose name fits a wildcard pattern; all of them without one.

    Raises
        RequestError: none fits.
    """
    fitting = [p for p in pairs if pattern is None or fnmatch.fnmatchcase(p.name, pattern)]
    if not fitting:
        raise RequestError(f"--tensors: {one_line(pattern, limit=60)!r} fits none of {len(pairs)} tensors.")
    return fitting


def compare(
    comparison: Comparison, store: Store, executor: Executor, *, measures=MEASURES, pattern=None, listener: Listener
):
    """Run what is missing of a comparison, keep it, and compact what is complete. Returns the manifest."""
    folder = store.folder(comparison.key)
    pairs = chosen_pairs(comparison.matching.pairs, pattern)
    with lock(folder), failure_noted(comparison.key, store):
        sweep(folder)
        keeper = keeping.Keeper(store, start_manifest(comparison, store))
        run(pairs, measures, executor, keeper=keeper, listener=listener)
        listener(Progress("writing the tables", 1.0))
        return keeper.compact(p.name for p in comparison.matching.pairs)


@contextmanager
def failure_noted(key: str, store: Store) -> Iterator[None]:
    """Leave the reason of a failure in the manifest, where there is room for it; the next run starts without it."""
    try:
        yield
    except OpdvizError as error:
        with suppress(MachineError):
            store.write_manifest(key, store.manifest(key) | {"failure": one_line(error)})
        raise


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
    } | keeping.kept(store, key, names)
    for table, columns in PAIRING_TABLES.items():
        rows = typed(table, columns, getattr(matching, table))
        keeping.write_table(store, manifest, f"{table}.{PAIRING}.parquet", rows)
    listed = typed(PAIRS, ("name",), [{"name": name} for name in sorted(names)])
    keeping.write_table(store, manifest, f"{PAIRS}.{PAIRING}.parquet", listed)
    store.write_manifest(key, manifest)
    keeping.delete_others(store, manifest)
    return manifest


def side_facts(side: Checkpoint, prints: list[str]) -> dict:
    """What the manifest keeps of one checkpoint."""
    return {"path": str(side.path.resolve()), "label": label(side.path), "fingerprints": prints}


def run(pairs, measures, executor: Executor, *, keeper: keeping.Keeper, listener: Listener) -> None:
    """Measure pairs on an executor and write each part as it comes: first pass for all, then the second.

    Raises
        MachineError: a worker was lost, or a part could not be written.
    """
    tasks = [
        (pair, missing)
        for group in (FIRST_PASS, SECOND_PASS)
        for pair in sorted(pairs, key=lambda p: (-cost(p, group), p.name))
        if (missing := keeper.missing(pair.name, [m for m in group if m in measures]))
    ]
    progress = Progress("measuring", sum(cost(p, m) for p, m in tasks), pairs=len(tasks))
    listener(progress)
    pending, flying = list(tasks), {}
    room = 2 * (getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
    try:
        while pending or flying:
            while pending and len(flying) < room:
                pair, modules = pending.pop(looked_at(pending, keeper.folder))
                flying[executor.submit(work_on, pair, [m.NAME for m in modules])] = (pair, modules)
            finished, _ = wait(flying, return_when=FIRST_COMPLETED, timeout=1.0)
            for future in finished:
                pair, modules = flying.pop(future)
                for m, data in zip(modules, future.result()):
                    keeper.keep(pair.name, m, data)
                progress.done += cost(pair, modules)
                progress.pairs_done += 1
                progress.current = pair.name
            listener(progress)
    except BrokenExecutor:
        raise MachineError(
            "compare: a worker process was lost (out of memory?); finished parts are kept. "
            "Run it again, with --workers 1 if memory is short."
        ) from None


def looked_at(pending: list, folder: Path) -> int:
    """The position of the pair that someone is looking at, named in the file `focus`; the first otherwise."""
    try:
        name = files.contents(folder / "focus").decode(errors="replace")
    except OSError:
        return 0
    return next((i for i, (pair, _) in enumerate(pending) if pair.name == name), 0)


def work_on(pair: Pair, names: list[str]) -> list[bytes]:
    """In a worker: measure one pair, return the part of each measure named."""
    work, known = work_of(pair), {m.NAME: m for m in MEASURES}
    return [encode_part(pair.name, finite(measure(pair, work, known[name]))) for name in names]


def finite(tables: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Rows in which every NaN or infinite number is missing."""

    def clean(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {table: [{k: clean(v) for k, v in row.items()} for row in rows] for table, rows in tables.items()}
