"""Packs on a page: comparisons as one file, and somebody else's to open."""

from pathlib import Path

import streamlit as st

from opdviz import files, roots
from opdviz.errors import OpdvizError
from opdviz.report import pack
from opdviz.ui import server
from opdviz.words import count, plain


def offer() -> None:
    """Behind one word: somebody's pack to open."""
    with st.popover("Open a pack", type="tertiary", icon=":material/package_2:"):
        st.caption(
            "A pack holds all that is shown of comparisons, without their checkpoints. *Share*"
            " makes one, and so does `opdviz pack`."
        )
        open_one()


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
