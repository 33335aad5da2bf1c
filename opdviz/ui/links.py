"""What a link carries: every choice on a page is a widget bound to a parameter of the address.

The words in the address are those on the page (`quantity=stable+rank`), Streamlit keeps both alike,
also when somebody goes back. What is added here: a notice where an address asks for what is not
there, the link to a view, the state to pin, and going to a page in a state.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn
from urllib.parse import urlencode

import streamlit as st

from opdviz.quantities import QUANTITIES
from opdviz.ui import browser
from opdviz.words import plain

DRAWN, ASKED, QUERY, GOTO, NOTICES, CLEARED, WORDS = (
    "_drawn",
    "_asked",
    "_query",
    "_goto",
    "_notices",
    "_cleared",
    "_words",
)
FRAME = ("comparison",)  # the address names it by itself: `address`
# Named in the address by hand, on every page that has it: Streamlit drops a bound parameter on the
# way to another page that binds it too.
NAMED = ("tensor",)
LARGEST = 1e30  # of a number that somebody may type
# How the address names a comparison: `address`.
WITH_KEY = re.compile(r"~[0-9a-f]{6,16}(?=,|$)")
QUANTITY_KEYS = ("quantity", "x", "y", "sort")


class PageEnd(Exception):
    """A page has said all there is to say; the frame around it goes on. `st.stop` would end the
    frame as well.
    """


def end() -> NoReturn:
    """End the page here."""
    raise PageEnd


def begin() -> None:
    """First of all in a run: go where a click led, and note what the address asks for."""
    if GOTO in st.session_state:
        follow(*st.session_state.pop(GOTO))
    st.session_state[DRAWN] = {}
    query = st.query_params.to_dict()
    if query != st.session_state.get(QUERY):
        st.session_state[QUERY], st.session_state[ASKED] = query, dict(query)
    st.session_state[NOTICES] = st.container()


def follow(page: str, state_: dict) -> None:
    """Open a page in a state, so that the address says it too.

    The comparison goes along. Streamlit takes another parameter from the address where its
    widget is new, and from the session where the page that is left has a widget of that name.
    """
    key = state_.get("comparison") or st.session_state.get("_comparison")
    parameters = {"comparison": st.session_state.get(WORDS, {}).get(key, key)} if key else {}
    for key, value in state_.items():
        if key in FRAME:
            continue
        if value is None:
            clear((key,))
        elif key in st.session_state.get(DRAWN, {}) and key not in NAMED:
            st.session_state[key] = value
        else:
            st.session_state.pop(key, None)
            parameters |= {} if value == "" else {key: text_of(key, value)}
    st.switch_page(page, query_params=parameters)


def text_of(key: str, value: object) -> str:
    """A choice as a link and its widget spell it."""
    if key in QUANTITY_KEYS:
        return QUANTITIES[value].label
    return str(value).lower() if isinstance(value, bool) else str(value)


def notice(text: str) -> None:
    """Say above the page what a link asked for in vain."""
    st.session_state[NOTICES].info(text)


def record(key: str, value: object, text: str | None) -> None:
    """Note a choice of this run: its value, and its text in a link, `None` for the default."""
    st.session_state[DRAWN][key] = (value, text)


def refuse(key: str, label: str, shown: str, fits: Callable[[str], bool]) -> None:
    """Say so where the address asks for a value that is not there; once."""
    value = st.session_state[ASKED].pop(key, None)
    if value is not None and not fits(value):
        notice(
            f"The link asks for {label.lower()} “{plain(value, limit=80)}”, which is not there. "
            f"Shown instead: {plain(shown, limit=80)}."
        )


def choose(where, label: str, options: Sequence, key: str, **more):
    """A choice out of a list; the first is the default, which links leave out."""
    format_func = partial(text_of, key)
    settle(key, options[0])
    if st.session_state.get(key, options[0]) not in options:
        del st.session_state[key]
    value = where.selectbox(
        label, options, key=key, bind="query-params", format_func=format_func, **more
    )
    record(key, value, None if value == options[0] else format_func(value))
    refuse(key, label, format_func(value), {format_func(o) for o in options}.__contains__)
    return value


def slide(where, label: str, options: Sequence[str], key: str) -> str:
    """A choice out of an order; the last is the default, which links leave out."""
    settle(key, options[-1])
    value = st.session_state.get(key, options[-1])
    st.session_state[key] = value if value in options else options[-1]
    value = where.select_slider(label, options, key=key, bind="query-params")
    record(key, value, None if value == options[-1] else value)
    refuse(key, label, value, set(options).__contains__)
    return value


def choose_named(
    where,
    label: str,
    options: Sequence,
    key: str,
    default,
    *,
    format_func: Callable = str,
    on_other: Callable[[str], None] | None = None,
    **more,
):
    """A choice that the address always names: what is first today may not be so on another
    server. `on_other` takes, in a callback, a text that is typed and is no option.
    """
    words, box = {format_func(option): option for option in options}, f"box_{key}"
    value = words.get(st.query_params.get(key), default)
    st.session_state[box] = value

    def chosen() -> None:
        choice = st.session_state[box]
        if on_other and choice is not None and choice not in options:
            on_other(choice)
        elif choice is not None:  # the widget's own cross was not used
            st.query_params[key] = format_func(choice)

    where.selectbox(
        label,
        options,
        index=None,
        key=box,
        on_change=chosen,
        format_func=format_func,
        accept_new_options=on_other is not None,
        **more,
    )
    record(key, value, format_func(value))
    refuse(key, label, format_func(value), words.__contains__)
    complete(key, format_func(value))
    return value


def choose_several(
    where,
    label: str,
    options: Mapping[str, tuple[str, str]],
    key: str,
    *,
    most: int,
    meaning: Callable[[str], str | None],
    on_unknown: Callable[[str], str],
) -> list[str]:
    """A choice of some out of many, at first all up to `most`, which links leave out.

    `options` has the label of each and its word in the address. `meaning` gives the option that
    such a word means, `on_unknown` says what is wrong with one that means none.
    """
    in_address = {word: meaning(word) for word in several_words(st.query_params.get(key, ""))}
    if st.session_state[ASKED].pop(key, None) is not None:  # said once
        for word, option in in_address.items():
            if option not in options:
                notice(on_unknown(word))
    by_default = list(options)[:most]
    selection = [option for option in dict.fromkeys(in_address.values()) if option in options]
    selection = selection[:most] or by_default
    box = f"box_{key}"
    st.session_state[box] = selection

    def text_of_several(several: list[str]) -> str:
        return ",".join(options[option][1] for option in several)

    def changed() -> None:
        picked = st.session_state[box]
        if picked == by_default:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = text_of_several(picked)

    where.multiselect(
        label,
        list(options),
        key=box,
        on_change=changed,
        format_func=lambda option: options[option][0],
        max_selections=most,
        select_all=False,
        wrap=True,
    )
    record(key, selection, None if selection == by_default else text_of_several(selection))
    return selection


def several_words(text_: str) -> list[str]:
    """The words of a parameter that names several things; what ends in a key may hold a comma.

    >>> several_words("lr 1,000~aaaaaa,opd~bbbbbb"), several_words("opd,sft"), several_words("")
    (['lr 1,000~aaaaaa', 'opd~bbbbbb'], ['opd', 'sft'], [])
    """
    pieces: list[str] = []
    for piece in text_.split(",") if text_ else ():
        if pieces and WITH_KEY.search(text_) and not WITH_KEY.search(pieces[-1]):
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
    return pieces


def complete(key: str, word: str) -> None:
    """Have the address name what it left open.

    A visitor's first page goes to the full address in place of the one that was asked for; later
    the browser knows which changes are steps of the reader.
    """
    if st.query_params.get(key) == word:
        return
    if st.session_state["first_view"]:
        browser.steps(redirect=link(**st.query_params.to_dict() | {key: word}))
        end()
    st.query_params[key] = word


def switch(where, label: str, options: Sequence[str], key: str, **more) -> str:
    """A choice out of a few words side by side; the first is the default."""
    value = where.segmented_control(
        label, options, default=options[0], key=key, bind="query-params", required=True, **more
    )
    record(key, value, None if value == options[0] else value)
    refuse(key, label, str(value), set(options).__contains__)
    return value


def flag(where, label: str, key: str, **more) -> bool:
    """A yes or no; no is the default."""
    value = where.toggle(label, key=key, bind="query-params", **more)
    record(key, value, "true" if value else None)
    refuse(key, label, "no", lambda asked: asked.lower() in ("true", "false"))
    return value


def text(
    where,
    label: str,
    key: str,
    *,
    fits: Callable[[str], bool] = lambda _: True,
    expected: str = "",
    **more,
) -> str:
    """A text; one that does not fit counts as none, and the page says so."""
    settle(key, "")
    value = where.text_input(label, key=key, bind="query-params", max_chars=500, **more) or ""
    st.session_state[ASKED].pop(key, None)
    record(key, value if fits(value) else "", value or None)
    if not fits(value):
        notice(
            f"{label} “{plain(value, limit=80)}” is not understood; expected {expected}. Nothing is"
            " filtered by it."
        )
        return ""
    return value


def number(where, label: str, key: str, *, low, high, default, **more):
    """A number within bounds; its default may depend on other choices, so it comes by the session,
    not by the widget.
    """
    settle(key, default)
    st.session_state[key] = min(max(st.session_state.get(key, default), low), high)
    value = where.number_input(label, low, high, key=key, bind="query-params", **more)
    record(key, value, None if value == default else str(value))

    def fits(asked: str) -> bool:
        try:
            return low <= type(default)(asked) <= high
        except ValueError:
            return False

    refuse(key, label, str(value), fits)
    return value


def real(where, label: str, key: str, *, default: float) -> float:
    """Any number, shown with three digits."""
    return number(where, label, key, low=-LARGEST, high=LARGEST, default=default, format="%.3g")


def turn(where, pages: int) -> int:
    """The page of something that is cut into pages; without a choice where there is only one."""
    key = "rows"
    if pages < 2:
        return 1
    st.session_state[key] = min(max(st.session_state.get(key, 1), 1), pages)
    number_ = where.pagination(pages, key=key, bind="query-params")
    record(key, number_, None if number_ == 1 else str(number_))
    refuse(
        key,
        "page",
        str(number_),
        lambda asked: asked.isdecimal() and len(asked) < 10 and 1 <= int(asked) <= pages,
    )
    return number_


def state() -> dict:
    """The choices drawn so far, without the frame's: plain values that JSON can carry."""
    return {key: value for key, (value, _) in st.session_state[DRAWN].items() if key not in FRAME}


