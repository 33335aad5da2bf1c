"""What the server is told beforehand, and what it still holds when visitors have come and gone."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.bench.sessions import PAGES, ask, drawn, held, settled, visit, visitor
from tests.browser.server import Server
from tests.conftest import GOLDEN

ROOT = Path(__file__).parent.parent
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

LOOK = """
import json, os, subprocess, sys, threading
import streamlit as st
from streamlit.testing.v1 import AppTest
from opdviz.ui.turns import TURN

seen = {}

def is_free(answers):
    if taken := TURN.acquire(blocking=False):
        TURN.release()
    answers.add(taken)

def watched(function, name):
    "The function, which first has another thread note whether a page could be drawn there now."
    def call(*arguments, **options):
        answers = seen.setdefault(name(arguments), set())
        thread = threading.Thread(target=is_free, args=(answers,))
        thread.start()
        thread.join()
        return function(*arguments, **options)
    return call

os.walk = watched(os.walk, lambda arguments: "list folders")
subprocess.run = watched(subprocess.run, lambda arguments: arguments[0][3])  # python -m opdviz check
st.header = watched(st.header, lambda arguments: "draw")
app = AppTest.from_file("app.py", default_timeout=60)
base, tuned = sys.argv[1:]
app.run()
app.session_state["base"], app.session_state["tuned"] = base, [tuned]
app.switch_page("pages/open/comparisons.py").run()
app.switch_page("pages/run/overview.py").run()
app.switch_page("pages/run/part.py").run()
assert not app.exception, app.exception
print(json.dumps({name: sorted(answers) for name, answers in seen.items()}))
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


PIPE = "slow.pipe"
# loaded by every process of the server's: `check` waits here while there is a pipe that nobody
# writes into
SLOW = (
    "import os, sys\nif 'check' in sys.orig_argv and os.path.exists({pipe!r}):\n   "
    " open({pipe!r}).read()\n"
)


@pytest.fixture(scope="module")
def server(golden_store, tmp_path_factory) -> Server:
    """A server of the golden pair b, to whose sessions one can come back for three seconds."""
    folder = tmp_path_factory.mktemp("serve")
    shutil.copytree(golden_store.root, folder / "cache")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SLOW.format(pipe=str(folder / PIPE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", f"{folder / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        )
        started = Server(
            folder / "cache", folder, more=("--server.disconnectedSessionTTL", str(AWAY))
        )
    yield started
    started.stop()


def session_of(messages: list[ForwardMsg]) -> str:
    """The id of the session that a page was drawn for."""
    return next(
        m for m in messages if m.WhichOneof("type") == "new_session"
    ).new_session.initialize.session_id


def test_sixty_visitors_who_came_and_went_leave_no_descriptor_and_no_thread(server):
    # The first ones load libraries, which start threads of their own.
    for number in range(len(PAGES)):
        visit(server, number)
    before = settled(server, AWAY)
    for number in range(60):
        visit(server, number)
    # The last of them may still come back.
    assert held(server)["descriptors"] > before["descriptors"]
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


@contextmanager
def slow_disk(folder: Path):
    """A disk that does not answer `opdviz check` until the end of this context; a function that
    waits until it is asked.
    """
    pipe, opened = folder / PIPE, []
    os.mkfifo(pipe)

    def is_asked() -> None:
        deadline = time.monotonic() + 30
        while not opened:
            assert time.monotonic() < deadline, "nobody reads the checkpoint"
            try:
                opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # no reader yet
                time.sleep(0.05)

    try:
        yield is_asked
    finally:
        pipe.unlink()
        for descriptor in opened:
            os.close(descriptor)


def test_nobody_waits_for_the_disk_of_another_s_checkpoint(server):
    for side in ("base", "tuned_b"):
        shutil.copytree(GOLDEN / side, server.roots / "slow" / side)
    with visitor(server) as waiting, visitor(server) as other:
        ask(waiting, "comparisons")
        elements = [m.delta.new_element for m in drawn(waiting)]
        boxes = {
            box.label: box.id
            for element in elements
            for box in (element.selectbox, element.multiselect)
        }
        with slow_disk(server.roots) as is_asked:
            ask(
                waiting,
                "comparisons",
                **{
                    boxes["Base"]: str(server.roots / "slow" / "base"),
                    boxes["Tuned"]: [str(server.roots / "slow" / "tuned_b")],
                },
            )
            is_asked()
            ask(other, "overview")
            drawn(other, seconds=15)
        texts = [m.delta.new_element.markdown.body for m in drawn(waiting)]
    assert any("30 pairs" in text for text in texts)


def test_a_page_gives_its_turn_away_while_it_lists_folders_and_waits_for_a_process(
    golden_store, tmp_path
):
    shutil.copytree(golden_store.root, tmp_path / "cache")
    (tmp_path / "cache" / "lab").mkdir()
    environment = os.environ | {
        "OPDVIZ_CACHE": str(tmp_path / "cache"),
        "OPDVIZ_ROOTS": str(GOLDEN),
    }
    command = [sys.executable, "-c", LOOK, str(GOLDEN / "base"), str(GOLDEN / "tuned_b")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {
        "draw": [False],
        "list folders": [True],
        "check": [True],
        "block": [True],
    }
