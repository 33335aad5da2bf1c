"""From the whole to one weight and back, by click and by keyboard; every view is a link; what is
gone is said.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import by_keyboard, compared, figure, opened, press, press_row, settled
from tests.browser.server import ROOT

pytestmark = pytest.mark.browser
SHOTS = ROOT / "tests" / "browser" / "shots"


def copied_link(page) -> str:
    """What 'Copy link' copies; a browser that lets no page write to its clipboard shows it."""
    settled(page)
    expect(page.get_by_role("button", name="Copy link")).to_be_visible(timeout=15_000)
    return page.get_by_label("Link to this view", exact=True).input_value()


def shown(page, title: str) -> dict:
    """What a figure shows: title, axes, colours' limits, values."""
    return figure(page, title).evaluate(
        "d => ({title: d._fullLayout.title.text, ticks: d._fullLayout.yaxis.ticktext, z:"
        " d.data[0].z, low: d.data[0].zmin})"
    )


def test_a_diamond_of_the_overview_opens_its_map(server, visit):
    page = visit(f"{server.address}/overview")
    title = "Six headline quantities"
    value = figure(page, title).evaluate(
        "d => d.data.find(t => t.name == 'this run' && t.xaxis == 'x3').x[0]"
    )
    press(page, title, value, 0.3, "3")
    page.wait_for_url(re.compile("/layers"), timeout=15_000)
    figure(page, "Energy of the top 16 by layer and module")
    assert "quantity=energy+of+the+top+16" in page.url


def test_from_the_map_to_a_tensor_to_a_head_to_its_values_and_back(server, visit):
    page = visit(f"{server.address}/layers?block=attention&kinds=matrices")
    module = figure(page, "by layer and module").evaluate("d => d._fullLayout.yaxis.ticktext[0]")
    press(page, "by layer and module", 1, 0)
    page.wait_for_url(re.compile("/tensor"), timeout=15_000)
    heading = page.get_by_role(
        "heading", name=re.compile(rf"model\.layers\.1\..*{re.escape(module)}")
    )
    expect(heading).to_be_visible(timeout=15_000)
    name = heading.inner_text()
    assert f"tensor={name}" in page.url
    press(page, "by attention head", 2, 0.02)
    page.wait_for_url(re.compile("/part"), timeout=15_000)
    expect(page.get_by_role("heading", name="head 2")).to_be_visible(timeout=15_000)
    expect(page.get_by_text("an even spread 12.5 %")).to_be_visible()
    values = figure(page, "Update, base and tuned from row 32")
    assert values.evaluate("d => d.data.length") == 3
    other = visit(page.url)
    expect(other.get_by_role("heading", name="head 2")).to_be_visible(timeout=15_000)
    figure(other, "Update, base and tuned from row 32")
    page.get_by_role("button", name=f"{name} ›").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible(timeout=15_000)
    page.get_by_role("button", name="Layers ›").click()
    page.wait_for_url(re.compile(r"/layers\?.*block=attention"), timeout=15_000)
    settled(page)
    page.get_by_role("button", name="Overview ›").click()
    page.wait_for_url(re.compile("/overview"), timeout=15_000)


def test_a_band_of_columns_and_a_word_of_the_vocabulary_are_a_click_away(server, visit):
    page = visit(f"{server.address}/tensor?tensor=model.embed_tokens.weight")
    top = figure(page, "The most moved rows").evaluate("d => d.data[0].customdata[0][1]")
    assert re.fullmatch(r"\d+ word\d+", top)
    press(page, "The most moved rows", 0, 0.001)
    page.wait_for_url(re.compile("/part"), timeout=15_000)
    expect(page.get_by_text(re.compile(f"This row \\(token .*{top.split()[1]}"))).to_be_visible(
        timeout=15_000
    )
    band = visit(f"{server.address}/tensor?tensor=model.layers.0.mlp.up_proj.weight")
    middle, height = figure(band, "Energy by rows and columns").evaluate(
        "d => [d._fullData[2].x[4], d._fullData[2].y[4] / 2]"
    )
    press(band, "Energy by rows and columns", middle, height, "2")
    band.wait_for_url(re.compile("/part.*column"), timeout=15_000)


def test_by_keyboard_from_the_tables(server, visit):
    page = visit(f"{server.address}/layers", height=2600)
    page.get_by_role("combobox", name="Sort by").focus()
    by_keyboard(page, page.locator("[data-testid=stDataFrame]").last, rows_down=1)
    page.wait_for_url(re.compile("/tensor"), timeout=15_000)
    settled(page)
    page.locator("summary", has_text="Choose a part from a table").focus()
    page.keyboard.press("Enter")  # a click may fall on a figure that has just been drawn there
    by_keyboard(page, page.locator("[data-testid=stDataFrame]").first)
    page.wait_for_url(re.compile("/part"), timeout=15_000)


