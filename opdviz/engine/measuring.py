"""Measure pairs over a pool of processes and keep every finished part.

Coordinates come first for all tensors, then spectra; a tensor that someone looks at goes first.
Whatever stops the run, the parts on disk are whole and the next run takes them up.
"""

import fnmatch
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from opdviz import files
from opdviz.checkpoint.readers import SEQUENTIAL
from opdviz.engine import workers
from opdviz.engine.cluster import Cluster
from opdviz.engine.estimate import cost, on_one_base
from opdviz.engine.pace import learn
from opdviz.engine.prepare import Prepared, start
from opdviz.engine.progress import Listener, Progress
from opdviz.errors import MachineError, OpdvizError, RequestError, one_line
from opdviz.measures import FIRST_PASS, MEASURES, SECOND_PASS, measure
from opdviz.measures.sides import EXACTLY, Base, How, work_of
from opdviz.pairing import Pair
from opdviz.store import bundles, status
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


@dataclass
class Run:
    """One of the comparisons of a job: what is measured of it, where that goes, and what ended it
    before its end.
    """

    prepared: Prepared
    writer: bundles.Writer
    pairs: list[Pair]
    failure: OpdvizError | None = None


# A pair of a run, and the measures of it that are missing.
Share = tuple[Run, Pair, list[ModuleType]]


def compare(prepared: Prepared, store: Store, executor: Executor, **how) -> Stored:
    """Run what is missing of one comparison (`compare_all`).

    Raises
        OpdvizError: it ended before its end.
    """
    (outcome,) = compare_all([prepared], store, executor, **how)
    if isinstance(outcome, OpdvizError):
        raise outcome
    return outcome


def compare_all(
    prepared: list[Prepared], store: Store, executor: Executor, *, listener: Listener, **how
) -> list[Stored | OpdvizError]:
    """Run what is missing of some comparisons as one job (`measured`), and write their tables; for
    each what stands, or what ended it.

    Raises
        MachineError: a worker was lost, or a part could not be written.
    """
    with measured(prepared, store, executor, listener=listener, **how) as runs:
        return written(runs, listener)


@contextmanager
def measured(
    prepared: list[Prepared],
    store: Store,
    executor: Executor,
    *,
    measures=MEASURES,
    pattern=None,
    how: How = EXACTLY,
    listener: Listener,
) -> Iterator[list[Run]]:
    """Run what is missing of some comparisons as one job, and keep it: their runs, which nobody
    else touches as long as they are held.

    Those on one base share what is worked out of it.

    Raises
        MachineError: a worker was lost, or a part could not be written.
    """
    with ExitStack() as held:
        for one in prepared:
            folder = store.folder(one.key)
            held.enter_context(files.lock(folder))
            held.enter_context(failure_noted(folder))
            files.sweep(folder)
            (folder / status.STOP).unlink(missing_ok=True)
        runs = [
            Run(
                one,
                bundles.Writer(start(one, store)),
                chosen_pairs(one.matching.pairs, pattern),
            )
            for one in prepared
        ]
        tasks = tasks_of(runs, measures)
        parts = len(measures) * sum(len(run.pairs) for run in runs)
        work = measure_runs(runs, tasks, parts, executor, how=how, listener=listener)
        if not isinstance(executor, Cluster) and how == EXACTLY:  # the pace is this machine's
            with suppress(MachineError):  # the next estimate is no reason to lose this run
                learn(store.root, work=work.done / workers.count(executor), seconds=work.taken)
        yield runs


def written(runs: list[Run], listener: Listener) -> list[Stored | OpdvizError]:
    """Compact what is complete of some runs; for each what stands, or what ended it."""
    listener(Progress("writing the tables", 1.0, parts=1, parts_done=1))
    return [outcome_of(run) for run in runs]


def outcome_of(run: Run) -> Stored | OpdvizError:
    """The comparison of a run, compacted as far as it is complete; or what ended it, noted."""
    (run.writer.folder / status.STOP).unlink(missing_ok=True)
    if run.failure:
        note_failure(run.writer.folder, run.failure)
        return run.failure
    return run.writer.compact(p.name for p in run.prepared.matching.pairs)


@contextmanager
def failure_noted(folder: Path) -> Iterator[None]:
    """Leave the reason of a failure in the manifest; the next run starts without it."""
    try:
        yield
    except OpdvizError as error:
        note_failure(folder, error)
        raise


def note_failure(folder: Path, error: OpdvizError) -> None:
    """Leave the reason of a failure in a manifest, where there is room for it."""
    with suppress(MachineError):
        if manifest := manifests.read(folder):
            manifests.write(folder, replace(manifest, failure=one_line(error)))


