"""A comparison as commands ask for it: where it runs, of what, under which names."""

import argparse
import os
import sys
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from opdviz.cli.command import check_workers, store_of
from opdviz.cli.sources import bring, opened, whereabouts
from opdviz.definitions import EXACT, FAST
from opdviz.errors import OpdvizError, RequestError, one_line

if TYPE_CHECKING:  # they load the engine, which the help of a command does without
    from opdviz.engine.prepare import Prepared
    from opdviz.engine.progress import Display
    from opdviz.store.store import Stored


def executor_of(options: argparse.Namespace) -> AbstractContextManager[Executor]:
    """Processes of this machine, or the workers of a cluster."""
    from opdviz.checkpoint.readers import SEQUENTIAL

    check_workers(options.workers)
    if options.sequential:
        os.environ[SEQUENTIAL] = "1"  # for the workers, which inherit it
    if options.cluster is None:
        from opdviz.engine import workers

        # Before all else: they load the engine while this process does.
        return workers.pool(options.workers)
    from opdviz.engine import cluster, devices

    if options.device not in (devices.CPU, devices.GPU):
        raise RequestError(
            f"--device {one_line(options.device, limit=20)}: found with --cluster; expected cpu or"
            " cuda, as its workers have it."
        )
    # Workers have folders of their own to start from, and no cache of a hub.
    options.base, *options.tuned = map(whereabouts, (options.base, *options.tuned))
    checkpoints = (options.base, *options.tuned)
    return cluster.executor(options.cluster, checkpoints, gpus=options.device != devices.CPU)


def compare_on(
    executor: Executor, options: argparse.Namespace, listener: "Display", *, last: bool = True
) -> list["Stored | OpdvizError"]:
    """Compare what the options name on some workers, who leave where it is the `last` that they do;
    of each run what stands, or what ended it.
    """
    from opdviz import pairing
    from opdviz.engine import devices, measuring, prepare, workers
    from opdviz.measures.sides import How
    from opdviz.store.store import Stored
    from opdviz.tables import summaries

    names_and_labels = said_of_each(options)
    how = How(device_of(options), options.precision)
    if how.precision == FAST and how.device != devices.CPU:
        raise RequestError("--precision fast and --device: a sketch is made on the CPU; give one.")
    if options.first_pass and options.measures is not None:
        raise RequestError("--first-pass and --measures: both choose the measures; give one.")
    measures = (
        measuring.FIRST_PASS
        if options.first_pass
        else measuring.chosen_measures(
            options.measures.split(",") if options.measures is not None else None
        )
    )
    bring((options.base, *options.tuned), listener)
    base, *runs = opened(options.base, *options.tuned)
    # Refused before a file is read.
    for tuned in runs:
        measuring.chosen_pairs(pairing.match(base, tuned).pairs, options.tensors)
    store = store_of(options)
    prepared = [
        prepare.prepare(base, tuned, store, name, listener, precision=how.precision, labels=labels)
        for tuned, (name, labels) in zip(runs, names_and_labels, strict=True)
    ]
    refuse_the_same(prepared)
    listener.note_key(prepared[0].key)
    job = {"measures": measures, "pattern": options.tensors, "how": how, "listener": listener}
    with measuring.measured(prepared, store, executor, **job) as held:
        if last:  # what they hold and what tables take would be there at once
            workers.dismiss(executor)
        outcomes = measuring.written(held, listener)
    for comparison in outcomes:
        if isinstance(comparison, Stored):
            summaries.write_all(comparison)
    return outcomes


def plain_job(
    base: Path | str, tuned: Path | str, options: argparse.Namespace, *, measures: str | None = None
) -> argparse.Namespace:
    """The options of `compare` for another command's comparison, in that command's cache."""
    return argparse.Namespace(
        base=base,
        tuned=[tuned],
        name=None,
        recipe=None,
        optimizer=None,
        device="cpu",
        precision=EXACT,
        measures=measures,
        first_pass=False,
        tensors=None,
        sequential=False,
        cluster=None,
        cache=options.cache,
    )


def said_of_each(options: argparse.Namespace) -> list[tuple[str | None, dict[str, str]]]:
    """The name and the labels of each run, as the options have them.

    Raises
        RequestError: there is not one for each, it cannot be one, or two are the same.
    """
    from opdviz.store.manifest import LABELS
    from opdviz.store.store import checked_labels, checked_name

    runs = len(options.tuned)
    texts = {}
    for option in ("name", *LABELS):
        values = getattr(options, option)
        if values is not None and option in LABELS and len(values) == 1:
            values = values * runs  # the options are asked for every batch of steps
        if values is not None and len(values) != runs:
            raise RequestError(
                f"--{option}: found {len(values)} with {runs} runs; expected one for each, in their"
                " order."
            )
        texts[option] = values or [""] * runs
    names = [checked_name(name) if options.name else None for name in texts["name"]]
    if options.name and len({*names}) < runs:
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(
            f"--name: found {one_line(twice, limit=60)!r} for two runs; expected a name of its own"
            " for each."
        )
    labels = [
        dict(checked_labels({field: texts[field][at] for field in LABELS if texts[field][at]}))
        for at in range(runs)
    ]
    return list(zip(names, labels, strict=True))


def refuse_the_same(prepared: list["Prepared"]) -> None:
    """Refuse runs that are one.

    Raises
        RequestError: two have the same weights.
    """
    by_key: dict[str, Prepared] = {}
    for one in prepared:
        other = by_key.setdefault(one.key, one)
        if other is not one:
            paths = (one_line(run.matching.tuned.path) for run in (other, one))
            raise RequestError(f"compare: {' and '.join(paths)} are the same run; name one.")


def device_of(options: argparse.Namespace) -> str:
    """Where the heavy steps are to run; one that was left to the machine is said.

    Raises
        RequestError: there is no such device.
    """
    from opdviz.engine import devices

    if options.cluster is not None:
        return options.device
    device, why = devices.chosen(options.device)
    if why:
        print(f"Computing on {why}", file=sys.stderr)
    return device
