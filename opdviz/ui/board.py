"""The board: pins in their order, to be edited, and as a presentation, one to a screen."""

from functools import partial

import plotly.graph_objects as go
import streamlit as st

from opdviz import views
from opdviz.figures import theme
from opdviz.store import board
from opdviz.ui import browser, comparison, links, server
from opdviz.ui.figure import chart, stem_of
from opdviz.ui.notes import done
from opdviz.ui.saving import saving
from opdviz.views import filters, request
from opdviz.words import markdown, plain

# Pins drawn at once: each is a figure that the browser has to draw.
A_PAGE = 8
# A presented figure before the browser has said how large its window is; its fonts, to be read from
# the last row, grow with the window.
USUAL_WINDOW, USUAL_SHARE = 720, 0.6
LARGER = 1.3


def listed(chosen: comparison.Chosen, pins: list[dict]) -> None:
    """The pins one below the other, a few to a page."""
    first = (links.turn(st, filters.pages(len(pins), A_PAGE)) - 1) * A_PAGE
    for at, pin in enumerate(pins[first : first + A_PAGE], start=first):
        with st.container(border=True):
            pinned(chosen, pin, at, len(pins))


def pinned(chosen: comparison.Chosen, pin: dict, at: int, total: int) -> None:
    """One pin: the caption as its claim, the figure, and what can be done with it."""
    if pin["caption"].strip():
        st.markdown(lines(pin["caption"].strip()))
    draw(chosen, pin)
    page = views.page_of(pin["view"])
    with st.container(horizontal=True, gap="small"):
        if page:
            state = views.clean(pin["state"])
            st.button(
                "Open",
                key=f"open_{pin['id']}",
                type="tertiary",
                on_click=links.goto,
                args=(page, state),
                help="On its page, in this state",
            )
        st.link_button(
            "Present", links.link("board", present=str(at + 1), embed="true"), type="tertiary"
        )
        if server.read_only():
            return
        for by, sign, off, words in ((-1, "↑", at == 0, "up"), (1, "↓", at == total - 1, "down")):
            st.button(
                sign,
                key=f"move_{by}_{pin['id']}",
                type="tertiary",
                disabled=off,
                help=f"Move it {words}",
                on_click=done,
                args=(board.move, chosen, pin["id"], by),
            )
        with st.popover("Caption", type="tertiary"):
            text = st.text_area(
                "Caption", pin["caption"], key=f"caption_{pin['id']}", label_visibility="collapsed"
            )
            sentence = st.checkbox(
                "With the generated sentence", board.with_sentence(pin), key=f"said_{pin['id']}"
            )
            st.button(
                "Keep",
                key=f"keep_{pin['id']}",
                on_click=done,
                args=(board.caption, chosen, pin["id"], text, sentence),
            )
        st.button(
            "Delete",
            key=f"delete_{pin['id']}",
            type="tertiary",
            on_click=done,
            args=(board.remove, chosen, pin["id"]),
        )


def draw(chosen: comparison.Chosen, pin: dict) -> None:
    """A pin's figure, live, under the sentence that reads it where that was kept."""
    view = view_of(chosen, pin)
    if view.figure is None:
        st.info(f"**{plain(view.title)}**  \n{view.reading}")
        return
    if board.with_sentence(pin):
        st.markdown(view.reading)
    key = f"pin_{pin['id']}"
    chart(view, key)
    stem = stem_of(chosen.name, pin["view"], pin["state"])
    command = partial(request.command, [chosen.comparison.name], pin["view"], pin["state"])
    saving(key, view, stem=stem, command=command)


def view_of(chosen: comparison.Chosen, pin: dict) -> views.View:
    """What a pin shows."""
    return chosen.view(pin["view"], views.clean(pin["state"]))


def step(to: int) -> None:
    """In a callback: go to another pin."""
    st.query_params["present"] = str(to)


def present(chosen: comparison.Chosen, pins: list[dict]) -> None:
    """One pin to a screen, by buttons or keys."""
    number = st.query_params.get("present", "1")
    at = int(number) if number.isdecimal() and len(number) < 6 else 0
    if not 1 <= at <= max(1, len(pins)):
        links.notice(
            f"The link asks for pin {plain(number, limit=20)}; there are {len(pins)}. Shown instead"
            ": the first."
        )
        at = 1
    leave = links.link("board")
    if not pins:
        st.title("Nothing is pinned yet", anchor=False)
        st.link_button("Back to the board", leave)
        return
    browser.style("present")
    screen = browser.presentation(at=at, total=len(pins), leave=leave)
    pin = pins[at - 1]
    view = view_of(chosen, pin)
    title, _, rest = pin["caption"].strip().partition("\n")
    st.title(markdown(title) or plain(view.title), anchor=False)
    with st.container(key="present_words"):
        if rest.strip():
            st.markdown(lines(rest.strip()))
        if view.figure is None or board.with_sentence(pin):
            st.markdown(view.reading.replace("**", "") if title else view.reading)
    if view.figure is not None:
        window, room = screen or (USUAL_WINDOW, round(USUAL_WINDOW * USUAL_SHARE))
        larger = LARGER * window / USUAL_WINDOW
        figure = go.Figure(view.figure)
        if not title:  # the figure's own stands above
            theme.untitled(figure)
        figure = theme.enlarged(figure, larger, room)
        chart(views.View(view.title, view.reading, figure), f"pin_{pin['id']}")
    with st.container(
        horizontal=True, vertical_alignment="center", key="present_foot", gap="small"
    ):
        for to, sign, words in ((at - 1, "←", "before"), (at + 1, "→", "after")):
            st.button(sign, key=words, disabled=not 1 <= to <= len(pins), on_click=step, args=(to,))
        st.caption(f"{at} of {len(pins)} · {plain(chosen.name)} · keys: ← → Home End Esc")
        st.space("stretch")
        st.link_button("Leave", leave, type="tertiary")


def lines(text: str) -> str:
    """Somebody's text with its line breaks, which Markdown would run together."""
    return markdown(text).replace("\n", "  \n")
