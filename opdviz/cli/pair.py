"""Commands on two checkpoints: what they have in common, and what training did between them."""

import argparse
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from opdviz.cli.command import (
    JSON,
    LABEL_OPTIONS,
    WORKERS,
    argument,
    check_workers,
    command,
    print_json,
    store_of,
)
from opdviz.cli.comparing import compare_on, executor_of
from opdviz.cli.sources import headers_at_hand, opened, source, with_steps
from opdviz.definitions import EXACT, FAST
from opdviz.errors import MachineError, OpdvizError, one_line

if TYPE_CHECKING:  # they load the engine, which the help of a command does without
    from opdviz.checkpoint import Checkpoint
    from opdviz.store.store import Stored

MOST_LINES = 200
WORTH_A_PROBE = 20.0  # estimated seconds from which two more are well spent on a better estimate
TUNED = argument(
    "tuned",
    type=source,
    nargs="+",
    help="what training made of it; of several runs each, of a folder of steps all of them",
)
BASE = argument(
    "base", type=source, help="a checkpoint: a folder, a file, or hf://org/name[@revision][/folder]"
)


@command(
    "check",
    "what two checkpoints have in common, from their headers alone",
    BASE,
    TUNED,
    WORKERS,
    JSON,
    example="opdviz check models/base runs/opd/checkpoint-200",
)
def check(options: argparse.Namespace) -> None:
    """`opdviz check`."""
    check_workers(options.workers)
    with headers_at_hand(options.base, *with_steps(options.tuned)) as words:
        check_opened(options, *opened(*words))


def check_opened(options: argparse.Namespace, base: "Checkpoint", *runs: "Checkpoint") -> None:
    """Say what checkpoints have in common."""
    from opdviz.engine.estimate import on_one_base, preview
    from opdviz.engine.pace import pace, remembered
    from opdviz.engine.probe import probe
    from opdviz.words import duration

    root = store_of(options).root

    def preview_all() -> list[dict]:
        return [preview(base, run, options.workers, pace=pace(root)) for run in runs]

    of_runs = preview_all()
    together = on_one_base(facts["seconds"] for facts in of_runs)
    if together > WORTH_A_PROBE and not remembered(root):
        with suppress(MachineError):  # where nothing can be written, the estimate is a rougher one
            probe(root, options.workers)
        of_runs = preview_all()
        together = on_one_base(facts["seconds"] for facts in of_runs)
    if options.json:
        rows = sum(len(facts["unmatched"]) + len(facts["rewrites"]) for facts in of_runs)
        # A million rows in lines of their own take half a minute.
        indent = None if rows > MOST_LINES else 1
        print_json(of_runs[0] if len(runs) == 1 else of_runs, indent=indent)
        return
    for run, facts in zip(runs, of_runs, strict=True):
        if len(runs) > 1:
            print(f"{one_line(run.path)}:")
        print_preview(facts, options.workers)
    if len(runs) > 1:
        print(f"All {len(runs)} runs as one job: about {duration(together)}.")


def print_preview(facts: dict, workers: int) -> None:
    """Print what a comparison would be of and would take."""
    from opdviz.words import duration

    pairs, seconds, gigabytes = facts["pairs"], facts["seconds"], facts["bytes"] / 1e9
    print(
        f"{pairs:,} pairs, {facts['parameters']:,} parameters, {len(facts['unmatched'])} left over."
    )
    first = duration(facts["first_pass_seconds"])
    print(
        f"About {duration(seconds)} and {gigabytes:.1f} GB with {workers} workers;"
        f" the first pass (no spectra) {first}."
    )
    print(
        "Stored as "
        + ", ".join(f"{dtype} ({count})" for dtype, count in facts["dtypes"].items())
        + "."
    )
    if facts["gpus"]:
        names = ", ".join(facts["gpus"])
        print(f"A GPU is at hand ({names}): `compare` uses it with --device cuda, or auto.")
    if facts["same"]:
        print("Both are the same folder: nothing will have moved.")
    for note in facts["notes"]:
        print(note)
    for row in first_lines(facts["rewrites"]):
        detail = f"{row['rule']}: {one_line(row['detail'])}"
        print(f"  {one_line(row['name'])} = {one_line(row['tuned_name'])} ({detail})")
    for row in first_lines(facts["unmatched"]):
        print(f"  left over: {one_line(row['name'])} ({row['shape']}): {row['reason']}")


def first_lines(rows: list[dict]) -> Iterator[dict]:
    """The first of many rows, and then a line that says how many more there are."""
    yield from rows[:MOST_LINES]
    if len(rows) > MOST_LINES:
        print(f"  ... and {len(rows) - MOST_LINES:,} more; --json lists them all.")


