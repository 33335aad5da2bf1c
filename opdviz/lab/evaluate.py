"""Gather what came out of the lab's runs: what they kept, and what the engine says of each one's
update.

`runs`         one row a run: what it is, its accuracy, and its update's headline quantities beside
chance `curve`        one row a run and step: validation accuracy, what is unchanged as bf16,
relative norm `diagnostics`  one row a run and step: the moments of the gradients `overlap`      one
row a pair of runs: visible coordinates that both moved, beside both expectations `layers`       one
row a run and layer: its share of the visible coordinates beside its share of the parameters
`octaves`      one row a run and octave of |W|: its precision fingerprint
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import pandas as pd

from opdviz import checkpoint
from opdviz.definitions import VISIBLE
from opdviz.engine import measuring, prepare
from opdviz.engine.progress import Progress
from opdviz.errors import RequestError
from opdviz.lab.places import MASK, Places
from opdviz.lab.recipes import ABLATION, BASES, CONTROLS, MAIN, RECIPES, SWEEP, Recipe
from opdviz.lab.results import TABLES
from opdviz.runs import overlap
from opdviz.runs.masks import deltas, matching_of, open_mask
from opdviz.store import status
from opdviz.store.store import Store, Stored
from opdviz.tables import by_tensor, precision, protocols
from opdviz.tables.headlines import LAB

SEED = re.compile(r"seed([0-9]+)")
BANDED = ("principal", "low_magnitude")
COMPARED = (
    ("opd", "grpo"),
    ("opd", "offline_distillation"),
    ("opd", "sft"),
    ("opd", "opd_self"),
    ("opd", "opd_sgd"),
)
GRADES = ("test", "validation", "comparison", "reversal", "with_answer")


def gather(
    root: Path, executor: Executor, listener: Callable[[Progress], None]
) -> dict[str, pd.DataFrame]:
    """Every table, from the finished runs of all seeds below a lab folder; each run is compared
    with its base.

    Raises
        RequestError: no run is there.
    """
    finished = list(runs_of(root))
    if not finished:
        raise RequestError("lab evaluate: no run is finished; `opdviz lab run` makes them.")
    store = Store(root)
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    keys, progress = {}, Progress("measuring the runs", len(finished), pairs=len(finished))
    for at, (places, recipe, facts) in enumerate(finished):
        progress.done = progress.pairs_done = at
        progress.current = f"seed{places.seed}/{recipe.name}"
        listener(progress)
        where = about(recipe, facts)
        tables["curve"] += [where | row for row in facts["curve"]]
        tables["diagnostics"] += [where | row for row in facts["diagnostics"]]
        row = (
            where
            | {grade: facts["accuracy"].get(grade) for grade in GRADES}
            | {"seconds": facts["seconds"]}
        )
        row["answers"] = facts.get("answers", {}).get("test")
        if recipe.loop != "pretrain" and recipe.hidden == RECIPES["opd"].hidden:
            comparison = compared(places, recipe, store, executor)
            keys[places.seed, recipe.name] = comparison.key
            row |= headline(comparison) | masked(places, recipe)
            tables["layers"] += [where | layer for layer in layers(comparison)]
            octaves, verdict = precision.of_run(comparison)
            tables["octaves"] += [where | octave for octave in octaves.to_dict("records")]
            row |= {"precision": verdict["verdict"]} | {
                c: verdict[c] for c in ("step_low", "step_high")
            }
        tables["runs"].append(row)
    tables["overlap"] = list(overlaps(root, set(keys)))
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def runs_of(root: Path) -> Iterator[tuple[Places, Recipe, dict]]:
    """Every finished run: those for all seeds once, then seed by seed."""
    once = [r for r in RECIPES.values() if r.seed is not None]
    seeds = sorted(int(match[1]) for p in root.glob("seed*") if (match := SEED.fullmatch(p.name)))
    for seed in seeds:
        places = Places(root, seed)
        for recipe in [
            *(once if seed == seeds[0] else []),
            *(r for r in RECIPES.values() if r.seed is None),
        ]:
            if facts := places.facts(recipe):
                yield places, recipe, facts


def about(recipe: Recipe, facts: dict) -> dict:
    """What a run is."""
    groups = {
        "main": MAIN,
        "controls": CONTROLS,
        "ablation": ABLATION,
        "sweep": SWEEP,
        "base": BASES,
    }
    return {
        "recipe": recipe.name,
        "seed": facts["seed"],
        "main": recipe in MAIN,
        "groups": " ".join(name for name, group in groups.items() if recipe in group),
        "loop": recipe.loop,
        "optimizer": "SGD" if recipe.optimizer == "sgd" else "AdamW",
        "learning_rate": recipe.learning_rate,
        "hidden": recipe.hidden,
        "steps": recipe.steps,
        "weights": recipe.weights,
    }


def compared(places: Places, recipe: Recipe, store: Store, executor: Executor) -> Stored:
    """A run's comparison with its base, made where it is missing."""
    base, tuned = (
        checkpoint.open(path) for path in (places.of(recipe.base), places.folder(recipe))
    )
    name = f"seed{places.seed}/{recipe.name}"
    prepared = prepare.prepare(base, tuned, store, name, lambda progress: None)
    if prepared.key in store.keys() and status.state(store.open(prepared.key)) == "done":
        return store.open(prepared.key)
    return measuring.compare(prepared, store, executor, listener=lambda progress: None)


