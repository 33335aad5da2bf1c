"""What pages need of the browser itself: one entry of its history a step, another address in place
of this one, the clipboard.

The scripts stand in `scripts/`; they get data, and never HTML of it.
"""

from functools import cache
from pathlib import Path

import streamlit as st

SCRIPTS = Path(__file__).parent / "scripts"
# Of a presented figure and its window; what a browser says beyond is not believed.
LEAST_ROOM, MOST_PIXELS = 160, 10_000
COPY_HTML = """
<button type="button">Copy link</button>
<span role="status"></span>
<input type="text" aria-label="Link to this view" readonly hidden>
"""
SAVE_HTML = """
<button type="button">Save figure</button>
<span role="status"></span>
"""
SAVE_CSS = """
button { font: inherit; color: inherit; background: var(--st-secondary-background-color);
         border: 1px solid var(--st-border-color); border-radius: 0.4rem;
         padding: 0.3rem 0.6rem; cursor: pointer; }
button:hover { border-color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
"""
COPY_CSS = """
button { font: inherit; color: inherit; background: none; border: 0; padding: 0.25rem 0;
         cursor: pointer; text-decoration: underline; text-underline-offset: 0.2em; }
button:hover { color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
input { font: inherit; width: 100%; box-sizing: border-box; }
"""


@cache
def script(name: str, html: str | None = None, css: str | None = None):
    """A component of one script, registered once."""
    return st.components.v2.component(
        f"opdviz_{name}", html=html, css=css, js=(SCRIPTS / f"{name}.js").read_text()
    )


def style(name: str = "page") -> None:
    """What Streamlit's theme has no setting for."""
    st.html(SCRIPTS / f"{name}.css")


def steps(*, redirect: str = "") -> None:
    """Have the browser keep one entry a step; with `redirect` go to another address instead of this
    one.
    """
    script("history")(key=f"history_{bool(redirect)}", data={"redirect": redirect})


def presentation(*, at: int, total: int, leave: str) -> tuple[int, int] | None:
    """Have keys go from pin to pin, or leave; the height of the window and what of it is left for
    the figure, in pixels, once the browser has said so.
    """
    key, mount = "present_keys", script("present")
    screen = (st.session_state.get(key) or {}).get("screen") or {}
    size = tuple(screen.get(name) for name in ("window", "room"))
    sound = all(type(pixels) is int and LEAST_ROOM <= pixels <= MOST_PIXELS for pixels in size)
    window, room = size if sound else (0, 0)
    mount(
        key=key,
        data={"at": at, "total": total, "leave": leave, "window": window, "room": room},
        on_screen_change=lambda: None,
    )
    return (window, room) if sound else None


def save_button(figure: str, stem: str, paper: dict) -> None:
    """A button that saves the figure of a key as a picture.

    `paper` has the layout, each trace's look, the inches that it takes, the format, and whether its
    ground is transparent; the data are those that the page has drawn.
    """
    script("save", SAVE_HTML, SAVE_CSS)(
        key=f"save_{figure}", data=paper | {"figure": figure, "stem": stem}
    )


def copy_button(text: str) -> None:
    """A button that copies a text."""
    script("copy", COPY_HTML, COPY_CSS)(key="copy_link", data={"text": text})
