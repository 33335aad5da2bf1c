"""What runs: a line in the frame of every page, and a box on the page of comparisons."""

from collections.abc import Callable
from urllib.parse import urlsplit

import streamlit as st

from opdviz import jobs
from opdviz.engine import devices
from opdviz.errors import OpdvizError
from opdviz.ui import address, comparison, links, server, turns
from opdviz.words import duration, listing, plain

# The job that this session started and has not seen yet: its pages open as soon as there are any.
OPENING = "_opening"


def start_job(base: str, *tuned: str, **how) -> bool:
    """Start a comparison and give True, or say why not; `how` is as for `jobs.start`."""
    return begun(lambda: jobs.start(server.store(), base, *tuned, **how))


def begun(start: Callable[[], jobs.Job]) -> bool:
    """Start a job, whose pages open as soon as there are any, and give True; or say why not."""
    try:
        with turns.stepped_out():
            job = start()
        st.session_state[OPENING] = job.id
    except OpdvizError as error:
        st.error(plain(error))
        return False
    return True


def chosen_device(gpus: list[str]) -> str | None:
    """Where a new comparison is to be computed, asked only where there is a choice."""
    if not gpus:
        return None
    options = {devices.CPU: "CPU", devices.GPU: f"GPU ({plain(', '.join(gpus))})"}
    return st.radio(
        "Compute on", list(options), format_func=options.get, key="device", horizontal=True
    )


def job_line(*, of_run: bool) -> None:
    """The frame's lines on what runs; they poll while something does, and the page is drawn again
    when it is done.

    What this session saw running and did not end well stays in sight, to be retried or dismissed.
    `of_run` says whether the page shows the run that its address names.
    """
    followed = st.session_state.setdefault("_jobs", set())
    running = {job.id for job in jobs.all_jobs(server.store()) if job.state == "running"}
    followed |= running
    if followed:
        poll = comparison.POLL if running else None
        st.fragment(draw_job_line, run_every=poll)(running, of_run=of_run)


def draw_job_line(was_running: set[str], *, of_run: bool) -> None:
    """One line and a bar for each job of this session that runs or did not end well."""
    followed, ended = st.session_state["_jobs"], False
    for job in jobs.all_jobs(server.store()):
        if job.id not in followed:
            continue
        ended |= job.id in was_running and job.state != "running"
        name = plain(job.request.title, limit=60)
        if job.state == "done":
            if job.id in was_running:
                st.toast(f"{name} is done.", icon=":material/check:")
            draw_done(job, name, of_run=of_run)
            continue
        if job.state == "running":
            open_started(job)
            st.progress(min(1.0, job.share), text=f"{name}: {progress_text(job)}")
        else:
            st.markdown(f":orange-badge[{job.state}] {name}")
        with st.popover("Log and more", type="tertiary", key=f"job_{job.id}"):
            if job.state == "failed":
                st.error(plain(job.message, limit=600))
            st.code(job.log() or "nothing yet", language=None, height=200)
            job_actions(job, "line")
            if job.state != "running" and st.button("Dismiss", key=f"line_dismiss_{job.id}"):
                followed.discard(job.id)
                st.rerun()
    if ended:
        st.rerun()


def draw_done(job: jobs.Job, name: str, *, of_run: bool) -> None:
    """A comparison that was made while this session looked on: said until it is opened, on every
    page.
    """
    followed, key = st.session_state["_jobs"], job.status.get("key")
    word = st.query_params.get(address.PARAMETER, "")
    on_page = address.meant(word, st.session_state[address.NAMES])
    if key is None or (of_run and key == on_page):
        followed.discard(job.id)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":green-badge[done] {name}")
        # A callback would draw this line again, and not the page.
        if st.button("Open", key=f"line_open_{job.id}", type="tertiary"):
            followed.discard(job.id)
            open_made(job)
            st.rerun()


def open_made(job: jobs.Job) -> None:
    """Have the next run go to what a job makes: the first page of its run, or of several."""
    several = len(job.request.tuned) > 1
    page = "pages/runs/side_by_side.py" if several else "pages/run/overview.py"
    links.goto(page, {"comparison": job.status["key"]})


def open_started(job: jobs.Job) -> None:
    """Go to the pages of a comparison that this session just started, once it has any and while
    nobody went elsewhere; of several runs the list shows how far each is.
    """
    key = job.status.get("key")
    if st.session_state.get(OPENING) != job.id or key not in server.store().keys():
        return
    if len(job.request.tuned) > 1:
        return
    del st.session_state[OPENING]
    if urlsplit(st.context.url or "").path.endswith("/comparisons"):
        open_made(job)
        st.rerun()


def job_actions(job: jobs.Job, where: str) -> None:
    """What can be done about a job."""
    if server.read_only():
        return
    if job.state == "running" and st.button("Cancel", key=f"{where}_cancel_{job.id}"):
        try:
            jobs.cancel(job)
        except OpdvizError as error:  # it ended in between
            st.caption(plain(error))
    again = (
        job.request.sound
        and job.state in ("failed", "cancelled")
        and st.button("Retry", key=f"{where}_retry_{job.id}")
    )
    if again and begun(lambda: jobs.start_request(server.store(), job.request)):
        st.rerun()


def draw_job(job: jobs.Job) -> None:
    """One job on the page of comparisons: what it compares, how far it is, what can be done about
    it.
    """
    with st.container(border=True):
        base, tuned = job.request.base, listing(list(job.request.tuned) or [""])
        st.markdown(
            plain(job.request.title) if job.request.keys else f"{plain(base)} → {plain(tuned)}"
        )
        if job.state == "running":
            st.progress(
                min(1.0, job.share),
                text=f"{plain(job.status.get('phase', 'starting'))} · {progress_text(job)}",
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