def measure_runs(
    runs: list[Run],
    tasks: list[list[Share]],
    parts: int,
    executor: Executor,
    *,
    how: How,
    listener: Listener,
) -> Progress:
    """Do the tasks of some runs of so many parts on an executor, in their order, and write each
    part as it comes. How far it came, and how long that took.

    Raises
        MachineError: a worker was lost, or a part could not be written.
    """
    missing = sum(len(modules) for shares in tasks for _, _, modules in shares)
    progress = Progress(
        "measuring",
        sum(map(cost_of, tasks)),
        pairs=len(tasks),
        parts=parts,
        parts_done=parts - missing,
    )
    listener(progress)
    # Twice as many as there are workers wait in the executor: none is idle, and a tensor that
    # somebody looks at is soon next.
    room = 2 * workers.count(executor)

    def start_next(running: list) -> tuple | None:
        if not tasks or len(running) >= room:
            return None
        shares = tasks.pop(looked_at(tasks, runs))
        pairs = [(pair, [m.NAME for m in modules]) for _, pair, modules in shares]
        return shares, work_on_base, pairs, how

    try:
        for ended in workers.results(executor, start_next, every=1.0):
            if ended is None:
                tasks = without_stopped(tasks, runs)
                listener(progress)
                continue
            shares, measured = ended
            for (run, pair, modules), outcome in zip(shares, measured, strict=True):
                if isinstance(outcome, OpdvizError):
                    run.failure = run.failure or outcome
                    tasks = without(tasks, run)
                    continue
                for m, data in zip(modules, outcome, strict=True):
                    run.writer.write_part(pair.name, m, data)
                progress.parts_done += len(outcome)
                progress.current = pair.name
            progress.advance(cost_of(shares))
            progress.pairs_done += 1
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


def tasks_of(runs: list[Run], measures) -> list[list[Share]]:
    """What is missing of the measures: the first pass for all pairs, then the second.

    The first takes as long as reading, and goes through the base in the order of its files. The
    second begins with the largest, so that no worker waits at the end; for network disks it keeps
    to the files' order as well.
    """
    order = file_order(runs)
    reading = by_base(runs, [m for m in FIRST_PASS if m in measures], order)
    second = [m for m in SECOND_PASS if m in measures]
    return reading + by_base(runs, second, order if os.environ.get(SEQUENTIAL) else None)


def file_order(runs: list[Run]) -> dict[str, int]:
    """The position of every base tensor in its files."""
    infos = [info for run in runs for info in run.prepared.matching.base.tensors.values()]
    places = sorted(infos, key=lambda info: (str(info.path), info.offset))
    return {info.name: at for at, info in enumerate(places)}


def by_base(
    runs: list[Run], modules: list[ModuleType], order: dict[str, int] | None = None
) -> list[list[Share]]:
    """What is missing of some measures, the runs' pairs of one base tensor together; the largest
    first, or in an order of the base's tensors.
    """
    tasks: dict[tuple, list[Share]] = defaultdict(list)
    for run in runs:
        for pair in run.pairs:
            if missing := run.writer.missing(pair.name, modules):
                # Cut and shaped alike, too: a stack of experts may be one tensor in another run.
                base = (pair.base_source, pair.name, pair.expert, pair.shape)
                tasks[base].append((run, pair, missing))
    if order is not None:

        def place(shares: list[Share]) -> tuple[int, int]:
            pair = shares[0][1]
            return order[pair.stored_name(pair.name)], pair.expert or 0

        return sorted(tasks.values(), key=place)
    return sorted(tasks.values(), key=lambda shares: (-cost_of(shares), shares[0][1].name))


def cost_of(shares: list[Share]) -> float:
    """Seconds of one thread that a task takes."""
    return on_one_base(cost(pair, modules) for _, pair, modules in shares)


def without(tasks: list[list[Share]], failed: Run) -> list[list[Share]]:
    """The tasks of the other runs."""
    left = ([share for share in shares if share[0] is not failed] for shares in tasks)
    return [shares for shares in left if shares]


def without_stopped(tasks: list[list[Share]], runs: list[Run]) -> list[list[Share]]:
    """The tasks of the runs that nobody asked to end."""
    for run in runs:
        if run.failure is None and status.asked_to_stop(run.writer.folder):
            name = one_line(run.writer.comparison.name, limit=60)
            run.failure = RequestError(f"{name}: stopped; what was finished is kept.")
            tasks = without(tasks, run)
    return tasks


def looked_at(tasks: list[list[Share]], runs: list[Run]) -> int:
    """The position of the first task with a tensor that someone looks at in one of the runs; the
    first without.
    """
    names = {focused(run.writer.folder) for run in runs}
    looked = (at for at, shares in enumerate(tasks) if any(p.name in names for _, p, _ in shares))
    return next(looked, 0)


def focused(folder: Path) -> str | None:
    """The tensor that someone is looking at in a comparison, named in its file `focus`."""
    try:
        return files.contents(folder / "focus").decode(errors="replace")
    except OSError:
        return None


def work_on_base(pairs: list[tuple[Pair, list[str]]], how: How) -> list[list[bytes] | OpdvizError]:
    """In a worker: measure the pairs of one base tensor; of each the parts of the measures named,
    or why it cannot be read.
    """
    base, outcomes = Base(), []
    for pair, names in pairs:
        try:
            outcomes.append(work_on(pair, names, how, base))
        except OpdvizError as error:  # of this pair's own files
            outcomes.append(error)
    return outcomes


def work_on(
    pair: Pair, names: list[str], how: How = EXACTLY, base: Base | None = None
) -> list[bytes]:
    """Measure one pair, return the part of each measure named."""
    work, by_name = work_of(pair, how, base), {m.NAME: m for m in MEASURES}
    return [encoded(pair.name, measure(pair, work, by_name[name])) for name in names]


def encoded(name: str, tables: dict[str, list[dict]]) -> bytes:
    """A part of one pair, without what is no finite number."""
    try:
        return encode_part(name, tables)
    except ValueError:  # hardly a part has such: to look for them first takes twice as long
        return encode_part(name, finite(tables))


def finite(tables: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Rows in which every NaN or infinite number is missing."""

    def clean(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        table: [{k: clean(v) for k, v in row.items()} for row in rows]
        for table, rows in tables.items()
    }
