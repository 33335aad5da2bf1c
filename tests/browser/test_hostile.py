"""Text from files is shown as text: nothing in a name is executed, fetched or taken for markup."""

import subprocess
import sys

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import opened, settled
from tests.conftest import write_checkpoint

pytestmark = pytest.mark.browser
NASTY = (
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "![x](http://example.invalid/x.png)",
    ":red[x] $x^2$ **bold** `code` [link](javascript:window.owned=1)",
    "a" * 500,
    "\u202egnp.exe",
)

# without dots: a name is cut at its dots, and a module is the last piece
UNDOTTED = (
    (
        "![x](http://invalid/x) :red[x] `code` [link](http://invalid/) $x^2$ <img src=x"
        " onerror=alert(1)>"
    ),
    "<img src=x onerror=alert(1)>",
)
SENTENCES = {"layers": "is largest in", "directions": "From both sides it is"}


def test_hostile_names_are_shown_and_do_nothing(tmp_path, start_server, visit):
    rng = np.random.default_rng(0)
    names = [f"model.layers.{i}.mlp.{text}.weight" for i, text in enumerate(NASTY)] + [
        "model.norm.weight"
    ]
    for side in ("base", "tuned"):
        write_checkpoint(tmp_path / side, {n: rng.standard_normal((40, 36)) for n in names})
    command = [
        sys.executable,
        "-m",
        "opdviz",
        "compare",
        str(tmp_path / "base"),
        str(tmp_path / "tuned"),
    ]
    subprocess.run(
        [*command, "--name", NASTY[1], "--cache", str(tmp_path / "cache")],
        check=True,
        capture_output=True,
    )
    server = start_server(tmp_path / "cache")
    page = visit(server.address)
    settled(page)
    assert page.evaluate("window.owned") is None
    for page_name in ("Overview", "Layers", "Directions", "Coordinates"):
        opened(page, page_name)
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src='x']").count() == 0
    opened(page, "Tensor")
    for name in names[:4]:
        box = page.get_by_role("combobox", name="Tensor")
        box.click()
        box.fill(name[:40])
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=name.replace("  ", " ")).first).to_be_visible(
            timeout=15_000
        )
        assert page.evaluate("window.owned") is None
        assert page.locator("a[href^='javascript']").count() == 0


@pytest.mark.parametrize("text", UNDOTTED)
def test_a_hostile_name_is_text_in_the_sentences_too(tmp_path, start_server, visit, text):
    """The module that moved most stands in the reading sentences; here it is the hostile one."""
    rng = np.random.default_rng(0)
    name, calm = f"model.layers.0.mlp.{text}.weight", "model.layers.0.mlp.up_proj.weight"
    base = {name: rng.standard_normal((40, 36)), calm: rng.standard_normal((40, 36))}
    u, v = rng.standard_normal((40, 1)), rng.standard_normal((1, 36))
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", {name: base[name] + u @ v, calm: base[calm] + 1e-3})
    command = [
        sys.executable,
        "-m",
        "opdviz",
        "compare",
        str(tmp_path / "base"),
        str(tmp_path / "tuned"),
    ]
    subprocess.run([*command, "--cache", str(tmp_path / "cache")], check=True, capture_output=True)
    server = start_server(tmp_path / "cache")
    for page_name in SENTENCES:
        page = visit(f"{server.address}/{page_name}")
        main = page.get_by_test_id("stMain")
        expect(main.locator("p", has_text=SENTENCES[page_name])).to_have_count(1, timeout=15_000)
        settled(page)
        assert main.locator("p img, p a, p code, p .katex, p [style*='color']").count() == 0
        assert page.evaluate("window.owned") is None
