"""The frame around every page: the first start, the choice of comparison, the line on what runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import streamlit as st

from opdviz import jobs
from opdviz.errors import OpdvizError
from opdviz.lab import shipped
from opdviz.lab.recipes import OPD
from opdviz.runs import family
from opdviz.ui import address, browser, links, ready, server, share
from opdviz.ui.job_lines import job_line, start_job
from opdviz.words import plain


@contextmanager
def frame(title: str, *, of_run: bool) -> Iterator[None]:
    """The sidebar around a page: its choice of comparison and what runs before, the link to what it
    shows after it.
    """
    st.logo("docs/logo.svg", size="large")
    browser.style()
    with st.sidebar:
        address.choose(server.store())
        job_line(of_run=of_run)
        foot = st.container()
    name_tab(title, of_run=of_run)
    with said():
        yield
    with foot:
        browser.steps()
        browser.copy_button(links.link())
        share.button()


@contextmanager
def no_frame(title: str, *, of_run: bool) -> Iterator[None]:
    """A presentation: the page alone, of the comparison that the address names."""
    address.settle(server.store())
    browser.style()
    name_tab(title, of_run=of_run)
    with said():
        yield
    browser.steps()


def visibility(section: str) -> str:
    """Whether a section stands in the navigation; pages of several runs have nothing to show before
    two are on one base.
    """
    if section != "Several runs":
        return "visible"
    families = family.by_base(server.store().all())
    return "visible" if any(len(one.runs) > 1 for one in families) else "hidden"


def name_tab(title: str, *, of_run: bool) -> None:
    """The browser's tab says the page and, where it shows one, the run."""
    key = st.session_state.get(address.LAST) if of_run else None
    run = st.session_state[address.NAMES].get(key)
    st.set_page_config(page_title=" · ".join(filter(None, (title, run, "opdviz"))))


@contextmanager
def said() -> Iterator[None]:
    """A page that ends early, or says in one line what it cannot do: a table is damaged, the disk
    is full.
    """
    try:
        yield
    except links.PageEnd:
        pass
    except OpdvizError as error:
        st.title("This page stops here", anchor=False)
        st.error(plain(error, limit=600))


def first_start() -> None:
    """In a cache that was never used: write the lab's checkpoints out and start comparing its `opd`
    run with the base.
    """
    st.session_state["first_view"] = "first_view" not in st.session_state
    store = server.store()
    lab = store.root / "lab"
    if server.read_only() or lab.exists() or store.keys():
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
    start_job(*(str(lab / name) for name in shipped.FIRST), **ready.called(OPD))


def front_door() -> None:
    """The address without a page: on to the lab's own comparison, while it is the only one or on
    its way, else to all of them.
    """
    names, (lab_name,) = list(st.session_state[address.NAMES].values()), ready.called(OPD)["name"]
    coming = not names and any(
        job.request.title == lab_name and job.state == "running"
        for job in jobs.all_jobs(server.store())
    )
    query = st.query_params.to_dict()
    page = "overview" if names == [lab_name] or coming or query else "comparisons"
    here = (st.context.url or "").split("?")[0].split("#")[0].rstrip("/")
    browser.steps(redirect=f"{here}/{page}" + (f"?{urlencode(query)}" if query else ""))
