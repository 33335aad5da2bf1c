"""Streamlit's command line, told beforehand that pages come from `st.navigation`, with the first page's work already done.

A fresh server that sees a folder `pages/` beside `app.py` takes the app for one of the older kind until `app.py` has run
once, and greets whoever opens a deep link first with "Page not found". Streamlit has no setting for this.
"""

import sys

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

from opdviz import ui

if __name__ == "__main__":
    PagesManager.uses_pages_directory = False
    sys.setswitchinterval(
        0.0005
    )  # the loop that answers everybody waits for one slice of every page that is being drawn
    ui.warm()
    sys.exit(main(prog_name="streamlit"))
