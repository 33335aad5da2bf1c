"""The frame around every page: the first start, the choice of comparison, the line on what runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from opdviz import demo, jobs
from opdviz.errors import OpdvizError
from opdviz.lab import shipped
from opdviz.lab.places import Places
from opdviz.lab.recipes import MAIN
from opdviz.ui import address, links
from opdviz.ui.chosen import POLL, read_only, store
from opdviz.ui.shown import choose_picture
from opdviz.ui.turns import stepped_out
from opdviz.words import duration, plain

LAB_NAME = "lab opd"


@contextmanager
def frame() -> Iterator[None]:
    """The sidebar around a page: its choice of comparison and what runs before, the link to what it shows after it."""
    with st.sidebar:
        address.choose(store())
        job_line()
        foot = st.container()
    with said():
        yield
    with foot:
        links.copy_link()
        choose_picture()


@contextmanager
def no_frame() -> Iterator[None]:
    """A presentation: the page alone, of the comparison that the address names."""
    address.settle(store())
    with said():
        yield


@contextmanager
def said() -> Iterator[None]:
    """A page that ends early, or says in one line what it cannot do: a table is damaged, the disk is full."""
    try:
        yield
    except links.PageEnd:
        pass
    except OpdvizError as error:
        st.header("This page stops here", anchor=False)
        st.error(plain(error, limit=600))


def first_start() -> None:
    """In a cache that was never used: write the lab's checkpoints out and start comparing its `opd` run with the base."""
    st.session_state["first_view"] = "first_view" not in st.session_state
    made = store()
    lab = made.root / "lab"
    if read_only() or lab.exists() or made.keys():
        return
    bar, text = st.empty(), "Unpacking the lab's checkpoints"
    try:
        shipped.expand(lab, lambda share: bar.progress(share, text=text))
    except OpdvizError as error:
        st.error(plain(error))
        return
    finally:
        bar.empty()
    if not all((lab / name).is_dir() for name in shipped.FIRST):  # a checkout without them
        return
    start_job(*(str(lab / name) for name in shipped.FIRST), name=LAB_NAME)


def ready_made(known: set[str]) -> dict[str, tuple[str, str, str]]:
    """Pairs that are on this machine to be looked at, by name: base, tuned and what it is; without those compared already."""
    lab = Places(store().root / "lab")
    found = {
        f"lab {recipe.name}": (str(lab.of(recipe.base)), str(lab.folder(recipe)), recipe.text)
        for recipe in MAIN
        if lab.folder(recipe).is_dir()
    }
    if pair := demo.pair():
        found[demo.NAME] = (*pair, "a sentence encoder and a model tuned from it, made by nobody here")
    return {name: pair for name, pair in found.items() if name not in known}


def open_the_lab_s_first(rows: list[dict]) -> None:
    """Where this is a visitor's first page: go to the lab's own comparison, while it is the only one, or on its way."""
    alone = [row["name"] for row in rows] == [LAB_NAME]
    coming = not rows and any(
        job.request.get("name") == LAB_NAME and job.state == "running" for job in jobs.all_jobs(store())
    )
    if st.session_state["first_view"] and (alone or coming):
        links.follow("pages/run/overview.py", {})


def start_job(base: str, tuned: str, *, name: str | None = None) -> bool:
    """Start a comparison and give True, or say why not."""
    try:
        with stepped_out():
            jobs.start(store(), base, tuned, name=name)
    except OpdvizError as error:
        st.error(plain(error))
        return False
    return True


def job_line() -> None:
    """The frame's lines on what runs; they poll while something does, and the page is drawn again when it is done.

    What this session saw running and did not end well stays in sight, to be retried or dismissed.
    """
    known = st.session_state.setdefault("_jobs", set())
    running = {job.id for job in jobs.all_jobs(store()) if job.state == "running"}
    known |= running
    if known:
        st.fragment(draw_job_line, run_every=POLL if running else None)(running)


def draw_job_line(was_running: set[str]) -> None:
    """One line and a bar for each job of this session that runs or did not end well."""
    known, ended = st.session_state["_jobs"], False
    for job in jobs.all_jobs(store()):
        if job.id not in known:
            continue
        ended |= job.id in was_running and job.state != "running"
        if job.state == "done":
            known.discard(job.id)
            continue
        name = plain(
            job.request.get("name") or f"{label_of(job.request.get('base'))} → {label_of(job.request.get('tuned'))}",
            limit=60,
        )
        if job.state == "running":
            st.progress(min(1.0, job.share), text=f"{name}: {progress_text(job)}")
        else:
            st.markdown(f":orange-badge[{job.state}] {name}")
        with st.popover("Log and more", type="tertiary", key=f"job_{job.id}"):
            if job.state == "failed":
                st.error(plain(job.message, limit=600))
            st.code(job.log() or "nothing yet", language=None, height=200)
            job_actions(job, "line")
            if job.state != "running" and st.button("Dismiss", key=f"line_dismiss_{job.id}"):
                known.discard(job.id)
                st.rerun()
    if ended:
        st.rerun()


def label_of(path: object) -> str:
    """The last piece of a path."""
    return str(path).rstrip("/").rsplit("/", 1)[-1]


def job_actions(job: jobs.Job, where: str) -> None:
    """What can be done about a job."""
    if read_only():
        return
    if job.state == "running" and st.button("Cancel", key=f"{where}_cancel_{job.id}"):
        try:
            jobs.cancel(job)
        except OpdvizError as error:  # it ended in between
            st.caption(plain(error))
    known = {"base", "tuned"} <= set(job.request)  # the file that says what was asked for may be damaged
    again = known and job.state in ("failed", "cancelled") and st.button("Retry", key=f"{where}_retry_{job.id}")
    if again and start_job(job.request["base"], job.request["tuned"], name=job.request.get("name")):
        st.rerun()


def draw_job(job: jobs.Job) -> None:
    """One job on the page of comparisons: what it compares, how far it is, what can be done about it."""
    with st.container(border=True):
        st.markdown(f"{plain(job.request.get('base'))} → {plain(job.request.get('tuned'))}")
        if job.state == "running":
            st.progress(
                min(1.0, job.share), text=f"{plain(job.status.get('phase', 'starting'))} · {progress_text(job)}"
            )
        elif job.state == "failed":
            st.error(f"Failed: {plain(job.message, limit=600)}")
        else:
            st.caption(job.state)
        job_actions(job, "page")
        with st.expander("Log"):
            st.code(job.log() or "nothing yet", language=None, height=200)


def progress_text(job: jobs.Job) -> str:
    """How far a job is and how long it takes yet."""
    left = job.status.get("left")
    return f"{job.share:.0%}" + (f" · about {duration(left)} left" if left else "")