def headline(comparison: Stored) -> dict:
    """Headline quantities of a comparison with their chance, and the bands of the coverages."""
    row: dict = {}
    for protocol in ("A", "D"):
        for quantity in protocols.headline(comparison, protocol):
            if name := LAB.get(quantity["quantity"]):
                scale = 0.01 if quantity["unit"] == "%" else 1.0
                for column, part in ((name, "value"), (f"{name}_chance", "chance")):
                    row[column] = None if quantity[part] is None else quantity[part] * scale
    rows = by_tensor.quantities_by_tensor(comparison)
    rows = by_tensor.matrices(rows[rows["moved"] > 0])
    for mask in BANDED:
        for end in ("null_low", "null_high", "blind_low", "blind_high"):
            row[f"coverage_{mask}_{end}"] = rows[f"{mask}_{end}"].median()
    return row | projections(rows) | tails(rows)


def projections(rows: pd.DataFrame) -> dict:
    """The median over matrices of joint projection over chance, how far a blind update's would
    scatter, and given profiles.
    """
    judged = rows.dropna(subset=["projection_joint", "projection_joint_sd"])
    chance, sd = judged["projection_joint_chance"], judged["projection_joint_sd"]
    # the median of n independent values scatters 1.25 times as much as their mean
    spread = (
        1.25 * float(((sd / chance) ** 2).mean() ** 0.5) / len(judged) ** 0.5
        if len(judged)
        else None
    )
    return {
        "projection_ratio": (judged["projection_joint"] / chance).median(),
        "projection_ratio_sd": spread,
        "projection_profile_ratio": (
            (judged["projection_joint"] / judged["projection_joint_profile"]).median()
        ),
    }


def tails(rows: pd.DataFrame) -> dict:
    """In which share of the matrices the tail cannot be told from rounding, and the median
    position.
    """
    judged = rows.dropna(subset=["verdict"])
    return {
        "tail_like": float((judged["verdict"] == "like rounding").mean()) if len(judged) else None,
        "tail_position": judged["position"].median(),
    }


def masked(places: Places, recipe: Recipe) -> dict:
    """The density of the mask that a run was trained under, and how many of its visible coordinates
    lie outside.
    """
    if recipe.mask is None:
        return {}
    mask = open_mask(places.folder(recipe) / MASK)
    matching = matching_of(places.of(recipe.base), places.folder(recipe))
    outside = sum(int(((delta > 0) & ~mask.read(name)).sum()) for name, delta in deltas(matching))
    return {"mask_density": mask.density, "moved_outside_mask": outside}


def layers(comparison: Stored) -> list[dict]:
    """Each layer's share of the visible coordinates and of the parameters."""
    rows = by_tensor.quantities_by_tensor(comparison).dropna(subset=["layer"])
    rows = rows.assign(visible=rows["numel"] - rows["unchanged_absolute_count"])
    sums = rows.groupby("layer", as_index=False)[["visible", "numel"]].sum()
    shares = sums[["visible", "numel"]] / sums[["visible", "numel"]].sum()
    return [
        {"layer": int(layer), "visible_share": float(v), "parameter_share": float(p)}
        for layer, v, p in zip(sums["layer"], shares["visible"], shares["numel"], strict=True)
    ]


def overlaps(root: Path, there: set[tuple[int, str]]) -> Iterator[dict]:
    """Overlaps of `opd` with other recipes of its seed, and of a recipe with itself under another
    seed.
    """
    seeds = sorted({seed for seed, _ in there})
    pairs = [((seed, a), (seed, b)) for seed in seeds for a, b in COMPARED]
    pairs += [((seeds[0], name), (seed, name)) for seed in seeds[1:] for name in ("opd", "grpo")]
    for a, b in pairs:
        if a not in there or b not in there:
            continue
        sides = []
        for seed, name in (a, b):
            places = Places(root, seed)
            sides.append(matching_of(places.of("base"), places.of(name)))
        table = pd.DataFrame(overlap.rows(*sides, a[1], b[1]), columns=list(overlap.COLUMNS))
        row = next(row for row in overlap.whole(table) if row["threshold"] == VISIBLE)
        yield {"run_a": a[1], "seed_a": a[0], "run_b": b[1], "seed_b": b[0]} | row
