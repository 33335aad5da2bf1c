"""What a link, a pin or a command may ask of a view: values by name, each with its check."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from opdviz.figures import layers as maps
from opdviz.quantities import MAPPED, QUANTITIES
from opdviz.views import (
    filters,
    layers,
    run_curves,
    run_overlap,
    run_payload,
    run_trajectory,
    runs,
    subnetwork,
)

LARGEST = 2**53  # whole numbers up to it are exact in JSON


@dataclass(frozen=True, slots=True)
class Key:
    """A name that a state may hold: which values fit, and in words what is expected."""

    fits: Callable[[object], bool]
    expected: str


def text(value: object) -> bool:
    """Whether this is text."""
    return isinstance(value, str)


def whole(value: object) -> bool:
    """Whether this is a position in a tensor, or a number of rows."""
    return type(value) is int and 0 <= value < LARGEST


def real(value: object) -> bool:
    """Whether this is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def ranges(value: object) -> bool:
    """Whether this is text like `0-2, 9`."""
    return text(value) and filters.numbers(value) is not None


def two_places(value: object) -> bool:
    """Whether these are the places of two runs."""
    return isinstance(value, tuple | list) and all(map(whole, value)) and len(set(value)) == 2


def one_of(*words: str) -> Key:
    """One of some words."""
    return Key(lambda value: text(value) and value in words, f"one of {', '.join(words)}")


QUANTITY = Key(one_of(*MAPPED).fits, "a quantity by its name or label, as stable_rank")
TEXT, WHOLE, REAL = Key(text, "text"), Key(whole, "a whole number"), Key(real, "a number")
RANGES = Key(ranges, "ranges, as 0-2,9")
KEYS: dict[str, Key] = {
    "quantity": QUANTITY,
    "x": QUANTITY,
    "y": QUANTITY,
    "over": Key(lambda value: value is True, "true"),
    "limits": one_of(*layers.LIMITS),
    "cells": one_of(maps.MEAN, maps.EXTREME),
    "low": REAL,
    "high": REAL,
    "tower": TEXT,
    "block": TEXT,
    "module": TEXT,
    "tensors": TEXT,
    "layers": RANGES,
    "expert": RANGES,
    "kinds": one_of(*filters.KINDS),
    "above": one_of("0", "1e-5"),
    "by": one_of(*dict.fromkeys((*subnetwork.BY, *run_trajectory.BY))),
    "tensor": TEXT,
    "part": TEXT,
    "profile": one_of("energy", "moved"),
    "row": WHOLE,
    "column": WHOLE,
    "size": WHOLE,
    # Of several runs.
    "colour": one_of(*runs.COLOURS),
    "against": Key(whole, "a run by its name"),
    "curve": one_of(*run_curves.CURVES),
    "relation": one_of(*run_overlap.RELATIONS),
    "probe": one_of(*run_overlap.PROBES),
    "pair": Key(two_places, "two runs by their names, as A,B"),
    "to": one_of(*run_trajectory.TO),
    "since": one_of(*run_payload.SINCE),
}


def clean(state: dict) -> dict:
    """What of a kept state is known and allowed: a board may have been written by hand."""
    sound = {key: value for key, value in state.items() if key in KEYS and KEYS[key].fits(value)}
    return sound | {key: float(sound[key]) for key in ("low", "high") if key in sound}


def parsed(key: str, word: str, names: Iterable[str] = ()) -> object | None:
    """The value of a key that a word means; `None` where it means none. `names` are those of the
    runs.

    >>> parsed("quantity", "stable rank"), parsed("row", "64"), parsed("row", "-1")
    ('stable_rank', 64, None)
    >>> parsed("pair", "opd,sft", ["opd", "grpo", "sft"]), parsed("low", "1e-3")
    ((0, 2), 0.001)
    """
    return next((value for value in meanings(word, names) if KEYS[key].fits(value)), None)


def meanings(word: str, names: Iterable[str]) -> Iterable[object]:
    """What a word may mean: itself, a quantity by its label, a run or two, a number, a yes."""
    yield word
    yield from (name for name in MAPPED if QUANTITIES[name].label == word)
    places = {name: at for at, name in enumerate(names)}
    yield places.get(word)
    for at in (at for at, letter in enumerate(word) if letter == ","):
        yield places.get(word[:at].strip()), places.get(word[at + 1 :].strip())
    for number in (int, float):
        try:
            yield number(word)
        except ValueError:
            continue
    yield word.lower() == "true"
