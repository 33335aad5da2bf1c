"""The address names the run, always: every step is one entry of the history, and next, Back,
Forward, Reload, a rename and a copied address in another browser show the same numbers of the same
run.
"""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from opdviz.store.store import Store
from tests.browser.conftest import GOLDEN, compared, follow, opened, press, settled
from tests.browser.server import Server

pytestmark = pytest.mark.browser
TENSOR = "model.layers.0.self_attn.q_proj.weight"
SCROLLED = "document.querySelector('[data-testid=stMain]').scrollTop"
# Pages of one run, with a choice that their address carries.
PAGES = {
    "overview": "",
    "layers": "&quantity=stable+rank&tensors=proj",
    "directions": "",
    "coordinates": "&above=1e-5",
    "tensor": f"&tensor={TENSOR}",
    "part": f"&tensor={TENSOR}&part=row+3",
    "board": "",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A cache with two runs on one base; what each says of a tensor differs."""
    cache = tmp_path_factory.mktemp("two")
    return cache, {
        which: compared((GOLDEN / "base", GOLDEN / f"tuned_{which}"), cache, f"run {which}")
        for which in "ab"
    }


@pytest.fixture(scope="module")
def served(runs):
    """A server for both."""
    server = Server(runs[0], GOLDEN, forked=True)
    yield server
    server.stop()


def shown(page: Page) -> str:
    """What a page says: its address below the server, its tab, the line under its title."""
    settled(page)
    caption = page.locator("[data-testid=stCaptionContainer]").first
    expect(caption).to_be_visible(timeout=15_000)
    return f"{page.url.partition('/')[2].partition('/')[2]}\n{page.title()}\n{caption.inner_text()}"


def comes_to_show(page: Page, view: str) -> None:
    """Wait until a page shows a view: the address changes at once, the page when it is drawn."""
    deadline = time.monotonic() + 15
    while (now := shown(page)) != view:
        assert time.monotonic() < deadline, f"{now}\ninstead of\n{view}"


def steps(page: Page) -> int:
    """Entries of the browser's history."""
    return page.evaluate("history.length")


def run_of(page: Page) -> str:
    """The run that the address names."""
    return re.search(r"comparison=run\+([ab])", page.url)[1]


def test_every_step_is_one_entry_and_back_and_forward_return_to_each_view(served, visit):
    page = visit(f"{served.address}/layers?comparison=run+b")
    seen, entries = [shown(page)], [steps(page)]

    def step() -> None:
        seen.append(shown(page))
        entries.append(steps(page))

    page.get_by_role("combobox", name="Quantity").click()
    page.get_by_role("option", name="stable rank", exact=True).first.click()
    page.wait_for_url(re.compile("quantity"))
    step()
    search = page.get_by_role("textbox", name="Tensors")
    search.fill("proj")
    search.press("Enter")
    page.wait_for_url(re.compile("tensors=proj"))
    step()
    settled(page)
    page.evaluate(f"{SCROLLED} = 130")
    press(page, "Stable rank", 1, 1)
    page.wait_for_url(re.compile("tensor="))
    step()
    page.get_by_role("button", name="next →").click()
    page.wait_for_url(lambda url: url.split("tensor=")[1] not in seen[-1])
    step()
    page.get_by_role("button", name="Values").click()
    page.wait_for_url(re.compile("/part"))
    step()
    opened(page, "Overview")
    step()
    assert [late - early for early, late in zip(entries, entries[1:])] == [1] * 6, entries
    for view in reversed(seen[:-1]):
        page.go_back()
        comes_to_show(page, view)
        if "tensors=proj" in view:
            page.wait_for_function(f"Math.abs({SCROLLED} - 130) < 2")
            expect(page.get_by_role("textbox", name="Tensors")).to_have_value("proj")
    for view in seen[1:]:
        page.go_forward()
        comes_to_show(page, view)
    assert steps(page) == entries[-1]
    assert all("run b" in view for view in seen)


def test_reload_and_a_copied_address_in_another_browser_show_the_same(served, visit, browser):
    page = visit(f"{served.address}/comparisons")
    with browser.new_context(color_scheme="dark") as other:
        elsewhere = other.new_page()
        for name, query in PAGES.items():
            follow(page, f"{served.address}/{name}?comparison=run+a{query}")
            expect(page).to_have_title(re.compile(f"^{name} · ", re.I))
            first = shown(page)
            _, tab, caption = first.split("\n")[:3]
            assert run_of(page) == "a" and "run a" in tab and "run a" in caption, first
            address, entries = page.url, steps(page)
            page.reload()
            assert shown(page) == first and page.url == address and steps(page) == entries
            elsewhere.goto(address)
            elsewhere.wait_for_selector("h1", timeout=30_000)
            assert shown(elsewhere) == first


def test_the_sidebar_changes_the_run_and_the_address(served, visit):
    page = visit(f"{served.address}/tensor?comparison=run+a&tensor={TENSOR}")
    first = shown(page)
    entries = steps(page)
    page.get_by_role("combobox", name="Comparison").click()
    page.get_by_role("option", name="run b").click()
    page.wait_for_url(re.compile(r"comparison=run\+b"))
    expect(page.locator("[data-testid=stCaptionContainer]").first).to_contain_text("run b")
    assert shown(page) != first and steps(page) == entries + 1
    page.go_back()
    page.wait_for_url(re.compile(r"comparison=run\+a"))
    expect(page.locator("[data-testid=stCaptionContainer]").first).to_contain_text("run a")
    assert shown(page) == first


def test_a_page_of_one_run_whose_address_names_none_asks(served, visit):
    for query, words in (
        ("", "names no comparison"),
        (f"?tensor={TENSOR}", "names no comparison"),
        ("?comparison=gone", "“gone”, which is not in this cache"),
        ("?comparison=run+a~0123ab", "“run a~0123ab”, which is not in this cache"),
    ):
        page = visit(f"{served.address}/tensor{query}")
        expect(page.get_by_role("heading", name="Which comparison?")).to_be_visible(timeout=15_000)
        expect(page.get_by_text(words)).to_be_visible()
        assert page.locator(".js-plotly-plot").count() == 0
    page.get_by_role("button", name="run b").click()
    page.wait_for_url(re.compile(r"comparison=run\+b"))
    assert "relative norm" in shown(page)
    opened(page, "Layers")
    assert run_of(page) == "b"


def test_a_link_finds_its_run_after_a_rename(tmp_path, runs, start_server, visit):
    keys = {
        which: compared((GOLDEN / "base", GOLDEN / f"tuned_{which}"), tmp_path, f"run {which}")
        for which in "ab"
    }
    assert keys == runs[1]
    server = start_server(tmp_path)
    link = visit(f"{server.address}/tensor?comparison=run+a&tensor={TENSOR}").url
    store = Store(tmp_path)
    store.rename(keys["a"], "first")
    store.rename(keys["b"], "run a")
    page = visit(link)
    assert "first" in shown(page) and "first" in page.title()


def test_the_address_without_a_page_goes_on_without_an_entry(served, visit):
    page = visit(served.address)
    page.wait_for_url(re.compile("/comparisons$"))
    settled(page)
    page.go_back()
    assert page.url == "about:blank", "a step back leads out of the app"


def test_copy_link_copies_with_one_click_and_says_so(served, browser):
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(f"{served.address}/layers?comparison=run+a&tensors=proj")
        page.wait_for_selector("h1", timeout=30_000)
        settled(page)
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_text("Copied", exact=True)).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.url
