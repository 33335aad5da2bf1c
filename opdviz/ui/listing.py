"""The comparisons of the cache as a table of results, their names, and whether a pair is among
them.
"""

import os

import pandas as pd
import streamlit as st

from opdviz.definitions import EXACT
from opdviz.errors import OpdvizError
from opdviz.runs.family import Family
from opdviz.store import status
from opdviz.store.manifest import LABELS
from opdviz.store.store import LONGEST_LABEL, LONGEST_NAME, Stored
from opdviz.ui import comparison, links, server, tables
from opdviz.views import overview
from opdviz.words import count, plain

# Of the table: what is said of a comparison, and then what came out of it.
COLUMNS = (
    "name",
    *LABELS,
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

LABEL_HELP = {
    "recipe": "How it was trained, as opd or grpo. Runs of one recipe are its seeds.",
    "optimizer": "What trained it, as adamw.",
}


def families(of_base: list[Family], rows: list[dict]) -> None:
    """A table for each base, the runs on it in its rows; with several bases each has its name, and
    several runs on one can be laid side by side.
    """
    by_key = {row["key"]: row for row in rows}
    for one in of_base:
        several = len(one.runs) > 1
        if several or len(of_base) > 1:
            with st.container(horizontal=True, vertical_alignment="center"):
                of_runs = count(len(one.runs), "run")
                st.markdown(f"On **{plain(one.base.label)}**: {of_runs}", width="content")
                if several:
                    st.button(
                        "Side by side",
                        key=f"side_by_side_{one.runs[0].key}",
                        type="tertiary",
                        icon=":material/view_column:",
                        on_click=links.goto,
                        args=("pages/runs/side_by_side.py", {"comparison": one.runs[0].key}),
                    )
        table([by_key[run.key] for run in one.runs if run.key in by_key], one.runs[0].key)


def table(rows: list[dict], of: str) -> None:
    """What came out of each comparison; a click in a row, or arrows and Shift and Space, opens
    it.
    """
    results = [results_of(row["key"]) if row["state"] == "done" else {} for row in rows]
    frame = pd.DataFrame([row | result for row, result in zip(rows, results, strict=True)])
    columns = [name for name in COLUMNS if name not in LABELS or frame[name].notna().any()]
    frame = frame.reindex(columns=["key", *columns, "done_share"])
    frame["state"] = [state_of(row) for row in rows]

    key = f"comparisons_{of}"

    def open_comparison() -> None:
        if (at := tables.picked(key)) is not None:
            links.goto("pages/run/overview.py", {"comparison": frame["key"].iloc[at]})

    st.dataframe(
        frame[columns],
        hide_index=True,
        key=key,
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
    """Another name or label for a comparison, or away with it."""
    names = {row["key"]: row["name"] for row in rows}
    by_key = {row["key"]: row for row in rows}
    with st.popover("Edit or delete", type="tertiary", icon=":material/edit:"):
        key = st.selectbox(
            "Which", list(names), format_func=lambda k: plain(names[k]), key="managed"
        )
        name = st.text_input(
            "Name", names[key], key=f"name_{key}_{names[key]}", max_chars=LONGEST_NAME
        )
        before = {field: by_key[key][field] or "" for field in LABELS}
        labels = {
            field: label_input(place, field, value, f"{key}_{value}")
            for place, (field, value) in zip(st.columns(2), before.items(), strict=True)
        }
        with st.container(horizontal=True):
            same = name == names[key] and labels == before
            if st.button("Save", disabled=same) and changed(edit, key, name, labels):
                st.rerun()
            if by_key[key]["state"] == "running" and st.button("Stop"):
                status.ask_to_stop(server.store().open(key))
            if st.button("Delete"):
                delete_dialog(key, names[key])


def label_input(place, field: str, value: str = "", of: str = "new") -> str:
    """The box of one label."""
    box = place.text_input(
        field.capitalize(),
        value,
        key=f"{field}_{of}",
        max_chars=LONGEST_LABEL,
        placeholder="optional",
        help=LABEL_HELP[field],
    )
    return box.strip()


def edit(key: str, name: str, labels: dict[str, str]) -> None:
    """Give a comparison another name and other labels.

    Raises
        RequestError: one of them cannot be one, or the comparison runs.
    """
    server.store().rename(key, name)
    server.store().label(key, labels)


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
