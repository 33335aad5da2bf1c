"""A comparison made by clicking: progress in the frame on every page, partial results that grow,
cancel, retry, the end.
"""

import re
import time

import numpy as np
import pytest
from playwright.sync_api import expect

from opdviz import jobs
from opdviz.store.store import Store
from tests.browser.conftest import choose_pair, figure, opened
from tests.conftest import write_checkpoint

pytestmark = pytest.mark.browser
SIDE, LAYERS = 520, 16


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two checkpoints that take some seconds to compare."""
    folder = tmp_path_factory.mktemp("job")
    rng = np.random.default_rng(0)
    base = {
        f"model.layers.{i}.mlp.{m}_proj.weight": rng.normal(size=(SIDE, SIDE))
        for i in range(LAYERS)
        for m in ("up", "down")
    }
    write_checkpoint(folder / "base", base)
    write_checkpoint(
        folder / "tuned", {n: w + 1e-3 * rng.normal(size=w.shape) for n, w in base.items()}
    )
    return folder


def start(page, roots) -> None:
    """Choose two folders and press Compare."""
    choose_pair(page, roots / "base", roots / "tuned")
    expect(page.get_by_text(f"{2 * LAYERS} pairs, 0 left over")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Compare", exact=True).click()


def only_job(cache) -> jobs.Job:
    """The job of the cache, once it is there."""
    deadline = time.monotonic() + 20
    while not (found := jobs.all_jobs(Store(cache))):
        assert time.monotonic() < deadline, "no job was started"
        time.sleep(0.05)
    return found[0]


def test_a_job_is_seen_everywhere_cancelled_retried_and_its_pages_follow(
    roots, tmp_path, start_server, visit
):
    own = start_server(tmp_path / "cache", roots)
    page = visit(own.address)
    start(page, roots)
    sidebar = page.locator("[data-testid=stSidebar]")
    line = sidebar.get_by_text(re.compile(r"base → tuned: \d+%"))
    expect(line).to_be_visible(timeout=20_000)
    opened(page, "Methods")
    expect(line).to_be_visible(timeout=10_000)
    sidebar.get_by_role("button", name="Log and more").click()
    page.get_by_role("button", name="Cancel").click()
    expect(sidebar.get_by_text("cancelled")).to_be_visible(timeout=20_000)
    assert jobs.load(only_job(own.cache).folder).state == "cancelled"
    page.keyboard.press("Escape")
    opened(page, "Layers")
    sidebar.get_by_role("button", name="Log and more").click()
    expect(page.locator("[data-testid=stCode]").first).to_be_visible(timeout=10_000)
    page.get_by_role("button", name="Retry").click()
    expect(line).to_be_visible(timeout=20_000)
    page.keyboard.press("Escape")
    expect(page.get_by_text("computed so far")).to_be_visible(timeout=20_000)
    opened(page, "Overview")
    figure_there = page.locator(".gtitle", has_text="Six headline quantities")
    expect(figure_there).to_be_visible(timeout=90_000)
    expect(line).to_have_count(0, timeout=15_000)
    assert page.get_by_text("computed so far").count() == 0
    assert jobs.load(only_job(own.cache).folder).state == "done"
    figure(page, "Six headline quantities")


def test_a_failure_says_why_in_the_frame_and_on_the_page(roots, tmp_path, start_server, visit):
    own = start_server(tmp_path / "cache", tmp_path)
    broken = write_checkpoint(tmp_path / "broken", {"a.weight": np.ones((4, 4))})
    other = write_checkpoint(tmp_path / "other", {"a.weight": np.ones((4, 4))})
    (other / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes()[:-8])
    jobs.start(Store(own.cache), str(broken), str(other))
    page = visit(own.address)
    expect(page.get_by_text(re.compile("Failed: .*model.safetensors")).first).to_be_visible(
        timeout=20_000
    )
    expect(page.get_by_role("button", name="Retry").first).to_be_visible()
