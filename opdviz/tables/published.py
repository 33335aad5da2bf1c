"""Numbers that papers published, for ticks and rows beside a user's own; each with model, recipe
and aggregation.
"""

import csv
from functools import lru_cache
from pathlib import Path

ALIASES = {"energy_share_head": "energy_share_lm_head"}  # ours: theirs
PAPERS = {"A": "2606.13657", "B": "2606.07082", "C": "2511.08567", "D": "2505.11711"}


@lru_cache(maxsize=1)
def numbers() -> tuple[dict, ...]:
    """Every published number as a row; `value` is a float, percentages in percent."""
    with open(Path(__file__).with_name("paper_numbers.csv"), newline="") as file:
        return tuple(row | {"value": float(row["value"])} for row in csv.DictReader(file))


def rows(quantity: str, *, protocol: str | None = None) -> list[dict]:
    """The published rows of one quantity, of one protocol's paper where that is given."""
    names = (quantity, ALIASES.get(quantity))
    return [
        row
        for row in numbers()
        if row["quantity"] in names and (protocol is None or row["paper"] == PAPERS.get(protocol))
    ]


FAMILIES = ("OPD", "RL + OPD", "self-distillation", "RLVR", "SFT", "offline distillation")


def family(recipe: str) -> str:
    """The family of a published row's recipe; reinforcement learning and distillation in one run is
    its own.

    >>> family("OPD (vision-language)"), family("GRPO"), family("RL + OPD")
    ('OPD', 'RLVR', 'RL + OPD')
    """
    if recipe in FAMILIES:
        return recipe
    if recipe.startswith("OPD"):
        return "OPD"
    return "RLVR" if recipe in ("GRPO", "PRIME", "DPO") else "SFT"
