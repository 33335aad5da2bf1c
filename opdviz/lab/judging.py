"""How a claim is judged: columns by seed, margins in the unit of what they judge, and what counts
as seen.

An accuracy is judged by McNemar's test: two runs are graded on the same problems, so that only the
problems on which they differ carry an error. Two standard errors of the difference are the margin.
Reference: Q. McNemar, Psychometrika 12, 1947.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from opdviz.lab.recipes import TEST
from opdviz.words import percent

SEEN, NOT_SEEN, OPPOSITE = "seen here", "not seen here", "opposite here"
NOT_JUDGED, UNKNOWN = "not judged", "not measured yet"
ERRORS = 2.0


@dataclass(frozen=True)
class Runs:
    """The lab's tables, and the columns of the runs by recipe."""

    tables: dict[str, pd.DataFrame]

    def column(self, recipe: str, name: str) -> pd.Series:
        """A column of a recipe's runs by seed; empty where there is none."""
        runs = self.tables["runs"]
        if runs.empty or name not in runs:
            return pd.Series(dtype=float)
        return runs[runs["recipe"] == recipe].set_index("seed")[name].dropna().sort_index()

    def of(self, recipe: str, name: str) -> pd.Series:
        """A column of numbers of a recipe's runs by seed; empty where there is none."""
        return self.column(recipe, name).astype(float)

    def answers(self, recipe: str, seed: int) -> np.ndarray | None:
        """Which test problems a run answered; the base is one for all seeds. `None` where that was
        not kept.
        """
        texts = self.column(recipe, "answers")
        texts = texts[texts.index == (seed if recipe != "base" else 0)]
        return (
            None
            if texts.empty
            else np.unpackbits(np.frombuffer(bytes.fromhex(texts.iloc[0]), dtype=np.uint8))
        )

    @property
    def before(self) -> float | None:
        """The base's accuracy on the test problems; `None` where it is not known."""
        shares = self.of("base", "test")
        return float(shares.iloc[0]) if len(shares) else None


@dataclass(frozen=True)
class Gap:
    """The difference of two recipes' test accuracy by common seed, and the margin of each."""

    differences: pd.Series
    margins: pd.Series

    @property
    def seeds(self) -> int:
        """On how many seeds it rests."""
        return len(self.differences)


@dataclass(frozen=True)
class Judgement:
    """A verdict, one sentence with the numbers, and on how many seeds it rests."""

    verdict: str
    text: str = ""
    seeds: int = 0


def gap(runs: Runs, first: str, second: str) -> Gap:
    """Accuracy of one recipe less that of another, seed by seed.

    A seed whose answers were not kept takes the largest margin of the seeds whose were; without
    any, that of two unpaired samples, which is wider than what pairing can give.
    """
    a, b = runs.of(first, "test"), runs.of(second, "test")
    if second == "base" and len(b):
        b = pd.Series(float(b.iloc[0]), index=a.index)
    differences = (a - b).dropna()
    margins = {
        seed: paired_margin(runs.answers(first, seed), runs.answers(second, seed))
        for seed in differences.index
    }
    paired = [margin for margin in margins.values() if margin is not None]
    unpaired = ERRORS * ((a * (1 - a) + b * (1 - b)) / TEST) ** 0.5
    for seed, margin in margins.items():
        if margin is None:
            margins[seed] = max(paired) if paired else float(unpaired[seed])
    return Gap(differences, pd.Series(margins, dtype=float))


def paired_margin(first: np.ndarray | None, second: np.ndarray | None) -> float | None:
    """Two standard errors of the difference of two runs on the same problems: sqrt(problems on
    which they differ) / n.
    """
    if first is None or second is None:
        return None
    return ERRORS * math.sqrt(np.count_nonzero(first != second)) / TEST


def judged(differences: pd.Series, margins: pd.Series | float, text: str) -> Judgement:
    """Seen where every seed's difference is above its margin, opposite where every one is below its
    negative.

    No seed is no verdict: what holds of all of nothing is not seen.
    """
    if differences.empty:
        return Judgement(NOT_JUDGED, f"{text} No seed has all of it.".strip())
    verdict = NOT_SEEN
    if (differences > margins).all():
        verdict = SEEN
    elif (differences < -margins).all():
        verdict = OPPOSITE
    return Judgement(verdict, text, len(differences))


def several(values: pd.Series, form: Callable[[float], str] = percent) -> str:
    """Values of the seeds as text; once where they read alike.

    >>> several(pd.Series([0.5, 0.25])), several(pd.Series([0.5, 0.5])), several(pd.Series([]))
    ('50 % and 25 %', '50 %', '–')
    """
    words = [form(value) for value in values]
    if not words:
        return "–"
    return words[0] if len(set(words)) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def points(values: pd.Series) -> str:
    """Differences of accuracies, in points of a hundred.

    >>> points(pd.Series([0.0565]))
    '5.65 points'
    """
    return several(100 * values, lambda value: f"{value:.3g}") + " points"
