"""What is on this machine to be looked at: the lab's runs, one by one or all as a family, and the
demonstration pair.
"""

from dataclasses import dataclass

import streamlit as st

from opdviz import demo
from opdviz.lab import places
from opdviz.lab.recipes import IN_16_BITS, MAIN, OPD, Recipe
from opdviz.ui import job_lines, server
from opdviz.words import count

ALL, STEPS = "all runs of the lab", "the steps of lab opd"


@dataclass(frozen=True, slots=True)
class Ready:
    """A base and runs on it, each with its name and labels, and what they are in words."""

    text: str
    base: str
    tuned: tuple[str, ...]
    of_each: dict[str, tuple[str, ...]]


def offer(compared: set[str]) -> None:
    """A choice of what is ready and not compared yet, and a button that starts it."""
    choices = choices_but(compared)
    if not choices:
        return
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Ready to compare", choices, format_func=lambda n: f"{n}: {choices[n].text}", key="ready"
    )
    choice = choices[name]
    if right.button("Compare it", key="start_ready", width="stretch") and job_lines.start_job(
        choice.base, *choice.tuned, **choice.of_each
    ):
        st.rerun()


def choices_but(compared: set[str]) -> dict[str, Ready]:
    """What is ready by name, without what is compared already: first all of the lab's runs."""
    left = {name: run for name, run in lab_runs().items() if name not in compared}
    choices = {ALL: together(list(left.values()))} if len(left) > 1 else {}
    choices |= left
    steps = lab_steps()
    if steps and not set(steps.of_each["name"]) <= compared:
        choices[STEPS] = steps
    if demo.NAME not in compared and (pair := demo.pair()):
        text = "a sentence encoder and a model tuned from it, made by nobody here"
        choices[demo.NAME] = Ready(text, pair[0], (pair[1],), {"name": (demo.NAME,)})
    return choices


def together(runs: list[Ready]) -> Ready:
    """Several runs on one base as one."""
    return Ready(
        f"{count(len(runs), 'run')} on one base, as one family",
        runs[0].base,
        tuple(run.tuned[0] for run in runs),
        {option: tuple(run.of_each[option][0] for run in runs) for option in runs[0].of_each},
    )


def lab_runs() -> dict[str, Ready]:
    """The lab's runs on its base that are unpacked, by the name that their comparisons get."""
    root, runs = server.store().root / "lab", {}
    for seed in places.seeds(root):
        of_seed = places.Places(root, seed)
        for recipe in (*MAIN, *IN_16_BITS):
            if (folder := of_seed.folder(recipe)).is_dir():
                base = str(of_seed.of(recipe.base))
                ready = Ready(recipe.text, base, (str(folder),), called(recipe, seed))
                runs[ready.of_each["name"][0]] = ready
    return runs


def lab_steps() -> Ready | None:
    """The steps of the lab's first OPD run, the last of which is the run itself; `None` while they
    are not unpacked.
    """
    of_first = places.Places(server.store().root / "lab")
    folders = [of_first.of(OPD.name) / "steps" / str(step) for step in OPD.saves]
    if not all(folder.is_dir() for folder in folders):
        return None
    labels = called(OPD)
    (run,) = labels["name"]
    names = [f"{run} step {step}" if step < OPD.steps else run for step in OPD.saves]
    of_each = {option: text * len(folders) for option, text in labels.items()}
    return Ready(
        f"{count(len(folders), 'step')} of one training, as a trajectory",
        str(of_first.of(OPD.base)),
        tuple(map(str, folders)),
        of_each | {"name": tuple(names)},
    )


def called(recipe: Recipe, seed: int = 0) -> dict[str, tuple[str, ...]]:
    """Name and labels of a run of the lab's."""
    name = f"lab {recipe.name}" + (f" seed {seed}" if seed else "")
    optimizer = recipe.optimizer.removesuffix("_torch")
    return {"name": (name,), "recipe": (recipe.name,), "optimizer": (optimizer,)}
