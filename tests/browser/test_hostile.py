"""Text from files is shown as text: nothing in a name is executed, fetched or taken for markup."""

from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import opened, settled
from tests.browser.server import Server
from tests.conftest import GOLDEN, compared_here, write_checkpoint

pytestmark = pytest.mark.browser
NASTY = (
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "![x](http://example.invalid/x.png)",
    ":red[x] $x^2$ **bold** `code` [link](javascript:window.owned=1)",
    "a" * 500,
    "\u202egnp.exe",
)

NAMES = [f"model.layers.{i}.mlp.{text}.weight" for i, text in enumerate(NASTY)] + [
    "model.norm.weight"
]
# without dots: a name is cut at its dots, and a module is the last piece
UNDOTTED = (
    (
        "![x](http://invalid/x) :red[x] `code` [link](http://invalid/) $x^2$ <img src=x"
        " onerror=alert(1)>"
    ),
    "<img src=x onerror=alert(1)>",
)
SENTENCES = {"layers": "is largest in", "directions": "From both sides it is"}


def query(name: str) -> str:
    """A comparison as an address names it."""
    return f"?comparison={quote(name)}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of three comparisons: one whose tensors and name are hostile, and two in which the
    module that moved most is.
    """
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)

    def keep(name: str, base: dict[str, np.ndarray], tuned: dict[str, np.ndarray]) -> None:
        place = folder / str(len(list(folder.iterdir())))
        sides = [
            write_checkpoint(place / side, x) for side, x in (("base", base), ("tuned", tuned))
        ]
        compared_here(folder / "cache", *sides, name)

    keep(NASTY[1], *({name: rng.standard_normal((40, 36)) for name in NAMES} for _ in range(2)))
    u, v = rng.standard_normal((40, 1)), rng.standard_normal((1, 36))
    for text in UNDOTTED:
        name, calm = f"model.layers.0.mlp.{text}.weight", "model.layers.0.mlp.up_proj.weight"
        base = {name: rng.standard_normal((40, 36)), calm: rng.standard_normal((40, 36))}
        keep(f"moved {len(text)}", base, {name: base[name] + u @ v, calm: base[calm] + 1e-3})
    server = Server(folder / "cache", GOLDEN, forked=True)
    yield server
    server.stop()


def test_hostile_names_are_shown_and_do_nothing(served, visit):
    page = visit(f"{served.address}/comparisons")
    settled(page)
    assert page.evaluate("window.owned") is None
    page = visit(f"{served.address}/overview{query(NASTY[1])}")
    for page_name in ("Overview", "Layers", "Directions", "Coordinates"):
        opened(page, page_name)
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src='x']").count() == 0
    opened(page, "Tensor")
    for name in NAMES[:4]:
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
def test_a_hostile_name_is_text_in_the_sentences_too(served, visit, text):
    """The module that moved most stands in the reading sentences; here it is the hostile one."""
    for page_name, words in SENTENCES.items():
        page = visit(f"{served.address}/{page_name}{query(f'moved {len(text)}')}")
        main = page.get_by_test_id("stMain")
        expect(main.locator("p", has_text=words)).to_have_count(1, timeout=15_000)
        settled(page)
        assert main.locator("p img, p a, p code, p .katex, p [style*='color']").count() == 0
        assert page.evaluate("window.owned") is None
