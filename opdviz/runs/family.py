"""Families: the comparisons of a cache whose runs started from one base."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from opdviz.definitions import EXACT
from opdviz.runs.trajectory import place_of
from opdviz.store.manifest import LABELS, Manifest, Side
from opdviz.store.store import Stored
from opdviz.words import format_name, listing

MOST = 8  # runs side by side: as many colours as are told apart


@dataclass(frozen=True, slots=True)
class Family:
    """Comparisons on one base, in the order in which they were given."""

    runs: tuple[Stored, ...]

    @property
    def base(self) -> Side:
        """Their base, as the first of them has it."""
        return self.runs[0].manifest.base

    @property
    def keys(self) -> list[str]:
        """Their keys, runs of one recipe beside each other."""

        def order(run: Stored) -> tuple:
            labels = run.manifest.labels
            return *(labels.get(field, "") for field in LABELS), natural(run.name)

        return [run.key for run in sorted(self.runs, key=order)]


def natural(name: str) -> list[tuple[int, str]]:
    """A name as people order it: numbers by their value.

    >>> sorted(["opd/100", "opd/25"], key=natural)
    ['opd/25', 'opd/100']
    """
    pieces = re.split(r"([0-9]+)", name)
    return [(int(piece), "") if piece.isdecimal() else (0, piece) for piece in pieces]


def by_base(comparisons: Iterable[Stored]) -> list[Family]:
    """Comparisons in families, the first of each in the order of the comparisons."""
    families: dict[tuple[str, ...], list[Stored]] = {}
    for comparison in comparisons:
        families.setdefault(comparison.manifest.base.fingerprints, []).append(comparison)
    return [Family(tuple(runs)) for runs in families.values()]


def of(key: str, comparisons: Iterable[Stored]) -> Family | None:
    """The family that a comparison belongs to; `None` where it is not among them."""
    families = by_base(comparisons)
    return next((one for one in families if key in one.keys), None)


def distinct_names(runs: Sequence[Stored | Manifest]) -> list[str]:
    """What to call some runs: their names, with the key's beginning where two have the same."""
    manifests = [run.manifest if isinstance(run, Stored) else run for run in runs]
    often = Counter(manifest.title for manifest in manifests)
    return [
        f"{manifest.title} ({manifest.key[:6]})" if often[manifest.title] > 1 else manifest.title
        for manifest in manifests
    ]


def grouping_labels(runs: Sequence[Manifest]) -> list[Mapping[str, str]]:
    """The labels by which runs are seeds of one recipe: steps of one training are none, so these
    have no recipe here.
    """
    places = [place_of(run.tuned.path) for run in runs]
    often = Counter(place.root for place in places if place)
    return [
        {k: v for k, v in run.labels.items() if k != "recipe"}
        if place and often[place.root] > 1
        else run.labels
        for run, place in zip(runs, places, strict=True)
    ]


def by_recipe(runs: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, list[int]]:
    """The places of runs (name and labels) by recipe; one without a recipe is alone under its name.

    >>> by_recipe([("a", {"recipe": "opd"}), ("b", {}), ("c", {"recipe": "opd"})])
    {'opd': [0, 2], 'b': [1]}
    """
    places: dict[str, list[int]] = {}
    for at, (name, labels) in enumerate(runs):
        places.setdefault(labels.get("recipe") or name, []).append(at)
    return places


def unlike(runs: Sequence[Manifest]) -> str:
    """What of some runs side by side is not alike, in one sentence; empty where all is.

    Two optimizers take steps of other sizes, and a coarser format hides more of an update: what
    differs between such runs need not come from how they were trained.
    """
    by_what = {
        "optimizers": {run.labels.get("optimizer") for run in runs} - {None},
        "formats": {" and ".join(map(format_name, run.dtypes)) for run in runs},
        "precisions": {
            "exact" if run.precision == EXACT else f"{run.precision} (a sketch)" for run in runs
        },
    }
    differing = [
        f"{what} ({listing(sorted(values), most=4)})"
        for what, values in by_what.items()
        if len(values) > 1
    ]
    if not differing:
        return ""
    return f"These runs are of unlike {' and '.join(differing)}: that alone can set them apart."
