"""What stands out of a run: at most five sentences chosen by rule, each with the page that shows
it, and how many numbers were looked at to find them.

The largest of thousands of numbers is large: a tensor is named only where the chance that any of
those looked at lies as far off is below a percent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pandas as pd
import scipy

from opdviz.doctor.checks import FEWEST_SIBLINGS, LEAST_SPREAD, TO_SIGMA
from opdviz.doctor.finding import NOTE, Finding
from opdviz.quantities import CHANCE_OF, QUANTITIES
from opdviz.tables.by_tensor import coverage_claims
from opdviz.words import how_many, number, percent

MOST = 5
ASKED = (
    "relative_norm",
    "stable_rank",
    "top16_energy",
    "top_rows",
    "top_columns",
    "projection_joint",
    "rotation_left",
    "rotation_right",
)
MOST_FINDINGS = MOST_TENSORS = 2  # of the five
# Of anything among all that were looked at lying so far off by chance.
BY_CHANCE = 0.01
# A median deviation tells a spread as well as 37 % of as many values would by their squares; the
# medians of modules and layers take some. With 37 % noise alone stood out in a run of twenty.
EFFICIENCY = 0.3
# Shares of a block from which it counts, and energy over parameters from which that is unlike.
LARGE, UNLIKE = 0.05, 1.5
SPREADS = 3.0
MASKS = {"principal": "principal weights", "low_magnitude": "the smallest weights"}
MASKED = [f"{mask}_coverage" for mask in MASKS]
CAUTION = (
    "Movement is not importance: how much a run forgets follows how far its outputs went (their KL"
    " divergence), not how far its weights did (RL's Razor, arXiv 2509.04259). Two files know"
    " neither the optimizer's history nor other seeds: what is the recipe's, a second run tells."
)


@dataclass(frozen=True, slots=True)
class Outstanding:
    """One sentence, and the page that shows it in which state; no page where there is none."""

    sentence: str
    page: str = ""
    state: dict[str, str] = field(default_factory=dict)


def outstanding(
    tensors: pd.DataFrame, blocks: pd.DataFrame, findings: Sequence[Finding]
) -> tuple[list[Outstanding], int]:
    """The sentences, and how many numbers were looked at. `tensors` and `blocks` are the summaries
    `by_tensor` and `blocks`, `findings` the doctor's.
    """
    off = deviations(tensors)
    sentences = [
        *islice(of_findings(findings), MOST_FINDINGS),
        *of_tensors(off),
        *of_blocks(blocks),
        *of_projections(tensors),
        *of_masks(tensors),
    ]
    return sentences[:MOST], len(off) + values(blocks, "enrichment") + sum(
        values(tensors, column) for column in ("projection_joint", *MASKED)
    )


def values(rows: pd.DataFrame, column: str) -> int:
    """How many values a column has."""
    return int(rows[column].notna().sum()) if column in rows else 0


def of_findings(findings: Sequence[Finding]) -> Iterator[Outstanding]:
    """What the doctor calls wrong, or warns of; the worst first, as they come."""
    for finding in findings:
        if finding.severity != NOTE:
            tensor = {"tensor": finding.tensors[0]} if finding.tensors else {}
            page = "coordinates" if finding.rule == "rounded_away" else "tensor" if tensor else ""
            yield Outstanding(finding.sentence, page, tensor if page == "tensor" else {})


def deviations(tensors: pd.DataFrame) -> pd.DataFrame:
    """How far each matrix lies from its module and its layer in each quantity, on the logarithm,
    over chance where there is one. Columns: name, quantity, times, deviations, freedom.
    """
    rows = tensors[tensors["layer"].notna() & tensors["expert"].isna()] if len(tensors) else tensors
    parts = []
    for quantity in ASKED:
        chance = CHANCE_OF.get(quantity)
        if not {quantity, chance or quantity} <= {*rows.columns}:  # while it is computed
            continue
        value = rows[quantity].astype(float)
        if chance:
            value = value / rows[chance].astype(float)
        size = np.log(value.where(value > 0)).dropna()
        module = [rows.loc[size.index, column] for column in ("tower", "module")]
        layer = [rows.loc[size.index, column] for column in ("tower", "layer")]
        # What its layer does, all modules do: an early layer that moved more is no outlier in each.
        rest = size - size.groupby(module).transform("median")
        rest = rest - rest.groupby(layer).transform("median")
        rest = rest - rest.groupby(module).transform("median")
        spread = rest.abs().groupby(module).transform("median") * TO_SIGMA
        siblings = rest.groupby(module).transform("size")
        part = pd.DataFrame(
            {
                "name": rows.loc[size.index, "name"],
                "module": rows.loc[size.index, "module"],
                "quantity": quantity,
                "times": np.exp(rest),
                "deviations": rest.abs() / spread.clip(lower=LEAST_SPREAD),
                "freedom": EFFICIENCY * (siblings - 1),
            }
        )
        parts.append(part[siblings >= FEWEST_SIBLINGS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["deviations"])


def of_tensors(off: pd.DataFrame) -> Iterator[Outstanding]:
    """The tensors that lie farther from their like than the farthest of so many would by chance."""
    if off.empty:
        return
    by_chance = 2 * scipy.special.stdtr(off["freedom"], -off["deviations"]) * len(off)
    far = off[by_chance < BY_CHANCE].sort_values("deviations", ascending=False)
    for row in far.drop_duplicates("name").head(MOST_TENSORS).to_dict("records"):
        yield Outstanding(
            f"{row['name']}: its {QUANTITIES[row['quantity']].label} is"
            f" {number(row['times'])} times what {row['module']} has elsewhere and its layer"
            " otherwise"
            f" ({number(row['deviations'], 2)} robust deviations).",
            "tensor",
            {"tensor": row["name"]},
        )


def of_blocks(blocks: pd.DataFrame) -> Iterator[Outstanding]:
    """Blocks that hold far more, or far less, of the energy than of the parameters."""
    for row in blocks.to_dict("records"):
        energy, parameters, ratio = (
            row[column] for column in ("energy_share", "parameter_share", "enrichment")
        )
        if pd.isna(ratio) or max(energy, parameters) < LARGE or 1 / UNLIKE < ratio < UNLIKE:
            continue
        yield Outstanding(
            f"{row['block']} ({row['tower']}) holds {percent(energy)} of the update's energy and"
            f" {percent(parameters)} of the parameters.",
            "layers",
            {"tower": row["tower"], "block": row["block"]},
        )


def of_projections(tensors: pd.DataFrame) -> Iterator[Outstanding]:
    """Whether most matrices put more, or less, into the base's directions than a turned one."""
    if "projection_joint" not in tensors:
        return
    rows = tensors.dropna(subset=["projection_joint", "projection_joint_sd"])
    value, chance, spread = (
        rows[f"projection_joint{end}"].astype(float) for end in ("", "_chance", "_sd")
    )
    for side, word in (
        (value > chance + SPREADS * spread, "more"),
        (value < chance - SPREADS * spread, "less"),
    ):
        if 2 * int(side.sum()) > len(rows):
            yield Outstanding(
                f"In {how_many(int(side.sum()), len(rows))} matrices {word} of the update lies in"
                " the base's leading 10 % of directions than turning it at random puts there:"
                f" {number(float((value / chance).median()))} times in the median.",
                "directions",
            )


def of_masks(tensors: pd.DataFrame) -> Iterator[Outstanding]:
    """Whether most matrices that can tell moved more, or fewer, weights of a mask than any blind
    update could.
    """
    for mask, words in MASKS.items():
        if f"{mask}_coverage" not in tensors:
            continue
        claims = coverage_claims(tensors, mask)
        telling = int(claims["telling"].sum())
        for side, word in (("above", "more"), ("below", "fewer")):
            beyond = int(claims[side].sum())
            if 2 * beyond > telling:
                yield Outstanding(
                    f"In {how_many(beyond, telling)} matrices {word} of the moves fall"
                    f" on {words} than any blind update could put there.",
                    "coordinates",
                )