def test_a_row_s_box_opens_its_tensor(server, visit):
    page = visit(f"{server.address}/layers", height=2600)
    press_row(page, page.locator("[data-testid=stDataFrame]").last)
    page.wait_for_url(re.compile("/tensor"), timeout=15_000)


def test_a_view_is_a_link_that_gives_the_same_view_on_a_fresh_server(server, start_server, visit):
    fresh = start_server(server.cache, server.roots)
    page = visit(
        f"{server.address}/layers?quantity=energy+of+the+top+16&limits=all+values&layers=1-2&y=cosine&sort=stable+rank"
    )
    first = shown(page, "by layer and module")
    assert "Energy of the top 16" in first["title"] and "layers 1-2" in first["title"]
    link = copied_link(page)
    assert "comparison=golden" in link and len(link) < 250
    again = visit(link.replace(server.address, fresh.address))
    assert shown(again, "by layer and module") == first
    figure(again, "Cosine against relative norm")
    opened(again, "Overview")
    opened(again, "Layers")
    assert shown(again, "by layer and module") == first, "choices stay while one looks elsewhere"


def test_colour_limits_can_be_fixed_and_shared(server, visit):
    page = visit(f"{server.address}/layers?limits=fixed&low=0.001&high=0.5")
    low = shown(page, "by layer and module")["low"]
    assert low == pytest.approx(-3.0)
    box = page.get_by_label("From", exact=True)
    box.fill("0.01")
    box.press("Enter")
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot').data[0].zmin > -2.01", timeout=15_000
    )
    link = page.get_by_label("Link to this view", exact=True)
    expect(link).to_have_value(re.compile("low=0.01"), timeout=15_000)
    other = visit(copied_link(page))
    assert shown(other, "by layer and module")["low"] == pytest.approx(-2.0)


def test_choices_are_taken_back_and_a_new_part_starts_at_its_own_rows(server, visit):
    page = visit(f"{server.address}/layers?layers=1&block=ffn&tensors=proj")
    assert "layers 1" in shown(page, "by layer and module")["title"]
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function(
        "!document.querySelector('.gtitle').textContent.includes('layers 1')", timeout=15_000
    )
    settled(page)
    assert not {"layers=", "block=", "tensors="} & {
        piece.split("=")[0] + "=" for piece in page.url.split("?")[-1].split("&")
    }
    part = visit(
        f"{server.address}/part?tensor=model.layers.1.self_attn.q_proj.weight&part=head+3&row=7"
    )
    expect(part.get_by_label("First row")).to_have_value("7", timeout=15_000)
    box = part.get_by_role("textbox", name="Part")
    box.fill("rows 40-50")
    box.press("Enter")
    expect(part.get_by_label("First row")).to_have_value("40", timeout=15_000)
    expect(part.get_by_role("heading", name="rows 40-50")).to_be_visible()


