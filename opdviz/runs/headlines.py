"""The headline quantities of several runs under a protocol, in one table: runs, seeds, published
pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from opdviz.quantities import QUANTITIES
from opdviz.runs import seeds
from opdviz.runs.family import by_recipe, grouping_labels
from opdviz.store.manifest import LABELS, Manifest
from opdviz.tables import published
from opdviz.tables.headlines import HEADLINES
from opdviz.words import count, number


@dataclass(frozen=True, slots=True)
class Measured:
    """A run that is measured to its end: what to call it, its manifest, and its headline's rows."""

    name: str
    manifest: Manifest
    headline: Sequence[dict]

    @property
    def values(self) -> dict[str, float | None]:
        """Its quantities, each with its chance beside it where it has one."""
        values = {}
        for row in self.headline:
            values[row["quantity"]] = row["value"]
            if row["chance"] is not None:
                values[f"{row['quantity']} by chance"] = row["chance"]
        return values


def table(runs: Sequence[Measured], protocol: str) -> pd.DataFrame:
    """A row a run, then mean and range of the seeds of each recipe, then the pairs that the
    protocol's paper published; a column a quantity. `what` says which row is which.
    """
    if not runs:
        return pd.DataFrame()
    of_runs = pd.DataFrame([run.values for run in runs], dtype=float)
    rows = [
        {"run": run.name, **run.manifest.labels, "what": "run"} | values
        for run, values in zip(runs, of_runs.to_dict("records"), strict=True)
    ]
    labels = grouping_labels([run.manifest for run in runs])
    names = [run.name for run in runs]
    for recipe, places in by_recipe(list(zip(names, labels, strict=True))).items():
        values = of_runs.iloc[places]
        if len(values) >= seeds.ENOUGH:
            of_seeds, where = count(len(values), "seed"), {"run": recipe, "recipe": recipe}
            spread = values.max() - values.min()
            rows.append(where | {"what": f"mean of {of_seeds}"} | values.mean().to_dict())
            rows.append(where | {"what": f"range of {of_seeds}"} | spread.to_dict())
    return pd.DataFrame([*rows, *of_papers(list(of_runs), protocol)]).reindex(
        columns=["run", *LABELS, "what", *of_runs]
    )


def of_papers(quantities: Sequence[str], protocol: str) -> list[dict]:
    """A row for each published pair that has some of the quantities."""
    by_pair: dict[tuple[str, str], dict] = {}
    for quantity in quantities:
        for row in published.rows(quantity, protocol=protocol):
            where = {"run": row["pair"], "recipe": row["recipe"], "what": "published"}
            by_pair.setdefault((row["recipe"], row["pair"]), where)[quantity] = row["value"]
    return list(by_pair.values())


def for_paper(runs: Sequence[Measured], protocol: str) -> pd.DataFrame:
    """The same as text, to be read on paper: a row a quantity; a column a run, its chance in
    brackets; mean and range of seeds; and by family of recipes the range of what was published.
    """
    rows = table(runs, protocol)
    units = {row["quantity"]: row["unit"] for run in runs for row in run.headline}
    columns = {CAPTION: [called(quantity, unit) for quantity, unit in units.items()]}
    for run in runs:
        columns[run.name] = [with_chance(run.values, quantity) for quantity in units]
    for _, row in rows[~rows["what"].isin(["run", "published"])].iterrows():
        columns[f"{row['run']}, {row['what']}"] = [number(row[quantity]) for quantity in units]
    of_pairs = rows[rows["what"] == "published"]
    for family, pairs in of_pairs.groupby(of_pairs["recipe"].map(published.family), sort=False):
        columns[f"published {family}"] = [range_of(pairs[quantity]) for quantity in units]
    return pd.DataFrame(columns)


CAPTION = "quantity (in brackets: by chance)"
COLUMNS = {headline.protocol: headline.column for headline in HEADLINES if headline.protocol}


def called(quantity: str, unit: str) -> str:
    """What a table for readers calls a quantity, with its unit.

    >>> called("top16_energy", "%"), called("energy_share_ffn", "%"), called("stable_rank", "1")
    ('energy of the top 16 (%)', 'energy share ffn (%)', 'stable rank')
    """
    column = COLUMNS.get(quantity)
    label = QUANTITIES[column].label if column else quantity.replace("_", " ")
    return f"{label} ({unit})" if unit != "1" else label


def with_chance(values: dict[str, float | None], quantity: str) -> str:
    """A value, and in brackets what chance gives; empty where the run has nothing of it, as models
    differ in their blocks.
    """
    if quantity not in values:
        return ""
    chance = values.get(f"{quantity} by chance")
    return number(values[quantity]) + (f" ({number(chance)})" if chance is not None else "")


def range_of(values: pd.Series) -> str:
    """What several published: one number, or from which to which; empty without any."""
    ends = values.dropna().agg(["min", "max"]) if values.notna().any() else []
    return "–".join(dict.fromkeys(map(number, ends)))
