"""The runs that a page of several shows: those on the base of the chosen comparison, or some of
them; their figures, and the table of their headlines.
"""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from opdviz import jobs
from opdviz.runs import family, headlines, relate
from opdviz.store.manifest import LABELS
from opdviz.ui import address, cached, comparison, figure, job_lines, links, saving, server, tables
from opdviz.ui.comparison import Chosen
from opdviz.views import Several, View, request, state_of
from opdviz.views.runs import names_of
from opdviz.words import plain

BY_ITSELF = "each by itself"


@dataclass(frozen=True)
class Runs:
    """The runs of a page, in their order."""

    members: tuple[Chosen, ...]

    @property
    def names(self) -> list[str]:
        """What figures call each."""
        return names_of([member.reader for member in self.members])

    @property
    def keys(self) -> list[str]:
        """Their keys."""
        return [member.key for member in self.members]

    def related(self, table: str) -> pd.DataFrame | None:
        """A table of how they lie to each other, by their keys; `None` while it is not there."""
        stored_runs = [member.comparison for member in self.members]
        return relate.table(server.store(), stored_runs, table)

    @property
    def several(self) -> Several:
        """They as views see them."""
        return Several([member.reader for member in self.members], self.related)

    def view(self, name: str, state: dict) -> View:
        """A view in a state, drawn once for all sessions."""
        state = state_of(name, state)
        stamps = tuple((str(one.folder), one.name, *one.drawn_from) for one in self.members)
        return cached.runs_view(stamps, name, json.dumps(state, sort_keys=True), self.several)

    def command(self, name: str, state: dict) -> Callable[[str], str]:
        """What writes a view in a state to a file."""
        names = [member.comparison.name for member in self.members]
        return partial(request.command, names, name, state)

    def show(
        self,
        name: str,
        state: dict,
        *,
        on_click: Callable[[list], None] | None = None,
        hint: str = "",
    ) -> None:
        """A view with its sentence, its data and its definitions."""
        what = name.removeprefix("run_")
        stem = figure.stem_of(f"{len(self.members)} runs", what, state_of(name, state))
        view = self.view(name, state)
        # Of large models cells take no clicks: too many marks are slow to draw.
        traces = view.figure.data if view.figure is not None else ()
        takes = any(getattr(trace, "customdata", None) is not None for trace in traces)
        clicks = {"on_click": on_click, "hint": hint} if takes else {}
        command = self.command(name, links.not_default(state))
        with figure.drawn(name, view, stem, command=command, **clicks):
            pass


def need() -> family.Family:
    """The family of the chosen comparison; without one, or without a second run in it, the page
    says what to do and stops.
    """
    store = server.store()
    comparisons, key = store.all(), address.shown()
    if any(job.request.follow and job.state == "running" for job in jobs.all_jobs(store)):
        st.fragment(draw_new, run_every=comparison.PARTS_POLL)(store.keys())
    of_key = family.of(key, comparisons)
    if of_key is None:
        comparison.ask_for_one([one.key for one in comparisons])
        links.end()
    if len(of_key.runs) < 2:
        st.title("One run so far", anchor=False)
        st.info(
            f"**{plain(of_key.runs[0].name, limit=60)}** is the only run on"
            f" {plain(of_key.base.label, limit=60)}. Compare another checkpoint with that base, and"
            " the two stand side by side here."
        )
        st.page_link("pages/open/comparisons.py", label="Compare another", icon=":material/add:")
        links.end()
    return of_key


def draw_new(keys: list[str]) -> None:
    """While a training is followed: draw the page again when another step is there."""
    if server.store().keys() != keys:
        st.rerun()


def choose(where, of_base: family.Family) -> Runs:
    """The choice of runs, at first all of a base up to eight; what the address names beyond these
    is said.
    """
    called = {key: st.session_state[address.NAMES][key] for key in of_base.keys}
    labels = address.labels(called)
    keys = links.choose_several(
        where,
        "Runs",
        {key: (labels[key], address.word_of(key, called)) for key in called},
        "runs",
        most=family.MOST,
        meaning=lambda word: address.meant(word, called),
        on_unknown=lambda word: other_base(word, of_base),
    )
    if len(keys) < 2:
        st.info("Choose two runs or more.")
        links.end()
    return followed(Runs(tuple(comparison.chosen(key) for key in keys)))


