"""Which comparison a page shows: the one that the address names, always, so that a link, Back and
Reload mean one.

The parameter is written here, by name, and read here alone. What an address does not name is the
session's last one, or the only one there is; with several and none named a page asks, and never
draws another run's figures.
"""

import streamlit as st

from opdviz.errors import one_line
from opdviz.store.store import Store
from opdviz.ui import links
from opdviz.words import plain

PARAMETER, LAST, NAMES = "comparison", "_comparison", "_comparison_names"
# Buttons of the page that asks which comparison is meant.
MOST = 40


def labels(store: Store) -> dict[str, str]:
    """What comparisons are called, newest first: their names, with the key's beginning where two
    have the same.
    """
    names = {comparison.key: one_line(comparison.name, limit=60) for comparison in store.all()}
    words = list(names.values())
    return {
        key: f"{name} ({key[:6]})" if words.count(name) > 1 else name for key, name in names.items()
    }


def settle(store: Store) -> str | None:
    """The key of the comparison that this run shows; `None` where the address names none and there
    are several.
    """
    names = st.session_state[NAMES] = labels(store)
    word = st.query_params.get(PARAMETER)
    key = next((key for key, name in names.items() if word in (name, key)), None)
    if key is None and word is None:
        last = st.session_state.get(LAST)
        key = last if last in names else next(iter(names)) if len(names) == 1 else None
    if (
        key is None
        and word is not None
        and st.session_state[links.ASKED].pop(PARAMETER, None) is not None
    ):
        links.notice(f"The link asks for comparison “{plain(word, limit=80)}”, which is not there.")
    if key is not None:
        st.session_state[LAST] = key
        links.record(PARAMETER, key, names[key])
    return key


def choose(store: Store) -> None:
    """The frame's choice of comparison."""
    key = settle(store)
    names = st.session_state[NAMES]
    if not names:
        st.caption("No comparison yet.")
        return
    st.session_state["comparison"] = key
    st.selectbox(
        "Comparison",
        list(names),
        index=None,
        key="comparison",
        format_func=lambda k: names.get(k, k),
        placeholder="Choose one",
        on_change=name_chosen,
    )


def name_chosen() -> None:
    """In a callback: the address names what was chosen; the box's cross chooses nothing."""
    if key := st.session_state["comparison"]:
        name(key)


def name(key: str) -> None:
    """Have the address name a comparison."""
    st.query_params[PARAMETER] = st.session_state[NAMES].get(key, key)


def shown() -> str | None:
    """The key that was settled in this run; the address of a page that shows it names it from now
    on.
    """
    key = st.session_state.get(LAST)
    drawn = st.session_state[links.DRAWN].get(PARAMETER)
    if drawn is None or drawn[0] != key:
        return None
    if st.query_params.get(PARAMETER) != drawn[1]:
        name(key)
    return key


def ask() -> None:
    """A page of one run whose address names none: which one is it to be?"""
    names = st.session_state[NAMES]
    st.header("Which comparison?", anchor=False)
    st.info(
        "This address names none, or one that is not there. Choose one; the address will name it."
    )
    for key, label in list(names.items())[:MOST]:
        st.button(plain(label), key=f"ask_{key}", type="tertiary", on_click=name, args=(key,))
    if len(names) > MOST:
        st.caption(f"{len(names) - MOST:,} more stand in the sidebar's list.")
