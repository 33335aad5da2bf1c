"""Follow a training's folder: its steps as they become whole, until the training is over."""

import time
from pathlib import Path

from opdviz import checkpoint, files
from opdviz.errors import OpdvizError, RequestError, one_line
from opdviz.runs.trajectory import has_weights, steps_below

EVERY = 1.0  # seconds between two looks
# Seconds for which nothing of a step has changed, when somebody else writes it: trainers write
# shard after shard, and say nothing when they are through.
QUIET = 10.0
Stamp = tuple[tuple[str, int, int], ...]


class Watch:
    """The folder of a training that goes on.

    A recorder of this project writes a step as a whole and holds the folder's lock for as long as
    it lives; without one the folder is watched until somebody ends it.
    """

    def __init__(self, root: Path):
        """Raises RequestError: the folder is a checkpoint itself, or a file."""
        self.root = root
        self.given: set[Path] = set()
        self.stamps: dict[Path, tuple[Stamp, float]] = {}
        if root.is_file() or (root.is_dir() and has_weights(root)):
            raise RequestError(
                f"compare --follow {one_line(root)}: found a checkpoint; expected the folder of a"
                " training, with its steps below."
            )

    @property
    def recorded(self) -> bool:
        """Whether a recorder wrote into the folder."""
        return (self.root / "lock").is_file()

    @property
    def over(self) -> bool:
        """Whether the training has ended, as far as that can be known."""
        return self.recorded and not files.running(self.root)

    def ready(self) -> list[Path]:
        """The steps that are whole by now and were not given before, in their order."""
        steps = [step for step in steps_below(self.root) if step not in self.given]
        whole = [step for step in steps if self.is_whole(step)]
        self.given |= set(whole)
        return whole

    def is_whole(self, step: Path) -> bool:
        """Whether a step is written to its end: it opens, and has not changed for a while."""
        if self.recorded:
            return True
        try:
            stamp = stamp_of(step)
            before, since = self.stamps.get(step, (None, 0.0))
            if stamp != before:
                self.stamps[step] = stamp, time.monotonic()
                return False
            if time.monotonic() - since < QUIET:
                return False
            checkpoint.open(step)
        except (OSError, OpdvizError):  # half-written: it waits
            return False
        return True


def stamp_of(folder: Path) -> Stamp:
    """Names, sizes and times of the files of a folder."""
    states = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
