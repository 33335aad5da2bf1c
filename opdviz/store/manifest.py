"""The manifest of a comparison: what was compared, how, and which of its measures are whole. One
that is unsound is damaged.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opdviz import files
from opdviz.definitions import EXACT

FILE = "manifest.json"
# What somebody may say of a run besides its name; runs of one recipe are seeds of it.
LABELS = ("recipe", "optimizer")
FORMAT = 2  # of what is stored: tables of an earlier one are computed again, names and boards stay
HALF = re.compile("[\ud800-\udfff]")
ID = re.compile(r"[a-z0-9_]+@[0-9]+")
# Nothing that leads out of the folder of tables.
TABLE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\.parquet")


@dataclass(frozen=True, slots=True)
class Side:
    """One checkpoint of a comparison: where it was, what to call it, and the fingerprints of its
    files in their order.
    """

    path: str
    label: str
    fingerprints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a comparison says of itself.

    `compacted` are the measures (`name@version`) that are one file a table; `bundled` says of the
    others how many pairs each numbered bundle holds; `tables` gives the digest of every stored
    file.
    """

    key: str
    name: str
    base: Side
    tuned: Side
    pairs: int
    parameters: int
    measures: int
    dtypes: tuple[str, ...]
    compacted: tuple[str, ...] = ()
    bundled: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    same: bool = False
    failure: str | None = None
    format: int | None = FORMAT

    @property
    def outdated(self) -> bool:
        """Whether an earlier version measured this comparison: its tables mean other things."""
        return self.format != FORMAT

    @property
    def precision(self) -> str:
        """How spectra were computed."""
        return str(self.settings.get("precision", EXACT))

    @property
    def title(self) -> str:
        """The name, as figures and lists have it."""
        return titled(self.name, self.precision)

    @property
    def complete(self) -> bool:
        """Whether every measure is whole."""
        return not self.outdated and len(self.compacted) >= self.measures

    @property
    def bundled_parts(self) -> int:
        """How many parts stand in bundles."""
        return sum(sum(counts.values()) for counts in self.bundled.values())

    def encoded(self) -> bytes:
        """The manifest as the JSON that `parse` takes."""
        sides = {name: _facts(getattr(self, name)) for name in ("base", "tuned")}
        facts = {name: getattr(self, name) for name in self.__slots__} | sides
        facts = {name: value for name, value in facts.items() if value is not None}
        return json.dumps(facts, indent=1, sort_keys=True).encode()


def titled(name: str, precision: str) -> str:
    """A comparison's name with its precision, where that is not the exact one and nobody said so.

    >>> titled("opd", "float64"), titled("fast lr", "fast"), titled("opd (fast)", "fast")
    ('opd', 'fast lr (fast)', 'opd (fast)')
    """
    words = f"({precision})"
    return name if precision == EXACT or name.endswith(words) else f"{name} {words}"


def _facts(side: Side) -> dict:
    """One side as JSON has it."""
    return {"path": side.path, "label": side.label, "fingerprints": side.fingerprints}


def read(folder: Path) -> Manifest | None:
    """The manifest of a comparison's folder; `None` where it is missing or damaged."""
    return parse(files.json_value(folder / FILE), folder.name)


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a comparison's folder."""
    files.clear_for_file(folder / FILE)
    files.write(folder / FILE, manifest.encoded())


def parse(value: object, key: str) -> Manifest | None:
    """A manifest from JSON, if it has everything that commands and pages rely on and is this
    comparison's own.

    One of an earlier format may say another key: its folder was taken over under a new one.
    """
    if not isinstance(value, dict) or not all(
        fits(value.get(name)) for name, fits in FIELDS.items()
    ):
        return None
    if not all(fits(value[name]) for name, fits in OPTIONAL.items() if name in value):
        return None
    facts = {name: value[name] for name in (*FIELDS, *OPTIONAL) if name in value}
    facts |= {
        name: tuple(facts[name]) for name in ("dtypes", "compacted", "notes") if name in facts
    }
    facts |= {name: parsed_side(value[name]) for name in ("base", "tuned")}
    facts["format"] = value.get("format")
    settings = value.get("settings")
    facts["settings"] = settings if isinstance(settings, dict) else {}
    manifest = Manifest(key=key, same=bool(value.get("same")), **facts)
    return manifest if manifest.outdated or value.get("key", key) == key else None


def parsed_side(value: dict) -> Side:
    """One checkpoint from JSON."""
    return Side(value["path"], value["label"], tuple(value.get("fingerprints", ())))


def text(value: object) -> bool:
    """Whether this is text that can be shown: without halves of characters."""
    return isinstance(value, str) and not HALF.search(value)


def count(value: object) -> bool:
    """Whether this counts something."""
    return type(value) is int and value >= 0


def texts(value: object) -> bool:
    """Whether this is a list of texts."""
    return isinstance(value, list) and all(map(text, value))


def side(value: object) -> bool:
    """Whether these are the facts of a checkpoint; its path may be no UTF-8."""
    if not (
        isinstance(value, dict) and isinstance(value.get("path"), str) and text(value.get("label"))
    ):
        return False
    return "\0" not in value["path"] and texts(value.get("fingerprints", []))


def measure_ids(value: object) -> bool:
    """Whether this is a list of measures with their versions, none of them twice."""
    return texts(value) and all(map(ID.fullmatch, value)) and len(set(value)) == len(value)


def digests(value: object) -> bool:
    """Whether this says the digest of each stored table."""
    return isinstance(value, dict) and all(
        TABLE.fullmatch(name) and text(d) for name, d in value.items()
    )


def bundles(value: object) -> bool:
    """Whether this says how many pairs each numbered bundle of a measure has."""
    return isinstance(value, dict) and all(
        ID.fullmatch(measure)
        and isinstance(counts, dict)
        and all(n.isdecimal() and count(c) for n, c in counts.items())
        for measure, counts in value.items()
    )


def head_counts(value: object) -> bool:
    """Whether this says how attention is split."""
    return isinstance(value, dict) and all(count(n) for n in value.values())


def run_labels(value: object) -> bool:
    """Whether these are labels of a run."""
    return isinstance(value, dict) and set(value) <= set(LABELS) and all(map(text, value.values()))


FIELDS: dict[str, Callable[[object], bool]] = {
    "name": text,
    "pairs": count,
    "parameters": count,
    "measures": count,
    "compacted": measure_ids,
    "tables": digests,
    "dtypes": texts,
    "base": side,
    "tuned": side,
}
OPTIONAL: dict[str, Callable[[object], bool]] = {
    "bundled": bundles,
    "heads": head_counts,
    "labels": run_labels,
    "notes": texts,
    "failure": text,
    "format": count,
}
