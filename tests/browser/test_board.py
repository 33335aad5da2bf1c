"""Pins, notes and the presentation, as a user makes them; and two who look at one board."""

import re

import pytest
from playwright.sync_api import Page, expect

from opdviz.store import board
from opdviz.store.store import Store
from tests.browser.conftest import accessible, compared, figure, opened, press, settled
from tests.browser.server import Server

pytestmark = pytest.mark.browser
NASTY = (
    "<script>window.owned=1</script> ![x](http://invalid.invalid/x.png) <img src=x"
    " onerror='window.owned=1'> \u202egnp"
)


@pytest.fixture(scope="module")
def served(pair, tmp_path_factory):
    """A server with one comparison, and its store and key."""
    cache = tmp_path_factory.mktemp("board")
    key = compared(pair, cache)
    server = Server(cache, pair[0].parent, forked=True)
    server.store, server.key = Store(cache), key
    yield server
    server.stop()


@pytest.fixture
def own(served):
    """The same with nothing on its board and the name that it was made with."""
    folder = served.store.folder(served.key)
    (folder / "board.json").unlink(missing_ok=True)
    served.store.open(served.key).changed(name="golden")
    return served


def pin(page, title: str, caption: str) -> None:
    """Pin a figure as a user does."""
    figure(page, title)
    settled(page)
    titles = page.locator(".gtitle").all_text_contents()
    at = next(place for place, words in enumerate(titles) if title in words)
    page.get_by_role("button", name="Pin", exact=True).nth(at).click()
    box = page.get_by_role("textbox", name="Caption")
    box.fill(caption)
    box.press("Tab")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Pin", exact=True).click()
    expect(dialog).to_have_count(0, timeout=15_000)


def keys_lead_and_the_figure_fits(show: Page) -> None:
    """From the first of two pins: every key of a clicker, whatever has the focus, and any
    window.
    """
    second = show.get_by_role("heading", name="Cosine stays high")
    first = show.get_by_role("heading", name="Small weights move first")
    show.get_by_role("button", name="Fullscreen").first.focus()
    for key, heading in (
        ("PageDown", second),
        ("PageUp", first),
        ("End", second),
        ("ArrowRight", second),
        ("Home", first),
    ):
        show.keyboard.press(key)
        expect(heading).to_be_visible(timeout=15_000)
    for width, height in ((1920, 1080), (1024, 640)):
        show.set_viewport_size({"width": width, "height": height})
        show.wait_for_function(
            "() => { const f = document.querySelector('[data-testid=stPlotlyChart]')"
            ".getBoundingClientRect(), b = document.querySelector('.st-key-present_foot')"
            ".getBoundingClientRect(); return f.height > innerHeight * 0.4 && b.bottom <= innerHeight"
            " && b.bottom > innerHeight * 0.85; }",
            timeout=15_000,
        )
        title, words = (
            show.locator(place).first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
            for place in ("h1", ".st-key-present_words p")
        )
        assert title >= 36 * height / 1080 and words >= 24 * height / 1080
    # The speaker's caption is the title; the generated sentence never stands bold under it.
    assert show.locator(".st-key-present_words strong").count() == 0
    show.keyboard.press("Escape")
    show.wait_for_url(re.compile(r"/board\?comparison="), timeout=15_000)


def test_two_pins_are_kept_ordered_annotated_presented_and_open_in_their_state(own, visit):
    page = visit(f"{own.address}/layers?quantity=cosine&layers=1-2", height=1400)
    pin(page, "Cosine by layer", "**Cosine** stays high\n\n- in every layer")
    opened(page, "Coordinates")
    pin(page, "Share that moved", "Small weights move first")
    opened(page, "Board")
    expect(page.get_by_text("2 pins")).to_be_visible(timeout=15_000)
    figure(page, "Share that moved")
    assert page.locator(".gtitle").all_text_contents()[0].startswith("Cosine by layer")
    expect(page.locator("strong", has_text="Cosine")).to_be_visible()
    page.get_by_role("button", name="↓").first.click()
    page.wait_for_function(
        "document.querySelector('.gtitle').textContent.startsWith('Share that moved')",
        timeout=15_000,
    )
    page.reload()
    figure(page, "Cosine by layer")
    settled(page)
    accessible(page)
    assert page.locator(".gtitle").all_text_contents()[0].startswith("Share that moved")
    present = page.get_by_role("link", name="Present", exact=True).first.get_attribute("href")
    show = visit(present)
    expect(show.get_by_role("heading", name="Small weights move first")).to_be_visible(
        timeout=15_000
    )
    assert show.locator("[data-testid=stSidebar]").count() == 0
    figure(show, "Share that moved")
    settled(show)
    assert accessible(show) == 0
    # Drawn anew once the browser has said how much room there is.
    show.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')?._fullLayout?.font?.size >= 18",
        timeout=15_000,
    )
    expect(show.get_by_text("1 of 2")).to_be_visible()
    show.keyboard.press("ArrowRight")
    expect(show.get_by_role("heading", name="Cosine stays high")).to_be_visible(timeout=15_000)
    assert "present=2" in show.url
    other = visit(show.url)
    expect(other.get_by_role("heading", name="Cosine stays high")).to_be_visible(timeout=15_000)
    figure(other, "Cosine by layer")
    show.keyboard.press("ArrowLeft")
    expect(show.get_by_role("heading", name="Small weights move first")).to_be_visible(
        timeout=15_000
    )
    keys_lead_and_the_figure_fits(show)
    beyond = visit(re.sub(r"present=\d+", "present=99", present))
    expect(beyond.get_by_text("there are 2")).to_be_visible(timeout=15_000)
    page.get_by_role("button", name="Open", exact=True).last.click()
    page.wait_for_url(re.compile(r"/layers\?.*quantity=cosine"), timeout=15_000)
    assert "layers 1-2" in figure(page, "Cosine by layer").evaluate("d => d._fullLayout.title.text")
    opened(page, "Board")
    page.get_by_role("button", name="Delete").first.click()
    expect(page.get_by_text("1 pin, in")).to_be_visible(timeout=15_000)
    assert [p["view"] for p in board.read(own.store.folder(own.key))["pins"]] == ["layers"]


