"""Views of several runs on one base: what to call and how to draw each, their headlines, and their
sparsity beside their size.

The state has what a view of one run takes, and `colour` (run, recipe or optimizer) and `against`,
the place of the run that the others stand beside.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from opdviz.figures import run_strips
from opdviz.figures import runs as figures
from opdviz.figures.runs import Look
from opdviz.runs import family
from opdviz.runs.headlines import Measured, for_paper
from opdviz.runs.seeds import ENOUGH, gap
from opdviz.store.manifest import Manifest
from opdviz.tables import published
from opdviz.tables.headlines import STRIPS
from opdviz.views.view import Reader, View, view
from opdviz.words import listing, number, percent, plain

COLOURS = ("run", "recipe", "optimizer")
UNSAID = "not said"
# Shares that differ by less are as good as equal: a hundredth of all coordinates.
ALIKE = 0.01


def names_of(readers: Sequence[Reader]) -> list[str]:
    """What to call each run."""
    return family.distinct_names([reader.manifest for reader in readers])


def looks_of(readers: Sequence[Reader], state: dict) -> list[Look]:
    """How each run is drawn: those of one recipe, or of one optimizer, in one colour."""
    names, by = names_of(readers), state.get("colour") or COLOURS[0]
    if by == COLOURS[0]:
        return figures.looks(names, names)
    return figures.looks(names, [reader.manifest.labels.get(by, UNSAID) for reader in readers])


def reference_of(readers: Sequence[Reader], state: dict) -> int | None:
    """The place of the run that the others stand beside; `None` where each stands by itself."""
    at = state.get("against")
    return at if isinstance(at, int) and 0 <= at < len(readers) else None


def waiting(readers: Sequence[Reader]) -> str:
    """Which runs are not measured to the end, in words; empty where all are."""
    names = [
        plain(name, limit=60)
        for name, reader in zip(names_of(readers), readers, strict=True)
        if not reader.complete
    ]
    return f" Still being measured: {listing(names)}." if names else ""


class Run(NamedTuple):
    """A run with what to call it, and its headline by quantity, which is read once."""

    name: str
    manifest: Manifest
    headline: dict[str, dict]


def runs_of(readers: Sequence[Reader]) -> list[Run]:
    """Runs with their headlines."""
    return [
        Run(name, reader.manifest, headline_rows(reader))
        for name, reader in zip(names_of(readers), readers, strict=True)
    ]


def by_recipe(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by recipe, those without one each by itself."""
    labels = family.grouping_labels([run.manifest for run in runs])
    groups = family.by_recipe(list(zip([run.name for run in runs], labels, strict=True)))
    return {recipe: [runs[at] for at in places] for recipe, places in groups.items()}


def headline_rows(reader: Reader) -> dict[str, dict]:
    """A run's headline by quantity; empty while it is not measured to the end."""
    if not reader.complete:
        return {}
    rows = reader.summary("headline").replace({np.nan: None}).to_dict("records")
    return {row["quantity"]: row for row in rows}


def headlines(readers: Sequence[Reader], state: dict) -> View:
    """Six headline quantities of each run, or of the seeds of each recipe, beside published pairs
    and chance.
    """
    title = "Six headline quantities of several runs beside published pairs"
    runs = runs_of(readers)
    groups = by_recipe(runs)
    if all(len(seeds) < ENOUGH for seeds in groups.values()):
        lanes = [
            run_strips.Lane(look, (run.headline,))
            for look, run in zip(looks_of(readers, state), runs, strict=True)
        ]
    else:
        lanes = [
            run_strips.Lane(look, tuple(run.headline for run in seeds))
            for look, seeds in zip(
                figures.looks(list(groups), list(groups)), groups.values(), strict=True
            )
        ]
    paper = [row for row in published.numbers() if row["paper"] == published.PAPERS["A"]]
    rows = [{"run": run.name} | row for run in runs for row in run.headline.values()]
    if not rows:
        return View(title, "The headline waits until a run is measured to its end.")
    reading = f"{norms_reading(runs)} {seeds_reading(groups)}{waiting(readers)}"
    terms = ("relative_norm", "sparsity_absolute", "top16_energy", "stable_rank", "coverage")
    figure = run_strips.strips(lanes, paper)
    drawn = view(f"{title}: {base_of(readers)}", reading, figure, pd.DataFrame(rows), terms)
    measured = [
        Measured(run.name, reader.manifest, list(run.headline.values()))
        for run, reader in zip(runs, readers, strict=True)
        if run.headline
    ]
    return replace(drawn, for_paper=for_paper(measured, "A"))


def base_of(readers: Sequence[Reader]) -> str:
    """What the runs started from."""
    return f"runs on {readers[0].manifest.base.label}"


def norms_reading(runs: Sequence[Run]) -> str:
    """From which relative norm to which the runs reach."""
    norms = {run.name: run.headline.get("relative_norm", {}).get("value") for run in runs}
    norms = {name: norm for name, norm in norms.items() if norm is not None}
    if len(norms) < 2:
        return ""
    least, most = min(norms, key=norms.get), max(norms, key=norms.get)
    return (
        f"**Relative norm from {number(norms[least])} % ({plain(least, limit=60)}) to"
        f" {number(norms[most])} % ({plain(most, limit=60)}).**"
    )