def saved(page, *choices: str, drawn: str | None = None):
    """What *Save figure* in the open popover hands out after some choices, once the button says what
    will be `drawn` by the browser: the file's name and its content.
    """
    for choice in choices:
        page.get_by_text(choice, exact=True).click()
        settled(page)
    button = page.get_by_role("button", name="Save figure")
    if drawn:
        expect(button).to_have_attribute("title", drawn)
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_a_figure_is_saved_for_paper_whatever_the_theme_and_its_data_beside_it(server, visit):
    page = visit(f"{server.address}/layers?block=attention", scheme="dark", height=1200)
    figure(page, "by layer and module")
    settled(page)
    page.get_by_role("button", name="Save", exact=True).first.click()
    for choices, inches in (((), 3.25), (("6.75 in", "Transparent"), 6.75)):
        transparent = bool(choices)
        drawn = f"SVG, {inches} in{', transparent' if transparent else ''}"
        name, content = saved(page, *choices, drawn=drawn)
        assert name == "opdviz_golden_layers_block-attention.svg"
        svg = content.decode()
        assert f'width="{inches}in"' in svg
        pixels = float(re.search(r'viewBox="0 0 ([0-9.]+)', svg)[1])
        points = [
            float(size) / pixels * inches * 72
            for size in re.findall(r"font-size: ([0-9.]+)px", svg)
        ]
        assert points and min(points) >= 7 and max(points) <= 9.05
        assert len(re.search(r"src:url\(data:font/woff2;base64,([^)]+)", svg)[1]) > 50_000
        ground = re.search(r'<rect x="0" y="0" width="[0-9]+" height="[0-9]+" style="([^"]*)', svg)[
            1
        ]
        white = "fill: rgb(255, 255, 255); fill-opacity: 1" in ground
        assert white != transparent and white == ("fill-opacity: 0" not in ground)
        inks = set(re.findall(r"fill: (rgb\([0-9, ]+\))[^>]*>[a-z_0-9]+</text>", svg))
        assert inks == {"rgb(79, 75, 69)"}, "axes in the ink of the light theme"
        assert "by layer and module" in svg and "golden (block attention)" in svg
        assert "http://127" not in svg
    name, png = saved(page, "PNG", "3.25 in", drawn="PNG, 3.25 in, transparent")
    assert name.endswith(".png") and png.startswith(b"\x89PNG")
    wide = int.from_bytes(png[16:20])
    assert wide == pytest.approx(3.25 * 300, abs=2)
    name, pdf = saved(page, "PDF", "Title")
    assert name.endswith(".pdf") and b"/MediaBox [0 0 234 " in pdf
    command = "opdviz figure golden layers --set block=attention"
    end = "golden_layers_block-attention.pdf --no-title"
    expect(page.get_by_text(f"{command} --out {end}")).to_be_visible()
    name, live = saved(page, "HTML")
    assert name.endswith(".html") and b"default-src 'none'" in live
    with page.expect_download() as download:
        page.get_by_role("button", name="Model Explorer").click()
    assert download.value.suggested_filename == "golden_layers_block-attention.nodes.json"
    assert json.loads(Path(download.value.path()).read_text())["name"] == "relative_norm"
    SHOTS.mkdir(exist_ok=True)
    (SHOTS / "saved_dark.svg").write_text(svg)
    (SHOTS / "saved_dark.png").write_bytes(png)
    for kind, begins in (("CSV", b"name,layer,module"), ("Parquet", b"PAR1")):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        assert Path(download.value.path()).read_bytes().startswith(begins)


def test_broken_values_fall_back_with_a_notice_and_nothing_runs(server, visit):
    nasty = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"
    unknown = visit(f"{server.address}/layers?comparison={nasty}")
    expect(unknown.get_by_text("asks for comparison “<img src=x")).to_be_visible(timeout=15_000)
    expect(unknown.get_by_role("button", name="golden")).to_be_visible()
    assert unknown.locator("img[src=x], .js-plotly-plot").count() == 0, "another run's figures"
    page = visit(
        f"{server.address}/layers?quantity=nonsense&limits=1&layers=a-b&low=x&over=maybe&block=none"
    )
    figure(page, "Relative norm by layer and module")
    for said in (
        "quantity “nonsense”",
        "colour limits “1”",
        "block “none”",
        "Layers “a-b” is not understood",
    ):
        expect(page.get_by_text(said)).to_be_visible(timeout=15_000)
    assert page.locator("img[src=x]").count() == 0
    tensor = visit(f"{server.address}/part?tensor=../../etc/passwd&part=head+99&row=-5&size=7")
    expect(tensor.get_by_text("for tensor “../../etc/passwd”")).to_be_visible(timeout=15_000)
    expect(tensor.get_by_text("Part “head 99” is not understood")).to_be_visible()
    empty = visit(f"{server.address}/layers?tensors=%5B%5B")
    expect(empty.get_by_text("No tensor fits these filters")).to_be_visible(timeout=15_000)


def test_checkpoints_that_are_gone_are_said_and_all_else_stays(pair, tmp_path, start_server, visit):
    moved = [shutil.copytree(side, tmp_path / "roots" / side.name) for side in pair]
    compared(moved, tmp_path / "cache")
    own = start_server(tmp_path / "cache", tmp_path / "roots")
    shutil.rmtree(tmp_path / "roots")
    page = visit(f"{own.address}/part?tensor=model.layers.0.mlp.up_proj.weight")
    expect(page.get_by_text("the checkpoints are not on this machine")).to_be_visible(
        timeout=15_000
    )
    assert page.locator(".js-plotly-plot").count() == 0
    opened(page, "Tensor")
    figure(page, "Energy of the leading directions")


def test_behind_a_proxy_under_a_sub_path(server, start_server, visit):
    below = start_server(server.cache, server.roots, path="team/geometry")
    page = visit(f"{below.address}/layers?quantity=cosine")
    figure(page, "Cosine by layer and module")
    assert copied_link(page).startswith(f"{below.address}/layers?")
    press(page, "by layer and module", 1, 2)
    page.wait_for_url(re.compile("/team/geometry/tensor"), timeout=15_000)
    opened(page, "Overview")
    assert "/team/geometry/overview" in page.url
    figure(page, "Six headline quantities")
