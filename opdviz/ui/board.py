"""The board: pins in their order, to be edited, and as a presentation, one to a screen."""

import plotly.graph_objects as go
import streamlit as st

from opdviz import views
from opdviz.figures import theme
from opdviz.store import board
from opdviz.ui import comparison, links, server
from opdviz.ui.figure import chart
from opdviz.ui.notes import done
from opdviz.views import filters
from opdviz.words import markdown, plain

# Pins drawn at once: each is a figure that the browser has to draw.
A_PAGE = 8
# Fonts of a presented figure, to be read from the last row.
LARGER = 1.45
HEIGHTS = {"720": 470, "1080": 800}


def listed(chosen: comparison.Chosen, pins: list[dict]) -> None:
    """The pins one below the other, a few to a page."""
    first = (links.turn(st, filters.pages(len(pins), A_PAGE)) - 1) * A_PAGE
    for at, pin in enumerate(pins[first : first + A_PAGE], start=first):
        with st.container(border=True):
            pinned(chosen, pin, at, len(pins))


def pinned(chosen: comparison.Chosen, pin: dict, at: int, total: int) -> None:
    """One pin: the caption as its claim, the figure, and what can be done with it."""
    if pin["caption"].strip():
        st.markdown(markdown(pin["caption"]))
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
            st.button(
                "Keep",
                key=f"keep_{pin['id']}",
                on_click=done,
                args=(board.caption, chosen, pin["id"], text),
            )
        st.button(
            "Delete",
            key=f"delete_{pin['id']}",
            type="tertiary",
            on_click=done,
            args=(board.remove, chosen, pin["id"]),
        )


def draw(chosen: comparison.Chosen, pin: dict, *, height: int | None = None) -> None:
    """A pin's figure, live; for a screen `height` high, with type to match."""
    view = chosen.view(pin["view"], views.clean(pin["state"]))
    if view.figure is None:
        st.info(f"**{plain(view.title)}**  \n{view.reading}")
        return
    if height:
        st.header(view.reading, anchor=False)
    else:
        st.markdown(view.reading)
    figure = theme.enlarged(go.Figure(view.figure), LARGER, height) if height else view.figure
    chart(figure, f"pin_{pin['id']}")


def step(to: int) -> None:
    """In a callback: go to another pin."""
    st.query_params["present"] = str(to)


def present(chosen: comparison.Chosen, pins: list[dict]) -> None:
    """One pin to a screen, by buttons or arrow keys."""
    number = st.query_params.get("present", "1")
    at = int(number) if number.isdecimal() and len(number) < 6 else 0
    if not 1 <= at <= max(1, len(pins)):
        links.notice(
            f"The link asks for pin {plain(number, limit=20)}; there are {len(pins)}. Shown instead"
            ": the first."
        )
        at = 1
    if not pins:
        st.title("Nothing is pinned yet", anchor=False)
        st.link_button("Back to the board", links.link("board"))
        return
    pin = pins[at - 1]
    st.title(markdown(pin["caption"].split("\n")[0]) or plain(chosen.name), anchor=False)
    if rest := pin["caption"].partition("\n")[2].strip():
        st.markdown(markdown(rest))
    screen = st.session_state.get("screen") or "720"
    draw(chosen, pin, height=HEIGHTS.get(screen, HEIGHTS["720"]))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "←", key="before", shortcut="Left", disabled=at == 1, on_click=step, args=(at - 1,)
        )
        st.button(
            "→",
            key="after",
            shortcut="Right",
            disabled=at == len(pins),
            on_click=step,
            args=(at + 1,),
        )
        st.caption(f"{at} of {len(pins)} · {plain(chosen.name)}")
        st.space("stretch")
        st.segmented_control(
            "Screen",
            list(HEIGHTS),
            default="720",
            key="screen",
            required=True,
            label_visibility="collapsed",
        )
        st.link_button("Leave", links.link("board"), type="tertiary")
