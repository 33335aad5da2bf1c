"""Commands on what is stored: list it, show it, judge it, take care of it."""

import argparse
import sys
from pathlib import Path

from opdviz.cli.command import (
    JSON,
    KEY,
    SEVERAL,
    argument,
    command,
    print_json,
    store_of,
    target_of,
)
from opdviz.cli.pair import headline_line
from opdviz.errors import CheckFailed, RequestError, one_line

FORMATS = ("csv", "json", "parquet")
HEADLINE_FORMATS = ("csv", "tex", "md")


@command("list", "the comparisons in the cache", JSON, example="opdviz list")
def list_(options: argparse.Namespace) -> None:
    """`opdviz list`."""
    from opdviz.store import status
    from opdviz.store.manifest import LABELS, titled

    rows = status.listing(store_of(options))
    if options.json:
        print_json(rows)
        return
    if not rows:
        print("No comparison yet. `opdviz compare BASE TUNED` makes one.")
    for key in map(one_line, store_of(options).damaged()):
        print(
            f"{key}  damaged: manifest.json cannot be read; compare the pair again, or `opdviz"
            f" forget {key}`."
        )
    for row in rows:
        size, share = (
            f"{row['bytes'] / 1e6:.1f} MB",
            f"{row['done_share']:4.0%} {row['pairs']:6,} pairs",
        )
        labels = ", ".join(one_line(row[field]) for field in LABELS if row[field])
        name = one_line(titled(row["name"], row["precision"])) + (f"  ({labels})" if labels else "")
        print(f"{row['key']}  {row['state']:8s} {share} {size:>9s}  {name}")


@command(
    "show",
    "print one tidy table",
    KEY,
    argument("table", help="the README lists them"),
    argument("--format", choices=FORMATS, default="csv"),
    argument("--out", type=Path, help="write to this file instead"),
    example="opdviz show opd blocks --format json",
)
def show(options: argparse.Namespace) -> None:
    """`opdviz show`."""
    from opdviz import tables
    from opdviz.tables import writing

    frame = tables.table(store_of(options).find(options.key), options.table)
    if options.format == "parquet" and options.out is None:
        raise RequestError(
            "show: --format parquet needs --out FILE; Parquet is not for a terminal."
        )
    data = writing.WRITERS[options.format](frame)
    write_or_print("show", options.out, data)


@command(
    "headline",
    "a paper's row beside its published numbers",
    argument("key", nargs="+", help=SEVERAL),
    argument("--protocol", default="A", help="A, B, C or D"),
    JSON,
    argument("--format", choices=HEADLINE_FORMATS, help="one table of all of them instead"),
    argument("--out", type=Path, help="write that table to this file"),
    example="opdviz headline opd --protocol B",
)
def headline(options: argparse.Namespace) -> None:
    """`opdviz headline`."""
    from opdviz.runs import headlines
    from opdviz.runs.family import distinct_names
    from opdviz.tables import protocols, published, writing

    store = store_of(options)
    runs = list({run.key: run for run in map(store.find, options.key)}.values())
    of_runs = [protocols.headline(run, options.protocol) for run in runs]
    names = distinct_names([run.manifest for run in runs])
    if options.format or options.out:
        measured = [
            headlines.Measured(name, run.manifest, rows)
            for name, run, rows in zip(names, runs, of_runs, strict=True)
        ]
        ending = options.format or "csv"
        make = headlines.table if ending == "csv" else headlines.for_paper
        frame = make(measured, options.protocol)
        write_or_print("headline", options.out, writing.WRITERS[ending](frame))
        return
    if options.json:
        several = len(runs) > 1
        print_json(
            [
                ({"run": name} if several else {}) | row
                for name, rows in zip(names, of_runs, strict=True)
                for row in rows
            ]
        )
        return
    for name, rows in zip(names, of_runs, strict=True):
        if len(runs) > 1:
            print(one_line(name))
        if not rows:
            print("Not computed yet: the headline needs the measure magnitude.")
        for row in rows:
            print(headline_line(row))
            for other in published.rows(row["quantity"], protocol=options.protocol):
                print(
                    f"    published  {other['value']:>10.4g} {other['unit']}   {other['recipe']}:"
                    f" {other['pair']}"
                )


