"""Streamlit's command line, told beforehand what it has no setting for, with the first page's work
already done.
"""

import asyncio
import sys

from streamlit import net_util
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.session_manager import SessionInfo
from streamlit.web.cli import main
from streamlit.web.server import server

from opdviz.ui import comparison


class Away:
    """Sessions whose connection is lost, until they come back, their time is over or too many
    others left after them.

    Streamlit's own storage looks at the clock only when the next visitor leaves: after a busy hour
    the last 128 sessions, with three descriptors and a page's state each, stayed for as long as
    nobody came.
    """

    def __init__(self, maxsize: int = 128, ttl_seconds: float = 120):
        self.most, self.seconds = maxsize, ttl_seconds
        self.kept: dict[str, tuple[SessionInfo, asyncio.TimerHandle]] = {}

    def save(self, session_info: SessionInfo) -> None:
        """Keep a session, in the loop that answers all, and let it go when its time is over."""
        session_id = session_info.session.id
        self.delete(session_id)
        while len(self.kept) >= self.most:
            self.let_go(next(iter(self.kept)))
        timer = asyncio.get_running_loop().call_later(self.seconds, self.let_go, session_id)
        self.kept[session_id] = session_info, timer

    def get(self, session_id: str) -> SessionInfo | None:
        """A session that may come back."""
        return self.kept.get(session_id, (None,))[0]

    def delete(self, session_id: str) -> None:
        """Keep a session no longer: it came back, or somebody else closes it."""
        if session_id in self.kept:
            self.kept.pop(session_id)[1].cancel()

    def list(self) -> list[SessionInfo]:
        """Every session that may come back, the longest away first."""
        return [session_info for session_info, _ in self.kept.values()]

    def let_go(self, session_id: str) -> None:
        """End a session that did not come back."""
        session = self.kept[session_id][0].session
        self.delete(session_id)
        session.shutdown()


def settle() -> None:
    """What Streamlit's settings cannot say.

    Pages come from `st.navigation`: a fresh server that sees a folder `pages/` beside `app.py`
    takes the app for one of the older kind until `app.py` has run once, and greets whoever opens a
    deep link first with "Page not found".

    Nobody outside is asked for this machine's address: Streamlit does, in the loop that answers
    everybody, as soon as a page of another origin knocks.

    Who left is forgotten when the time for coming back is over, not when the next one leaves.

    Pages give way often: the loop that answers everybody waits for one slice of each that is being
    drawn.
    """
    PagesManager.uses_pages_directory = False
    net_util.get_external_ip = lambda: None
    server.MemorySessionStorage = Away
    sys.setswitchinterval(0.0005)


if __name__ == "__main__":
    settle()
    comparison.warm()
    sys.exit(main(prog_name="streamlit"))