def test_a_note_is_a_flag_on_the_map_and_stands_in_lists(own, visit):
    name = "model.layers.1.self_attn.o_proj.weight"
    page = visit(f"{own.address}/tensor?tensor={name}", height=3600)
    page.get_by_text("Notes: none yet").click()
    page.get_by_role("textbox", name="What did you find here?").fill("turned *less* than chance")
    page.get_by_role("textbox", name="Who").fill("Ada")
    page.get_by_role("button", name="Keep the note").click()
    expect(page.get_by_text("1 note")).to_be_visible(timeout=15_000)
    opened(page, "Layers")
    flags = figure(page, "by layer and module").evaluate(
        "d => d.data.filter(t => t.name == 'notes').map(t => t.x.length)"
    )
    assert flags == [1]
    page.get_by_text("1 note").click()
    expect(page.get_by_text("turned less than chance")).to_be_visible()
    opened(page, "Board")
    expect(page.get_by_text(re.compile("Ada, 20"))).to_be_visible(timeout=15_000)
    page.get_by_role("button", name=name).click()
    page.wait_for_url(re.compile(f"/tensor.*{re.escape(name)}"), timeout=15_000)


def test_hostile_captions_notes_and_names_are_shown_and_do_nothing(own, visit):
    name = "model.layers.1.self_attn.o_proj.weight"
    board.pin(
        own.store.folder(own.key),
        "layers",
        {"tensors": "<img src=x>", "quantity": "nonsense", "row": -1},
        NASTY,
    )
    board.pin(own.store.folder(own.key), "energy", {"tensor": NASTY}, NASTY + "\n" + "a" * 3_000)
    board.pin(own.store.folder(own.key), NASTY, {}, "an unknown figure")
    board.pin(own.store.folder(own.key), "layers", {}, NASTY)
    board.note(own.store.folder(own.key), name, NASTY, NASTY[:50])
    board.note(own.store.folder(own.key), NASTY, "of no tensor", "")
    own.store.open(own.key).changed(name=NASTY[:190])
    for where in ("board", "board?present=1", "board?present=2", f"tensor?tensor={name}", "layers"):
        page = visit(f"{own.address}/{where}", height=2400)
        settled(page)
        page.wait_for_timeout(500)
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src=x], img[src*=invalid]").count() == 0
        assert page.locator("script:not([src])", has_text="owned").count() == 0
    shown = visit(f"{own.address}/board", height=2400)
    expect(shown.get_by_text("<script>window.owned=1</script>").first).to_be_visible(timeout=15_000)
    expect(shown.get_by_text("does not draw it")).to_be_visible()
    settled(shown)  # the first of four buttons is the first one only when all have their places
    shown.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).first.click()
    shown.wait_for_url(re.compile("/layers"), timeout=15_000)
    settled(shown)
    expect(shown.get_by_text("No tensor fits these filters")).to_be_visible(timeout=15_000)


def test_a_read_only_server_shows_the_board_and_changes_nothing(own, start_server, visit):
    board.pin(own.store.folder(own.key), "layers", {}, "kept")
    reading = start_server(own.cache, own.roots, read_only=True)
    page = visit(f"{reading.address}/board")
    expect(page.get_by_text("1 pin, in")).to_be_visible(timeout=15_000)
    for name in ("Delete", "↓", "Caption"):
        assert page.get_by_role("button", name=name).count() == 0
    opened(page, "Layers")
    figure(page, "by layer and module")
    assert page.get_by_role("button", name="Pin", exact=True).count() == 0


def test_a_damaged_board_is_one_line(own, visit):
    (own.store.folder(own.key) / "board.json").write_text("{")
    page = visit(f"{own.address}/board")
    expect(page.get_by_text("board.json is damaged")).to_be_visible(timeout=15_000)
    opened(page, "Layers")
    figure(page, "by layer and module")
    press(page, "by layer and module", 1, 1)
    page.wait_for_url(re.compile("/tensor"), timeout=15_000)
