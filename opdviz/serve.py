"""Streamlit's command line, told beforehand that pages come from `st.navigation`, with the first page's work already done.

A fresh server that sees a folder `pages/` beside `app.py` takes the app for one of the older kind until `app.py` has run
once, and greets whoever opens a deep link first with "Page not found". Streamlit has no setting for this.
"""

import gc
import sys

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

from opdviz import ui

if __name__ == "__main__":
    PagesManager.uses_pages_directory = False
    ui.warm()
    gc.collect()
    gc.freeze()  # Streamlit collects all garbage after every run; what is loaded by now stays, and need not be looked at
    sys.exit(main(prog_name="streamlit"))
