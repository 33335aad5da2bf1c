"""The README's pictures, made again: `python -m tests.browser.pictures` writes docs/*.png from the
lab's own run.

It opens the app as a user does, in an empty cache, and waits for the comparison that the first
start makes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from opdviz.lab import places
from opdviz.lab.recipes import RECIPES, SEEDED
from opdviz.runs import family
from opdviz.store import board
from opdviz.store.store import Store
from opdviz.ui import ready
from tests.browser.conftest import CHROMIUM, FLAGS, figure, settled
from tests.browser.server import ROOT, Server
from tests.conftest import GOLDEN

SCREEN = {"width": 1280, "height": 800}
TENSOR = "model.layers.1.mlp.down_proj.weight"
PICTURES = {
    "overview": ("overview", "Six headline"),
    "layers": ("layers?quantity=energy+of+the+top+16", "by layer and module"),
    "tensor": (f"tensor?tensor={TENSOR}", "Energy of the leading"),
    "present": ("board?present=1&embed=true", "Energy of the leading"),
    "lab": ("lab", ""),
    "side_by_side": ("side_by_side?comparison=lab+opd&colour=recipe", "Six headline"),
    "overlap": ("overlap?comparison=lab+opd&relation=cosine", "Cosine of the updates"),
    "subnetwork": ("subnetwork?comparison=lab+opd", "How dense the mask is"),
    "trajectory": ("trajectory?comparison=lab+opd", "over the steps"),
}
PIN = "A few directions hold most of this update, far more than chance would give them"


def compare_seeds(cache: Path) -> None:
    """Every shipped run of the recipes that have seeds, as one family."""
    lab = cache / "lab"
    runs = [
        (places.Places(lab, seed).of(name), ready.called(RECIPES[name], seed))
        for name in SEEDED
        for seed in places.seeds(lab)
    ]
    said = [f"--{option}={values[0]}" for _, of_each in runs for option, values in of_each.items()]
    paths = [str(path) for path in (lab / "base", *(path for path, _ in runs))]
    opdviz(cache, "compare", *paths, *said)


def opdviz(cache: Path, *arguments: str) -> None:
    """A command on the cache of the pictures."""
    command = [sys.executable, "-m", "opdviz", *arguments, "--cache", str(cache)]
    subprocess.run(command, check=True, capture_output=True)


def relate_seeds(cache: Path) -> None:
    """How the runs that the page shows lie to each other."""
    (of_base,) = family.by_base(Store(cache).all())
    opdviz(cache, "overlap", *of_base.keys[: family.MOST])


def compare_steps(cache: Path) -> None:
    """The steps of the shipped OPD run."""
    lab = cache / "lab"
    opdviz(cache, "compare", str(lab / "base"), str(lab / "seed0" / "opd" / "steps"))


# What a picture needs beside the comparison of a first start.
PREPARED = {
    "side_by_side": compare_seeds,
    "overlap": relate_seeds,
    "trajectory": compare_steps,
}


def take(page: Page, address: str, name: str) -> None:
    """One picture."""
    where, title = PICTURES[name]
    page.goto(f"{address}/{where}")
    if title:
        figure(page, title)
    else:
        page.wait_for_selector(".js-plotly-plot .main-svg")
    settled(page)
    page.wait_for_timeout(1000)
    page.screenshot(path=ROOT / "docs" / f"{name}.png")


def main() -> None:
    """Start the app on a fresh cache and take every picture."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder) / "cache", GOLDEN, fresh=True)
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_context(viewport=SCREEN, color_scheme="light").new_page()
        page.goto(server.address)
        page.wait_for_selector("text=Relative norm", timeout=90_000)
        store = Store(server.cache)
        board.pin(store.folder(store.resolve("lab opd")), "energy", {"tensor": TENSOR}, PIN)
        for name in PICTURES:
            if name in PREPARED:  # only now: the other addresses name no comparison
                PREPARED[name](server.cache)
            take(page, server.address, name)
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
