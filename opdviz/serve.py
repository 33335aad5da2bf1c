"""Streamlit's command line, told beforehand that pages come from `st.navigation`.

A fresh server that sees a folder `pages/` beside `app.py` takes the app for one of the older kind until `app.py` has run
once, and greets whoever opens a deep link first with "Page not found". Streamlit has no setting for this.
"""

import sys

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

if __name__ == "__main__":
    PagesManager.uses_pages_directory = False
    sys.exit(main(prog_name="streamlit"))
