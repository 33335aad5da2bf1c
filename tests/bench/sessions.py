"""What a server still holds when visitors have come and gone, one after another: `python -m
tests.bench.sessions [COUNT]`.

A visitor is a WebSocket that speaks as a browser does and draws nothing. Each opens a page and goes
on to another; they leave in turn as a closed tab does, as a lost connection does, and while their
page is still drawn. A hundred of them warm the server up; then its descriptors, threads and memory
are told before COUNT more (1,000), with the last of them, and when the time for coming back - here
5 s, 120 s as it is set - is over.
"""

import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from tests.bench.stores import build
from tests.browser.server import Server
from tests.conftest import GOLDEN

COUNT, FIRST = 1_000, 100
AWAY = 5
PAGES = ("", "overview", "layers", "directions", "coordinates", "tensor", "board", "methods")
ENDINGS = ("closed", "lost", "while it is drawn")


@contextmanager
def visitor(server: Server, session: str = "") -> Iterator[ClientConnection]:
    """A connection to the server; with the id of a session that lost its own, one that comes back
    to it.
    """
    address = server.address.replace("http", "ws", 1) + "/_stcore/stream"
    # The protocol, a token against forgery, the session.
    words = ["streamlit", "none", *([session] if session else [])]
    # without a limit to its queue, a visitor who leaves in the middle of a page sometimes waits ten
    # seconds for itself
    with connect(
        address, subprotocols=words, max_size=None, max_queue=None, compression=None
    ) as connection:
        yield connection


def ask(connection: ClientConnection, page: str, **widgets: str | list[str]) -> None:
    """Ask for a page, with a text, or several, for widgets by their ids."""
    message = BackMsg()
    message.rerun_script.page_name = page
    for widget, value in widgets.items():
        state = message.rerun_script.widget_states.widgets.add(id=widget)
        if isinstance(value, str):
            state.string_value = value
        else:
            state.string_array_value.data.extend(value)
    connection.send(message.SerializeToString())


def drawn(connection: ClientConnection, seconds: float = 60) -> list[ForwardMsg]:
    """What comes until a page is there; a TimeoutError where nothing comes for so many seconds."""
    messages: list[ForwardMsg] = []
    while not messages or not is_there(messages[-1]):
        messages.append(ForwardMsg.FromString(connection.recv(timeout=seconds)))
    return messages


def is_there(message: ForwardMsg) -> bool:
    """Whether this says that a page is there, whole."""
    return (
        message.WhichOneof("type") == "script_finished"
        and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
    )


def visit(server: Server, number: int) -> None:
    """One visitor comes, looks at two pages, and leaves."""
    ending = ENDINGS[number % len(ENDINGS)]
    with visitor(server) as connection:
        ask(connection, PAGES[number % len(PAGES)])
        drawn(connection)
        ask(connection, PAGES[(number + 1) % len(PAGES)])
        if ending != "while it is drawn":
            drawn(connection)
        if ending == "lost":
            connection.socket.shutdown(socket.SHUT_RDWR)


def held(server: Server) -> dict[str, int]:
    """Descriptors, threads and MB that the server has."""
    process = psutil.Process(server.process.pid)
    return {
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "MB": process.memory_info().rss >> 20,
    }


def settled(server: Server, seconds: float) -> dict[str, int]:
    """What the server holds when those who left no longer can come back."""
    time.sleep(seconds + 2)
    return held(server)


def main() -> None:
    """Print one JSON object."""
    count = int(sys.argv[1]) if sys.argv[1:] else COUNT
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), 400)
        server = Server(Path(folder), GOLDEN, more=("--server.disconnectedSessionTTL", str(AWAY)))
        figures = {"at the start": held(server)}
        for number in range(FIRST):
            visit(server, number)
        figures["before"] = settled(server, AWAY)
        started = time.monotonic()
        for number in range(count):
            visit(server, number)
        figures |= {"with the last": held(server), "after": settled(server, AWAY)}
        figures |= {
            "sessions": count,
            "ms a session": round((time.monotonic() - started - AWAY - 2) / count * 1000),
        }
        server.stop()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
