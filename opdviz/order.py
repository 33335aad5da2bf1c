"""The k-th smallest of many numbers, in two passes: counts by leading bits say where it lies, and
only what shares its leading bits is sorted.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt

LEADING_BITS = 1 << 15  # of a float32 without its sign: how many upper halves there are
Sizes = Float[np.ndarray, " n"]  # from zero on


class Cut(NamedTuple):
    """The k-th smallest of some numbers, how many are below it and how many tie with it."""

    value: float
    below: int
    tied: int


def places_of(share: float, numel: int) -> int:
    """How many coordinates a share is: at least one."""
    return max(1, math.ceil(share * numel))


def leading_bits(sizes: Float[np.ndarray, "*n"]) -> UInt[np.ndarray, "*n"]:
    """The upper half of each number from zero on as a float32, which rises with it."""
    with np.errstate(over="ignore"):  # what is beyond a float32 has the bits of infinity
        single = sizes.astype(np.float32, copy=False)
    return (single.view(np.uint32) >> 16).astype(np.uint16)


def cuts(blocks: Callable[[], Iterable[Sizes]], places: list[int]) -> list[Cut]:
    """The k-th smallest of some numbers for each k from 1 on; `blocks` gives the numbers, and is
    asked twice.
    """
    counts = np.zeros(LEADING_BITS, dtype=np.int64)
    for sizes in blocks():
        counts += np.bincount(leading_bits(sizes), minlength=LEADING_BITS)
    bits_of_places = np.searchsorted(np.cumsum(counts), places)
    holds_a_place = np.zeros(LEADING_BITS, dtype=bool)
    holds_a_place[bits_of_places] = True
    near = np.sort(
        np.concatenate(
            [np.compress(holds_a_place.take(leading_bits(sizes)), sizes) for sizes in blocks()]
        )
    )
    # Of the sorted ones, how many numbers are below the first of each bits: those not kept.
    left_out = np.cumsum(np.where(holds_a_place, 0, counts))[bits_of_places]
    values = near[places - left_out - 1]
    first, past = (np.searchsorted(near, values, side) for side in ("left", "right"))
    return [
        Cut(float(value), int(below), int(tied))
        for value, below, tied in zip(values, first + left_out, past - first, strict=True)
    ]
