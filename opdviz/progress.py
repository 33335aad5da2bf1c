"""Tell of a run's progress: a bar on a terminal, plain lines elsewhere, and a job's status file for the app."""

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from opdviz.errors import OpdvizError, one_line

EVERY = 0.3
PLAIN_EVERY = 5.0


class Listener:
    """Takes an analysis.Progress and shows it. `bar` is rich's, or `None` for plain lines."""

    def __init__(self, bar: Progress | None, job: Path | None, *, quiet: bool):
        self.bar, self.job, self.quiet = bar, job, quiet
        self.task = bar.add_task("starting", total=1.0, what="") if bar else None
        self.last = self.last_plain = 0.0
        self.phase = ""
        self.status: dict = {"state": "running", "pid": os.getpid(), "started": time.time()}

    def __call__(self, progress) -> None:
        """Show the progress, at most a few times a second."""
        now = time.monotonic()
        if progress.phase == self.phase and now - self.last < EVERY and progress.share < 1:
            return
        left = progress.left
        self.status |= {"phase": progress.phase, "share": progress.share, "left": left, "current": progress.current}
        self.status |= {"pairs": progress.pairs, "pairs_done": progress.pairs_done}
        self.write_status()
        line = describe(progress)
        if self.bar:
            self.bar.update(self.task, description=progress.phase, completed=progress.share, what=line)
        elif not self.quiet and (progress.phase != self.phase or now - self.last_plain > PLAIN_EVERY):
            print(f"{progress.phase}: {progress.share:.0%} {line}".rstrip(), file=sys.stderr, flush=True)
            self.last_plain = now
        self.phase, self.last = progress.phase, now

    def found(self, key: str) -> None:
        """Note the key of the comparison as soon as it is known."""
        self.status["key"] = key
        self.write_status()

    def write_status(self, **facts) -> None:
        """Replace the job's status file, where this is a job."""
        if self.job is None:
            return
        self.status |= facts
        temporary = self.job / f"status.json.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(self.status))
        os.replace(temporary, self.job / "status.json")


def describe(progress) -> str:
    """Tensors done, the one just finished, and the time left."""
    parts = []
    if progress.pairs:
        parts.append(f"{progress.pairs_done} of {progress.pairs} tasks")
    if progress.left is not None and progress.share < 1:
        parts.append(f"about {progress.left:.0f} s left")
    if progress.current:
        parts.append(one_line(progress.current, limit=60))
    return " · ".join(parts)


@contextmanager
def listener(job: Path | None, *, quiet: bool):
    """A listener for one run; a job's last word (done, cancelled, failed and why) is written when it ends."""
    bar = None
    if sys.stderr.isatty() and not quiet:
        from rich.console import Console

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[what]}"),
        )
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        bar.start()
    made = Listener(bar, job, quiet=quiet)
    try:
        yield made
        made.write_status(state="done", share=1.0, left=0.0)
    except KeyboardInterrupt:
        made.write_status(state="cancelled")
        raise
    except OpdvizError as error:
        made.write_status(state="failed", message=one_line(error, limit=600))
        raise
    finally:
        if bar:
            bar.stop()
