"""Trajectories: checkpoints of one training after more and more steps, as runs on one base."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opdviz.checkpoint import hub
from opdviz.checkpoint.folder import is_weights
from opdviz.checkpoint.readers import ENDINGS, PIECES
from opdviz.engine.prepare import STEPS
from opdviz.errors import RequestError, one_line
from opdviz.store.store import Stored

if TYPE_CHECKING:  # whoever only looks for steps does without
    import pandas as pd

# As trainers name their folders: verl's global_step_20, transformers' checkpoint-20, step_20; or a
# number alone below a folder of steps.
STEP = re.compile(r"(?:global_?step|checkpoint|step|iter(?:ation)?)[-_]?([0-9]{1,12})")
STEP_FOLDER = "step_{}"  # as the recorder of a training (`opdviz.live`) writes it
NUMBER = re.compile(r"[0-9]{1,12}")
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint stands in a training: the training's folder, and after how many steps."""

    root: str
    step: int


def place_of(path: str | Path) -> Place | None:
    """The place that a path states, by the last of its folders that does; `None` where none does.

    >>> place_of("/runs/opd/global_step_20/actor/huggingface")
    Place(root='/runs/opd', step=20)
    >>> place_of("/lab/opd/steps/25"), place_of("/runs/opd")
    (Place(root='/lab/opd/steps', step=25), None)
    >>> place_of("hf://lab/opd@step_25")
    Place(root='hf:/lab/opd', step=25)
    """
    parts = Path(str(path).replace("@", "/", 1) if hub.is_hub(path) else path).parts
    for at in range(len(parts) - 1, 0, -1):
        match = STEP.fullmatch(parts[at])
        number = match[1] if match else parts[at] if is_number(parts[at - 1 : at + 1]) else None
        if number is not None:
            return Place(str(Path(*parts[:at])), int(number))
    return None


def is_number(parts: Sequence[str]) -> bool:
    """Whether a folder of steps and one below it are one."""
    above, name = parts
    return above in STEPS and bool(NUMBER.fullmatch(name))


