"""How long a user waits, in a real browser, on a store of 400 and on one of 40,000 tensors: `python
-m tests.bench.browser`.

A view counts as there when its heading stands and its main figure is drawn. Times are medians of a
few turns; the last part has ten sessions click in the same moment, five times, while the server's
health is asked for every 50 ms. Beside ours stand two pages of Streamlit's with one Plotly figure
each and nothing else, and the ratios to what they take.
"""

import asyncio
import contextlib
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
from playwright.async_api import Page as AsyncPage
from playwright.async_api import TimeoutError, async_playwright
from playwright.sync_api import Page, sync_playwright

from tests.bench.stores import build
from tests.browser.conftest import CHROMIUM, FLAGS, GO
from tests.browser.server import Server, free_port, until_healthy
from tests.conftest import GOLDEN

MAIN = {
    "Overview": "Six headline",
    "Layers": "by layer and module",
    "Directions": "Stable rank beside",
    "Coordinates": "Share that moved",
    "Tensor": "Energy of the leading",
}
HEADINGS = {
    "Overview": "What changed",
    "Layers": "Where it moved",
    "Directions": "In which directions",
    "Coordinates": "Which coordinates moved",
    "Tensor": ".weight",
}
HEADED = """(words) => [...document.querySelectorAll('h1')].some(h => h.textContent.includes(words))
    && !document.querySelector('[data-testid=stException]')"""
DRAWN = """(title) => [...document.querySelectorAll('.js-plotly-plot')].some(
    d => d._fullLayout && d._fullLayout.title.text.includes(title) && d.querySelector('.main-svg'))
    && !document.querySelector('[data-testid=stException]')"""
CELL = """([i, j]) => { const d = document.querySelector('.js-plotly-plot'), l = d._fullLayout, b = d.getBoundingClientRect();
    return [b.left + l._size.l + l.xaxis.d2p(i), b.top + l._size.t + l.yaxis.d2p(j)]; }"""
# What no page of Streamlit's can do without.
ALONE = """
import plotly.graph_objects as go
import streamlit as st

def page(title):
    def draw():
        st.title(title)
        st.plotly_chart(go.Figure(go.Scatter(x=[1, 2, 3], y=[1, 3, 2]), {"title": {"text": title}}))
    return st.Page(draw, title=title, url_path=title.lower())

st.navigation([page("One"), page("Two")]).run()
"""
TURNS = 3
SESSIONS, CLICKS = 10, 5
NOTHING = "export default () => null"


def timed(page: Page, act, title: str) -> float:
    """Seconds from an act until a figure of a title is drawn."""
    started = time.monotonic()
    act()
    page.wait_for_function(DRAWN, arg=title, timeout=60_000, polling=20)
    return time.monotonic() - started


def settle(page: Page) -> None:
    """Wait until nothing runs; not part of any time."""
    page.wait_for_function(
        "!document.querySelector('[data-testid=stStatusWidget]')", timeout=60_000
    )
    page.wait_for_timeout(700)


def one_session(browser, cache: Path) -> dict:
    """First view of a cold server, page changes, and from a cell of the map to its tensor."""
    server = Server(cache, GOLDEN)
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    found = {
        "first view": timed(page, lambda: page.goto(f"{server.address}/overview"), MAIN["Overview"])
    }
    settle(page)
    changes, drills, clicks = [], [], []
    for _ in range(TURNS):
        for name, title in MAIN.items():
            if name != "Overview" or changes:
                changes.append(
                    timed(
                        page,
                        lambda name=name: page.get_by_role("link", name=name, exact=True).click(),
                        title,
                    )
                )
                settle(page)
        page.get_by_role("link", name="Layers", exact=True).click()
        page.wait_for_function(DRAWN, arg=MAIN["Layers"])
        settle(page)
        modules = page.evaluate(
            "document.querySelector('.js-plotly-plot')._fullLayout.yaxis.ticktext"
        )
        experts = next((j for j, module in enumerate(modules) if "experts" in module), None)
        if experts is not None:
            at = aim(page, 3, experts)
            drills.append(timed(page, lambda at=at: page.mouse.click(*at), "layers 3"))
            settle(page)
        at = aim(page, 5, 0 if experts else 1)
        clicks.append(timed(page, lambda at=at: page.mouse.click(*at), MAIN["Tensor"]))
        settle(page)
        if experts is not None:
            page.get_by_role("link", name="Layers", exact=True).click()
            page.get_by_role("button", name="Show all").click()
            settle(page)
    server.stop()
    found |= {"page change": statistics.median(changes), "page change, slowest": max(changes)}
    found |= {"cell to tensor": statistics.median(clicks)}
    return found | ({"cell to its experts": statistics.median(drills)} if drills else {})


def streamlit_alone(browser, folder: Path) -> dict:
    """First view and page changes of two pages with a figure each, in the same browser."""
    script, port = folder / "alone.py", free_port()
    script.write_text(ALONE)
    options = ["--server.port", str(port), "--server.headless", "true", "--server.address"]
    command = [sys.executable, "-m", "streamlit", "run", str(script), *options, "127.0.0.1"]
    address = f"http://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet, cwd=folder) as server:
        try:
            until_healthy(address)
            page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
            first = timed(page, lambda: page.goto(f"{address}/one"), "One")
            settle(page)
            changes = []
            for title in ("Two", "One") * TURNS:
                where = f"{address}/{title.lower()}"
                changes.append(timed(page, lambda where=where: page.evaluate(GO, where), title))
                settle(page)
        finally:
            server.terminate()
    return {"first view": first, "page change": statistics.median(changes)}


