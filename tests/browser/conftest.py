"""A real server on a free port and a real Chromium; a page that saw an error, a traceback or a
foreign request fails.
"""

import atexit
import json
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.browser.server import Server
from tests.conftest import GOLDEN, compared_here

# Debian's, of which the one without windows takes a fifth less processor time.
CHROMIUMS = Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium")
CHROMIUM = next((path for path in CHROMIUMS if path.exists()), CHROMIUMS[-1])
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-gpu-compositing",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-smooth-scrolling",
    # Nothing but this machine can be reached, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # All tabs in one process, which has compiled Streamlit's and Plotly's scripts once: two thirds
    # of the processor time of a page.
    "--renderer-process-limit=1",
    "--no-zygote",
]
# What a browser prepares for a user who stays - scripts parsed while they arrive, code that gets
# faster with use, threads that paint ahead - is a third of the processor time of a page that is
# looked at once.
THRIFTY = [
    *FLAGS,
    "--disable-features=SitePerProcess,IsolateOrigins,ScriptStreaming,BackgroundResourceFetch",
    "--num-raster-threads=1",
    "--js-flags=--no-opt --single-threaded-gc --min-semi-space-size=32",
]
OWN = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
CONFIG = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16}
# Below a page's address Streamlit looks for these, and finds them above.
PROBED = ("/_stcore/health", "/_stcore/host-config")


# Nothing runs and nothing is drawn any more.
QUIET = (
    "!!document.querySelector('[data-test-script-state=notRunning]') && !document.querySelector("
    "'[data-testid=stStatusWidget], [data-testid=stSkeleton], [data-stale=true]')"
)
# To an address within a tab, as Back does.
GO = "a => { history.pushState({}, '', a); dispatchEvent(new PopStateEvent('popstate')); }"


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Debian's Chromium."""
    assert CHROMIUM.exists(), (
        "browser tests need /usr/bin/chromium (apt-get install chromium); or pytest -m 'not browser'"
    )
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(CHROMIUM), args=THRIFTY)
        yield made
        made.close()


@pytest.fixture
def start_server():
    """Start servers of a test's own; name it before `visit`, so that they outlive the pages."""
    started: list[Server] = []

    def start(cache: Path, roots: Path = GOLDEN, **how) -> Server:
        started.append(Server(cache, roots, forked=True, **how))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def contexts(browser):
    """A browser context a colour scheme, kept for all tests: its cache holds Streamlit's bundles,
    and while a tab is open so does the one process of all tabs, compiled. Without motion, as every
    frame of an animation is painted by the processor.
    """
    kept = {
        scheme: browser.new_context(color_scheme=scheme, reduced_motion="reduce")
        for scheme in ("light", "dark")
    }
    for context in kept.values():
        context.new_page()
    yield kept
    for context in kept.values():
        context.close()


