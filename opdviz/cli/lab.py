"""The lab's command: train small models, and measure the papers' claims on them."""

import argparse
import os

from opdviz.cli.command import (
    JSON,
    WORKERS,
    argument,
    check_seed,
    check_workers,
    command,
    print_json,
    store_of,
)
from opdviz.errors import RequestError, one_line

MOST_STEPS = 100_000
RECIPES = "names or groups (main, ablation, sweep, all); `lab list` shows them"


@command(
    "lab",
    "train small models, and measure the papers' claims on them",
    argument("action", choices=("list", "run", "grade", "evaluate", "keep", "ship")),
    argument("recipe", nargs="*", default=[], help=RECIPES),
    argument("--seed", type=int, default=0, help="of the run: its data and its sampling"),
    argument(
        "--steps",
        type=int,
        help="a trial of another length than the recipe's: kept apart, graded on 200 problems",
    ),
    WORKERS,
    argument("--master", action="store_true", help="also keep the float32 weights"),
    JSON,
    example="opdviz lab run opd",
)
def lab(options: argparse.Namespace) -> None:
    """`opdviz lab`."""
    from opdviz.lab import plan
    from opdviz.lab.places import Places

    check_workers(options.workers)
    check_seed(options.seed)
    if options.steps is not None and not 1 <= options.steps <= MOST_STEPS:
        raise RequestError(f"--steps: found {options.steps}; expected 1 to {MOST_STEPS:,}.")
    root = store_of(options).root.resolve() / "lab"
    if root.exists() and not root.is_dir():
        raise RequestError(f"lab: found a file at {one_line(root)}; expected a folder.")
    places = Places(root, options.seed, options.steps)
    recipes = plan.recipes_of(options.recipe or ["base", "teacher", "main"])
    actions = {
        "list": list_,
        "run": run,
        "grade": grade,
        "evaluate": evaluate,
        "keep": keep,
        "ship": ship,
    }
    actions[options.action](options, recipes, places)


def list_(options: argparse.Namespace, wanted: list, places) -> None:
    """`opdviz lab list`: every recipe with the accuracy of its run, where it is done."""
    from opdviz.lab import plan

    rows = [plan.row(recipe, places) for recipe in wanted]
    if options.json:
        print_json(rows)
        return
    for row in rows:
        value = "not run yet" if row["test"] is None else f"{row['test']:.1%}"
        print(f"{row['recipe']:24s} {value:>11s}  {row['text']}")
    groups = ", ".join(f"{name} ({len(group)} runs)" for name, group in plan.GROUPS.items())
    print(f"Groups: {groups}, all. `opdviz lab list GROUP` shows their runs.")


def run(options: argparse.Namespace, wanted: list, places) -> None:
    """`opdviz lab run`: what is missing, and then the list."""
    from opdviz.engine import progress
    from opdviz.lab import plan

    with progress.listener(None, quiet=options.json) as listener:
        plan.run(wanted, places, count=options.workers, master=options.master, listener=listener)
    list_(options, wanted, places)


def grade(options: argparse.Namespace, wanted: list, places) -> None:
    """`opdviz lab grade`: grade finished runs again as they lie there, and keep which problems each
    answered.
    """
    from opdviz.lab import plan

    plan.need_packages()
    os.environ |= plan.OFFLINE
    from opdviz.lab import train

    for recipe in wanted:
        if facts := places.facts(recipe):
            before, after = (
                facts["accuracy"]["test"],
                train.grade_again(recipe, places)["accuracy"]["test"],
            )
            if not options.json:
                print(
                    f"{recipe.name:24s}"
                    f" {after:.2%}{'' if after == before else f', was {before:.2%}'}"
                )
    if options.json:
        print_json([plan.row(recipe, places) for recipe in wanted])


