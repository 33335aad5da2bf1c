"""Families: the comparisons of a cache whose runs started from one base."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from opdviz.definitions import EXACT
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
            return *(labels.get(field, "") for field in LABELS), run.name

        return [run.key for run in sorted(self.runs, key=order)]


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