def write_or_print(command: str, out: Path | None, data: bytes) -> None:
    """A file, or stdout without one."""
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    from opdviz import files

    files.write(target_of(command, out), data)


@command(
    "verify",
    "re-read the store and say what is wrong with it",
    argument("key", nargs="?", help="one comparison; all of them by default"),
    argument("--content", action="store_true", help="also read the checkpoints again"),
    example="opdviz verify --content",
)
def verify(options: argparse.Namespace) -> None:
    """`opdviz verify`."""
    from opdviz.engine import sources
    from opdviz.store import board, checking
    from opdviz.store import manifest as manifests
    from opdviz.store.store import Stored
    from opdviz.tables import summaries

    store = store_of(options)
    folders = store.folders() if options.key is None else [store.folder(store.resolve(options.key))]
    faults = [] if options.key is not None else list(checking.between(store))
    changes: list[str] = []
    for folder in folders:
        faults += [*checking.check(folder), *board.check(folder)]
        if manifest := manifests.read(folder):
            comparison = Stored(folder, manifest)
            faults += summaries.check(comparison)
            sentences = sources.changes(comparison, fresh=True) if options.content else []
            changes += [f"{comparison.key}: {sentence}" for sentence in sentences]
    sentences = [*map(str, faults), *changes]
    for sentence in sentences:
        print(one_line(sentence, limit=600))
    if sentences:
        raise CheckFailed(
            f"verify: {len(sentences)} faults; `opdviz compare` recomputes what is damaged."
        )
    print(f"{len(folders)} comparisons, no fault.")


@command(
    "rename",
    "give a comparison another name",
    KEY,
    argument("name", help="what to call it from now on"),
    example="opdviz rename 3f2a opd-seed0",
)
def rename(options: argparse.Namespace) -> None:
    """`opdviz rename`."""
    store = store_of(options)
    store.rename(store.find(options.key).key, options.name)


@command(
    "label",
    "say how runs were trained: a recipe and an optimizer, which group and colour them",
    argument("key", nargs="+", help=SEVERAL),
    argument("--recipe", help="runs of one recipe are its seeds; empty takes it off"),
    argument("--optimizer", help="as adamw; empty takes it off"),
    example="opdviz label opd-seed0 opd-seed1 --recipe opd --optimizer adamw",
)
def label(options: argparse.Namespace) -> None:
    """`opdviz label`."""
    from opdviz.store.manifest import LABELS
    from opdviz.store.store import checked_labels

    labels = {field: getattr(options, field) for field in LABELS}
    labels = {field: text for field, text in labels.items() if text is not None}
    if not labels:
        raise RequestError("label: found no label; expected --recipe or --optimizer.")
    checked_labels(labels)
    store = store_of(options)
    for key in [store.find(word).key for word in options.key]:
        store.label(key, labels)


@command(
    "stop",
    "end comparisons that are running; the other runs of their job go on",
    argument("key", nargs="+", help=SEVERAL),
    example="opdviz stop opd-seed1",
)
def stop(options: argparse.Namespace) -> None:
    """`opdviz stop`."""
    from opdviz.store import status

    store = store_of(options)
    for comparison in [store.find(word) for word in options.key]:
        if not comparison.running:
            raise RequestError(f"stop: {one_line(comparison.name, limit=60)} is not running.")
        status.ask_to_stop(comparison)


@command(
    "forget",
    "delete comparisons from the cache",
    argument("key", nargs="+", help=SEVERAL),
    example="opdviz forget opd-seed0",
)
def forget(options: argparse.Namespace) -> None:
    """`opdviz forget`."""
    store = store_of(options)
    for key in [store.resolve(word) for word in options.key]:
        store.forget(key)


@command(
    "block",
    "read a small block of values and keep it beside the tables",
    KEY,
    argument("tensor", help="its name"),
    argument("--row", type=int, default=0, help="the first, from 0"),
    argument("--column", type=int, default=0, help="the first, from 0"),
    argument("--size", type=int, default=128, help="rows and columns"),
    example="opdviz block opd model.layers.0.mlp.up_proj.weight --row 64 --size 32",
)
def block(options: argparse.Namespace) -> None:
    """`opdviz block`."""
    from opdviz.runs import values

    comparison = store_of(options).find(options.key)
    print(values.keep_block(comparison, options.tensor, options.row, options.column, options.size))
