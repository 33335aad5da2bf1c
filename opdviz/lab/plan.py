"""Which runs are needed, which are there, and the rest on a pool of processes: two runs at a time
beat one on two cores.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.specifiers import SpecifierSet

from opdviz import files
from opdviz.engine import workers
from opdviz.engine.progress import Progress
from opdviz.errors import MachineError, RequestError, one_line
from opdviz.lab import shipped
from opdviz.lab.places import MASTER, Places
from opdviz.lab.recipes import GROUPS, RECIPES, Recipe

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
PACKAGES = {
    "transformers": ">=5.23,<6",
    "trl": ">=1.16,<2",
    "datasets": ">=5.2,<6",
    "accelerate": ">=1.15,<2",
}
# Seconds between two looks at how far a run is.
EVERY = 0.5
# Relative to the usual width of 256, whose square this is: a step's cost grows with it.
WIDTH_COST = 1 / 65536
# Steps after which a base is usually good enough to stop.
USUAL_PRETRAINING = 600


def recipes_of(words: Iterable[str]) -> list[Recipe]:
    """The recipes of some names and groups, each once.

    Raises
        RequestError: an unknown one.
    """
    recipes: dict[str, Recipe] = {}
    for word in words:
        if word not in RECIPES and word not in (*GROUPS, "all"):
            choices = ", ".join(
                (*GROUPS, "all", *(r.name for r in GROUPS["main"]), "base", "teacher")
            )
            raise RequestError(
                f"lab: recipe {one_line(word, limit=40)!r} is unknown; there are: {choices}."
            )
        if word in RECIPES:
            recipes[word] = RECIPES[word]
        else:
            groups = GROUPS.values() if word == "all" else (GROUPS[word],)
            recipes |= {r.name: r for group in groups for r in group}
    return list(recipes.values())


def need_packages() -> None:
    """Check that what trains is installed.

    Raises
        RequestError: a package is missing, or too old or too new for the recipes.
    """
    for name, range_ in PACKAGES.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "none"
        if installed == "none" or installed not in SpecifierSet(range_, prereleases=True):
            raise RequestError(
                f"lab run: found {name} {installed}; expected {name}{range_}. pip install -r"
                " requirements-lab.txt"
            )


def missing(wanted: Iterable[Recipe], places: Places, *, master: bool = False) -> list[Recipe]:
    """The runs that are not there yet, with those that they need before them; `master`: or lack
    their float32 weights.
    """
    recipes: dict[str, Recipe] = {}

    def add(recipe: Recipe, *, whole: bool = True) -> None:
        for name in recipe.needs:
            add(RECIPES[name])
        if not whole or not places.facts(recipe) or any(name in recipes for name in recipe.needs):
            recipes.setdefault(recipe.name, recipe)

    for recipe in wanted:
        add(recipe, whole=not master or (places.folder(recipe) / MASTER).is_dir())
    return list(recipes.values())


def run(
    wanted: list[Recipe],
    places: Places,
    *,
    count: int,
    master: bool,
    listener: Callable[[Progress], None],
) -> None:
    """Do every run that is missing, two or more at a time, each as soon as what it needs is there.

    Raises
        RequestError: another process is at work in this folder.
        MachineError: a run could not be kept, or its process was lost; finished runs stay.
    """
    places.by_seed.mkdir(parents=True, exist_ok=True)
    with files.lock(places.root):
        sweep(places)
        shipped.expand(places.root)
        todo = missing(wanted, places, master=master)
        if not todo:
            return
        need_packages()
        work_through(todo, places, count=count, master=master, listener=listener)


def sweep(places: Places) -> None:
    """Delete what runs that were cut short have left."""
    for folder in (places.root, places.by_seed):
        for leftover in folder.glob(f".*{files.TEMPORARY}"):
            shutil.rmtree(leftover, ignore_errors=True)


def cost(recipe: Recipe, places: Places) -> float:
    """About how long a run takes, in seconds on one thread of this machine's kind."""
    loop = {"pretrain": 0.26, "sft": 0.26, "samples": 0.28, "grpo": 0.5, "self": 0.55}.get(
        recipe.loop, 0.45
    )
    steps = USUAL_PRETRAINING if recipe.until is not None else places.shortened(recipe).steps
    return 10 + loop * steps * max(0.3, recipe.hidden**2 * WIDTH_COST)


def work_through(todo: list[Recipe], places: Places, *, count: int, master: bool, listener) -> None:
    """Run a list in the order of its needs."""
    os.environ |= OFFLINE
    progress = Progress("training", sum(cost(r, places) for r in todo), pairs=len(todo))
    waiting, finished_cost = list(todo), 0.0
    progress_folder = places.by_seed / "progress"
    progress_folder.mkdir(exist_ok=True)
    in_work: list[Recipe] = []

    def start_next(running: list[Recipe]) -> tuple | None:
        in_work[:] = running
        if len(running) >= count:
            return None
        unfinished = {recipe.name for recipe in (*waiting, *running)}
        ready = [recipe for recipe in waiting if not unfinished & set(recipe.needs)]
        if not ready:
            return None
        recipe = ready[0]
        waiting.remove(recipe)
        return recipe, one_run, recipe, places, progress_folder / recipe.name, master

    try:
        with workers.pool(count, preload=("opdviz.lab.train",)) as executor:
            for ended in workers.results(executor, start_next, every=EVERY):
                if ended is not None:
                    recipe, _ = ended
                    in_work.remove(recipe)
                    finished_cost += cost(recipe, places)
                    progress.pairs_done += 1
                    continue
                progress.done = finished_cost + sum(
                    share_done(progress_folder / recipe.name) * cost(recipe, places)
                    for recipe in in_work
                )
                progress.current = ", ".join(recipe.name for recipe in in_work)
                listener(progress)
    except BrokenExecutor:
        raise MachineError(
            "lab run: a process was lost (out of memory?); finished runs are kept. Run it again,"
            " with one worker."
        ) from None
    finally:
        shutil.rmtree(progress_folder, ignore_errors=True)
        sweep(places)


def one_run(recipe: Recipe, places: Places, told: Path, master: bool) -> None:
    """In a worker: one run, its share of steps done kept in a file."""
    from opdviz.lab import train

    steps, last = places.shortened(recipe).steps, 0.0

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY and told.parent.is_dir():
            told.write_text(f"{done / steps}")
            last = time.monotonic()

    train.run(recipe, places, master=master, tell=tell)


def row(recipe: Recipe, places: Places) -> dict:
    """What is known of a recipe's run; where the folder is not there yet, of the shipped one."""
    facts = places.facts(recipe) or {}
    if not places.folder(recipe).exists():
        facts = shipped.facts(str(places.folder(recipe).relative_to(places.root)))
    accuracy = facts.get("accuracy", {})
    splits = ("test", "validation", "comparison", "reversal", "with_answer")
    return {"recipe": recipe.name, "seed": facts.get("seed"), "text": recipe.text} | {
        k: accuracy.get(k) for k in splits
    }


def share_done(told: Path) -> float:
    """The share of a running run's steps that are done."""
    try:
        return float(told.read_text())
    except (OSError, ValueError):
        return 0.0