def aim(page: Page, i: int, j: int) -> tuple[float, float]:
    """Move the mouse over a cell of the first figure, as a user does before the click; where it is."""
    x, y = page.evaluate(CELL, [i, j])
    page.mouse.move(x, y)
    page.wait_for_timeout(400)
    return x, y


def watch_health(address: str, ended: Event, told: Connection) -> None:
    """In a process of its own, so that nothing else here delays it: ask for the server's health
    every 50 ms, tell the times.
    """
    took = []
    told.send("ready")
    while not ended.is_set():
        started = time.monotonic()
        with urllib.request.urlopen(f"{address}/_stcore/health") as answer:
            assert answer.read() == b"ok"
        took.append(time.monotonic() - started)
        time.sleep(0.05)
    told.send(sorted(took))


async def opened(browser, address: str, draws: bool) -> AsyncPage:
    """A session on its first page; one that does not draw has Plotly taken out, and costs what a
    browser elsewhere would.
    """
    page = await (await browser.new_context(viewport={"width": 1280, "height": 720})).new_page()
    if not draws:
        await page.route(
            "**/PlotlyChart*.js",
            lambda route: route.fulfill(content_type="text/javascript", body=NOTHING),
        )
    await page.goto(f"{address}/overview")
    await there(page, "Overview", draws)
    return page


async def there(page: AsyncPage, name: str, draws: bool) -> None:
    """Wait until a page is there: its main figure, or its heading where nothing is drawn."""
    if draws:
        await page.wait_for_function(DRAWN, arg=MAIN[name], timeout=60_000, polling=100)
    else:
        await page.wait_for_function(HEADED, arg=HEADINGS[name], timeout=60_000, polling=100)


async def click(
    page: AsyncPage, name: str, draws: bool, waits: list[float], wrong: list[str]
) -> None:
    """One of many sessions opens a page."""
    started = time.monotonic()
    await page.get_by_role("link", name=name, exact=True).click()
    try:
        await there(page, name, draws)
    except TimeoutError as error:
        wrong.append(f"{name}: {error}")
    waits.append(time.monotonic() - started)


def stand_back(process: psutil.Process) -> None:
    """Give a process, and all it starts later, what the others leave of the processors."""
    process.nice(19)
    # Where the kernel shares out by session, the session's niceness is what counts.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text("19")


def cpu_of(server: Server) -> float:
    """Seconds of processor time that a server has used."""
    used = psutil.Process(server.process.pid).cpu_times()
    return used.user + used.system


async def ten_sessions(cache: Path, drawing: int) -> dict:
    """Ten open sessions click at once, some of which draw their figures, all on this one machine."""
    server = Server(cache, GOLDEN)
    waits, wrong = [], []
    spawn = multiprocessing.get_context("spawn")
    ended, (told, tell) = spawn.Event(), spawn.Pipe(duplex=False)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for process in psutil.Process().children(recursive=True):
            if "chrom" in process.name():
                # Users' browsers run elsewhere: theirs do not take the server's processors.
                stand_back(process)
        pages = [await opened(browser, server.address, n < drawing) for n in range(SESSIONS)]
        for page in pages:
            page.on("pageerror", lambda error: wrong.append(str(error)))
        watcher = spawn.Process(target=watch_health, args=(server.address, ended, tell))
        watcher.start()
        assert told.recv() == "ready"
        before = cpu_of(server)
        # All click in the same moment, and again when the last of them has its page.
        for turn in range(1, CLICKS + 1):
            names = [list(MAIN)[(n + turn) % len(MAIN)] for n in range(SESSIONS)]
            await asyncio.gather(
                *(click(page, names[n], n < drawing, waits, wrong) for n, page in enumerate(pages))
            )
        spent = cpu_of(server) - before
        ended.set()
        took = told.recv()
        await browser.close()
    server.stop()
    asked = {"health, asked": len(took), "health, median": took[len(took) // 2]}
    asked |= {"health, 99 %": took[int(len(took) * 0.99)], "health, longest": took[-1]}
    found = {"errors": len(wrong), "views": len(waits), "server's work a view": spent / len(waits)}
    return found | {"wait, median": statistics.median(waits), "wait, longest": max(waits)} | asked


def main() -> None:
    """Print one JSON object a store, in seconds."""
    for tensors in map(int, sys.argv[1:] or ("400", "40000")):
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), tensors)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
                alone = streamlit_alone(browser, Path(folder))
                found = one_session(browser, Path(folder))
                browser.close()
            found["Streamlit alone"] = alone
            found["ours / Streamlit alone"] = {name: found[name] / alone[name] for name in alone}
            found["ten sessions, one draws"] = asyncio.run(ten_sessions(Path(folder), 1))
            found["ten sessions, all draw"] = asyncio.run(ten_sessions(Path(folder), SESSIONS))
        told = {
            k: {a: round(b, 3) for a, b in v.items()} if isinstance(v, dict) else round(v, 3)
            for k, v in found.items()
        }
        print(json.dumps({"tensors": tensors} | told, indent=1), flush=True)


if __name__ == "__main__":
    main()
