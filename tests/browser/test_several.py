"""Several runs in a browser: from two checkpoints in the form to both side by side, a link of it,
a run that is forgotten meanwhile, and a run on another base.
"""

import re
import shutil
import time

import pytest
import torch
from playwright.sync_api import expect

from opdviz import jobs, live
from opdviz.store import status
from opdviz.store.store import Store
from tests.browser.conftest import (
    accessible,
    choose_in,
    choose_pair,
    compared,
    figure,
    follow,
    opened,
    settled,
)
from tests.conftest import GOLDEN

pytestmark = pytest.mark.browser
BASE = GOLDEN / "base"
LINES = 15  # of Streamlit's own navigation, with the section of several runs


@pytest.mark.slow
def test_two_runs_from_the_form_to_side_by_side_and_one_that_is_forgotten(
    tmp_path, start_server, visit
):
    roots, cache = tmp_path / "roots", tmp_path / "cache"
    for side in ("base", "tuned_a", "tuned_b"):
        shutil.copytree(GOLDEN / side, roots / side)
    page = visit(f"{start_server(cache, roots).address}/comparisons")
    choose_pair(page, roots / "base", roots / "tuned_a")
    choose_in(page, page.get_by_role("combobox", name="Tuned"), roots / "tuned_b")
    expect(page.get_by_text("2 runs, 60 pairs")).to_be_visible(timeout=20_000)
    page.get_by_role("textbox", name="Recipe").fill("golden")
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator("[class*=st-key-line_open] button").click(timeout=60_000)
    page.wait_for_url(re.compile("/side_by_side"), timeout=15_000)
    figure(page, "Six headline quantities")
    expect(page.get_by_text("All of them are seeds of golden")).to_be_visible()
    runs = Store(cache).all()
    assert {run.manifest.labels["recipe"] for run in runs} == {"golden"}
    page.get_by_text("The headline as a table").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    follow(page, re.sub(r"[?&]against=[^&]*", "", page.url) + f"&against={runs[0].name}")
    figure(page, f"over that of {runs[0].name[:10]}")
    opened(page, "Overlap")
    page.get_by_role("button", name="Read the runs").click()
    figure(page, "Coordinates that both moved")
    expect(
        page.get_by_text("times what sizes and rows of the weights alone explain")
    ).to_be_visible()
    follow(page, f"{page.url}&relation=opposite+signs")
    figure(page, "Opposite signs among the coordinates that both moved, by layer")
    (other,) = (run for run in runs if run.key[:6] not in page.url)
    Store(cache).forget(other.key)
    page.reload()
    expect(page.get_by_text("One run so far")).to_be_visible(timeout=15_000)
    opened(page, "Overview")


def test_a_link_says_its_runs_and_what_of_them_is_not_there(tmp_path, start_server, visit):
    keys = {
        name: compared((BASE, GOLDEN / f"tuned_{name}"), tmp_path, f"run {name}") for name in "ab"
    }
    other = compared((GOLDEN / "tuned_a", BASE), tmp_path, "back")
    server = start_server(tmp_path)
    words = [f"run+{name}~{key[:6]}" for name, key in keys.items()]
    both = "&runs=" + ",".join(reversed(words))
    page = visit(f"{server.address}/side_by_side?comparison={words[0]}{both}")
    figure(page, "Relative norm, tensor by tensor, against run b")  # in the order of the link
    settled(page)
    assert accessible(page) == LINES
    follow(page, f"/side_by_side?comparison={words[0]}{both},back~{other[:6]},gone~{'0' * 6}")
    expect(page.get_by_text("are not on one base")).to_contain_text(f"({other})")
    expect(page.get_by_text("are not on one base")).to_contain_text(keys["b"])
    expect(page.get_by_text("“gone")).to_be_visible()
    follow(page, f"/side_by_side?comparison={words[0]}&runs={words[0]}")
    expect(page.get_by_text("Choose two runs or more.")).to_be_visible()
    # From the list of a base, and back by a click on a tensor of one of its runs.
    follow(page, "/comparisons")
    page.get_by_role("button", name="Side by side").click()
    made = figure(page, "Relative norm by layer and module")
    made.scroll_into_view_if_needed()
    settled(page)
    at = made.evaluate(
        """d => { const l = d._fullLayout, b = d.getBoundingClientRect();
        return [b.left + l.xaxis2._offset + l.xaxis2.d2p(0),
                b.top + l.yaxis2._offset + l.yaxis2.d2p(0)]; }"""
    )
    page.mouse.move(*at)
    page.wait_for_timeout(400)
    page.mouse.click(*at)
    page.wait_for_url(re.compile("/tensor"), timeout=15_000)
    deadline = time.monotonic() + 10
    while words[1] not in page.url:
        assert time.monotonic() < deadline, page.url
        time.sleep(0.1)


def test_a_training_grows_on_its_page_by_itself(tmp_path, start_server, visit, monkeypatch):
    monkeypatch.setattr(jobs, "GIVES_WAY", 1)  # to the tests of a busy machine it would for long
    cache, model = tmp_path / "cache", torch.nn.Linear(40, 30)

    def recorded(*steps: int) -> None:
        for step in steps:
            with torch.no_grad():
                model.weight.add_(1e-3)
            recorder.record(model, step)
        deadline = time.monotonic() + 60
        while [status.state(run) for run in Store(cache).all()] != ["done"] * recorder.steps:
            assert time.monotonic() < deadline, recorder.job
            time.sleep(0.2)

    with live.Recorder(tmp_path / "run", model, cache=cache) as recorder:
        recorded(10, 20)
        server, key = start_server(cache), Store(cache).keys()[0]
        page = visit(f"{server.address}/trajectory?comparison={key}")
        expect(page.get_by_text("2 steps, 10 to 20")).to_be_visible(timeout=20_000)
        recorded(30)
        expect(page.get_by_text("3 steps, 10 to 30")).to_be_visible(timeout=20_000)
        figure(page, "over the steps")
    settled(page)
