"""The command that holds this tool against published numbers."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from opdviz.cli.command import JSON, WORKERS, argument, check_workers, command, print_json
from opdviz.cli.comparing import compare_on, plain_job
from opdviz.cli.sources import source
from opdviz.errors import CheckFailed, OpdvizError, one_line

if TYPE_CHECKING:
    from opdviz.store.store import Stored
    from opdviz.tables.reproduction import PublicPair

LIST = "list"


@command(
    "reproduce",
    "compare a public pair of models and print its numbers beside the published ones",
    argument("name", metavar="list|NAME", help="a pair, or `list`, which says what there is"),
    argument("--base", type=source, help="the base, where it lies elsewhere than on the hub"),
    argument("--tuned", type=source, help="the same of the tuned"),
    WORKERS,
    JSON,
    example="opdviz reproduce deepscaler",
)
def reproduce(options: argparse.Namespace) -> None:
    """`opdviz reproduce`."""
    from opdviz.tables import reproduction

    if options.name == LIST:
        print_pairs(options)
        return
    pair = reproduction.pair_of(options.name)
    rows = reproduction.beside(compared(pair, options), pair)
    if options.json:
        print_json({"name": pair.name, "base": pair.base, "tuned": pair.tuned, "numbers": rows})
    else:
        print("\n".join(lines_of(rows)))
    if outside := [row["quantity"] for row in rows if row["within"] is False]:
        raise CheckFailed(
            f"reproduce: {len(outside)} of {len(rows)} numbers are not as published:"
            f" {one_line(', '.join(outside), limit=200)}."
        )


def print_pairs(options: argparse.Namespace) -> None:
    """Print what there is."""
    from opdviz.tables import reproduction

    if options.json:
        print_json(
            [pair._asdict() | {"numbers": pair.numbers} for pair in reproduction.pairs().values()]
        )
        return
    for pair in reproduction.pairs().values():
        papers = ", ".join(dict.fromkeys(row["paper"] for row in pair.numbers))
        print(f"{pair.name:14s} {pair.parameters:>5s}  {pair.recipe}: {pair.base} -> {pair.tuned}")
        print(f"{'':14s} {'':>5s}  {len(pair.numbers)} numbers of {papers}")


def compared(pair: "PublicPair", options: argparse.Namespace) -> "Stored":
    """The pair's comparison; what has to be downloaded is said first."""
    from opdviz.engine import progress, workers

    check_workers(options.workers)
    base = options.base or f"hf://{pair.base}"
    tuned = options.tuned or f"hf://{pair.tuned}"
    with workers.pool(options.workers) as executor:
        if not options.json:
            print_sizes((base, tuned))
        with progress.listener(None, quiet=options.json) as listener:
            (outcome,) = compare_on(executor, plain_job(base, tuned, options), listener)
    if isinstance(outcome, OpdvizError):
        raise outcome
    return outcome


def print_sizes(words: tuple) -> None:
    """Print how much of the models on the hub is not on this machine yet."""
    from opdviz.checkpoint import hub
    from opdviz.words import size

    for word in filter(hub.is_hub, words):
        missing = hub.missing_of(word)
        print(f"{word}: {size(missing)} to download" if missing else f"{word}: all of it is here")


def lines_of(rows: list[dict]) -> Iterator[str]:
    """Ours beside theirs, a line a number."""
    yield f"{'paper':26s} {'quantity':28s} {'theirs':>10s} {'ours':>10s} {'':>2s} within"
    for row in rows:
        where = (
            row["tensor"].removeprefix("layers.").removesuffix(".weight") if row["tensor"] else ""
        )
        name = f"{row['quantity']} {where}".strip()
        unit = row["unit"] if row["unit"] == "%" else ""
        start = f"{row['paper']:26s} {name:28s} {row['theirs']:10.4g}"
        if row["ours"] is None:
            yield f"{start} {'-':>10s} {unit:2s} not stored"
            continue
        verdict = "yes" if row["within"] else "NO"
        yield f"{start} {row['ours']:10.4g} {unit:2s} {verdict} (+- {row['tolerance']:.2g})"
