"""Commands on runs: a mask to train, the overlap of several, what they take to send."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from opdviz.cli.command import (
    JSON,
    WORKERS,
    argument,
    check_seed,
    check_workers,
    command,
    new_folder_of,
    print_json,
    store_of,
    target_of,
)
from opdviz.cli.sources import bring, source
from opdviz.errors import RequestError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

# As in `runs.mask_kinds`, which loads the engine.
MASK_KINDS = (
    *("visible", "union", "intersection", "difference"),
    *("random", "principal", "low-magnitude", "safe"),
)
RELATIONS = ("overlap", "relation", "consensus", "subspace_similarity")


@command(
    "subnetwork",
    "write a mask, to train that subnetwork alone: what a run visibly moved, or another kind",
    argument("key", nargs="+", help="a comparison by key or name; of sets two or more on one base"),
    argument(
        "--kind",
        choices=MASK_KINDS,
        default=MASK_KINDS[0],
        help="what the run moved, a set of runs, as many at random, or what the base decides",
    ),
    argument(
        "--threshold",
        type=float,
        help="a coordinate is in it where |D| in bf16 is larger (default: 1e-5)",
    ),
    argument(
        "--density",
        type=float,
        help="instead: the share of coordinates to keep, the most moved ones; of kinds of the base"
        " the share of each matrix that is principal, or small (default: 0.1)",
    ),
    argument("--seed", type=int, default=0, help="of random masks, and of the lot between ties"),
    argument("--out", type=Path, required=True, metavar="FILE", help="the mask, packed"),
    example="opdviz subnetwork opd --out mask.safetensors",
)
def subnetwork(options: argparse.Namespace) -> None:
    """`opdviz subnetwork`."""
    from opdviz.definitions import HEADLINE_SHARE, VISIBLE
    from opdviz.runs import mask_kinds, masks, relate

    check_mask_options(options)
    target = target_of("subnetwork", options.out)
    store = store_of(options)
    runs = [store.find(word) for word in options.key]
    if len(runs) > 1:
        relate.checked(runs)
    matchings = [masks.matching_of_comparison(run) for run in runs]
    sides = [side for matching in matchings for side in (matching.base, matching.tuned)]
    if target in {file.resolve() for side in sides for file in side.files}:
        raise RequestError(
            f"subnetwork --out {one_line(options.out)}: found the checkpoint's own file; name"
            " another."
        )
    of_base = options.kind in mask_kinds.OF_BASE
    threshold = VISIBLE if options.threshold is None else options.threshold
    if options.density is not None and not of_base:
        threshold = masks.threshold_for(matchings[0], options.density)
    share = HEADLINE_SHARE if options.density is None else options.density
    masks.keep(
        target,
        mask_kinds.masks_of(options.kind, matchings, threshold, share, options.seed),
        key=",".join(run.key for run in runs),
        base=list(runs[0].manifest.base.fingerprints),
        threshold=0.0 if of_base else threshold,
        of=options.kind,
    )
    mask = masks.open_mask(options.out)
    words = f"{share:.4g} of each matrix" if of_base else f"|D| > {threshold:g} in bf16"
    print(
        f"{options.out}: {len(mask.tensors)} tensors, {mask.density:.4%} of the coordinates,"
        f" {options.kind}, {words}."
    )


def check_mask_options(options: argparse.Namespace) -> None:
    """Refuse what no mask can be made by.

    Raises
        RequestError: there is a contradiction, or a number that is none of a mask.
    """
    from opdviz.runs import mask_kinds

    if options.threshold is not None and options.density is not None:
        raise RequestError(
            "subnetwork: --threshold and --density are two ways to say the same; give one."
        )
    if options.threshold is not None and not 0 <= options.threshold < float("inf"):
        raise RequestError(
            f"subnetwork --threshold: found {options.threshold:g}; expected a number from 0."
        )
    if options.density is not None and not 0 < options.density <= 1:
        raise RequestError(
            f"subnetwork --density: found {options.density:g}; expected a share above 0 and up"
            " to 1."
        )
    if options.threshold is not None and options.kind in mask_kinds.OF_BASE:
        raise RequestError(
            f"subnetwork --kind {options.kind}: found --threshold, which is of what moved; expected"
            " --density."
        )
    if options.density is not None and options.kind in mask_kinds.SETS:
        raise RequestError(
            f"subnetwork --kind {options.kind}: found --density, which differs from run to run;"
            " expected --threshold."
        )
    check_seed(options.seed)


@command(
    "apply",
    "write a checkpoint in which only some of an update's moves are kept, to evaluate it",
    argument("base", type=source, help="a checkpoint: a folder, a file, or a model on a hub"),
    argument("tuned", type=source, help="what training made of it"),
    argument("--mask", type=Path, metavar="FILE", help="keep the moves inside a mask"),
    argument("--keep-top", metavar="P%", help="keep so many percent of the moves, the largest"),
    argument(
        "--by",
        choices=("size", "steps", "random"),
        default="size",
        help="what is large: |D|, or how many numbers of the format a weight went on",
    ),
    argument("--seed", type=int, default=0, help="of the lot drawn between equal moves"),
    argument("--out", type=Path, required=True, metavar="DIR", help="a new folder"),
    JSON,
    example="opdviz apply models/base runs/opd --keep-top 10% --by size --out runs/opd_top10",
)
def apply(options: argparse.Namespace) -> None:
    """`opdviz apply`."""
    from dataclasses import asdict

    from opdviz.engine import progress
    from opdviz.runs import apply as applying
    from opdviz.runs import masks

    if (options.mask is None) == (options.keep_top is None):
        raise RequestError(
            "apply: expected --mask or --keep-top, one of them, to say what is kept."
        )
    check_seed(options.seed)
    share = None if options.keep_top is None else share_of(options.keep_top)
    out = new_folder_of("apply", options.out)
    with progress.listener(None, quiet=options.json) as listener:
        bring((options.base, options.tuned), listener)
        matching = masks.matching_of(options.base, options.tuned)
        tensors = applying.mixture(matching)
        facts = {"base": str(matching.base.path), "tuned": str(matching.tuned.path)}
        if share is None:
            choice = applying.fitting(masks.open_mask(options.mask), matching)
            facts |= {"mask": str(options.mask)}
        else:
            choice = applying.top(matching, tensors, share, options.by, options.seed, listener)
            facts |= {"keep_top": share, "by": options.by, "seed": options.seed}
        moves = applying.write(matching, tensors, choice, out, facts, listener)
    if options.json:
        print_json(facts | asdict(moves))
        return
    of_moves = f"{moves.kept:,} of {moves.moved:,} moves"
    part = f" ({moves.kept / moves.moved:.4%})" if moves.moved else ""
    print(f"{options.out}: {of_moves}{part} kept, of {moves.numel:,} weights.")


def share_of(text: str) -> float:
    """The share that `--keep-top` says.

    Raises
        RequestError: it is no percentage from 0 to 100.
    """
    number = text.removesuffix("%").strip()
    try:
        percents = float(number) if text.endswith("%") else -1.0
    except ValueError:
        percents = -1.0
    if not 0 <= percents <= 100:
        raise RequestError(
            f"apply --keep-top: found {one_line(text, limit=40)}; expected a percentage from 0% to"
            " 100%, as 10%."
        )
    return percents / 100


@command(
    "overlap",
    "do runs on one base move the same coordinates, and in the same direction?",
    argument("key", nargs="+", help="two comparisons or more, by key or name"),
    argument(
        "--table",
        choices=RELATIONS,
        default="overlap",
        help="which table --json prints; subspace_similarity takes decompositions",
    ),
    WORKERS,
    JSON,
    argument("--job", type=Path, help=argparse.SUPPRESS),
    example="opdviz overlap opd grpo",
)
def overlap(options: argparse.Namespace) -> None:
    """`opdviz overlap`."""
    from opdviz.runs import overlap as overlaps
    from opdviz.runs import relate
    from opdviz.tables import stored

    group = relate.group_of(options.table)
    runs, names, read = worked_out(options, group)
    if options.json:
        print_json(stored.records(read(options.table)))
        return
    if group == relate.DIRECTIONS:
        for row in overlaps.similarities(read(options.table)).itertuples():
            print_similarity(row)
        return
    table, relation = read("overlap"), read("relation")
    norms = {names[run.key]: overlaps.delta_norms(stored.tensors(run)) for run in runs}
    directions = overlaps.related(relation, norms, "model").set_index(overlaps.PAIR)
    for pair, rows in table.groupby(overlaps.PAIR, sort=False):
        if len(runs) > 2:
            print(" and ".join(one_line(name, limit=60) for name in pair))
        for row in overlaps.whole(rows):
            print_overlap(row)
        print_direction(directions.loc[pair])


@command(
    "payload",
    "what an update takes to send: from the base to a run, and from step to step",
    argument("key", nargs="+", help="comparisons on one base, by key or name"),
    WORKERS,
    JSON,
    argument("--job", type=Path, help=argparse.SUPPRESS),
    example="opdviz payload opd",
)
def payload(options: argparse.Namespace) -> None:
    """`opdviz payload`."""
    from opdviz.runs import payload as payloads
    from opdviz.store.relations import PAYLOAD
    from opdviz.tables import stored

    *_, read = worked_out(options, PAYLOAD)
    table = read("payload")
    if options.json:
        print_json(stored.records(table))
        return
    for row in payloads.whole(table).to_dict("records"):
        one, other = (one_line(row[side], limit=60) for side in ("run_a", "run_b"))
        moved = f"{row['moved'] / row['numel']:.2%} of {row['numel']:,} coordinates changed"
        print(f"{one} to {other}: {moved}; all of them take {row['full_bytes']:,} bytes")
        for column, words in payloads.ENCODINGS.items():
            share = row[column] / row["full_bytes"]
            print(f"    {row[column]:>15,} bytes, {share:7.2%}: {words}")


def worked_out(
    options: argparse.Namespace, group: str
) -> tuple[list, dict[str, str], "Callable[[str], pd.DataFrame]"]:
    """The runs that the options name, the names that tell them apart, and what reads a table of
    them; a group of tables that is not there yet is worked out.
    """
    from opdviz.engine import progress, workers
    from opdviz.runs import family, overlap, relate

    check_workers(options.workers)
    store = store_of(options)
    with progress.listener(options.job, quiet=options.json) as listener:
        runs = [store.find(word) for word in options.key]
        relate.checked(runs, group)
        if not relate.is_there(store, runs, group):
            with workers.pool(options.workers) as executor:
                relate.relate(store, runs, executor, listener, group=group)
    names = dict(zip([run.key for run in runs], family.distinct_names(runs), strict=True))
    return runs, names, lambda name: overlap.names_in(relate.table(store, runs, name), names)


def print_overlap(row: dict) -> None:
    """Print how much two runs overlap under one probe."""
    print(
        f"{row['probe']} {row['threshold']:g}: both {row['both']:,} of {row['numel']:,} coordinates"
    )
    for name, text in (
        ("chance_both", "of chance"),
        ("expected_both", "of what the sizes of the weights explain"),
        ("expected_both_rows", "of what sizes and rows explain"),
    ):
        if row[name]:
            print(f"    {row['both'] / row[name]:.3f} times {row[name]:,.0f}, {text}")
    if row["both"]:
        print(f"    {row['a_in_b']:.2%} of a's lie in b, {row['b_in_a']:.2%} of b's in a")
    if row["jaccard"] is not None:
        chance, expected = row["jaccard_chance"], row["jaccard_expected"]
        print(
            f"    Jaccard {row['jaccard']:.4f}; chance {chance:.4f}, given the sizes {expected:.4f}"
        )


def print_direction(row: "pd.Series") -> None:
    """Print how the directions of two updates agree."""
    if row["both_moved"]:
        print(
            f"opposite signs: {row['conflict_share']:.2%} of {int(row['both_moved']):,} that both"
            f" moved; chance 50 % +- {row['conflict_error']:.2%}"
        )
    if row["cosine"] == row["cosine"]:
        print(f"cosine of the updates: {row['cosine']:.4f}; chance 0 +- {row['cosine_spread']:.1g}")


def print_similarity(row) -> None:
    """Print how alike the leading directions of two runs are, in the median matrix."""
    pair = " and ".join(one_line(name, limit=60) for name in (row.run_a, row.run_b))
    print(
        f"{pair}, {row.side}, k = {row.ranks}: {row.similarity:.4f}; chance {row.chance:.4f},"
        f" rotated {row.null_low:.4f} to {row.null_high:.4f} (median of {row.matrices} matrices)"
    )
