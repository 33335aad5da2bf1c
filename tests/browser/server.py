"""`opdviz app` for the tests: started as users start it, or taken from a process that has loaded
the app's libraries once and turns into a server by a fork, for a fifth of the processor time.
"""

import atexit
import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import lru_cache
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "opdviz"]
# Of this process, which takes them again: the browser knows Streamlit's bundles by their address.
PORTS: list[int] = []
TAKEN: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, one of earlier servers where there is one; `TAKEN` has it."""
    for port in [*PORTS, 0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port not in TAKEN:
                probe.bind(("127.0.0.1", port))
                port = probe.getsockname()[1]
                PORTS.extend({port} - set(PORTS))
                TAKEN.add(port)
                return port
    raise OSError("no port is free")


def until_healthy(address: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 40
    while True:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{address}/_stcore/health") as answer,
        ):
            if answer.read() == b"ok":
                return
        assert time.monotonic() < deadline, "the server did not become healthy"
        time.sleep(0.1)


class Server:
    """`opdviz app` on a cache of its own; one that is not `fresh` has been opened before, one that
    is `forked` comes from the process that has the libraries.
    """

    def __init__(
        self,
        cache: Path,
        roots: Path,
        *,
        fresh: bool = False,
        forked: bool = False,
        path: str = "",
        read_only: bool = False,
        more: tuple = (),
    ):
        self.cache, self.roots, self.port, self.path = cache, roots, free_port(), path
        self.forked = forked
        self.options = [
            *(["--read-only"] if read_only else []),
            "--",
            "--server.port",
            str(self.port),
            *more,
        ]
        self.options += ["--server.baseUrlPath", path] if path else []
        if not fresh:
            (cache / "lab").mkdir(parents=True, exist_ok=True)
        self.process: psutil.Process | None = None
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}" + (f"/{self.path}" if self.path else "")

    def start(self) -> None:
        """Start it and wait until it is healthy."""
        places = ["--cache", str(self.cache), "--roots", str(self.roots)]
        arguments = ["app", *places, *self.options]
        environment = os.environ | {"OPDVIZ_CACHE": ""}
        if self.forked:
            self.process = fork_server(arguments, environment)
        else:
            self.process = psutil.Popen(
                [*COMMAND, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                start_new_session=True,
                env=environment,
            )
        until_healthy(self.address)

    def stop(self) -> None:
        """End it; jobs of its own go on."""
        self.process.terminate()
        self.process.wait(timeout=20)
        TAKEN.discard(self.port)


@lru_cache
def loaded() -> subprocess.Popen:
    """The process that has the app's libraries, started once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.browser.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OPDVIZ_CACHE": ""},
    )
    atexit.register(process.communicate)  # it ends with what it is told
    return process


def fork_server(arguments: list[str], environment: dict[str, str]) -> psutil.Process:
    """A server of the loaded process."""
    process = loaded()
    process.stdin.write(json.dumps([arguments, environment]) + "\n")
    process.stdin.flush()
    child = process.stdout.readline()
    assert child, "the process that servers are forked from has ended; its error stands above"
    return psutil.Process(int(child))


def become(arguments: list[str], environment: dict[str, str]) -> None:
    """Go on as `opdviz app` in a session of one's own, without the new interpreter that the command
    takes for Streamlit.
    """
    from opdviz.cli import main

    def stay(_: str, command: list[str]) -> None:
        _, _, module, *sys.argv[1:] = command
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.execv = stay
    sys.exit(main(arguments))


def serve_forks() -> None:
    """Load what a server and its pages import; then one server a line of the standard input."""
    for name in ("streamlit.web.cli", "opdviz.ui.comparison"):
        importlib.import_module(name)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a server that has ended
    for line in sys.stdin:
        if not (child := os.fork()):
            become(*json.loads(line))
        print(child, flush=True)


if __name__ == "__main__":
    serve_forks()
