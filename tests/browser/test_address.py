"""The address names the run, always: next, Back, Forward, Reload and a copied address show the same
numbers of the same run.
"""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import GOLDEN, compared, opened, settled

pytestmark = pytest.mark.browser
TENSOR = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A cache with two runs on one base; what each says of a tensor differs."""
    cache = tmp_path_factory.mktemp("two")
    for which in "ab":
        compared((GOLDEN / "base", GOLDEN / f"tuned_{which}"), cache, f"run {which}")
    return cache


def facts(page: Page) -> str:
    """The line under the title of a tensor's page: its relative norm tells the runs apart."""
    settled(page)
    line = page.locator("[data-testid=stCaptionContainer]", has_text="relative norm").first
    expect(line).to_be_visible(timeout=15_000)
    return line.inner_text()


def run_of(page: Page) -> str:
    """The run that the address names."""
    return re.search(r"comparison=run\+([ab])", page.url)[1]


def test_next_back_forward_and_reload_keep_the_run(two_runs, start_server, visit):
    server = start_server(two_runs)
    page = visit(f"{server.address}/tensor?comparison=run+a&tensor={TENSOR}")
    first = facts(page)
    page.get_by_role("button", name="next →").click()
    page.wait_for_url(re.compile("v_proj"))
    second = facts(page)
    assert second != first and run_of(page) == "a"
    elsewhere = visit(page.url)
    assert facts(elsewhere) == second, "a copied address shows another run"
    page.go_back()
    page.wait_for_function(
        "document.title && location.href.includes('q_proj') || !location.href.includes('v_proj')"
    )
    settled(page)
    assert run_of(page) == "a"
    for _ in range(2):
        page.reload()
        settled(page)
        assert run_of(page) == "a"
    opened(page, "Overview")
    assert run_of(page) == "a"
    page.go_back()
    settled(page)
    assert run_of(page) == "a"


def test_the_sidebar_changes_the_run_and_the_address(two_runs, start_server, visit):
    server = start_server(two_runs)
    page = visit(f"{server.address}/tensor?comparison=run+a&tensor={TENSOR}")
    first = facts(page)
    page.get_by_role("combobox", name="Comparison").click()
    page.get_by_role("option", name="run b").click()
    page.wait_for_url(re.compile(r"comparison=run\+b"))
    second = facts(page)
    assert second != first
    page.go_back()
    page.wait_for_url(re.compile(r"comparison=run\+a"))
    page.wait_for_function(
        "t => document.body.innerText.includes(t)", arg=first.split("·")[-2].strip()
    )
    assert facts(page) == first


def test_a_page_of_one_run_whose_address_names_none_asks(two_runs, start_server, visit):
    server = start_server(two_runs)
    for query in ("", f"?tensor={TENSOR}", "?comparison=gone"):
        page = visit(f"{server.address}/tensor{query}")
        expect(page.get_by_role("heading", name="Which comparison?")).to_be_visible(timeout=15_000)
        assert page.locator(".js-plotly-plot").count() == 0
    page.get_by_role("button", name="run b").click()
    page.wait_for_url(re.compile(r"comparison=run\+b"))
    assert "relative norm" in facts(page)
    opened(page, "Layers")
    assert run_of(page) == "b"