@command(
    "compare",
    "measure what training did to a checkpoint, in one run or in several, and keep it",
    BASE,
    TUNED,
    WORKERS,
    JSON,
    argument("--name", action="append", help="a name to find it by; of several runs one for each"),
    *LABEL_OPTIONS,
    argument(
        "--device",
        default="cpu",
        help="where decompositions run: cpu, cuda, cuda:0, or auto (a GPU where there is one)",
    ),
    argument(
        "--precision",
        choices=(EXACT, FAST),
        default=EXACT,
        help="fast: of matrices from 2,048 directions on leading singular values alone, at random",
    ),
    argument("--measures", help="comma-separated; all by default, magnitude always"),
    argument(
        "--first-pass",
        action="store_true",
        help="stop before spectra: what no decomposition needs, at the speed of reading",
    ),
    argument("--tensors", metavar="GLOB", help="only tensors whose name fits"),
    argument(
        "--sequential",
        action="store_true",
        help="for network disks: tensors in the order of the files, by plain reads and no maps",
    ),
    argument(
        "--cluster",
        metavar="ADDRESS",
        help="compute on the workers of a Dask scheduler (tcp://host:8786; docs/cluster.md)",
    ),
    argument(
        "--follow",
        action="store_true",
        help="compare the steps of a training's folder as they are written, until Ctrl-C",
    ),
    argument("--job", type=Path, help=argparse.SUPPRESS),
    example="opdviz compare models/base runs/opd/checkpoint-200 --name opd",
)
def compare(options: argparse.Namespace) -> None:
    """`opdviz compare`."""
    with executor_of(options) as executor:
        (compare_steps if options.follow else compare_runs)(executor, options)


def compare_runs(executor: Executor, options: argparse.Namespace) -> None:
    """Compare the runs that the options name, and say what was found."""
    from opdviz.engine import progress

    options.tuned = with_steps(options.tuned)
    outcomes: list[Stored | OpdvizError] = []
    try:
        with progress.listener(options.job, quiet=options.json) as listener:
            outcomes += compare_on(executor, options, listener)
            for failure in outcomes:
                if isinstance(failure, OpdvizError):
                    raise failure
    finally:  # runs that are finished are said, and then what ended another
        print_finished(outcomes, as_json=options.json)


def compare_steps(executor: Executor, options: argparse.Namespace) -> None:
    """Compare the steps of a training's folder as they come, and say what was found in each."""
    from opdviz.cli.follow import follow
    from opdviz.engine import progress

    def compare_next(steps: list[Path]) -> list["Stored | OpdvizError"]:
        options.tuned = steps
        outcomes = compare_on(executor, options, listener, last=False)
        print_finished(outcomes, as_json=options.json)
        return outcomes

    opened(options.base)  # what is no checkpoint is refused before there is a step
    with progress.listener(options.job, quiet=options.json) as listener:
        follow(options, compare_next, listener)


def print_finished(outcomes: list["Stored | OpdvizError"], *, as_json: bool) -> None:
    """Print what was found in the runs that came to their end."""
    finished = [run for run in outcomes if not isinstance(run, OpdvizError)]
    if not as_json:
        for run in finished:
            print_headline(run)
    elif len(outcomes) > 1:
        print_json([headline_of(run) for run in finished])
    else:
        for run in finished:
            print_json(headline_of(run))


def headline_of(comparison: "Stored") -> dict:
    """What was found, as one JSON object."""
    manifest = comparison.manifest
    facts = {"key": comparison.key, "name": comparison.name, "pairs": manifest.pairs}
    values = {row["quantity"]: row["value"] for row in headline_rows(comparison)}
    return facts | {"parameters": manifest.parameters} | values


def print_headline(comparison: "Stored") -> None:
    """Print what was found, beside its chance levels."""
    manifest = comparison.manifest
    print(f"{one_line(manifest.title)}  {comparison.key}")
    print(f"{manifest.pairs:,} pairs, {manifest.parameters:,} parameters.")
    for row in headline_rows(comparison):
        print("  " + headline_line(row))


def headline_rows(comparison: "Stored") -> list[dict]:
    """Protocol A's rows, which are kept as soon as a comparison is done."""
    from opdviz.tables import stored, summaries

    return stored.records(summaries.summary(comparison, "headline"))


def headline_line(row: dict) -> str:
    """One headline number as text."""
    value = (
        "not computed"
        if row["value"] is None
        else f"{row['value']:.4g} {row['unit']}".removesuffix(" 1")
    )
    chance = "" if row["chance"] is None else f"   chance {row['chance']:.4g}"
    return f"{row['quantity']:32s} {value:>14s}{chance}   ({row['aggregation']})"
