"""A report in a browser without a network: every figure drawn, nothing asked for, and it prints."""

import pytest

from opdviz.cli import main
from tests.browser.conftest import compared

pytestmark = pytest.mark.browser


def test_a_report_is_drawn_offline_and_prints(tmp_path, pair, browser):
    key = compared(pair, tmp_path / "cache")
    out = tmp_path / "golden.html"
    assert main(["report", key, "--out", str(out), "--cache", str(tmp_path / "cache")]) == 0
    context = browser.new_context(viewport={"width": 390, "height": 800})
    context.set_offline(True)
    page, noise = context.new_page(), []
    page.on("request", lambda request: noise.append(request.url))
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.goto(f"file://{out}")
    page.wait_for_selector("body[data-drawn]", timeout=60_000)
    assert noise == [f"file://{out}"]
    assert page.locator(".plot").count() == page.locator(".plot .main-svg:first-child").count() > 15
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()
