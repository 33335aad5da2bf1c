"""Commands on runs: a mask to train, the overlap of two."""

import argparse
from pathlib import Path

from opdviz.cli.command import JSON, KEY, argument, command, print_json, store_of, target_of
from opdviz.errors import RequestError, one_line


@command(
    "subnetwork",
    "write one run's visible-update mask, to train that subnetwork alone",
    KEY,
    argument(
        "--threshold",
        type=float,
        help="a coordinate is in it where |D| in bf16 is larger (default: 1e-5)",
    ),
    argument(
        "--density",
        type=float,
        help="instead: the share of coordinates to keep, the most moved ones",
    ),
    argument("--out", type=Path, required=True, metavar="FILE"),
    example="opdviz subnetwork opd --out mask.safetensors",
)
def subnetwork(options: argparse.Namespace) -> None:
    """`opdviz subnetwork`."""
    from opdviz.definitions import VISIBLE
    from opdviz.runs import masks

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
    target = target_of("subnetwork", options.out)
    comparison = store_of(options).find(options.key)
    matching = masks.matching_of_comparison(comparison)
    if target in {
        file.resolve() for side in (matching.base, matching.tuned) for file in side.files
    }:
        raise RequestError(
            f"subnetwork --out {one_line(options.out)}: found the checkpoint's own file; name"
            " another."
        )
    threshold = VISIBLE if options.threshold is None else options.threshold
    if options.density is not None:
        threshold = masks.threshold_for(matching, options.density)
    base = list(comparison.manifest.base.fingerprints)
    masks.keep(
        target,
        masks.visible(matching, threshold),
        key=comparison.key,
        base=base,
        threshold=threshold,
    )
    mask = masks.open_mask(options.out)
    share = f"{mask.density:.4%} of the coordinates"
    print(f"{options.out}: {len(mask.tensors)} tensors, {share}, |D| > {threshold:g} in bf16.")


@command(
    "overlap",
    "do two runs on one base move the same coordinates?",
    argument("key", nargs=2),
    JSON,
    example="opdviz overlap opd grpo",
)
def overlap(options: argparse.Namespace) -> None:
    """`opdviz overlap`."""
    from opdviz.runs import overlap
    from opdviz.tables import stored

    store = store_of(options)
    table = overlap.of_runs(*(store.find(word) for word in options.key))
    if options.json:
        print_json(stored.records(table))
        return
    for row in overlap.whole(table):
        print(
            f"{row['probe']} {row['threshold']:g}: both {row['both']:,} of {row['numel']:,}"
            " coordinates"
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
                f"    Jaccard {row['jaccard']:.4f}; chance {chance:.4f}, given the sizes"
                f" {expected:.4f}"
            )