@pytest.fixture
def visit(contexts):
    """Open pages in tabs of their own; afterwards assert that none met an error, a traceback or a
    foreign request.
    """
    wrong: list[str] = []
    pages: list[Page] = []

    def watch(page: Page) -> None:
        # Watched, not routed: a route goes through this process and switches the cache off.
        page.on("request", lambda r: r.url.startswith(OWN) or wrong.append(f"asked for {r.url}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on(
            "console",
            lambda m: (
                m.type == "error" and "404" not in m.text and wrong.append(f"console: {m.text}")
            ),
        )
        page.on(
            "response",
            lambda r: (
                r.status >= 400
                and not r.url.endswith(PROBED)
                and wrong.append(f"{r.status} {r.url}")
            ),
        )

    def follow(page: Page) -> None:
        """Watch a page, and those that it opens."""
        pages.append(page)
        watch(page)
        page.on("popup", follow)

    def new(address: str, *, scheme: str = "light", width: int = 1280, height: int = 720) -> Page:
        page = contexts[scheme].new_page()
        follow(page)
        page.set_viewport_size({"width": width, "height": height})
        page.goto(address)
        page.wait_for_selector("h1", timeout=30_000)
        return page

    yield new
    for page in pages:
        if not page.is_closed():
            if page.locator("[data-testid=stException]").count():
                wrong.append(f"a traceback on {page.url}")
            page.close()
    assert not wrong, wrong


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """The golden pair b, whose base also tells its heads and its tokens."""
    folder = tmp_path_factory.mktemp("pair")
    for side in ("base", "tuned_b"):
        shutil.copytree(GOLDEN / side, folder / side)
    (folder / "base" / "config.json").write_text(json.dumps(CONFIG))
    (folder / "base" / "vocab.txt").write_text("\n".join(f"word{i}" for i in range(160)))
    return folder / "base", folder / "tuned_b"


@lru_cache
def comparison_of(pair: tuple[Path, Path], name: str) -> tuple[Path, str]:
    """A cache with a comparison of a pair, and its key."""
    cache = Path(tempfile.mkdtemp(prefix="opdviz-browser-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    return cache, compared_here(cache, *pair, name).key


def compared(pair: tuple[Path, Path], cache: Path, name: str = "golden") -> str:
    """Put the comparison of a pair into a cache, made once and copied; the key."""
    compared_once, key = comparison_of(tuple(pair), name)
    shutil.copytree(compared_once, cache, dirs_exist_ok=True)
    return key


@pytest.fixture(scope="session")
def server(tmp_path_factory, pair) -> Server:
    """A server whose cache holds the golden pair b; tests that write use one of their own."""
    cache = tmp_path_factory.mktemp("browser")
    compared(pair, cache)
    made = Server(cache, pair[0].parent, forked=True)
    yield made
    made.stop()


def settled(page: Page) -> None:
    """Wait until the script has run and everything in sight is drawn, and stays so for a moment:
    what a page's own components answer runs it once more.
    """
    for _ in range(5):
        page.wait_for_function(QUIET, timeout=30_000, polling=100)  # each frame would make frames
        page.wait_for_timeout(300)
        if page.evaluate(QUIET):
            break


# Streamlit's own navigation puts other elements between a list and its items.
STREAMLITS = ("list", "listitem")


def accessible(page: Page) -> int:
    """Assert that axe-core finds nothing but what Streamlit's own navigation does; how much that
    is.
    """
    violations = {
        violation["id"]: [node["html"] for node in violation["nodes"]]
        for violation in Axe().run(page).response["violations"]
    }
    theirs = [html for rule in STREAMLITS for html in violations.pop(rule, [])]
    assert not violations, violations
    assert all(html.startswith(('<ul data-testid="stSidebarNavItems', "<li")) for html in theirs)
    return len(theirs)


def figure(page: Page, title: str):
    """The figure whose title holds some words."""
    found = page.locator(".js-plotly-plot", has=page.locator(".gtitle", has_text=title)).first
    expect(found).to_be_visible(timeout=15_000)
    return found


def press(page: Page, title: str, x: float, y: float, axis: str = "") -> None:
    """Click a figure at a place of its axes, as a user does: the mouse comes first."""
    made = figure(page, title)
    made.scroll_into_view_if_needed()
    settled(page)
    at = made.evaluate(
        """(d, [x, y, axis]) => { const l = d._fullLayout, b = d.getBoundingClientRect(), 
        h = l['xaxis' + axis], v = l['yaxis' + axis];
        return [b.left + h._offset + h.d2p(x), b.top + v._offset + v.d2p(y)]; }""",
        [x, y, axis],
    )
    page.mouse.move(*at)
    page.wait_for_timeout(400)
    page.mouse.click(*at)


def opened(page: Page, name: str) -> None:
    """Go to a page by the sidebar."""
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(re.compile(f"/{name.lower()}"), timeout=15_000)
    settled(page)


def follow(page: Page, address: str) -> None:
    """Go to an address within the tab as Back does, for a third of the time of a load."""
    page.evaluate(GO, address)
    settled(page)


def choose_pair(page: Page, base: Path | str, tuned: Path | str) -> None:
    """Name two checkpoints on the page of comparisons, as a user types them."""
    for label, folder in (("Base", base), ("Tuned", tuned)):
        box = page.get_by_role("combobox", name=label)
        box.click()
        choose_in(page, box, folder)


def choose_in(page: Page, box: Locator, text: Path | str) -> None:
    """Type into a box that offers some, take the first, and close its list, which may stay open."""
    box.fill(str(text))
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    settled(page)


def press_row(page: Page, table: Locator, row: int = 0) -> None:
    """Choose a row of a table by its box."""
    expect(table).to_be_visible(timeout=15_000)
    settled(page)
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 * (row + 1) + 17)


def by_keyboard(page: Page, table: Locator, rows_down: int = 0) -> None:
    """Choose a row of a table without a mouse: Tab until the table has the keys, arrows, then Shift
    and Space.
    """
    expect(table).to_be_visible(timeout=15_000)
    settled(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if table.evaluate(
            "t => t.contains(document.activeElement) && document.activeElement.tagName == 'CANVAS'"
        ):
            break
    else:
        raise AssertionError("sixty presses of Tab do not reach the table")
    for key in ["ArrowDown"] * rows_down + ["Shift+Space"]:
        page.keyboard.press(key)
        page.wait_for_timeout(200)