def seeds_reading(groups: dict[str, list[Run]]) -> str:
    """Whether recipes lie farther apart than seeds of one do, quantity by quantity."""
    seeds = {recipe: len(runs) for recipe, runs in groups.items() if len(runs) >= ENOUGH}
    if len(groups) < 2:
        return f"All of them are seeds of {plain(next(iter(groups)), limit=60)}."
    alone = {run.manifest.labels.get("recipe") for runs in groups.values() for run in runs}
    if not seeds and len(alone - {None}) == 1 < len(groups):
        return "Steps of one training are no seeds of its recipe: Trajectory follows them."
    if not seeds:
        return (
            "One run each: what sets two of them apart may be the seed. Runs that share a recipe"
            " (Comparisons, Edit) give the spread."
        )
    if len(seeds) > 1:  # a single run says nothing of how far others of its recipe may lie
        groups = {recipe: groups[recipe] for recipe in seeds}
    ratios = {}
    for strip in STRIPS:
        values = {
            recipe: [
                row["value"]
                for row in (run.headline.get(strip.protocol, {}) for run in runs)
                if row.get("value") is not None
            ]
            for recipe, runs in groups.items()
        }
        if apart := gap(values):
            ratios[strip.strip] = apart.ratio
    beyond = [f"{name} ({number(ratio, 2)}×)" for name, ratio in ratios.items() if ratio > 1]
    within = [name for name, ratio in ratios.items() if ratio <= 1]
    of_seeds = listing([f"{plain(r, limit=40)} {n}" for r, n in seeds.items()], most=6)
    text = f"Seeds: {of_seeds}. The {'widest ' if len(groups) > 2 else ''}gap between"
    text += f" {listing([plain(recipe, limit=40) for recipe in groups], most=6)}"
    if beyond:
        text += f" is wider than the spread of seeds in {listing(beyond, most=6)}"
    if within:
        text += f"{'; it' if beyond else ''} is within it in {listing(within, most=6)}"
    return f"{text}."


def together(by_run: dict[Look, pd.DataFrame]) -> pd.DataFrame:
    """The rows of all runs, with the run's name."""
    return pd.concat([rows.assign(run=look.name) for look, rows in by_run.items()])


def sparse_or_small_alone(reader: Reader, state: dict) -> View:
    """The same of one run."""
    return sparse_or_small([reader], {}, of_what=reader.name)


def sparse_or_small(readers: Sequence[Reader], state: dict, of_what: str | None = None) -> View:
    """Share unchanged against relative norm by layer of each run, beside a dense update's."""
    title = f"Unchanged coordinates against the size of the update: {of_what or base_of(readers)}"
    by_run = {}
    for look, reader in zip(looks_of(readers, state), readers, strict=True):
        look = replace(look, name="this run") if of_what else look
        rows = reader.summary("dense_by_layer") if reader.complete else pd.DataFrame()
        rows = rows[rows["relative_norm"] > 0] if len(rows) else rows
        if len(rows):
            layer = rows["layer"].map(lambda at: f"layer {at}", na_action="ignore")
            what = layer.astype(object).where(rows["layer"].notna(), "outside the layers")
            by_run[look] = rows.assign(what=what)
    if not by_run:
        return View(
            title, f"No run that is counted in 16 bits is measured to its end.{waiting(readers)}"
        )
    first = next(reader for reader in readers if reader.complete)
    figure = figures.sparse_or_small(by_run, first.summary("dense_curve"))
    verdicts: dict[str, list[str]] = {}
    for look, rows in by_run.items():
        verdict, shares = small_reading(rows)
        verdicts.setdefault(verdict, []).append(f"{plain(look.name, limit=60)} ({shares})")
    words = [f"{verdict}: {listing(runs, most=8)}" for verdict, runs in verdicts.items()]
    reading = (
        f"{'. '.join(words)}. In brackets: unchanged, and of a dense Gaussian update as large."
    )
    return view(
        title,
        reading,
        figure,
        together(by_run),
        ("sparsity_exact", "relative_norm"),
    )


def small_reading(rows: pd.DataFrame) -> tuple[str, str]:
    """Whether a run leaves more unchanged than a dense update of its size, in words, and both
    shares.
    """
    both = rows.dropna(subset=["dense_unchanged"])
    if both.empty:
        return "**Nothing to stand beside**", "–"
    weights = both["numel"] / both["numel"].sum()
    share, dense = (
        float((both[column] * weights).sum()) for column in ("unchanged", "dense_unchanged")
    )
    shares = f"{percent(share)}, {percent(dense)}"
    if abs(share - dense) < ALIKE:
        return "**As sparse as its size alone makes it**", shares
    return f"**{'Sparser' if share > dense else 'Less sparse'} than its size alone**", shares
