"""The comparisons as a table of results: sorted, opened by a click anywhere, renamed, deleted,
compared before; a started one is opened, and said everywhere when it is done.
"""

import os
import re
import signal
import time

import pytest
from playwright.sync_api import Page, expect

from opdviz import jobs
from opdviz.store.store import Store
from opdviz.tables import summaries
from opdviz.views import overview
from tests.browser.conftest import GOLDEN, choose_pair, compared, opened, settled
from tests.browser.server import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with two runs on one base."""
    folder = tmp_path_factory.mktemp("listing")
    for which in "ab":
        compared((GOLDEN / "base", GOLDEN / f"tuned_{which}"), folder, f"run {which}")
    return folder


@pytest.fixture(scope="module")
def served(cache):
    """A server for it."""
    server = Server(cache, GOLDEN, forked=True)
    yield server
    server.stop()


def cells(page: Page, row: int) -> list[str]:
    """What a row of the table says: its canvas has the same cells for screen readers."""
    table = page.locator("[data-testid=stDataFrame]").first
    expect(table).to_be_visible(timeout=15_000)
    settled(page)
    found = table.locator(f"[role=row][aria-rowindex='{row + 2}'] [role=gridcell]")
    return [cell.inner_text() for cell in found.all()]


def test_results_stand_beside_chance_and_a_click_anywhere_opens_the_run(served, visit, cache):
    page = visit(f"{served.address}/comparisons")
    by_name = {}
    for row in range(2):
        said = " ".join(cells(page, row))
        by_name[re.search(r"run [ab]", said)[0]] = said
    for stored in Store(cache).all():
        results = overview.results(
            summaries.summary(stored, "headline"), summaries.summary(stored, "by_tensor")
        )
        for value in results.values():
            assert str(value) in by_name[stored.name], (value, by_name[stored.name])
    table = page.locator("[data-testid=stDataFrame]").first
    box = table.bounding_box()
    # The far end of the second row, nowhere near its box.
    first = re.search(r"run [ab]", " ".join(cells(page, 1)))[0]
    page.mouse.click(box["x"] + box["width"] - 60, box["y"] + 35 * 2 + 17)
    page.wait_for_url(re.compile(r"/overview\?comparison=run\+" + first[-1]), timeout=15_000)


def test_a_pair_compared_before_is_offered_to_be_opened_and_keeps_its_name(served, visit):
    page = visit(f"{served.address}/comparisons")
    choose_pair(page, GOLDEN / "base", GOLDEN / "tuned_a")
    expect(page.get_by_text("Already compared, as run a")).to_be_visible(timeout=20_000)
    page.locator(".st-key-open_before button").click()
    page.wait_for_url(re.compile(r"/overview\?comparison=run\+a"), timeout=15_000)


def test_renamed_and_deleted_in_the_browser_and_not_without_a_question(
    tmp_path, start_server, visit
):
    key = compared((GOLDEN / "base", GOLDEN / "tuned_a"), tmp_path, "run a")
    page = visit(f"{start_server(tmp_path).address}/comparisons")
    page.get_by_role("button", name="Edit or delete").click()
    field = page.get_by_role("textbox", name="Name", exact=True)
    field.fill("seed 0")
    field.press("Enter")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("1 comparison in the cache")).to_be_visible()
    deadline = time.monotonic() + 15
    while Store(tmp_path).open(key).name != "seed 0":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    settled(page)
    if not page.get_by_role("button", name="Delete", exact=True).is_visible():
        page.get_by_role("button", name="Edit or delete").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("seed 0")).to_be_visible(timeout=15_000)
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_have_count(0)
    assert Store(tmp_path).keys() == [key]
    settled(page)
    if not page.get_by_role("button", name="Delete", exact=True).is_visible():
        page.get_by_role("button", name="Edit or delete").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("comparisons in the cache")).to_have_count(0)
    deadline = time.monotonic() + 15
    while Store(tmp_path).keys():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_started_run_is_opened_with_its_name_and_said_when_it_is_done(
    tmp_path, start_server, visit
):
    compared((GOLDEN / "base", GOLDEN / "tuned_b"), tmp_path, "run b")
    server = start_server(tmp_path)
    page = visit(f"{server.address}/comparisons")
    choose_pair(page, GOLDEN / "base", GOLDEN / "tuned_a")
    field = page.get_by_role("textbox", name="Name", exact=True)
    expect(field).to_be_visible(timeout=20_000)
    field.fill("fresh")
    field.press("Enter")
    page.get_by_role("button", name="Compare", exact=True).click()
    store, deadline = Store(tmp_path), time.monotonic() + 60
    while not (
        pids := [
            job.status["pid"]
            for job in jobs.all_jobs(store)
            if job.status.get("key") in store.keys()
        ]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pids[0], signal.SIGSTOP)  # so that it ends while another page is shown
    page.wait_for_url(re.compile(r"/overview\?comparison=fresh"), timeout=30_000)
    opened(page, "Methods")
    os.kill(pids[0], signal.SIGCONT)
    while any(job.state == "running" for job in jobs.all_jobs(store)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    expect(page.get_by_text("fresh is done.").or_(page.get_by_text("fresh").first)).to_be_visible(
        timeout=15_000
    )
    page.locator("[class*=st-key-line_open] button").click()
    page.wait_for_url(re.compile(r"/overview\?comparison=fresh"), timeout=15_000)
    expect(page.get_by_text("Relative norm").first).to_be_visible(timeout=15_000)
