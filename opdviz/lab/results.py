"""The lab's results as tidy tables, kept as Parquet: those made on this machine, or those that come
with the package.
"""

import io
from pathlib import Path

import pandas as pd

from opdviz import files
from opdviz.errors import CheckFailed, one_line
from opdviz.lab.places import RESULTS
from opdviz.lab.recipes import IN_16_BITS
from opdviz.lab.shipped import HERE
from opdviz.tables import precision
from opdviz.words import count, how_many, percent

TABLES = ("runs", "curve", "diagnostics", "overlap", "layers", "octaves", "kept")
SHIPPED = HERE / RESULTS


def keep(found: dict[str, pd.DataFrame], into: Path) -> None:
    """Write every table as Parquet."""
    for name, table in found.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        files.write(into / f"{name}.parquet", buffer.getvalue())


def read(root: Path) -> dict[str, pd.DataFrame]:
    """Every table: those made on this machine, or those that come with the package; empty frames
    where neither is.

    Raises
        CheckFailed: a table is damaged.
    """
    folder = root / RESULTS if (root / RESULTS / "runs.parquet").is_file() else SHIPPED
    paths = {name: folder / f"{name}.parquet" for name in TABLES}
    try:
        tables = {
            name: pd.read_parquet(file) if file.is_file() else pd.DataFrame()
            for name, file in paths.items()
        }
    except (OSError, ValueError):
        tables = {}
    if not tables or not (
        tables["runs"].empty or {"recipe", "seed", "groups", "test"} <= set(tables["runs"])
    ):
        raise CheckFailed(
            f"lab: the results in {one_line(folder)} are damaged; `opdviz lab evaluate` makes them"
            " again."
        )
    return tables


IDENTITY = {"overlap": ["run_a", "seed_a", "run_b", "seed_b"]} | dict.fromkeys(
    ("runs", "curve", "diagnostics", "layers", "octaves", "kept"), ["recipe", "seed"]
)


