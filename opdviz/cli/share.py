"""Commands that hand findings on: a pack, and its way back."""

import argparse
from pathlib import Path

from opdviz.cli.command import argument, command, store_of, target_of
from opdviz.errors import one_line


@command(
    "pack",
    "write comparisons into one file that opens anywhere, without the checkpoints",
    argument("key", nargs="+", help="comparisons: keys, their beginnings, or names"),
    argument("--out", type=Path, required=True, help="the pack, as opd.opdviz"),
    example="opdviz pack opd grpo --out runs.opdviz",
)
def pack(options: argparse.Namespace) -> None:
    """`opdviz pack`."""
    from opdviz import files
    from opdviz.report import pack as packing
    from opdviz.words import count

    store, target = store_of(options), target_of("pack", options.out)
    comparisons = {run.key: run for run in map(store.find, options.key)}
    data = packing.packed(store, list(comparisons.values()))
    files.write(target, data)
    print(
        f"{one_line(options.out)}: {count(len(comparisons), 'comparison')}, {len(data) / 1e6:.1f}"
        " MB; it holds no values of weights and no paths of this machine."
    )


@command(
    "unpack",
    "bring a pack's comparisons into the cache",
    argument("file", type=Path, help="a pack"),
    example="opdviz unpack runs.opdviz",
)
def unpack(options: argparse.Namespace) -> None:
    """`opdviz unpack`."""
    from opdviz.report import pack as packing

    store = store_of(options)
    new, present = packing.unpack(store, options.file)
    for key in new:
        print(f"{key}  {one_line(store.open(key).name)}")
    for key in present:
        print(f"{key}  was in the cache before, and is left as it is")
