"""What the server is told beforehand, and what it still holds when visitors have come and gone."""

import shutil
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.bench.sessions import PAGES, ask, drawn, held, settled, visit, visitor
from tests.browser.conftest import Server

AWAY = 3
KNOCK = """
from streamlit import net_util
from streamlit.web.server import server_util
from opdviz import serve

def asked(*_, **__):
    raise AssertionError("somebody outside was asked")

net_util._make_blocking_http_get = asked
{settled}
print(server_util.is_url_from_allowed_origins("http://elsewhere.example"))
"""


def knock(settled: str) -> subprocess.CompletedProcess:
    """A page of another origin knocks at Streamlit, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(KNOCK).replace("{settled}", settled)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_page_of_another_origin_is_refused_and_nobody_outside_is_asked():
    done = knock("serve.settle()")
    assert done.stdout == "False\n", done.stderr


def test_streamlit_alone_would_ask_somebody():
    assert "somebody outside was asked" in knock("").stderr


@pytest.fixture(scope="module")
def server(golden_store, tmp_path_factory) -> Server:
    """A server of the golden pair b, to whose sessions one can come back for three seconds."""
    folder = tmp_path_factory.mktemp("serve")
    shutil.copytree(golden_store.root, folder / "cache")
    started = Server(folder / "cache", folder, more=("--server.disconnectedSessionTTL", str(AWAY)))
    yield started
    started.stop()


def session_of(messages: list[ForwardMsg]) -> str:
    """The id of the session that a page was drawn for."""
    return next(m for m in messages if m.WhichOneof("type") == "new_session").new_session.initialize.session_id


def test_sixty_visitors_who_came_and_went_leave_no_descriptor_and_no_thread(server):
    for number in range(len(PAGES)):  # the first ones load libraries, which start threads of their own
        visit(server, number)
    before = settled(server, AWAY)
    for number in range(60):
        visit(server, number)
    assert held(server)["descriptors"] > before["descriptors"]  # the last of them may still come back
    deadline = time.monotonic() + AWAY + 5
    while any(held(server)[what] > before[what] for what in ("descriptors", "threads")):
        assert time.monotonic() < deadline, (before, held(server))
        time.sleep(0.2)


def test_a_visitor_whose_connection_was_lost_comes_back_to_the_same_session_for_a_while(server):
    with visitor(server) as first:
        ask(first, "overview")
        session = session_of(drawn(first))
        first.socket.shutdown(socket.SHUT_RDWR)
    with visitor(server, session) as again:
        ask(again, "overview")
        assert session_of(drawn(again)) == session
    time.sleep(AWAY + 1)
    with visitor(server, session) as late:
        ask(late, "overview")
        assert session_of(drawn(late)) != session
