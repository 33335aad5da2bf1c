"""What pages need of the browser itself: one entry of its history a step, another address in place
of this one, the clipboard.

The scripts stand in `scripts/`; they get data, and never HTML of it.
"""

from functools import cache
from pathlib import Path

import streamlit as st

SCRIPTS = Path(__file__).parent / "scripts"
COPY_HTML = """
<button type="button">Copy link</button>
<span role="status"></span>
<input type="text" aria-label="Link to this view" readonly hidden>
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


def style() -> None:
    """What Streamlit's theme has no setting for."""
    st.html(SCRIPTS / "page.css")


def steps(*, redirect: str = "") -> None:
    """Have the browser keep one entry a step; with `redirect` go to another address instead of this
    one.
    """
    script("history")(key=f"history_{bool(redirect)}", data={"redirect": redirect})


def copy_button(text: str) -> None:
    """A button that copies a text."""
    script("copy", COPY_HTML, COPY_CSS)(key="copy_link", data={"text": text})
