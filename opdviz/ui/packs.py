"""Packs on a page: some comparisons to save as one file, and somebody else's to open."""

from functools import partial
from pathlib import Path

import streamlit as st

from opdviz import files, roots
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
    """A pack from the browser's machine, or by its path on this one: its comparisons join the
    cache.
    """
    with st.form("open_pack", border=False):
        file = st.file_uploader("Open a pack", key="pack_file")
        path = st.text_input("or its path on this machine", key="pack_path").strip()
        if not st.form_submit_button("Open the pack"):
            return
    if file is None and not path:
        st.error("Choose a file, or type a path.")
        return
    store = server.store()
    try:
        if file is None:
            new, present = pack.unpack(store, Path(roots.allowed(path)))
        else:
            new, present = unpacked(file.getbuffer())
    except OpdvizError as error:
        st.error(plain(error, limit=600))
        return
    if new:
        st.rerun()
    st.info(f"{count(len(present), 'comparison')} of it: in the cache before, left as they are.")


def unpacked(data: bytes | memoryview) -> tuple[list[str], list[str]]:
    """Bring in a pack that somebody sent; its name on their machine is nobody's business."""
    store = server.store()
    with pack.folder_beside(store) as work:
        files.write(work / "uploaded.opdviz", bytes(data))
        return pack.unpack(store, work / "uploaded.opdviz")
