"""The command that answers: did training move what it should, and nothing else?"""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from opdviz.cli.command import JSON, WORKERS, argument, command, print_json, store_of
from opdviz.cli.comparing import compare_on, plain_job
from opdviz.cli.sources import source
from opdviz.errors import CheckFailed, RequestError, one_line

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from opdviz.store.store import Stored


@command(
    "doctor",
    "did training move what it should, and nothing else?",
    argument("target", nargs="+", help="a comparison by key or name, or BASE TUNED"),
    argument(
        "--expect-frozen",
        action="append",
        default=[],
        metavar="GLOB",
        help="tensors that were to stay as they were; may be given more than once",
    ),
    argument(
        "--expect-moved",
        action="append",
        default=[],
        metavar="GLOB",
        help="tensors that were to move; may be given more than once",
    ),
    argument("--rules", help="comma-separated; all by default"),
    WORKERS,
    JSON,
    example="opdviz doctor models/base runs/opd --expect-frozen 'visual.*'",
)
def doctor(options: argparse.Namespace) -> None:
    """`opdviz doctor`."""
    # Its workers load the engine while this process loads the rules.
    with executor_for(options) as executor:
        from opdviz import doctor as examining

        rules = examining.chosen_rules(options.rules.split(",") if options.rules else None)
        comparison = comparison_of(options, executor)
    findings = examining.examine(
        comparison, frozen=options.expect_frozen, moved=options.expect_moved, rules=rules
    )
    healthy = examining.healthy(findings)
    if options.json:
        rows = examining.table(findings).to_dict("records")
        print_json({"healthy": healthy, "findings": rows})
    else:
        for finding in findings:
            print(f"{finding.severity:8s} {finding.rule}: {one_line(finding.sentence, limit=600)}")
            if finding.tensors:
                names = [one_line(name, limit=80) for name in finding.tensors[: examining.NAMED]]
                more = len(finding.tensors) - len(names)
                print(f"         {', '.join(names)}{f' and {more:,} more' if more else ''}")
        print(
            f"{one_line(comparison.name, limit=60)}: {len(rules)} rules, {len(findings)} findings."
        )
    if not healthy:
        wrong = sum(finding.severity == "error" for finding in findings)
        raise CheckFailed(
            f"doctor: {wrong} of {len(findings)} findings say that something is wrong."
        )


def executor_for(options: argparse.Namespace) -> AbstractContextManager:
    """Where two checkpoints are compared; nothing is started for a comparison that is there.

    Raises
        RequestError: there are more than two words.
    """
    if len(options.target) > 2:
        raise RequestError(
            f"doctor: found {len(options.target)} words; expected a comparison, or BASE TUNED."
        )
    if len(options.target) == 1:
        return nullcontext()
    from opdviz.engine import workers

    return workers.pool(options.workers)


def comparison_of(options: argparse.Namespace, executor: "Executor | None") -> "Stored":
    """The comparison that is meant; of two checkpoints, compared as far as the rules look.

    Raises
        RequestError: no such comparison.
    """
    if executor is None:
        return store_of(options).find(options.target[0])
    from opdviz import doctor as examining
    from opdviz.engine import progress
    from opdviz.errors import OpdvizError

    job = plain_job(*map(source, options.target), options, measures=",".join(examining.MEASURES))
    with progress.listener(None, quiet=options.json) as listener:
        (outcome,) = compare_on(executor, job, listener)
    if isinstance(outcome, OpdvizError):
        raise outcome
    return outcome