def evaluate(options: argparse.Namespace, wanted: list, places) -> None:
    """`opdviz lab evaluate`: measure every finished run of every seed, keep the tables, and judge
    the claims.
    """
    from opdviz.engine import progress, workers
    from opdviz.lab import claims, results
    from opdviz.lab import evaluate as evaluation
    from opdviz.lab.places import RESULTS
    from opdviz.words import count

    with (
        progress.listener(None, quiet=options.json) as listener,
        workers.pool(options.workers) as executor,
    ):
        tables = evaluation.gather(places.root, executor, listener)
    # Of runs that are not here, what was measured before stays.
    tables = results.merged(results.read(places.root), tables)
    results.keep(tables, places.root / RESULTS)
    rows = claims.verdicts(tables)
    if options.json:
        print_json(rows)
        return
    print(f"{len(tables['runs'])} runs, kept as Parquet in {places.root / RESULTS}")
    for row in rows:
        seeds = count(row["seeds"], "seed") if row["seeds"] else ""
        print(
            f"{row['verdict']:18s} {row['claim']} {seeds}\n    {row['here']}\n    published:"
            f" {row['published']}"
        )


def keep(options: argparse.Namespace, wanted: list, places) -> None:
    """`opdviz lab keep`: grade parts of the moves of finished runs, of every seed, and keep the
    curves with the results.
    """
    from opdviz.engine import progress
    from opdviz.lab import keeping, plan, results
    from opdviz.lab.places import RESULTS, Places, seeds
    from opdviz.lab.recipes import SEEDED

    plan.need_packages()
    os.environ |= plan.OFFLINE
    recipes = wanted if options.recipe else plan.recipes_of(SEEDED)
    runs = [
        (Places(places.root, seed), recipe) for seed in seeds(places.root) for recipe in recipes
    ]
    with progress.listener(None, quiet=options.json) as listener:
        rows = keeping.curves(runs, listener)
    before = results.read(places.root)
    merged = results.merged(before, {keeping.TABLE: rows})
    results.keep(before | merged, places.root / RESULTS)
    if options.json:
        print_json(rows.to_dict("records"))
        return
    means = rows.groupby(["recipe", "by", "share"], sort=False)["accuracy"].mean()
    for (recipe, by, share), accuracy in means.items():
        print(f"{recipe:12s} {by:8s} {share:6.1%} of the moves  {accuracy:.2%}")


def ship(options: argparse.Namespace, wanted: list, places) -> None:
    """`opdviz lab ship`: renew what comes with the package, from the first seed's runs, those of
    `SEEDED` of other seeds that are there, and the results of all.
    """
    from opdviz.lab import results, shipped
    from opdviz.lab.places import RESULTS, Places, seeds
    from opdviz.lab.recipes import IN_16_BITS, MAIN, RECIPES, SEEDED

    recipes = [RECIPES["base"], RECIPES["teacher"], *MAIN, *IN_16_BITS]
    missing = [recipe.name for recipe in recipes if not places.facts(recipe)]
    if missing or places.steps or not (places.root / RESULTS).is_dir():
        what = f"{', '.join(missing)} not finished" if missing else "--steps given, or no results"
        raise RequestError(
            f"lab ship: {what}; expected `opdviz lab run main controls`, then `opdviz lab"
            " evaluate`."
        )
    names = [str(places.folder(recipe).relative_to(places.root)) for recipe in recipes]
    others = [Places(places.root, seed) for seed in seeds(places.root) if seed != places.seed]
    ends = [
        str(other.of(name).relative_to(other.root))
        for other in others
        for name in (*SEEDED, *(recipe.name for recipe in IN_16_BITS))
        if other.facts(RECIPES[name])
    ]
    shipped.pack(places.root, names, ends=ends)
    size = sum(f.stat().st_size for f in shipped.HERE.rglob("*") if f.is_file())
    print(
        f"{len(shipped.index())} checkpoints and {len(results.TABLES)} tables, {size / 1e6:.1f} MB."
    )
