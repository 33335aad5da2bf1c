"""Packs on a page: some comparisons to save as one file, and somebody else's to open."""

from functools import partial
from pathlib import Path

import streamlit as st

from opdviz import roots
from opdviz.errors import OpdvizError
from opdviz.report import pack
from opdviz.ui import server
from opdviz.ui.figure import slug
from opdviz.words import count, plain


def offer(rows: list[dict]) -> None:
    """Behind one word: comparisons as one file, and a pack's path to open."""
    finished = {row["key"]: row["name"] for row in rows if row["state"] == "done"}
    with st.popover("Packs", type="tertiary", icon=":material/package_2:"):
        st.caption(
            "A pack holds all that is shown of comparisons, without their checkpoints, values of"
            " weights or paths of this machine. It opens anywhere: here, or by `opdviz app --pack"
            " FILE`."
        )
        if finished:
            save(finished)
        if not server.read_only():
            open_one()


def save(finished: dict[str, str]) -> None:
    """Some comparisons, chosen by name, as a file to save; made when the button is pressed."""
    keys = st.multiselect(
        "Comparisons",
        list(finished),
        format_func=lambda key: plain(finished[key]),
        key="packed",
        placeholder="Which to pack",
    )
    names = "_".join(slug(finished[key]) for key in keys[:2]) or "comparisons"
    st.download_button(
        f"Save {count(len(keys), 'comparison')} as a pack" if keys else "Save as a pack",
        partial(packed, tuple(keys)),
        f"{names}.opdviz",
        on_click="ignore",
        disabled=not keys,
        key="pack",
    )


def packed(keys: tuple[str, ...]) -> bytes:
    """The pack of some comparisons of this server."""
    store = server.store()
    return pack.packed(store, [store.open(key) for key in keys])


def open_one() -> None:
    """A pack of this machine, by its path: its comparisons join the cache."""
    path = st.text_input("Open a pack", key="pack_path", placeholder="its path on this machine")
    if not st.button("Open", disabled=not path.strip(), key="open_pack"):
        return
    try:
        new, present = pack.unpack(server.store(), Path(roots.allowed(path.strip())))
    except OpdvizError as error:
        st.error(plain(error, limit=600))
        return
    if new:
        st.rerun()
    st.info(f"{count(len(present), 'comparison')} of it: in the cache before, left as they are.")
