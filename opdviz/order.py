"""Numbers with how often each occurs: counted by code, in order, and the k-th smallest of many, in
two passes: counts by leading bits say where it lies, and only what shares these is sorted.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt

LEADING_BITS = 1 << 15  # of a float32 without its sign: how many upper halves there are
Sizes = Float[np.ndarray, " n"]  # from zero on
Often = Int[np.ndarray, " n"]
Block = tuple[Sizes, Often | None]  # some numbers and how often each occurs, `None` for once


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


def histogram(
    codes: Integer[np.ndarray, " n"], often: Int[np.ndarray, " n"] | None, size: int
) -> Int[np.ndarray, " size"]:
    """How many coordinates have each code below `size`, of which each stands for `often`."""
    if often is None:
        return np.bincount(codes, minlength=size)
    counts = np.zeros(size, dtype=np.int64)
    np.add.at(counts, codes, often)
    return counts


def cuts(blocks: Callable[[], Iterable[Block]], places: list[int]) -> list[Cut]:
    """The k-th smallest of some numbers for each k from 1 on; `blocks` gives the numbers, and is
    asked twice.
    """
    counts = np.zeros(LEADING_BITS, dtype=np.int64)
    for sizes, often in blocks():
        counts += histogram(leading_bits(sizes), often, LEADING_BITS)
    bits_of_places = np.searchsorted(np.cumsum(counts), places)
    holds_a_place = np.zeros(LEADING_BITS, dtype=bool)
    holds_a_place[bits_of_places] = True
    # Of the sorted ones, how many numbers are below the first of each bits: those left out.
    left_out = np.cumsum(np.where(holds_a_place, 0, counts))[bits_of_places]
    near, often = ordered(near_a_place(blocks(), holds_a_place))
    up_to = running(near.size, often)
    values = near[np.searchsorted(up_to, places - left_out) - 1]
    first, past = (np.searchsorted(near, values, side) for side in ("left", "right"))
    return [
        Cut(float(value), int(below), int(tied))
        for value, below, tied in zip(
            values, up_to[first] + left_out, up_to[past] - up_to[first], strict=True
        )
    ]


def near_a_place(
    blocks: Iterable[Block], holds_a_place: Bool[np.ndarray, " bits"]
) -> Iterator[Block]:
    """Of some blocks the numbers whose leading bits hold a place."""
    for sizes, often in blocks:
        is_near = holds_a_place.take(leading_bits(sizes))
        yield np.compress(is_near, sizes), None if often is None else often[is_near]


def ordered(blocks: Iterable[Block]) -> Block:
    """All numbers of some blocks, rising."""
    every, often = zip(*blocks, strict=True)
    numbers = np.concatenate(every)
    if often[0] is None:
        return np.sort(numbers), None
    order = np.argsort(numbers)
    return numbers[order], np.concatenate(often)[order]


def running(size: int, often: Often | None) -> Int[np.ndarray, " n_and_one"]:
    """How many there are before each of so many numbers, and in all."""
    return np.arange(size + 1) if often is None else np.concatenate([[0], np.cumsum(often)])
