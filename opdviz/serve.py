"""Streamlit's command line, told beforehand what it has no setting for, with the first page's work already done."""

import sys

from streamlit import net_util
from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

from opdviz import ui


def settle() -> None:
    """What Streamlit's settings cannot say.

    Pages come from `st.navigation`: a fresh server that sees a folder `pages/` beside `app.py` takes the app for one of the
    older kind until `app.py` has run once, and greets whoever opens a deep link first with "Page not found".

    Nobody outside is asked for this machine's address: Streamlit does, in the loop that answers everybody, as soon as a page
    of another origin knocks.

    Pages give way often: the loop that answers everybody waits for one slice of each that is being drawn.
    """
    PagesManager.uses_pages_directory = False
    net_util.get_external_ip = lambda: None
    sys.setswitchinterval(0.0005)


if __name__ == "__main__":
    settle()
    ui.warm()
    sys.exit(main(prog_name="streamlit"))