def not_default(state_: dict) -> dict:
    """What of a state a link would carry."""
    defaults = {key for key, (_, text_) in st.session_state[DRAWN].items() if text_ is None}
    return {key: value for key, value in state_.items() if key not in defaults}


def link(page: str | None = None, /, **more: str) -> str:
    """The address of what is shown, or of another page of the same comparison with other
    parameters.
    """
    drawn = st.session_state[DRAWN]
    address = (st.context.url or "").split("?")[0].split("#")[0]
    if page is None:
        parameters = {key: text_ for key, (_, text_) in drawn.items() if text_ is not None}
    else:
        address = f"{address.rsplit('/', 1)[0]}/{page}"
        parameters = {
            key: text_ for key, (_, text_) in drawn.items() if key in FRAME and text_ is not None
        }
    # `embed` is Streamlit's own word for a page without its frame and padding.
    parameters = {**parameters, **more}
    return address + (f"?{urlencode(parameters)}" if parameters else "")


def clear(keys: tuple[str, ...]) -> None:
    """In a callback: put choices back to their defaults, which their widgets know."""
    st.session_state.setdefault(CLEARED, set()).update(keys)


def settle(key: str, default: object) -> None:
    """Before a widget is drawn: its default, where somebody asked for that."""
    cleared = st.session_state.get(CLEARED, set())
    if key in cleared:
        cleared.discard(key)
        st.session_state[key] = default


def goto(page: str, state_: dict) -> None:
    """In a callback: open a page in a state when the callback is done."""
    st.session_state[GOTO] = (page, state_)
