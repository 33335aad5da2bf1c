"""Checkpoints as commands name them: paths, folders of steps, and models on a hub, which are
brought to this machine as far as a command reads them.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they load the engine, which the help of a command does without
    from opdviz.checkpoint import Checkpoint
    from opdviz.engine.progress import Listener


def source(word: str) -> Path | str:
    """A checkpoint as somebody named it: a path, or `hf://` for a model on a hub."""
    return word if word.startswith("hf://") else Path(word)


def opened(base: Path | str, *tuned: Path | str) -> list["Checkpoint"]:
    """A base and what training made of it, opened."""
    from opdviz import checkpoint

    first, *others = map(checkpoint.open, (base, *tuned))
    first.notes += checkpoint.tokens_note(first.path)
    return [first, *others]


@contextmanager
def headers_at_hand(*words: Path | str) -> Iterator[list[Path | str]]:
    """What checkpoints are opened from for their headers: of a model on a hub its headers alone."""
    from opdviz.checkpoint import hub, hub_headers

    with tempfile.TemporaryDirectory(prefix="opdviz-") as folder:
        yield [
            hub_headers.headers_of(word, Path(folder) / str(at)) if hub.is_hub(word) else word
            for at, word in enumerate(words)
        ]


def bring(words: Iterable[Path | str], listener: "Listener") -> None:
    """Download what of some checkpoints lies on a hub and is not on this machine."""
    from opdviz.checkpoint import hub
    from opdviz.engine.progress import Progress

    for word in filter(hub.is_hub, words):
        progress = Progress(f"downloading {hub.place_of(word).label}", 1.0, ahead=True)

        def tell(done: int, total: int, progress: Progress = progress) -> None:
            progress.done, progress.total = done, max(total, 1)
            listener(progress)

        hub.fetched(word, tell)


def with_steps(words: list[Path | str]) -> list[Path | str]:
    """The checkpoints that words name: of a training's folder all of its steps, of wildcards on a
    hub all that fit.

    Raises
        RequestError: two are of one step, or nothing fits.
    """
    from opdviz.checkpoint import hub
    from opdviz.runs.trajectory import steps_below

    return [
        step
        for word in words
        for step in (hub.expanded(word) if hub.is_hub(word) else steps_below(word) or [word])
    ]


def whereabouts(word: Path | str) -> Path:
    """Where a checkpoint lies, from everywhere; a model on a hub is downloaded."""
    from opdviz.checkpoint import hub

    return hub.fetched(word) if hub.is_hub(word) else Path(word).absolute()