def steps_below(root: Path) -> list[Path]:
    """The checkpoints of a training in its folder, in the order of their steps; none where the
    folder is a checkpoint itself, or holds no steps.

    Raises
        RequestError: two of them are of one step.
    """
    try:
        if not root.is_dir() or has_weights(root):
            return []
    except OSError:  # opening it will say why it cannot be read
        return []
    steps: dict[int, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        checkpoint = weights_below(folder)
        place = place_of(checkpoint) if checkpoint else None
        if place is None or place.root != str(root):
            continue
        if place.step in steps:
            both = f"{one_line(steps[place.step])} and {one_line(checkpoint)}"
            raise RequestError(
                f"{one_line(root)}: found step {place.step} twice ({both}); name the checkpoints"
                " one by one."
            )
        steps[place.step] = checkpoint
    return [steps[step] for step in sorted(steps)]


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weight files."""
    endings = (*ENDINGS, PIECES)
    return any(file.suffix in endings and is_weights(file.name) for file in folder.iterdir())


def weights_below(folder: Path) -> Path | None:
    """A step's checkpoint: its folder, or one at most two below, as global_step_20/actor/hf."""
    candidates = (folder, *sorted(folder.glob("*")), *sorted(folder.glob("*/*")))
    return next((path for path in candidates if path.is_dir() and has_weights(path)), None)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Runs of one training on one base, in the order of their steps."""

    root: str
    steps: tuple[int, ...]
    runs: tuple[Stored, ...]


def trajectories(runs: Iterable[Stored]) -> list[Trajectory]:
    """The trainings that some runs on one base are steps of, each with two steps or more.

    Steps in one folder are of one training. Those that lie alone in theirs are, too, as far as
    they are labelled with one recipe, and no step is there twice.
    """
    placed = [(run, place) for run in runs if (place := place_of(run.manifest.tuned.path))]
    by_root: dict[str, dict[int, Stored]] = {}
    for run, place in placed:
        by_root.setdefault(place.root, {}).setdefault(place.step, run)
    together = {root: steps for root, steps in by_root.items() if len(steps) >= FEWEST}
    by_recipe: dict[str, list[tuple[Stored, Place]]] = {}
    for run, place in placed:
        recipe = run.manifest.labels.get("recipe")
        if recipe and place.root not in together:
            by_recipe.setdefault(recipe, []).append((run, place))
    for members in by_recipe.values():
        steps = {place.step: run for run, place in members}
        if FEWEST <= len(steps) == len(members):
            together[os.path.commonpath([place.root for _, place in members])] = steps
    return [
        Trajectory(root, tuple(sorted(steps)), tuple(steps[step] for step in sorted(steps)))
        for root, steps in together.items()
    ]


def missing(steps: Sequence[int]) -> list[int]:
    """The steps that a training seems to lack: it goes on by one distance for most of its way, and
    skips some.

    >>> missing([25, 50, 100, 125, 200]), missing([1, 2, 4, 8, 16]), missing([10, 20])
    ([75, 150, 175], [], [])
    """
    distances = [b - a for a, b in pairwise(steps)]
    usual = min(distances, default=0)
    if distances.count(usual) * 2 < len(distances) or any(d % usual for d in distances if usual):
        return []
    return [step for a, b in pairwise(steps) for step in range(a + usual, b, usual)]


def next_to_each_other(runs: Iterable[Stored]) -> list[tuple[str, str]]:
    """The keys of each two runs that are one step of a training and the next that there is."""
    return [
        (one.key, following.key)
        for training in trajectories(runs)
        for one, following in pairwise(training.runs)
    ]


def spread(members: Sequence, most: int) -> list:
    """At most so many of the steps of a training, evenly among them, the first and last included.

    >>> spread(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(members) <= most:
        return list(members)
    return [members[round(at)] for at in np.linspace(0, len(members) - 1, most)]


def named(trainings: Iterable[Trajectory]) -> dict[str, Trajectory]:
    """Trainings by the end of their folder: as many pieces of it as tell them apart, at least
    two.
    """
    trainings = list(trainings)
    longest = max((len(Path(training.root).parts) for training in trainings), default=0)
    for pieces in range(2, longest + 1):
        names = [str(Path(*Path(training.root).parts[-pieces:])) for training in trainings]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, trainings, strict=True)) if trainings else {}


def gram(relation: "pd.DataFrame", norms: Sequence[float], keys: Sequence[str]) -> np.ndarray:
    """The products of the updates of a trajectory's steps, from their cosines over the whole model.

    Columns of `relation`: run_a, run_b, cosine.
    """
    size = np.asarray(norms, dtype=float)
    cosines, place = np.eye(len(keys)), {key: at for at, key in enumerate(keys)}
    for row in relation.itertuples():
        a, b = place[row.run_a], place[row.run_b]
        cosines[a, b] = cosines[b, a] = row.cosine
    return cosines * np.outer(size, size)


@dataclass(frozen=True, slots=True)
class Line:
    """How much of a trajectory lies on a line: the share of its updates' energy in one direction,
    and R^2 of the coefficient along it against the step.
    """

    rank_one_share: float
    linearity: float


def line_of(products: np.ndarray, steps: Sequence[int]) -> Line:
    """The line of a trajectory, from the products of its updates.

    The first eigenvector of the products holds the coefficients of every step's update along the
    one direction that has most of their energy.

    >>> grown = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    >>> line = line_of(grown, [10, 20, 30])
    >>> round(line.rank_one_share, 9), round(line.linearity, 9)
    (1.0, 1.0)
    """
    values, vectors = np.linalg.eigh(products)
    coefficients = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    total = float(np.trace(products))
    fit = np.polyval(np.polyfit(steps, coefficients, 1), steps)
    off = float(((coefficients - coefficients.mean()) ** 2).sum())
    left = float(((coefficients - fit) ** 2).sum())
    return Line(
        float(values[-1]) / total if total else float("nan"),
        1.0 - left / off if off else float("nan"),
    )
