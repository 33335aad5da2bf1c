"""How long a user waits, in a real browser, on a store of 400 and on one of 40,000 tensors: `python -m tests.bench.browser`.

A view counts as there when its heading stands and its main figure is drawn. Times are medians of a few turns; the last part
has ten sessions click at once while the server's health is asked for every 50 ms.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from playwright.async_api import async_playwright
from playwright.sync_api import Page, sync_playwright

from tests.bench.stores import build
from tests.browser.conftest import CHROMIUM, FLAGS, Server
from tests.conftest import GOLDEN

MAIN = {
    "Overview": "Six headline",
    "Layers": "by layer and module",
    "Directions": "Stable rank beside",
    "Coordinates": "Share that moved",
    "Tensor": "Energy of the leading",
}
DRAWN = """(title) => [...document.querySelectorAll('.js-plotly-plot')].some(
    d => d._fullLayout && d._fullLayout.title.text.includes(title) && d.querySelector('.main-svg'))
    && !document.querySelector('[data-testid=stException]')"""
CELL = """([i, j]) => { const d = document.querySelector('.js-plotly-plot'), l = d._fullLayout, b = d.getBoundingClientRect();
    return [b.left + l._size.l + l.xaxis.d2p(i), b.top + l._size.t + l.yaxis.d2p(j)]; }"""
TURNS = 3
SESSIONS, CLICKS = 10, 5


def timed(page: Page, act, title: str) -> float:
    """Seconds from an act until a figure of a title is drawn."""
    started = time.monotonic()
    act()
    page.wait_for_function(DRAWN, arg=title, timeout=60_000, polling=20)
    return time.monotonic() - started


def settle(page: Page) -> None:
    """Wait until nothing runs; not part of any time."""
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')", timeout=60_000)
    page.wait_for_timeout(700)


def one_session(browser, cache: Path) -> dict:
    """First view of a cold server, page changes, and from a cell of the map to its tensor."""
    server = Server(cache, GOLDEN)
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    found = {"first view": timed(page, lambda: page.goto(f"{server.address}/overview"), MAIN["Overview"])}
    settle(page)
    changes, drills, clicks = [], [], []
    for _ in range(TURNS):
        for name, title in MAIN.items():
            if name != "Overview" or changes:
                changes.append(
                    timed(page, lambda name=name: page.get_by_role("link", name=name, exact=True).click(), title)
                )
                settle(page)
        page.get_by_role("link", name="Layers", exact=True).click()
        page.wait_for_function(DRAWN, arg=MAIN["Layers"])
        settle(page)
        modules = page.evaluate("document.querySelector('.js-plotly-plot')._fullLayout.yaxis.ticktext")
        experts = next((j for j, module in enumerate(modules) if "experts" in module), None)
        if experts is not None:
            drills.append(timed(page, lambda j=experts: press(page, 3, j), "layers 3"))
            settle(page)
        clicks.append(timed(page, lambda e=experts: press(page, 5, 0 if e else 1), MAIN["Tensor"]))
        settle(page)
    server.stop()
    found |= {"page change": statistics.median(changes), "page change, slowest": max(changes)}
    found |= {"cell to tensor": statistics.median(clicks)}
    return found | ({"cell to its experts": statistics.median(drills)} if drills else {})


def press(page: Page, i: int, j: int) -> None:
    """Click a cell of the first figure; the mouse is there before."""
    x, y = page.evaluate(CELL, [i, j])
    page.mouse.move(x, y)
    page.mouse.click(x, y)


def watch_health(address: str, ended: threading.Event, took: list[float]) -> None:
    """Ask for the server's health every 50 ms."""
    while not ended.is_set():
        started = time.monotonic()
        with urllib.request.urlopen(f"{address}/_stcore/health") as answer:
            assert answer.read() == b"ok"
        took.append(time.monotonic() - started)
        time.sleep(0.05)


async def clicking(browser, address: str, number: int, waits: list[float], wrong: list[str]) -> None:
    """One of many sessions: open a page, then go from page to page."""
    page = await (await browser.new_context(viewport={"width": 1280, "height": 720})).new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    order = list(MAIN.items())[number % 5 :] + list(MAIN.items())[: number % 5]
    for name, title in order[: CLICKS + 1]:
        started = time.monotonic()
        if page.url == "about:blank":
            await page.goto(f"{address}/{name.lower()}")
        else:
            await page.get_by_role("link", name=name, exact=True).click()
        try:
            await page.wait_for_function(DRAWN, arg=title, timeout=60_000, polling=100)
        except TimeoutError as error:
            wrong.append(f"{name}: {error}")
        waits.append(time.monotonic() - started)


async def ten_sessions(cache: Path) -> dict:
    """All sessions at once, on a warm server."""
    server = Server(cache, GOLDEN)
    waits, wrong, took, ended = [], [], [], threading.Event()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        await clicking(browser, server.address, 0, [], wrong)
        watcher = threading.Thread(target=watch_health, args=(server.address, ended, took))
        watcher.start()
        await asyncio.gather(*(clicking(browser, server.address, n, waits, wrong) for n in range(SESSIONS)))
        ended.set()
        watcher.join()
        await browser.close()
    server.stop()
    took.sort()
    return {"errors": len(wrong), "views": len(waits), "wait, median": statistics.median(waits), "wait, longest": max(waits),
            "health, median": took[len(took) // 2], "health, 99 %": took[int(len(took) * 0.99)], "health, longest": took[-1]}  # fmt: skip


def main() -> None:
    """Print one JSON object a store, in seconds."""
    for tensors in map(int, sys.argv[1:] or ("400", "40000")):
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), tensors)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
                found = one_session(browser, Path(folder))
                browser.close()
            found["ten sessions"] = asyncio.run(ten_sessions(Path(folder)))
        told = {
            k: {a: round(b, 3) for a, b in v.items()} if isinstance(v, dict) else round(v, 3) for k, v in found.items()
        }
        print(json.dumps({"tensors": tensors} | told, indent=1), flush=True)


if __name__ == "__main__":
    main()
