"""Which checkpoints the app may name: folders below the allowed roots, and nothing else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from opdviz import demo
from opdviz.checkpoint import hub
from opdviz.checkpoint.bounded import is_text
from opdviz.checkpoint.readers import ENDINGS, PIECES
from opdviz.errors import RequestError, one_line
from opdviz.interpreter import environment

CHECK_SECONDS = 60
HUB = "OPDVIZ_HUB"  # set where the app may ask one
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
MOST_FOLDERS = 400
DEEPEST = 5


def roots() -> list[Path]:
    """The folders below which checkpoints may be named: --roots, or the working folder; the lab and
    the demo pair always.
    """
    variable = os.environ.get("OPDVIZ_ROOTS")
    named = [Path(r) for r in variable.split(os.pathsep)] if variable else [Path.cwd()]
    lab = Path(os.environ.get("OPDVIZ_CACHE") or "cache") / "lab"
    return [*named, lab, *(Path(p) for p in demo.pair() or ())]


def asks_hub() -> bool:
    """Whether the app was started to take models on a hub, too."""
    return bool(os.environ.get(HUB))


def allowed(path: str) -> str:
    """A typed path, resolved, if it lies below a root.

    Raises
        RequestError: it does not, or is no path.
    """
    if hub.is_hub(path):
        if asks_hub():
            return path
        raise RequestError(
            f"{one_line(path, limit=200)} lies on a hub; start the app with --hub to ask it."
        )
    try:
        real = Path(path).expanduser().resolve()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # a name too long or with a NUL, links in a circle, ~nobody
        raise RequestError(
            f"{one_line(path, limit=200)} is no usable path; choose a folder, or type one."
        ) from None
    if not any(real.is_relative_to(root.resolve()) for root in roots()):
        raise RequestError(
            f"{one_line(path, limit=200)} lies outside the allowed folders; start the app with"
            " --roots to allow more."
        )
    return str(real)


def checkpoint_folders() -> list[str]:
    """Folders below the roots that hold weight files, for the list to choose from."""
    folders: list[str] = []
    for root in roots():
        for folder, below, files in os.walk(root):
            depth = len(Path(folder).relative_to(root).parts)
            below[:] = (
                sorted(d for d in below if not d.startswith((".", "__")) and d != "node_modules")
                if depth < DEEPEST
                else []
            )
            # A browser cannot be sent a name of bytes that are no text; a command can be given it.
            if is_text(folder) and any(f.endswith((*ENDINGS, PIECES)) for f in files):
                folders.append(folder)
            if len(folders) >= MOST_FOLDERS:
                return folders
    return list(dict.fromkeys(folders))


def meant(typed: str, folders: list[str]) -> str:
    """The folder that somebody's words mean: a piece of one listed folder alone is that folder.

    >>> meant("runs/opd", ["/a/runs/opd", "/a/runs/sft"]), meant("runs", ["/a/runs/1", "/b/runs/2"])
    ('/a/runs/opd', 'runs')

    Raises
        RequestError: it is a model's name on a hub, and no folder.
    """
    if typed in folders or hub.is_hub(typed) or os.path.exists(os.path.expanduser(typed)):
        return typed
    holding_it = [folder for folder in folders if typed.lower() in folder.lower()]
    if len(holding_it) == 1:
        return holding_it[0]
    if not holding_it and HUB_NAME.fullmatch(typed):
        name = one_line(typed, limit=200)
        if asks_hub():
            raise RequestError(f"{name} is a model's name on a hub; write it hf://{name}.")
        cached = f"models--{typed.replace('/', '--')}"
        raise RequestError(
            f"{name} is a model's name on a hub; nothing is fetched from here unless the app was"
            " started with --hub. Choose a folder on this machine; what was downloaded before lies"
            f" in ~/.cache/huggingface/hub/{cached}/snapshots."
        )
    return typed


def expanded(word: str) -> list[str]:
    """The checkpoints that a word stands for: of wildcards on a hub all that fit.

    Raises
        RequestError: nothing fits, or the hub does not answer.
    """
    return hub.expanded(word) if hub.is_hub(word) else [word]


def check(base: str, *tuned: str) -> list[dict]:
    """What `opdviz check` says of a base and each run on it.

    Raises
        RequestError: what the command refused, in its own words.
    """
    facts = json.loads(output_of_command("check", "--json", "--", base, *tuned))
    return facts if len(tuned) > 1 else [facts]


def output_of_command(*arguments: str) -> str:
    """What a short command of ours prints: run in a process of its own, which may import torch and
    read weights.

    Raises
        RequestError: what the command refused, in its own words.
    """
    command = [sys.executable, "-m", "opdviz", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"{arguments[0]} did not end within {CHECK_SECONDS} s; is the disk slow?"
        ) from None
    except (
        OSError,
        ValueError,
    ):  # more than a command line takes, a NUL byte, or letters that are no text
        words = one_line(" ".join(arguments), limit=200)
        raise RequestError(
            f"{words}: no command can be given these words; choose others."
        ) from None
    if done.returncode:
        raise RequestError(
            done.stderr.strip().removeprefix("opdviz: ") or f"{arguments[0]} failed without a word."
        )
    return done.stdout
