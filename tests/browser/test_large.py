"""A mixture of experts of a thousand tensors: the map of experts, tables in pages, and no list of
everything.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.bench.stores import build
from tests.browser.conftest import GOLDEN, figure, press, settled
from tests.browser.server import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of a comparison of three layers of 128 experts."""
    cache = tmp_path_factory.mktemp("large")
    build(cache, 1_200)
    server = Server(cache, GOLDEN, forked=True)
    yield server
    server.stop()


def test_from_the_map_to_the_experts_of_a_cell_to_one_of_them(served, visit):
    page = visit(f"{served.address}/layers")
    made = figure(page, "by layer and module")
    modules = made.evaluate("d => d._fullLayout.yaxis.ticktext")
    press(page, "by layer and module", 2, modules.index("experts.up_proj"))
    page.wait_for_url(re.compile(r"layers=2"), timeout=15_000)
    expect(page.get_by_text("128 of 1,")).to_be_visible(timeout=15_000)
    settled(page)
    assert (
        figure(page, "by expert and module").evaluate("d => d._fullLayout.xaxis.title.text")
        == "expert"
    )
    press(page, "by expert and module", 77, 0)
    page.wait_for_url(re.compile("/tensor"), timeout=15_000)
    expect(
        page.get_by_role("heading", name="model.layers.2.mlp.experts.77.up_proj.weight")
    ).to_be_visible(timeout=15_000)
    box = page.get_by_role("combobox", name="Tensor")
    box.click()
    options = page.get_by_role("option")
    expect(options.first).to_be_visible()
    assert all(".layers.2." in text for text in options.all_inner_texts())

    def search(text: str) -> None:
        box.click()
        box.fill(text)
        expect(page.get_by_role("option", name=f"Add: {text}")).to_be_visible(timeout=15_000)
        page.keyboard.press("Enter")

    # What is typed is searched for in all layers.
    for text, words in (
        ("layers.1.self_attn", "names fit “layers.1.self_attn”: choose one"),
        ("no_such_piece", "names fits “no_such_piece”"),
        ("experts.9.up_proj.weight*", "names fits “experts.9.up_proj.weight*”"),
    ):
        search(text)
        expect(page.get_by_text(words)).to_be_visible(timeout=15_000)
        settled(page)
    search("layers.0.mlp.experts.127.up_proj")
    expect(
        page.get_by_role("heading", name="model.layers.0.mlp.experts.127.up_proj.weight")
    ).to_be_visible(timeout=15_000)


def test_a_table_of_a_thousand_tensors_comes_in_pages_sorted_before_they_are_cut(served, visit):
    page = visit(f"{served.address}/layers?sort=stable+rank&rows=2", height=3000)
    expect(page.get_by_text(re.compile(r"100 of 1,\d\d\d tensors"))).to_be_visible(timeout=20_000)
    page.get_by_role("textbox", name="Tensors").fill("*.experts.5.*")
    page.keyboard.press("Enter")
    expect(page.get_by_text("9 of 9 tensors")).to_be_visible(timeout=15_000)
    scatter = figure(page, "Stable rank against")
    assert (
        scatter.evaluate(
            "d => d._fullData.reduce((n, t) => n + (t.customdata ? t.x.length : 0), 0)"
        )
        == 9
    )
