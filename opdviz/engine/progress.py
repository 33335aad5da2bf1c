"""How far a run is, and who is told: a bar on a terminal, plain lines elsewhere, and a job's status
file for the app.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich import progress as rich_progress

from opdviz import files
from opdviz.errors import OpdvizError, one_line
from opdviz.store.status import MEASURED

EVERY = 0.3
PLAIN_EVERY = 5.0


@dataclass
class Progress:
    """How far a run is, in seconds of estimated work; told to the listener after every part.

    `parts` and `parts_done` count what a comparison is kept in, with what was there before: the
    share of these is the one number that jobs, tables and pages say. A phase `ahead` of it, in
    which the files are read, has a share of its own.
    """

    phase: str
    total: float
    done: float = 0.0
    pairs: int = 0
    pairs_done: int = 0
    parts: int = 0
    parts_done: int = 0
    ahead: bool = False
    current: str = ""
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def advance(self, work: float) -> None:
        """So many seconds of estimated work are done."""
        self.done += work
        self.last = time.monotonic()

    @property
    def phase_share(self) -> float:
        """The share of this phase that is done, between 0 and 1."""
        return self.done / self.total if self.total else 1.0

    @property
    def share(self) -> float:
        """The share of the whole that is done, between 0 and 1; it never falls from phase to
        phase.
        """
        if self.ahead:
            return 0.0
        if self.parts:
            # The ratio first: all of them are MEASURED to the bit.
            return MEASURED * (self.parts_done / self.parts)
        return self.phase_share

    @property
    def taken(self) -> float:
        """Seconds from the start to the latest part."""
        return self.last - self.started

    @property
    def left(self) -> float | None:
        """Seconds left at the rate so far, which count down until the next part says more; `None`
        before there is a rate.
        """
        if self.phase_share <= 0.01:
            return None
        rest = self.taken * (1 - self.phase_share) / self.phase_share
        return max(0.0, rest - (time.monotonic() - self.last))


Listener = Callable[[Progress], None]


class Display:
    """A listener that shows what it is told. `bar` is rich's, or `None` for plain lines."""

    def __init__(self, bar: rich_progress.Progress | None, job: Path | None, *, quiet: bool):
        self.bar, self.job, self.quiet = bar, job, quiet
        self.task = bar.add_task("starting", total=1.0, what="") if bar else None
        self.last = self.last_plain = 0.0
        self.phase = ""
        self.status: dict = {"state": "running", "pid": os.getpid(), "started": time.time()}

    def __call__(self, progress: Progress) -> None:
        """Show the progress, at most a few times a second."""
        now = time.monotonic()
        if progress.phase == self.phase and now - self.last < EVERY and progress.phase_share < 1:
            return
        left = progress.left
        share = progress.phase_share if progress.ahead else progress.share
        self.status |= {
            "phase": phase_words(progress),
            "share": progress.share,
            "left": left,
            "current": progress.current,
        }
        self.status |= {"pairs": progress.pairs, "pairs_done": progress.pairs_done}
        self.write_status()
        line = describe(progress)
        if self.bar:
            self.bar.update(
                self.task, description=phase_words(progress), completed=progress.share, what=line
            )
        elif not self.quiet and (
            progress.phase != self.phase or now - self.last_plain > PLAIN_EVERY
        ):
            print(
                f"{progress.phase}: {share:.0%} {line}".rstrip(),
                file=sys.stderr,
                flush=True,
            )
            self.last_plain = now
        self.phase, self.last = progress.phase, now

    def note_key(self, key: str) -> None:
        """Note the key of the comparison, of several the first, as soon as it is known."""
        self.status["key"] = key
        self.write_status()

    def write_status(self, **facts) -> None:
        """Replace the job's status file, where this is a job."""
        if self.job is None:
            return
        self.status |= facts
        files.write(self.job / "status.json", json.dumps(self.status).encode())


def phase_words(progress: Progress) -> str:
    """What is being done; with its own share where the whole has not begun."""
    return f"{progress.phase} ({progress.phase_share:.0%})" if progress.ahead else progress.phase


def describe(progress: Progress) -> str:
    """Tensors done, the one just finished, and the time left."""
    parts = []
    if progress.pairs:
        parts.append(f"{progress.pairs_done} of {progress.pairs} tasks")
    if progress.left is not None and progress.phase_share < 1:
        parts.append(f"about {progress.left:.0f} s left")
    if progress.current:
        parts.append(one_line(progress.current, limit=60))
    return " · ".join(parts)


@contextmanager
def listener(job: Path | None, *, quiet: bool):
    """A listener for one run; a job's last word (done, cancelled, failed and why) is written when
    it ends.
    """
    bar = None
    if sys.stderr.isatty() and not quiet:
        from rich.console import Console

        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.TextColumn("{task.fields[what]}"),
        )
        bar = rich_progress.Progress(*columns, console=Console(stderr=True), transient=True)
        bar.start()
    display = Display(bar, job, quiet=quiet)
    try:
        yield display
        display.write_status(state="done", share=1.0, left=0.0)
    except KeyboardInterrupt:
        display.write_status(state="cancelled")
        raise
    except OpdvizError as error:
        display.write_status(state="failed", message=one_line(error, limit=600))
        raise
    finally:
        if bar:
            bar.stop()
