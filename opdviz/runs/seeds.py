"""Do recipes differ by more than seeds of one recipe do?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENOUGH = 2  # seeds of a recipe from which they have a spread


@dataclass(frozen=True, slots=True)
class Gap:
    """One quantity over recipes: the widest gap between their means, and the widest range of the
    seeds of one.
    """

    between: float
    spread: float

    @property
    def ratio(self) -> float:
        """The gap over the spread; infinite where seeds do not differ at all."""
        return self.between / self.spread if self.spread else float("inf")


def gap(by_recipe: Mapping[str, Sequence[float]]) -> Gap | None:
    """The gap between recipes beside the spread of seeds; `None` without two recipes, or where none
    has two seeds.

    >>> gap({"opd": [3.0, 3.2], "grpo": [1.0]})
    Gap(between=2.1, spread=0.20000000000000018)
    """
    means = {recipe: sum(values) / len(values) for recipe, values in by_recipe.items() if values}
    ranges = [max(values) - min(values) for values in by_recipe.values() if len(values) >= ENOUGH]
    if len(means) < 2 or not ranges:
        return None
    return Gap(max(means.values()) - min(means.values()), max(ranges))
