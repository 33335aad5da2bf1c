"""How long a user waits for several runs at once, in a real browser: eight runs of 400 tensors side
by side and their overlap, `python -m tests.bench.several [TENSORS]`, beside pages of Streamlit's
alone.

The runs are copies of one store under other keys and names; their relations are rows of a small
family under the names of its tensors.
"""

import json
import shutil
import statistics
import sys
import tempfile
from itertools import combinations
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from opdviz import fingerprint
from opdviz.runs import relations
from opdviz.runs.masks import matching_of
from opdviz.store import relations as stored_relations
from opdviz.store.reading import read
from opdviz.store.store import Store, Stored
from tests.bench.browser import TURNS, settle, streamlit_alone, timed
from tests.bench.stores import build
from tests.browser.conftest import CHROMIUM, FLAGS, GO
from tests.browser.server import Server
from tests.conftest import GOLDEN

RUNS = 8
RECIPES = ("opd", "grpo")
# By page: its first address, the figure that counts, and what changes of it.
PAGES = {
    "side by side": ("side_by_side", "Six headline quantities of several"),
    "overlap": ("overlap", "Coordinates that both moved"),
}
CHANGES = {
    "side by side": [
        ("&quantity=stable+rank", "Stable rank by layer and module"),
        ("&against=run+3", "over that of run 3"),
        ("&curve=spectra", "Singular values of the updates"),
    ],
    "overlap": [
        ("&relation=cosine", "Cosine of the updates"),
        ("&relation=opposite+signs", "Opposite signs"),
        ("&relation=same+channels", "Top tenth of rows"),
    ],
}


def family(cache: Path, tensors: int) -> list[Stored]:
    """Eight comparisons of about so many tensors on one base, and how they lie to each other."""
    build(cache, tensors)
    store = Store(cache)
    (first,) = store.all()
    runs = []
    for at in range(RUNS):
        folder = store.folder(fingerprint.of_bytes(str(at))[:16])
        shutil.copytree(first.folder, folder)
        labels = {"recipe": RECIPES[at % 2]}
        runs.append(
            Stored(folder, first.manifest).changed(key=folder.name, name=f"run {at}", labels=labels)
        )
    shutil.rmtree(first.folder)
    relate(cache, [run.key for run in runs], read(runs[0], "tensors")["name"].to_pylist())
    return runs


def relate(cache: Path, keys: list[str], names: list[str]) -> None:
    """The relations of the runs: those of the golden pair, for every tensor and every two runs."""
    sides = [matching_of(GOLDEN / "base", GOLDEN / f"tuned_{name}") for name in "ab"]
    matrix = next(one for one in relations.shared(sides) if len(one.shape) == 2)
    rows = relations.of_tensor(matrix, "ab")
    folder = stored_relations.folder_of(cache, keys)
    stored_relations.begin(folder, keys)
    for name in names:
        tables = {
            table: [
                row | {"tensor": name, "run_a": a, "run_b": b}
                for a, b in combinations(keys, 2)
                for row in rows[table]
            ]
            for table in ("overlap", "relation")
        }
        consensus = [row | {"tensor": name} for row in rows["consensus"]]
        stored_relations.keep_part(folder, name, tables | {"consensus": consensus})
    stored_relations.finish(folder, names)


def waits(browser: Browser, cache: Path, name: str) -> dict[str, float]:
    """First view of a page on a cold server, and what a change takes."""
    server, (path, title) = Server(cache, GOLDEN), PAGES[name]
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    address = f"{server.address}/{path}?comparison=run+0"
    first = timed(page, lambda: page.goto(address), title)
    settle(page)
    changes = []
    for _ in range(TURNS):
        for parameters, drawn in CHANGES[name]:
            changes.append(timed(page, lambda p=parameters: go(page, address + p), drawn))
            settle(page)
    server.stop()
    return {"first view": first, "page change": statistics.median(changes)}


def go(page: Page, address: str) -> None:
    """Go to an address within the tab, as Back does."""
    page.evaluate(GO, address)


def main() -> None:
    """Print one JSON object, in seconds and as ratios to Streamlit alone."""
    tensors = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        family(Path(folder), tensors)
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        alone = streamlit_alone(browser, Path(folder))
        found = {"Streamlit alone": alone}
        for name in PAGES:
            ours = waits(browser, Path(folder), name)
            found[name] = ours
            found[f"{name} / Streamlit alone"] = {k: ours[k] / alone[k] for k in ours}
        browser.close()
    rounded = {k: {a: round(b, 3) for a, b in v.items()} for k, v in found.items()}
    print(json.dumps({"runs": RUNS, "tensors": tensors} | rounded, indent=1))


if __name__ == "__main__":
    main()
