"""Measure pairs over a pool of processes and keep every finished part.

Coordinates come first for all tensors, then spectra; a tensor that someone looks at goes first.
Whatever stops the run, the parts on disk are whole and the next run takes them up.
"""

import fnmatch
import math
import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from opdviz import files
from opdviz.compare import workers
from opdviz.compare.cluster import Cluster
from opdviz.compare.estimate import cost
from opdviz.compare.pace import learn
from opdviz.compare.prepare import Prepared, start
from opdviz.compare.progress import Listener, Progress
from opdviz.errors import MachineError, OpdvizError, RequestError, one_line
from opdviz.measures import FIRST_PASS, MEASURES, SECOND_PASS, measure
from opdviz.measures.sides import work_of
from opdviz.pairing import Pair
from opdviz.store import bundles
from opdviz.store import manifest as manifests
from opdviz.store.parts import encode_part
from opdviz.store.store import Store, Stored


def chosen_measures(names: list[str] | None) -> tuple[ModuleType, ...]:
    """The measures of some names, in their own order, and magnitude, beside which all are read; all
    without names.

    Raises
        RequestError: an unknown name.
    """
    by_name = {m.NAME: m for m in MEASURES}
    for name in names if names is not None else []:
        if name not in by_name:
            raise RequestError(
                f"measure {one_line(name, limit=40)!r} is unknown; there are: {', '.join(by_name)}."
            )
    return tuple(m for m in MEASURES if names is None or m.NAME in names or m is MEASURES[0])


def chosen_pairs(pairs: list[Pair], pattern: str | None) -> list[Pair]:
    """The pairs whose name fits a wildcard pattern; all of them without one.

    Raises
        RequestError: none fits.
    """
    matching = [p for p in pairs if pattern is None or fnmatch.fnmatchcase(p.name, pattern)]
    if not matching:
        raise RequestError(
            f"the pattern {one_line(pattern, limit=60)!r} fits none of {len(pairs)} tensors."
        )
    return matching


def compare(
    prepared: Prepared,
    store: Store,
    executor: Executor,
    *,
    measures=MEASURES,
    pattern=None,
    device: str = "cpu",
    listener: Listener,
) -> Stored:
    """Run what is missing of a comparison, keep it, and compact what is complete; `device` is where
    the workers run what is heavy.
    """
    folder = store.folder(prepared.key)
    pairs = chosen_pairs(prepared.matching.pairs, pattern)
    with files.lock(folder), failure_noted(folder):
        files.sweep(folder)
        writer = bundles.Writer(start(prepared, store))
        work = measure_pairs(
            pairs, measures, executor, device=device, writer=writer, listener=listener
        )
        if not isinstance(executor, Cluster) and device == "cpu":  # the pace is this machine's
            with suppress(MachineError):  # the next estimate is no reason to lose this run
                learn(store.root, work=work.done / workers_of(executor), seconds=work.taken)
        listener(Progress("writing the tables", 1.0, parts=1, parts_done=1))
        return writer.compact(p.name for p in prepared.matching.pairs)


@contextmanager
def failure_noted(folder: Path) -> Iterator[None]:
    """Leave the reason of a failure in the manifest, where there is room for it; the next run
    starts without it.
    """
    try:
        yield
    except OpdvizError as error:
        with suppress(MachineError):
            if manifest := manifests.read(folder):
                manifests.write(folder, replace(manifest, failure=one_line(error)))
        raise


def measure_pairs(
    pairs, measures, executor: Executor, *, device: str, writer: bundles.Writer, listener: Listener
) -> Progress:
    """Measure pairs on an executor and write each part as it comes: first pass for all, then the
    second. How far it came, and how long that took.

    Raises
        MachineError: a worker was lost, or a part could not be written.
    """
    tasks = [
        (pair, missing)
        for group in (FIRST_PASS, SECOND_PASS)
        for pair in sorted(pairs, key=lambda p: (-cost(p, group), p.name))
        if (missing := writer.missing(pair.name, [m for m in group if m in measures]))
    ]
    parts = len(pairs) * len(measures)
    progress = Progress(
        "measuring",
        sum(cost(p, m) for p, m in tasks),
        pairs=len(tasks),
        parts=parts,
        parts_done=parts - sum(len(missing) for _, missing in tasks),
    )
    listener(progress)
    # Twice as many as there are workers wait in the executor: none is idle, and a tensor that
    # somebody looks at is soon next.
    room = 2 * workers_of(executor)

    def start_next(running: list) -> tuple | None:
        if not tasks or len(running) >= room:
            return None
        pair, modules = tasks.pop(looked_at(tasks, writer.folder))
        return (pair, modules), work_on, pair, [m.NAME for m in modules], device

    try:
        for ended in workers.results(executor, start_next, every=1.0):
            if ended is None:
                listener(progress)
                continue
            (pair, modules), measured = ended
            for m, data in zip(modules, measured, strict=True):
                writer.write_part(pair.name, m, data)
            progress.advance(cost(pair, modules))
            progress.pairs_done += 1
            progress.parts_done += len(measured)
            progress.current = pair.name
    except workers.Lost as error:
        raise MachineError(
            f"compare: {error}; finished parts are kept. Run it again when the cluster is there."
        ) from None
    except BrokenExecutor:
        raise MachineError(
            "compare: a worker process was lost (out of memory?); finished parts are kept. "
            "Run it again, with one worker if memory is short."
        ) from None
    return progress


def workers_of(executor: Executor) -> int:
    """How many processes an executor has."""
    return getattr(executor, "_max_workers", None) or os.cpu_count() or 1


def looked_at(pending: list, folder: Path) -> int:
    """The position of the pair that someone is looking at, named in the file `focus`; the first
    otherwise.
    """
    try:
        name = files.contents(folder / "focus").decode(errors="replace")
    except OSError:
        return 0
    return next((i for i, (pair, _) in enumerate(pending) if pair.name == name), 0)


def work_on(pair: Pair, names: list[str], device: str = "cpu") -> list[bytes]:
    """In a worker: measure one pair, return the part of each measure named."""
    work, by_name = work_of(pair, device), {m.NAME: m for m in MEASURES}
    return [encode_part(pair.name, finite(measure(pair, work, by_name[name]))) for name in names]


def finite(tables: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Rows in which every NaN or infinite number is missing."""

    def clean(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        table: [{k: clean(v) for k, v in row.items()} for row in rows]
        for table, rows in tables.items()
    }