def merged(
    before: dict[str, pd.DataFrame], measured: dict[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Results just measured, and those from before of runs that are not here; of these only the
    columns that are still kept.
    """
    tables = {}
    for name, rows in measured.items():
        old, identity = before[name], IDENTITY[name]
        if old.empty or rows.empty:
            tables[name] = rows if len(rows) else old
            continue
        here = set(rows[identity].itertuples(index=False, name=None))
        others = [line not in here for line in old[identity].itertuples(index=False, name=None)]
        old = old.loc[others, [column for column in old if column in rows]]
        tables[name] = pd.concat([rows, old], ignore_index=True) if len(old) else rows
    return tables


def of_group(found: dict[str, pd.DataFrame], table: str, group: str) -> pd.DataFrame:
    """The rows of a table whose run belongs to a group (main, ablation, sweep)."""
    rows = found[table]
    return rows[rows["groups"].str.split().map(lambda names: group in names)] if len(rows) else rows


def gains(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The sweep's curves, and `opd`'s own, with `gain`: validation accuracy beyond that of the base
    of their width.
    """
    if found["curve"].empty:
        return found["curve"]
    opd = found["curve"][(found["curve"]["recipe"] == "opd") & (found["curve"]["seed"] == 0)]
    rows = pd.concat([of_group(found, "curve", "sweep"), opd]).drop_duplicates(
        ["recipe", "seed", "step"]
    )
    bases = of_group(found, "runs", "base").set_index("hidden")["validation"]
    rows = rows[rows["hidden"].isin(bases.index) & (rows["seed"] == 0)]
    return rows.assign(gain=rows["accuracy"] - rows["hidden"].map(bases))


def starts(found: dict[str, pd.DataFrame]) -> str:
    """Where the sweep's bases start, in words."""
    bases = of_group(found, "runs", "base").sort_values("hidden")
    return ", ".join(
        f"{percent(share)} at width {width}"
        for width, share in zip(bases["hidden"], bases["validation"], strict=True)
    )


def by_recipe(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a main recipe: every number's mean over its seeds and, of accuracy, the spread
    (standard deviation).
    """
    main = of_group(found, "runs", "main")
    if main.empty:
        return main
    numbers = main.select_dtypes("number").columns.difference(["seed", "hidden", "steps"])
    rows = main.groupby("recipe", sort=False)[list(numbers)].mean()
    grouped = main.groupby("recipe", sort=False)
    rows.insert(0, "seeds", grouped["seed"].nunique())
    rows.insert(1, "test_spread", grouped["test"].std())
    return rows.reset_index()


def overlaps(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a pair of runs: how much their visible coordinates overlap, as a Jaccard index and as
    two ratios.

    Pairs of recipes are means over seeds; a recipe stands beside itself under another seed as well.
    """
    rows = found["overlap"]
    if rows.empty:
        return rows
    same = rows["run_a"] == rows["run_b"]
    rows = rows.assign(
        run_b=rows["run_b"].where(~same, rows["run_b"] + ", another seed"),
        times_chance=rows["both"] / rows["chance_both"],
        times_expected=rows["both"] / rows["expected_both"],
    )
    columns = ["jaccard", "times_chance", "times_expected"]
    return rows.groupby(["run_a", "run_b"], sort=False, as_index=False)[columns].mean()


def mean_accuracy(runs: pd.DataFrame) -> pd.Series:
    """Mean test accuracy over seeds by recipe, rising."""
    return runs.groupby("recipe", sort=False)["test"].mean().sort_values()


def accuracy_reading(runs: pd.DataFrame) -> str:
    """Which recipe ends highest and which lowest.

    >>> rows = [("opd", 0, 0.7), ("opd", 1, 0.8), ("sft", 0, 0.6)]
    >>> accuracy_reading(pd.DataFrame(rows, columns=["recipe", "seed", "test"]))
    'opd ends highest, at 75 % in the mean of 2 seeds; sft lowest, at 60 %.'
    """
    if runs.empty:
        return "No run with AdamW yet."
    means, seeds = mean_accuracy(runs), runs["seed"].nunique()
    over = f" in the mean of {seeds} seeds" if seeds > 1 else ""
    highest = f"{means.index[-1]} ends highest, at {percent(means.iloc[-1])}{over}"
    return f"{highest}; {means.index[0]} lowest, at {percent(means.iloc[0])}."


def at_the_end(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy after the last step, by optimizer and learning rate."""
    last = curve[curve["step"] == curve["steps"]]
    return last.groupby(["optimizer", "learning_rate"], as_index=False)["accuracy"].mean()


def moments_over_seeds(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """What each optimizer saw at each step, as the mean over seeds."""
    by_step = diagnostics.groupby(["optimizer", "step"], as_index=False)
    return by_step[["cv_sqrt_v", "cosine"]].mean()


def parts_kept(found: dict[str, pd.DataFrame], recipe: str) -> pd.DataFrame:
    """Accuracy of a recipe's runs with a share of their moves: by, share, accuracy (mean over
    seeds), low, high (least and most), seeds; all moves and none are of `size`.
    """
    rows = found["kept"]
    grouped = rows[rows["recipe"] == recipe].groupby(["by", "share"], as_index=False)
    columns = {"accuracy": "mean", "low": "min", "high": "max", "seeds": "size"}
    return grouped.agg(**{name: ("accuracy", how) for name, how in columns.items()})


def in_16_bits(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The runs of weights kept in 16 bits, and those that are like them in all else."""
    recipes = [name for recipe in IN_16_BITS for name in (recipe.name, like(recipe.name))]
    runs = found["runs"]
    return runs[runs["recipe"].isin(recipes)] if "precision" in runs else runs[:0]


def like(recipe: str) -> str:
    """The recipe that one of weights kept in 16 bits is like in all else.

    >>> like("opd_16bit")
    'opd'
    """
    return recipe.removesuffix("_16bit")


def precision_reading(runs: pd.DataFrame) -> str:
    """What two files say of how the weights of runs were kept, and what that cost."""
    sixteen = runs["weights"] != "float32"
    cut = runs["precision"] == precision.CUT_OFF
    accuracy = runs.groupby("recipe")["test"].mean()
    answers = [
        f"{like(name)} {percent(accuracy[like(name)])} with a copy,"
        f" {percent(accuracy[name])} without"
        for name in runs.loc[sixteen, "recipe"].unique()
    ]
    low, high = runs.loc[cut, "step_low"].min(), runs.loc[cut, "step_high"].max()
    return (
        f"**Steps were rounded away in {how_many(int((cut & sixteen).sum()), int(sixteen.sum()))}"
        " runs of weights kept in bf16, and in"
        f" {how_many(int((cut & ~sixteen).sum()), int((~sixteen).sum()))} with a copy of float32:"
        f" two files tell.** The largest step lay between {low:.2g} and {high:.2g}; AdamW's rate is"
        f" {runs['learning_rate'].max():.2g}. Right answers: {'; '.join(answers)}."
    )


def part_reading(parts: pd.DataFrame, recipe: str, share: float) -> str:
    """How much of a recipe's gain a share of its moves keeps, beside as many at random."""
    at = parts.set_index(["by", "share"])["accuracy"]
    base, whole = at["size", 0.0], at["size", 1.0]
    if whole <= base:
        return f"{recipe} gained nothing that parts of it could keep."
    largest, lot = ((at[by, share] - base) / (whole - base) for by in ("size", "random"))
    return (
        f"**The largest {percent(share)} of {recipe}'s moves keep {percent(largest, 2)} of its"
        f" gain, as many at random {percent(lot, 2)}** (from {percent(base)} to {percent(whole)},"
        f" mean of {count(int(parts['seeds'].max()), 'seed')})."
    )
