"""The comparisons of the cache as a table of results, their names, and whether a pair is among
them.
"""

import os

import pandas as pd
import streamlit as st

from opdviz.definitions import EXACT
from opdviz.errors import OpdvizError
from opdviz.store import status
from opdviz.store.store import LONGEST_NAME, Stored
from opdviz.ui import comparison, links, server, tables
from opdviz.views import overview
from opdviz.words import count, plain

# Of the table: what is said of a comparison, and then what came out of it.
COLUMNS = (
    "name",
    "state",
    "relative_norm",
    "unchanged",
    "top16_energy",
    "top16_chance",
    "stable_rank",
    "base",
    "tuned",
    "pairs",
    "parameters",
    "bytes",
)
CONFIG = {
    "relative_norm": ("relative norm", "%.3g %%", "||D|| / ||W|| over all tensors, as bf16"),
    "unchanged": ("unchanged", "%.3g %%", "coordinates that kept their bits, as they are counted"),
    "top16_energy": ("top 16 hold", "%.3g %%", "of a matrix's update, median of moved matrices"),
    "top16_chance": ("by chance", "%.3g %%", "what the top 16 of a random update would hold"),
    "stable_rank": ("stable rank", "%.3g", "median of moved matrices"),
    "pairs": ("tensors", "localized", "tensors that both sides have"),
    "parameters": ("parameters", "compact", "in these tensors"),
    "bytes": ("size", "bytes", "on disk"),
}


def table(rows: list[dict]) -> None:
    """What came out of each comparison; a click in a row, or arrows and Shift and Space, opens
    it.
    """
    results = [results_of(row["key"]) if row["state"] == "done" else {} for row in rows]
    frame = pd.DataFrame([row | result for row, result in zip(rows, results, strict=True)])
    frame = frame.reindex(columns=["key", *COLUMNS, "done_share"])
    frame["state"] = [state_of(row) for row in rows]

    def open_comparison() -> None:
        if (at := tables.picked("comparisons")) is not None:
            links.goto("pages/run/overview.py", {"comparison": frame["key"].iloc[at]})

    st.dataframe(
        frame[list(COLUMNS)],
        hide_index=True,
        key="comparisons",
        on_select=open_comparison,
        selection_mode=tables.ANYWHERE,
        column_config={
            name: st.column_config.NumberColumn(label, format=form, help=help_)
            for name, (label, form, help_) in CONFIG.items()
        },
    )
    st.caption(tables.SIDEWAYS)


def results_of(key: str) -> dict:
    """The headline of a finished comparison, as the overview says it; empty where it cannot be
    read.
    """
    try:
        run = comparison.chosen(key)
        return overview.results(run.summary("headline"), run.summary("by_tensor"))
    except OpdvizError:  # its own pages will say it
        return {}


def manage(rows: list[dict]) -> None:
    """Another name for a comparison, or away with it."""
    names = {row["key"]: row["name"] for row in rows}
    with st.popover("Rename or delete", type="tertiary", icon=":material/edit:"):
        key = st.selectbox(
            "Which", list(names), format_func=lambda k: plain(names[k]), key="managed"
        )
        name = st.text_input(
            "Name", names[key], key=f"name_{key}_{names[key]}", max_chars=LONGEST_NAME
        )
        with st.container(horizontal=True):
            if st.button("Rename", disabled=name == names[key]) and changed(
                server.store().rename, key, name
            ):
                st.rerun()
            if st.button("Delete"):
                delete_dialog(key, names[key])


def changed(change, *arguments) -> bool:
    """Change the store; where that fails, say why and give False."""
    try:
        change(*arguments)
    except OpdvizError as error:
        st.error(plain(error))
        return False
    return True


@st.dialog("Delete a comparison")
def delete_dialog(key: str, name: str) -> None:
    """Ask before what was computed is deleted."""
    run = comparison.chosen(key)
    board_words = [
        count(len(run.board[what]), word) for what, word in (("pins", "pin"), ("notes", "note"))
    ]
    st.markdown(
        f"**{plain(name)}**: {run.comparison.size / 1e6:.1f} MB of results,"
        f" {' and '.join(board_words)}."
        " The checkpoints stay where they are; comparing them again computes all of it anew."
    )
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary") and changed(server.store().forget, key):
            st.toast(f"{plain(name, limit=60)} is deleted.")
            st.rerun()
        if st.button("Keep it"):
            st.rerun()


def state_of(row: dict) -> str:
    """A comparison's state, how far it is, and its precision where that is not the exact one."""
    share = [] if row["state"] == "done" else [f"{row['done_share']:.0%}"]
    precision = [] if row["precision"] == EXACT else [row["precision"]]
    return ", ".join([row["state"], *share, *precision])


def compared_before(base: str, tuned: str) -> Stored | None:
    """The finished exact comparison of two paths, the newest; whether the files changed since is
    told when it is computed again.
    """
    pair = os.path.realpath(base), os.path.realpath(tuned)
    for stored in server.store().all():
        sides = stored.manifest.base.path, stored.manifest.tuned.path
        exact = stored.manifest.precision == EXACT
        if pair == sides and exact and status.state(stored) == "done":
            return stored
    return None
