"""Files of whole comparisons, in one dialog that every page can open: a report, a pack."""

from functools import partial

import streamlit as st

from opdviz.runs import family
from opdviz.store.store import Stored
from opdviz.tables.published import PAPERS
from opdviz.ui import address, links, packs, server
from opdviz.ui.figure import slug
from opdviz.words import count, plain

MOST_REPORTED = family.MOST  # as many as stand side by side


def button() -> None:
    """The word in the frame that opens the dialog."""
    if st.button("Share", icon=":material/ios_share:", type="tertiary", key="share"):
        state = links.state()
        dialog(state.get("runs") or [st.session_state.get(address.LAST)], state.get("tensor"))


@st.dialog("Share", width="medium")
def dialog(on_page: list[str], tensor: str | None) -> None:
    """Files of comparisons that are compared to their end, at first of those that a page shows;
    `tensor` is that of the page.
    """
    finished = {run.key: run for run in server.store().all() if run.manifest.complete}
    if not finished:
        st.info("A report and a pack hold comparisons that are compared to their end; none is yet.")
        return
    called = address.labels({key: run.name for key, run in finished.items()})
    keys = st.multiselect(
        "Comparisons",
        list(finished),
        default=[key for key in on_page if key in finished],
        format_func=lambda key: plain(called[key]),
        key="shared",
        placeholder="Which to share",
    )
    runs = [finished[key] for key in keys]
    stem = "_".join(slug(run.name) for run in runs[:2]) or "comparisons"
    report_button(runs, stem, tensor)
    st.divider()
    st.caption(
        "**A pack** holds all that is shown, without checkpoints, values of weights or paths of"
        " this machine. *Open a pack* on Comparisons reads it, and `opdviz app --pack FILE`."
    )
    st.download_button(
        f"Save {count(len(runs), 'comparison')} as a pack",
        partial(packs.packed, tuple(keys)),
        f"{stem}.opdviz",
        on_click="ignore",
        disabled=not runs,
        key="share_pack",
    )
    st.caption("A single figure, its numbers and tables: *Save* below each.")


def report_button(runs: list[Stored], stem: str, tensor: str | None) -> None:
    """A report of some runs on one base; of the page's tensor, or of those that moved most."""
    st.caption(
        "**A report** is one HTML file with live figures, tables and definitions; it opens offline"
        " and asks nobody for anything."
    )
    protocol = st.segmented_control(
        "Headline as in",
        list(PAPERS),
        default="A",
        format_func=lambda name: f"protocol {name}",
        key="share_protocol",
        required=True,
    )
    bases = {run.manifest.base.fingerprints for run in runs}
    if len(bases) > 1:
        st.info("These stand on several bases; a report holds runs on one.")
    elif len(runs) > MOST_REPORTED:
        st.info(f"A report holds up to {MOST_REPORTED} runs.")
    tensors = (tensor,) if tensor else ()
    st.download_button(
        f"Save a report of {count(len(runs), 'comparison')}",
        partial(reported, tuple(run.key for run in runs), protocol, tensors),
        f"{stem}.html",
        on_click="ignore",
        disabled=not runs or len(bases) > 1 or len(runs) > MOST_REPORTED,
        key="share_report",
    )


def reported(keys: tuple[str, ...], protocol: str, tensors: tuple[str, ...]) -> bytes:
    """The report of some comparisons of this server."""
    from opdviz.report import page  # pages of the app are drawn without it

    store = server.store()
    runs = [store.open(key) for key in keys]
    return page.written(store, runs, protocol=protocol, tensors=tensors).encode()