def followed(runs: Runs) -> Runs:
    """The runs, the page of which is drawn again when more of one that is running is there."""
    for member in runs.members:
        if member.state == "running":
            st.fragment(comparison.follow, run_every=comparison.PARTS_POLL)(member)
            break  # its neighbours come with it
    return runs


def other_base(word: str, of_base: family.Family) -> str:
    """Why a run that the address names is not shown."""
    other = address.meant(word, st.session_state[address.NAMES])
    if other is None:
        return f"The link asks for run “{plain(word, limit=80)}”, which is not in this cache."
    first = of_base.runs[0]
    return (
        f"{plain(word, limit=80)} ({other}) and {plain(first.name, limit=60)} ({first.key}) are not"
        " on one base; expected runs from the same checkpoint."
    )


def choose_reference(where, runs: Runs) -> int | None:
    """The place of the run that the others stand beside; `None` for each by itself."""
    name = links.choose(where, "Beside", (BY_ITSELF, *runs.names), "against")
    return None if name == BY_ITSELF else runs.names.index(name)


def headline_table(runs: Runs, protocol: str) -> None:
    """The headline of all runs under a protocol, the mean and spread of seeds, and below them what
    was published.
    """
    measured = [
        headlines.Measured(name, member.manifest, member.headline(protocol))
        for name, member in zip(runs.names, runs.members, strict=True)
        if member.state == "done"
    ]
    frame = headlines.table(measured, protocol)
    if frame.empty:
        st.info("The headline waits until a run is measured to its end.")
        return
    numbers = [column for column in frame if column not in ("run", "what", *LABELS)]
    st.dataframe(
        frame,
        hide_index=True,
        key="run_headline_table",
        column_config={column: st.column_config.NumberColumn(format="%.4g") for column in numbers},
    )
    st.caption(
        "In percent but for ranks and angles; a click on a column's name sorts by it."
        f" {tables.SIDEWAYS}"
    )
    stem = f"{len(measured)}-runs_headline-{protocol}"
    saving.data_buttons("run_headlines", frame, stem=stem)
    saving.table_buttons("run_headlines", headlines.for_paper(measured, protocol), stem=stem)


def ask_to_relate(runs: Runs, what: str, button: str, table: str | None = None) -> None:
    """Where something was not worked out yet: what it takes, and a button that starts it."""
    request = jobs.Request(keys=tuple(runs.keys), table=table, time=time.time())
    job = next((one for one in jobs.all_jobs(server.store()) if one.id == request.id), None)
    if job and job.state == "running":
        st.info("The runs are being read. The page goes on by itself.")
        return
    parameters = (len(runs.keys) + 1) * max(member.manifest.parameters for member in runs.members)
    st.info(
        f"{what} is worked out from the checkpoints: base and runs are read once,"
        f" {parameters / 1e6:,.0f} M weights in all. It is kept, so that nobody waits twice."
    )
    if job and job.state == "failed":
        st.error(plain(job.message, limit=600))
    if server.read_only():
        words = shlex.join(["opdviz", *request.command])
        st.caption(f"This server is read-only: `{words}` works it out.")
    elif st.button(button, key=f"relate_{table}") and job_lines.begun(
        lambda: jobs.start_request(server.store(), request)
    ):
        st.rerun()


def relation_table(rows: pd.DataFrame, by: str) -> None:
    """Every number of how runs lie to each other, to be sorted by a click on a column's name."""
    tables.quantities_table(rows, "relation_table")
    st.caption(f"{len(rows):,} rows. {tables.SIDEWAYS}")
    saving.data_buttons("relations", rows, stem=f"relations_by-{by}")
