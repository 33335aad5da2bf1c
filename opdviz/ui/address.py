"""Which comparison a page shows: the one that the address names, always, so that a link, Back and
Reload mean one.

The parameter is written here, as `name~beginning of the key`, and read here alone: the key finds
the comparison after it was renamed, and does not find another one of its name. What an address does
not name is the session's last one, or the only one there is; with several and none named a page
asks, and never draws another run's figures.
"""

import re

import streamlit as st

from opdviz.errors import one_line
from opdviz.store.store import Store
from opdviz.ui import links
from opdviz.words import plain

PARAMETER, LAST, NAMES, UNKNOWN = "comparison", "_comparison", "_comparison_names", "_unknown"
# Of a key, in an address: enough to tell the comparisons of a cache apart.
PREFIX = 6
NAME_AND_KEY = re.compile(r"(?P<name>.*)~(?P<key>[0-9a-f]{6,16})")
# Buttons of the page that asks which comparison is meant.
MOST = 40


def names(store: Store) -> dict[str, str]:
    """What comparisons are called by key, newest first."""
    return {comparison.key: one_line(comparison.name, limit=60) for comparison in store.all()}


def labels(called: dict[str, str]) -> dict[str, str]:
    """The names as a list shows them: with the key's beginning where two have the same.

    >>> labels({"aaaaaaaa": "x", "bbbbbbbb": "x", "cccccccc": "y"})
    {'aaaaaaaa': 'x (aaaaaa)', 'bbbbbbbb': 'x (bbbbbb)', 'cccccccc': 'y'}
    """
    words = list(called.values())
    return {
        key: f"{name} ({key[:PREFIX]})" if words.count(name) > 1 else name
        for key, name in called.items()
    }


def word_of(key: str, called: dict[str, str]) -> str:
    """What an address says for a comparison.

    >>> word_of("aaaaaaaaaa", {"aaaaaaaaaa": "lab opd"})
    'lab opd~aaaaaa'
    """
    return f"{called.get(key, '')}~{key[:PREFIX]}"


def meant(word: str, called: dict[str, str]) -> str | None:
    """The key of the comparison that a word of an address means; `None` where it is not there.

    A word without a key, written by hand or by an earlier version, is a name that only one has, or
    the key itself.

    >>> called = {"aaaaaaaaaa": "x", "bbbbbbbbbb": "y", "cccccccccc": "y"}
    >>> meant("old name~aaaaaa", called), meant("x", called), meant("cccccccccc", called)
    ('aaaaaaaaaa', 'aaaaaaaaaa', 'cccccccccc')
    >>> meant("x~dddddd", called), meant("y", called)
    (None, None)
    """
    if match := NAME_AND_KEY.fullmatch(word):
        keys = [key for key in called if key.startswith(match["key"])]
    else:
        keys = [
            key for key, name in called.items() if word in (key, name, f"{name} ({key[:PREFIX]})")
        ]
    return keys[0] if len(keys) == 1 else None


def settle(store: Store) -> str | None:
    """The key of the comparison that this run shows; `None` where the address names none and there
    are several.
    """
    called = st.session_state[NAMES] = names(store)
    st.session_state[links.WORDS] = {key: word_of(key, called) for key in called}
    word = st.query_params.get(PARAMETER)
    st.session_state[UNKNOWN] = None
    if word is None:
        last = st.session_state.get(LAST)
        key = last if last in called else next(iter(called)) if len(called) == 1 else None
    elif (key := meant(word, called)) is None:
        st.session_state[UNKNOWN] = word
    if key is not None:
        st.session_state[LAST] = key
        links.record(PARAMETER, key, word_of(key, called))
    return key


def choose(store: Store) -> None:
    """The frame's choice of comparison."""
    key = settle(store)
    shown_as = labels(st.session_state[NAMES])
    if not shown_as:
        st.caption("No comparison yet.")
        return
    st.session_state["comparison"] = key
    st.selectbox(
        "Comparison",
        list(shown_as),
        index=None,
        key="comparison",
        format_func=lambda k: shown_as.get(k, k),
        placeholder="Choose one",
        on_change=name_chosen,
    )


def name_chosen() -> None:
    """In a callback: the address names what was chosen; the box's cross chooses nothing."""
    if key := st.session_state["comparison"]:
        name(key)


def name(key: str) -> None:
    """Have the address name a comparison."""
    st.query_params[PARAMETER] = st.session_state[links.WORDS][key]


def shown() -> str | None:
    """The key that was settled in this run; the address of a page that shows it names it in full
    from now on, also where an earlier link named it by what it was called.
    """
    drawn = st.session_state[links.DRAWN].get(PARAMETER)
    if drawn is None:
        return None
    key, word = drawn
    links.complete(PARAMETER, word)
    return key


def ask() -> None:
    """A page of one run whose address names none: which one is it to be?"""
    shown_as, unknown = labels(st.session_state[NAMES]), st.session_state[UNKNOWN]
    st.title("Which comparison?", anchor=False)
    if unknown is None:
        st.info("This address names no comparison. Choose one; the address will name it.")
    else:
        st.info(
            f"The link asks for comparison “{plain(unknown, limit=80)}”, which is not in this"
            " cache: it was deleted, or made on another machine. These are here:"
        )
    for key, label in list(shown_as.items())[:MOST]:
        st.button(plain(label), key=f"ask_{key}", type="tertiary", on_click=name, args=(key,))
    if len(shown_as) > MOST:
        st.caption(f"{len(shown_as) - MOST:,} more stand in the sidebar's list.")
