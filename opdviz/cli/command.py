"""A command in one place: its name, what it says of itself, its arguments, an example, and the body
below them.

Imports stand inside the bodies, so that `--version` and `list` do not pay for what `compare` needs.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opdviz.errors import RequestError, one_line

MOST_WORKERS = 256


@dataclass(frozen=True)
class Argument:
    """One argument of a command, as `argparse` takes it."""

    names: tuple[str, ...]
    options: dict


@dataclass(frozen=True)
class Command:
    """A command of the program; `body` takes the options that were read."""

    name: str
    text: str
    arguments: tuple[Argument, ...]
    example: str
    body: Callable[[argparse.Namespace], None]


def argument(*names: str, **options) -> Argument:
    """An argument of a command."""
    return Argument(names, options)


def command(
    name: str, text: str, *arguments: Argument, example: str
) -> Callable[[Callable], Command]:
    """Make a command of the function below, which is its body."""
    return lambda body: Command(name, text, arguments, example, body)


CACHE = argument("--cache", type=Path, help="the store (default: $OPDVIZ_CACHE or cache/)")
KEY = argument("key", help="a comparison: its key, a unique beginning of it, or its name")
SEVERAL = "comparisons: keys, their beginnings, or names"
JSON = argument("--json", action="store_true", help="print one JSON value")
WORKERS = argument(
    "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
)
# Runs of one recipe are seeds of it.
LABEL_OPTIONS = tuple(
    argument(
        f"--{field}",
        action="append",
        help=f"{text}; of several runs one for all, or one for each",
    )
    for field, text in (
        ("recipe", "how it was trained, which groups runs: those of one recipe are its seeds"),
        ("optimizer", "what trained it, as adamw"),
    )
)


def store_of(options: argparse.Namespace):
    """The store that the options or the environment name."""
    from opdviz.store.store import Store, root_of

    return Store(root_of(options.cache))


def check_workers(count: int) -> None:
    """Refuse a number of workers that no machine has.

    Raises
        RequestError: it is none.
    """
    if not 1 <= count <= MOST_WORKERS:
        raise RequestError(f"--workers: found {count}; expected 1 to {MOST_WORKERS}.")


def check_seed(seed: int) -> None:
    """Refuse a seed that no generator takes.

    Raises
        RequestError: it is none.
    """
    if not 0 <= seed < 1 << 32:
        raise RequestError(f"--seed: found {seed}; expected a whole number from 0 to {2**32 - 1}.")


def print_json(value: object, *, indent: int | None = 1) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=indent, allow_nan=False))


def target_of(command: str, out: Path) -> Path:
    """The file that --out stands for; a link keeps being one, what it points to is written.

    Raises
        RequestError: it is a folder or a device, or its folder is not there.
    """
    try:
        target = out.resolve()
        trouble = "a folder or device" if target.exists() and not target.is_file() else ""
        trouble = trouble or ("" if target.parent.is_dir() else "no such folder")
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # links in a circle; a name longer than the disk takes, or with a NUL
        trouble = "no usable name"
    if trouble:
        raise RequestError(
            f"{command} --out {one_line(out)}: found {trouble}; expected the name of a file in a"
            " folder."
        )
    return target


def new_folder_of(command: str, out: Path) -> Path:
    """The folder that --out stands for, which is not there yet or is empty.

    Raises
        RequestError: something is there, or its folder is not.
    """
    try:
        target = out.resolve()
        trouble = "a file" if target.exists() and not target.is_dir() else ""
        trouble = trouble or ("files in it" if target.is_dir() and any(target.iterdir()) else "")
        trouble = trouble or ("" if target.parent.is_dir() else "no such folder to make it in")
    except (OSError, RuntimeError, ValueError):
        trouble = "no usable name"
    if trouble:
        raise RequestError(
            f"{command} --out {one_line(out)}: found {trouble}; expected the name of a new folder."
        )
    return target
