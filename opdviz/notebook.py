"""For notebooks and scripts: compare two checkpoints, and ask the comparison for tables, figures
and files.

The work is done by the job that a page would start, in a process of its own: a notebook keeps its
memory and its signals, a script needs no `if __name__ == "__main__"`, and the app shows the same.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from opdviz import doctor, files, jobs, tables
from opdviz.checkpoint import hub
from opdviz.errors import OpdvizError, one_line
from opdviz.figures import theme
from opdviz.report import pack, page, picture
from opdviz.runs import headlines
from opdviz.store.store import Store, Stored, root_of
from opdviz.tables import protocols
from opdviz.views import View, request
from opdviz.words import duration

POLL = 0.3  # seconds


def compare(
    base: str | Path,
    tuned: str | Path,
    *,
    name: str = "",
    cache: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
) -> "Comparison":
    """What training did between two checkpoints, measured to its end and kept in a cache; at once
    where it was measured before. Interrupted, it goes on where it stopped when it is asked again.

    Arguments
        base, tuned: folders or files of weights, or `hf://org/name[@revision][/folder]`.
        name: what to call it; from its folders without one.
        cache: the folder of the store; `$OPDVIZ_CACHE` or `cache` without one.
        device: where decompositions run, `cpu` (the default), `cuda` or `auto`.
        workers: processes; one a core without it.

    Raises
        OpdvizError: it could not be done, and why, in one line.
    """
    store = Store(root_of(cache))
    work = jobs.Request(
        base=absolute(base),
        tuned=(absolute(tuned),),
        of_each={"name": (name,)} if name else {},
        device=device,
        workers=workers,
        time=time.time(),
    )
    job = followed(jobs.start_request(store, work))
    if job.state != "done":
        last_line = job.log().strip().rpartition("\n")[2].removeprefix("opdviz: ")
        raise OpdvizError(
            one_line(job.status.get("message") or last_line or job.message, limit=600)
        )
    return Comparison(store, store.find(job.status["key"]))


def absolute(checkpoint: str | Path) -> str:
    """A checkpoint as a process that starts elsewhere finds it."""
    return str(checkpoint if hub.is_hub(checkpoint) else Path(checkpoint).absolute())


def find(comparison: str, *, cache: str | Path | None = None) -> "Comparison":
    """A comparison of a cache, by its key, a beginning of it, or its name.

    Raises
        RequestError: there is none, or several.
    """
    store = Store(root_of(cache))
    return Comparison(store, store.find(comparison))


def followed(job: jobs.Job) -> jobs.Job:
    """A job at its end; its progress is shown meanwhile. Ctrl-C, or a notebook's stop button, ends
    it; what it finished stays.
    """
    say = progress_line()
    try:
        while job.state == "running":
            say(words_of(job))
            time.sleep(POLL)
            job = jobs.load(job.folder)
    except KeyboardInterrupt:
        if job.state == "running":
            jobs.cancel(job)
        raise
    finally:
        say("")
    return job


def words_of(job: jobs.Job) -> str:
    """How far a job is.

    >>> words_of(jobs.Job("x", Path("x"), jobs.Request(), {"share": 0.5, "left": 70.0}, "running"))
    'opdviz: 50 %, about 1 min 10 s left'
    """
    left = job.status.get("left")
    rest = f", about {duration(left)} left" if left else ""
    phase = f" {job.status['phase']}" if job.status.get("phase") else ""
    return f"opdviz:{phase} {job.share:.0%}{rest}".replace("%", " %")


def progress_line():
    """What shows one line in place of the one before: in a notebook, on a terminal, or nowhere."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.display import display

        handle = display({"text/plain": ""}, raw=True, display_id=True)
        return lambda words: handle.update({"text/plain": words}, raw=True)
    if sys.stderr.isatty():
        return lambda words: print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
    return lambda words: None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A base, one tuned checkpoint, and what was measured between them."""

    store: Store
    stored: Stored

    @property
    def name(self) -> str:
        """What people call it."""
        return self.stored.name

    @property
    def key(self) -> str:
        """What finds it in its cache."""
        return self.stored.key

    def table(self, name: str) -> pd.DataFrame:
        """One tidy table; the README lists them, `opdviz.QUANTITIES` says what each column is.

        Raises
            RequestError: there is none of this name.
        """
        return tables.table(self.stored, name)

    def headline(self, protocol: str = "A") -> dict[str, float]:
        """The headline quantities under a paper's protocol, A to D, each with its chance beside it
        (`<quantity> by chance`); shares in percent. As loggers of metrics take it.
        """
        values = self.measured(protocol).values
        return {quantity: value for quantity, value in values.items() if value is not None}

    def measured(self, protocol: str = "A") -> headlines.Measured:
        """The rows of a protocol with the comparison's name."""
        rows = protocols.headline(self.stored, protocol)
        return headlines.Measured(self.stored.manifest.title, self.stored.manifest, rows)

    def findings(self) -> pd.DataFrame:
        """What the doctor finds, a row a finding: `rule`, `severity`, `sentence`."""
        rows = [(one.rule, one.severity, one.sentence) for one in doctor.examine(self.stored)]
        return pd.DataFrame(rows, columns=["rule", "severity", "sentence"])

    def view(self, name: str, *, beside: Sequence["Comparison"] = (), **state: object) -> View:
        """A figure of the app with the sentence that reads it (`reading`), its numbers (`data`) and
        the quantities that it speaks of (`terms`); `beside` others on the same base where it is of
        several runs.

        Raises
            RequestError: there is no such view, it does not take a key, or there is nothing to
                draw.
        """
        runs = [self.stored, *(other.stored for other in beside)]
        return request.draw(self.store, runs, name, {key: str(v) for key, v in state.items()})

    def figure(self, name: str, *, beside: Sequence["Comparison"] = (), **state: object):
        """A figure of the app as Plotly's, for instance `c.figure("layers", quantity="cosine")`.
        Raises as `view` does.
        """
        return theme.inked(self.view(name, beside=beside, **state).figure, "light")

    def save(
        self,
        out: str | Path,
        name: str,
        *,
        beside: Sequence["Comparison"] = (),
        width: str = "column",
        title: bool = True,
        **state: object,
    ) -> None:
        """A figure of the app as a file, whose ending says of which kind: pdf, svg, png, html,
        json, csv, parquet; of headlines tex and md, of maps nodes.json.

        Raises
            RequestError: nobody writes that ending; and as `view` does.
        """
        view = self.view(name, beside=beside, **state)
        ending = picture.ending_of(Path(out).name)
        files.write(Path(out), picture.saved(view, ending, width=width, title=title))

    def report(
        self, out: str | Path, *, beside: Sequence["Comparison"] = (), protocol: str = "A"
    ) -> None:
        """One HTML file with live figures, tables and definitions, which opens offline."""
        runs = [self.stored, *(other.stored for other in beside)]
        text = page.written(self.store, runs, protocol=protocol, out=Path(out).name)
        files.write(Path(out), text.encode())

    def pack(self, out: str | Path) -> None:
        """One file that opens anywhere by `opdviz app --pack`, without the checkpoints."""
        files.write(Path(out), pack.packed(self.store, [self.stored]))

    def __repr__(self) -> str:
        manifest = self.stored.manifest
        return (
            f"Comparison({one_line(manifest.title)!r}: {one_line(manifest.base.label)} →"
            f" {one_line(manifest.tuned.label)}, {manifest.pairs:,} tensors)"
        )

    def _repr_html_(self) -> str:
        """Its headline beside chance and beside what was published, as notebooks show it."""
        table = headlines.for_paper([self.measured()], "A")
        return table.to_html(index=False, escape=True, border=0)
