"""Pins and notes: what somebody keeps of what was seen, for those who come after."""

import time

import pandas as pd
import streamlit as st

from opdviz.errors import OpdvizError
from opdviz.store import board
from opdviz.ui import comparison, links, server
from opdviz.words import count, markdown, plain


@st.dialog("Pin to the board")
def pin_dialog(chosen: comparison.Chosen, name: str, state: dict, title: str) -> None:
    """Ask for a caption, and pin."""
    st.markdown(f"**{plain(title)}**, as it is shown now.")
    caption = st.text_area(
        "Caption", key="pin_caption", placeholder="What does it show? Markdown is fine."
    )
    if st.button("Pin", type="primary", key="pin_now") and done(
        board.pin, chosen, name, state, caption
    ):
        st.toast("Pinned. It stands on the board.")
        st.rerun()


def done(change, chosen: comparison.Chosen, *arguments) -> bool:
    """Change a board; where that fails, say why and give False."""
    try:
        change(chosen.folder, *arguments)
    except OpdvizError as error:
        st.error(plain(error))
        return False
    return True


def notes(chosen: comparison.Chosen, rows: pd.DataFrame, *, of: str | None = None) -> None:
    """The notes on some tensors; on one tensor's own page (`of`) also the place to write one."""
    written = chosen.board["notes"]
    names = set(rows["name"]) if written else ()
    here = [note for note in written if note["tensor"] in names]
    if of is None and not here:
        return
    with st.expander(
        count(len(here), "note") if here else "Notes: none yet",
        expanded=of is not None and bool(here),
    ):
        for note in here:
            draw_note(chosen, note, link=of is None)
        if of is not None and not server.read_only():
            write_note(chosen, of)


def draw_note(chosen: comparison.Chosen, note: dict, *, link: bool) -> None:
    """One note: the tensor, who wrote it and when, the text."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if link:
            st.button(
                plain(note["tensor"], limit=80),
                key=f"open_{note['id']}",
                type="tertiary",
                on_click=links.goto,
                args=("pages/run/tensor.py", {"tensor": note["tensor"]}),
            )
        st.caption(
            f"{plain(note['who']) or 'somebody'},"
            f" {time.strftime('%Y-%m-%d %H:%M', time.localtime(note['time']))}"
        )
        if not server.read_only():
            st.button(
                "Delete",
                key=f"delete_{note['id']}",
                type="tertiary",
                on_click=done,
                args=(board.remove, chosen, note["id"]),
            )
    st.markdown(markdown(note["text"]))


def write_note(chosen: comparison.Chosen, tensor: str) -> None:
    """The form for a note on a tensor."""
    with st.form(f"note_{tensor}", clear_on_submit=True, border=False):
        text = st.text_area(
            "What did you find here?",
            key=f"note_text_{tensor}",
            placeholder="It shows on the map as a flag. Markdown is fine.",
        )
        who = st.text_input(
            "Who",
            key=f"note_who_{tensor}",
            placeholder="your name, for others",
            max_chars=board.LONGEST_WHO,
        )
        if st.form_submit_button("Keep the note") and done(board.note, chosen, tensor, text, who):
            st.rerun()
