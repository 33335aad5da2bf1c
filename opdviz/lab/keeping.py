"""How few of an update's moves are enough? Checkpoints of finished runs in which only a share of
the moves is kept, graded as the runs are.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from opdviz.engine.progress import Progress
from opdviz.errors import RequestError
from opdviz.lab.places import Places
from opdviz.lab.recipes import Recipe
from opdviz.runs import apply
from opdviz.runs.masks import matching_of

SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.0)
TABLE = "kept"


def curves(runs: list[tuple[Places, Recipe]], listener: Callable[[Progress], None]) -> pd.DataFrame:
    """One row a run, way to choose and share: recipe, seed, by, share, kept (moves), accuracy on
    the test problems that the run was graded on.

    Raises
        RequestError: none of the runs is finished.
    """
    finished = [(places, recipe) for places, recipe in runs if places.facts(recipe)]
    if not finished:
        raise RequestError("lab keep: none of these runs is finished; `opdviz lab run` makes them.")
    rows = []
    progress = Progress("grading parts of the moves", len(finished) * len(list(choices())))
    for places, recipe in finished:
        progress.current = f"seed{places.seed}/{recipe.name}"
        for by, share in choices():
            rows.append(
                {"recipe": recipe.name, "seed": places.seed, "by": by, "share": share}
                | graded(places, recipe, by, share)
            )
            progress.advance(1)
            listener(progress)
    return pd.DataFrame(rows)


def choices() -> Iterator[tuple[str, float]]:
    """Every way to choose with every share; all and none are one, whatever the way."""
    for by in apply.BY:
        for share in SHARES:
            if 0 < share < 1 or by == apply.SIZE:
                yield by, share


def graded(places: Places, recipe: Recipe, by: str, share: float) -> dict:
    """How many moves are kept, and what the model with these answers right."""
    from opdviz.lab import models, train

    matching = matching_of(places.of(recipe.base), places.folder(recipe))
    tensors = apply.mixture(matching)
    with tempfile.TemporaryDirectory() as folder:
        choice = apply.top(matching, tensors, share, by, places.seed, lambda progress: None)
        moves = apply.write(
            matching, tensors, choice, Path(folder) / "part", {}, lambda progress: None
        )
        with train.quiet():
            model = models.load(Path(folder) / "part")
            right = models.correct(model, models.test_problems(places.graded_on(recipe)))
    return {"kept": moves.kept, "accuracy": sum(right) / len(right)}
