"""What a link, or a pin on a board, may ask of a view: values by name, each with its check."""

import math
from collections.abc import Callable

from opdviz.figures import layers as maps
from opdviz.quantities import MAPPED
from opdviz.views import filters, layers

LARGEST = 2**53  # whole numbers up to it are exact in JSON


def text(value: object) -> bool:
    """Whether this is text."""
    return isinstance(value, str)


def place(value: object) -> bool:
    """Whether this is a position in a tensor, or a number of rows."""
    return type(value) is int and 0 <= value < LARGEST


def real(value: object) -> bool:
    """Whether this is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def ranges(value: object) -> bool:
    """Whether this is text like `0-2, 9`."""
    return text(value) and filters.numbers(value) is not None


def one_of(*words: str) -> Callable[[object], bool]:
    """Whether a value is one of some words."""
    return lambda value: text(value) and value in words


CHECKS: dict[str, Callable[[object], bool]] = {
    "quantity": one_of(*MAPPED),
    "x": one_of(*MAPPED),
    "y": one_of(*MAPPED),
    "over": lambda value: value is True,
    "limits": one_of(*layers.LIMITS),
    "cells": one_of(maps.MEAN, maps.EXTREME),
    "low": real,
    "high": real,
    "tower": text,
    "block": text,
    "module": text,
    "tensors": text,
    "layers": ranges,
    "expert": ranges,
    "kinds": one_of(*filters.KINDS),
    "above": one_of("0", "1e-5"),
    "tensor": text,
    "part": text,
    "profile": one_of("energy", "moved"),
    "row": place,
    "column": place,
    "size": place,
}


def clean(state: dict) -> dict:
    """What of a kept state is known and allowed: a board may have been written by hand."""
    sound = {key: value for key, value in state.items() if key in CHECKS and CHECKS[key](value)}
    return sound | {key: float(sound[key]) for key in ("low", "high") if key in sound}
