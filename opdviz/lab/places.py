"""Where the lab's runs lie: base and teacher once for all, the rest by seed.

<cache>/lab/base, <cache>/lab/teacher       one for all seeds <cache>/lab/seed0/<recipe>
a run: model.safetensors, config.json, tokenizer, run.json <cache>/lab/seed0/<recipe>/steps/<step>
its trajectory <cache>/lab/seed0.steps20/<recipe>          runs of another length than the recipe's
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from opdviz import fingerprint
from opdviz.lab.recipes import RECIPES, TEST, TRIAL, Recipe

RUN, WEIGHTS, MASK, MASTER = "run.json", "model.safetensors", "mask.safetensors", "master"
RESULTS = "results"
TABLES = ("curve", "diagnostics")
KINDS = {"recipe": dict, "seed": int, "accuracy": dict, "seconds": float} | dict.fromkeys(
    TABLES, list
)


@dataclass(frozen=True)
class Places:
    """The runs of one seed below a lab folder; `steps` where they are of another length than the
    recipes say.
    """

    root: Path
    seed: int = 0
    steps: int | None = None

    def folder(self, recipe: Recipe) -> Path:
        """Where a recipe's run lies."""
        return self.root / recipe.name if recipe.seed is not None else self.by_seed / recipe.name

    def of(self, name: str) -> Path:
        """Where the run of a name lies."""
        return self.folder(RECIPES[name])

    @property
    def by_seed(self) -> Path:
        """The folder of this seed's runs."""
        return self.root / (f"seed{self.seed}" + (f".steps{self.steps}" if self.steps else ""))

    def is_trial(self, recipe: Recipe) -> bool:
        """Whether a recipe is run here with other steps than it says; one for all seeds is not."""
        return self.steps is not None and recipe.seed is None

    def graded_on(self, recipe: Recipe) -> int:
        """How many test problems a run of a recipe is graded on."""
        return TRIAL if self.is_trial(recipe) else TEST

    def shortened(self, recipe: Recipe) -> Recipe:
        """The recipe as it is run here."""
        if not self.is_trial(recipe):
            return recipe
        return replace(
            recipe, steps=self.steps, saves=tuple(s for s in recipe.saves if s <= self.steps)
        )

    def facts(self, recipe: Recipe) -> dict | None:
        """What a finished run kept; `None` where it is not there, or was made by another recipe or
        from other runs.
        """
        folder = self.folder(recipe)
        try:
            record = json.loads((folder / RUN).read_text())
        except (OSError, ValueError, RecursionError):
            return None
        if not sound(record) or not (folder / WEIGHTS).is_file():
            return None
        same = record["recipe"] == self.shortened(recipe).data and record.get(
            "needs", {}
        ) == self.needs(recipe)
        return record if same else None

    def needs(self, recipe: Recipe) -> dict[str, str | None]:
        """The fingerprints of the runs that a recipe starts from, as they are now; `None` for one
        that is not there.
        """
        files = {name: self.of(name) / WEIGHTS for name in recipe.needs}
        return {
            name: fingerprint.of_file(file) if file.is_file() else None
            for name, file in files.items()
        }


def seeds(root: Path) -> list[int]:
    """The seeds that have runs below a lab folder."""
    numbers = (folder.name.removeprefix("seed") for folder in root.glob("seed*"))
    return sorted(int(number) for number in numbers if number.isdecimal())


def sound(found: object) -> bool:
    """Whether a run's facts have everything that commands and pages rely on."""
    if not isinstance(found, dict) or not all(
        isinstance(found.get(k), kind) for k, kind in KINDS.items()
    ):
        return False
    accuracy = all(isinstance(v, float) and 0 <= v <= 1 for v in found["accuracy"].values())
    rows = [row for table in TABLES for row in found[table]]
    return accuracy and all(
        isinstance(row, dict) and all(numeric(v) for v in row.values()) for row in rows
    )


def numeric(value: object) -> bool:
    """Whether a value is a number or missing."""
    return value is None or isinstance(value, int | float)
