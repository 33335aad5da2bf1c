"""Commands that hand findings on: a pack, and its way back."""

import argparse
from pathlib import Path

from opdviz.cli.command import SEVERAL, argument, command, store_of, target_of
from opdviz.errors import RequestError, one_line


@command(
    "pack",
    "write comparisons into one file that opens anywhere, without the checkpoints",
    argument("key", nargs="+", help=SEVERAL),
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


@command(
    "report",
    "write one HTML file with live figures that opens offline, of runs on one base",
    argument("key", nargs="+", help=SEVERAL),
    argument("--out", type=Path, required=True, help="the file, as opd.html"),
    argument("--protocol", default="A", help="of the headline: A, B, C or D"),
    argument("--tensor", nargs="+", default=[], help="tensors to show; else those that moved most"),
    example="opdviz report opd --out opd.html",
)
def report(options: argparse.Namespace) -> None:
    """`opdviz report`."""
    from opdviz import files
    from opdviz.report import page

    store, target = store_of(options), target_of("report", options.out)
    runs = list({run.key: run for run in map(store.find, options.key)}.values())
    text = page.written(
        store, runs, protocol=options.protocol, tensors=options.tensor, out=target.name
    )
    files.write(target, text.encode())
    print(f"{one_line(options.out)}: {len(text) / 1e6:.1f} MB; it opens offline and asks nobody.")


@command(
    "figure",
    "write one figure to a file: for paper, live, or the numbers behind it",
    argument("key", nargs="+", help="a comparison, or several runs on one base"),
    argument("view", help="what to draw, as layers or run_maps; the README lists them"),
    argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="as quantity=stable_rank"),
    argument(
        "--out",
        type=Path,
        required=True,
        help="its ending says what it is: pdf, svg, png, html, json, csv, parquet; of headlines"
        " also tex and md, of maps nodes.json for Model Explorer",
    ),
    argument(
        "--width",
        choices=("column", "full"),
        default="column",
        help="on paper: 3.25 or 6.75 inches",
    ),
    argument("--no-title", action="store_true", help="where a caption says it"),
    example="opdviz figure opd layers --set quantity=stable_rank --out layers.pdf",
)
def figure(options: argparse.Namespace) -> None:
    """`opdviz figure`."""
    from opdviz import files
    from opdviz.report import picture
    from opdviz.views import request

    target, ending = target_of("figure", options.out), picture.ending_of(options.out.name)
    store = store_of(options)
    runs = list({run.key: run for run in map(store.find, options.key)}.values())
    view = request.draw(store, runs, options.view, dict(map(word_of, options.set)))
    data = picture.saved(view, ending, width=options.width, title=not options.no_title)
    files.write(target, data)


def word_of(text: str) -> tuple[str, str]:
    """The key and the word of `key=word`.

    Raises
        RequestError: there is no `=`.
    """
    key, sign, word = text.partition("=")
    if not sign:
        raise RequestError(f"figure --set {one_line(text, limit=80)}: expected KEY=VALUE.")
    return key.strip(), word.strip()
