"""As a user, in a real browser: every page, light and dark; from a cell to its tensor; links; a job
from start to end.
"""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from opdviz import jobs
from opdviz.store.store import Store
from tests.browser.conftest import accessible, choose_in, choose_pair, opened, press_row, settled
from tests.browser.server import ROOT
from tests.conftest import GOLDEN

pytestmark = pytest.mark.browser
SHOTS = ROOT / "tests" / "browser" / "shots"
PAGES = (
    "comparisons",
    "overview",
    "layers",
    "directions",
    "coordinates",
    "tensor",
    "part",
    "subnetwork",
    "board",
    "methods",
    "lab",
)


SIZES = ({"width": 1280, "height": 720}, {"width": 1920, "height": 1080})
PHONE = {"width": 390, "height": 844}


def fits(page: Page, name: str, scheme: str, *sizes: dict) -> None:
    """A page is drawn without an error, accessible, and at some sizes without scrolling sideways."""
    settled(page)
    if name in (*PAGES[1:6], "subnetwork"):
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=15_000)
        top = page.locator(".js-plotly-plot").first.bounding_box()["y"]
        assert top < 420, "the main figure starts below the first screen's middle"
    assert accessible(page) == 1 + len(PAGES), "Streamlit's own navigation"
    for size in sizes:
        page.set_viewport_size(size)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate(
            "[...document.querySelectorAll('[data-testid=stMain]')].every(m => m.scrollWidth <="
            " m.clientWidth)"
        )
    expect(page.get_by_text("Page not found")).to_have_count(0)
    expect(page.get_by_role("button", name="Copy link")).to_be_visible(timeout=15_000)
    assert not page.locator("[data-testid=stException]").count()
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}_{scheme}.png")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_draws_by_its_address_in_light(server, visit, name):
    page = visit(f"{server.address}/{name}")
    fits(page, name, "light", *SIZES)
    page.set_viewport_size(PHONE)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    widths = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].map(d => d._fullLayout._size.w)"
    )
    assert all(width > 200 for width in widths), "a figure has collapsed"


def test_every_page_draws_by_the_sidebar_in_dark_under_a_title_of_its_own(server, visit):
    page, titles = visit(f"{server.address}/overview", scheme="dark"), set()
    for name in PAGES:
        page.set_viewport_size(SIZES[0])
        page.get_by_role("link", name=name.capitalize(), exact=True).click()
        page.wait_for_url(re.compile(f"/{name}([?]|$)"), timeout=15_000)
        expect(page).to_have_title(re.compile(f"^{name} · ", re.I))
        fits(page, name, "dark", *SIZES)
        assert page.locator("h1").count() == 1, name
        assert page.get_by_test_id("stSidebarHeader").get_by_role("img").count() == 1
        titles.add(page.title())
    assert len(titles) == len(PAGES) and all(title.endswith("opdviz") for title in titles)


def test_a_comparison_from_paths_to_pages_survives_a_closed_tab_and_a_restart(
    tmp_path, start_server, visit
):
    own = start_server(tmp_path / "cache")
    page = visit(own.address)
    choose_pair(page, GOLDEN / "base", GOLDEN / "tuned_a")
    expect(page.get_by_text("30 pairs, 0 left over")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Compare", exact=True).click()
    deadline = time.monotonic() + 20
    while not jobs.all_jobs(Store(own.cache)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    page.close()
    own.stop()
    own.start()
    again = visit(own.address)
    (job,) = jobs.all_jobs(Store(own.cache))
    while jobs.load(job.folder).state == "running":
        assert time.monotonic() < deadline + 40
        time.sleep(0.1)
    assert jobs.load(job.folder).state == "done"
    again.reload()
    expect(again.get_by_text("1 comparison in the cache")).to_be_visible(timeout=15_000)
    over = visit(f"{own.address}/overview")
    expect(over.get_by_text("Relative norm").first).to_be_visible(timeout=15_000)


def test_a_path_outside_the_roots_is_refused_on_the_page(server, visit):
    page = visit(server.address)
    choose_pair(page, "/etc", GOLDEN / "tuned_a")
    expect(page.get_by_text("lies outside the allowed folders")).to_be_visible(timeout=15_000)


def test_a_row_of_the_comparisons_opens_it_and_next_goes_to_the_next_tensor(server, visit):
    page = visit(server.address)
    press_row(page, page.locator("[data-testid=stDataFrame]").first)
    page.wait_for_url(re.compile("/overview"), timeout=15_000)
    tensor = visit(f"{server.address}/tensor?tensor=lm_head.weight")
    expect(tensor.get_by_role("heading", name="lm_head.weight")).to_be_visible(timeout=15_000)
    tensor.get_by_role("button", name="next →").click()
    expect(tensor.get_by_role("heading", name="model.embed_tokens.weight")).to_be_visible(
        timeout=15_000
    )
    tensor.wait_for_url(re.compile("tensor=model.embed_tokens.weight"), timeout=5_000)


def test_the_first_start_opens_on_the_lab_s_own_run(tmp_path, start_server, visit):
    own = start_server(tmp_path / "cache", fresh=True)
    page = visit(own.address)
    page.wait_for_url(re.compile("/overview"), timeout=30_000)
    expect(page.get_by_text("Relative norm").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("A small model of the lab").first).to_be_visible()
    (job,) = jobs.all_jobs(Store(own.cache))
    deadline = time.monotonic() + 60
    while jobs.load(job.folder).state == "running":  # the summaries are still written
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert jobs.load(job.folder).state == "done" and job.request.title == "lab opd"
    again = visit(own.address)
    again.wait_for_url(re.compile("/overview"), timeout=30_000)
    again.get_by_role("link", name="Comparisons").click()
    expect(again.get_by_text("1 comparison in the cache")).to_be_visible(timeout=15_000)
    ready = again.get_by_role("combobox", name="Ready to compare")
    expect(ready).to_have_value(re.compile("21 runs on one base, as one family"))
    ready.click()
    choose_in(again, ready, "lab sft:")
    again.get_by_role("button", name="Compare it").click()
    deadline = time.monotonic() + 60
    while len(jobs.all_jobs(Store(own.cache))) < 2 or any(
        j.state == "running" for j in jobs.all_jobs(Store(own.cache))
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {job.request.title for job in jobs.all_jobs(Store(own.cache))} == {
        "lab opd",
        "lab sft",
    }
    again.wait_for_url(re.compile(r"/overview\?comparison=lab\+sft"), timeout=15_000)
    opened(again, "Comparisons")
    expect(again.get_by_text("2 comparisons in the cache")).to_be_visible(timeout=15_000)
