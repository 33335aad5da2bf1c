"""A real server on a free port and a real Chromium; a page that saw an error, a traceback or a foreign request fails."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import GOLDEN

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
PROBED = (
    "/_stcore/health",
    "/_stcore/host-config",
)  # below a page's address Streamlit looks for these, and finds them above


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`opdviz app` on a cache of its own; one that is not `fresh` has been opened before."""

    def __init__(self, cache: Path, roots: Path, *, fresh: bool = False):
        self.cache, self.roots, self.port = cache, roots, free_port()
        if not fresh:
            (cache / "lab").mkdir(parents=True, exist_ok=True)
        self.process = None
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it is healthy."""
        command = [sys.executable, "-m", "opdviz", "app", "--cache", str(self.cache), "--roots", str(self.roots)]
        self.process = subprocess.Popen(
            [*command, "--", "--server.port", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
            env=os.environ | {"OPDVIZ_CACHE": ""},
        )  # fmt: skip
        deadline = time.monotonic() + 40
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/_stcore/health") as answer:
                if answer.read() == b"ok":
                    return
            assert time.monotonic() < deadline, "the server did not become healthy"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it; jobs of its own go on."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=20)


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Debian's Chromium."""
    assert CHROMIUM.exists(), (
        "browser tests need /usr/bin/chromium (apt-get install chromium); or pytest -m 'not browser'"
    )
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def start_server():
    """Start servers of a test's own; name it before `visit`, so that they outlive the pages."""
    started: list[Server] = []

    def start(cache: Path, *, fresh: bool = False) -> Server:
        started.append(Server(cache, GOLDEN, fresh=fresh))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def visit(browser):
    """Open pages in fresh contexts; afterwards assert that none met an error, a traceback or a foreign request."""
    wrong: list[str] = []
    contexts = []

    def refuse(route) -> None:
        if not route.request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
            wrong.append(f"a request to {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def new(address: str, *, scheme: str = "light", width: int = 1280, height: int = 720) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.route("**/*", refuse)
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: m.type == "error" and "404" not in m.text and wrong.append(f"console: {m.text}"))
        page.on(
            "response", lambda r: r.status >= 400 and not r.url.endswith(PROBED) and wrong.append(f"{r.status} {r.url}")
        )
        page.goto(address)
        page.wait_for_selector("[data-testid=stHeading]", timeout=30_000)
        return page

    yield new
    for context in contexts:
        for page in context.pages:
            if page.locator("[data-testid=stException]").count():
                wrong.append(f"a traceback on {page.url}")
        context.close()
    assert not wrong, wrong


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Server:
    """A server whose cache holds the golden pair b."""
    cache = tmp_path_factory.mktemp("browser")
    command = [
        sys.executable,
        "-m",
        "opdviz",
        "compare",
        str(GOLDEN / "base"),
        str(GOLDEN / "tuned_b"),
        "--name",
        "golden",
    ]
    subprocess.run([*command, "--cache", str(cache)], check=True, capture_output=True)
    made = Server(cache, GOLDEN)
    yield made
    made.stop()
