"""A pack sent by the browser joins the cache; what is none is refused in one line."""

import pytest
from playwright.sync_api import expect

from opdviz.report import pack
from opdviz.store.store import Store
from tests.browser.conftest import choose_in, compared, settled

pytestmark = pytest.mark.browser


def test_a_pack_is_sent_and_opened(tmp_path, pair, start_server, visit):
    compared(pair, tmp_path / "theirs")
    theirs = Store(tmp_path / "theirs")
    (tmp_path / "golden.opdviz").write_bytes(pack.packed(theirs, theirs.all()))
    (tmp_path / "other.opdviz").write_bytes(b"PK and no more")
    own = start_server(tmp_path / "cache", tmp_path)
    page = visit(own.address)
    page.get_by_role("button", name="Open a pack").click()
    for name, words in (
        ("other.opdviz", "expected a pack that"),
        ("golden.opdviz", "1 comparison in the cache"),
    ):
        page.locator("input[type=file]").set_input_files(tmp_path / name)
        settled(page)
        page.get_by_role("button", name="Open the pack").click()
        expect(page.get_by_text(words)).to_be_visible(timeout=15_000)
    assert Store(own.cache).keys() == theirs.keys()
    page.get_by_role("button", name="Share").click()
    choose_in(page, page.get_by_role("combobox", name="Comparisons"), "golden")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save 1 comparison as a pack").click()
    assert saved.value.suggested_filename == "golden.opdviz"
    with page.expect_download() as report:
        page.get_by_role("button", name="Save a report of 1 comparison").click()
    assert report.value.suggested_filename == "golden.html"
    assert b"What training did to the weights: golden" in report.value.path().read_bytes()
    assert pack.unpack(Store(tmp_path / "third"), saved.value.path())[0] == theirs.keys()
