"""The counts of coordinates on a device, through torch: what `nulls.count_classes` and
`masks.tally_of` count, in blocks of millions, to the same whole numbers.

Codes, places and probes are those of `visibility`, bit for bit: comparisons and additions of
float32 are the same everywhere. To import this is to have it used for pairs of a device.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from opdviz.checkpoint.formats import FORMATS
from opdviz.definitions import PROBES, SIXTEEN_BITS
from opdviz.linalg import Decomposition
from opdviz.linalg.accelerator import Accelerated, here, or_here
from opdviz.linalg.reconstruction import Ties
from opdviz.measures import masks, nulls
from opdviz.measures.masks import MEMBERSHIPS, Classing, Tally
from opdviz.measures.visibility import BETWEEN, EDGES, FLAGS, PLACES, SIGN_WIDE, below

FRACTION, EXPONENT = 0x7FFFFF, 0xFF  # of a float32: its fraction bits, and its exponent's


class Block(NamedTuple):
    """Some coordinates of a pair, flat and finite: the base before any rounding, both sides as they
    are compared, and where the first of them stands in the tensor.
    """

    origin: torch.Tensor
    base: torch.Tensor
    tuned: torch.Tensor
    first: int


def count_classes(
    work: Accelerated, precision: str, scheme: str, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates of each class of a scheme, (size,), and of each class and set of probes that
    see them, (size, FLAGS), of those that moved.
    """
    device = work.device.torch
    count = torch.zeros(size, dtype=torch.int64, device=device)
    by_flags = torch.zeros(size * FLAGS, dtype=torch.int64, device=device)
    for block in blocks(work, precision):
        code, moved = classes_of(block, scheme), block.base != block.tuned
        count += torch.bincount(code, minlength=size)
        joint = code[moved] * FLAGS + visible_flags(block.base[moved], block.tuned[moved])
        by_flags += torch.bincount(joint, minlength=size * FLAGS)
    return here(count), here(by_flags).reshape(size, FLAGS)


def tally_of(
    work: Accelerated,
    precision: str,
    classes: Classing,
    members: np.ndarray,
    tied: dict[float, Ties],
) -> tuple[Tally, dict[float, np.ndarray]]:
    """The coordinates of a finite pair by class and by the masks that hold them, and by share the
    rows of the tally for those at its cut.
    """
    device, size = work.device.torch, classes.size
    of_class = torch.tensor(classes.of_class.astype(np.int64), device=device)
    holders = torch.tensor(members, device=device)
    ties = {share: torch.tensor(at, device=device) for share, (at, _) in tied.items()}
    at_the_cut: dict[float, list[np.ndarray]] = {share: [] for share in tied}
    counts = torch.zeros(size * MEMBERSHIPS, dtype=torch.int64, device=device)
    for block in blocks(work, precision):
        numbers = of_class[classes_of(block, classes.scheme)]
        if classes.scheme not in SIXTEEN_BITS:
            numbers += FLAGS * levels(block.base.abs(), classes.thresholds)
        numbers += visible_flags(block.base, block.tuned)
        past = block.first + numbers.numel()
        joint = numbers * MEMBERSHIPS + holders[block.first : past]
        counts += torch.bincount(joint, minlength=counts.numel())
        for share, at in ties.items():
            places = at[(at >= block.first) & (at < past)] - block.first
            at_the_cut[share].append(here(numbers[places]))
    tally = Tally(size)
    by_class = counts.reshape(size, MEMBERSHIPS)
    used = torch.nonzero(by_class.any(dim=1)).reshape(-1)
    tally.take(here(used), here(by_class[used]))
    rows = {share: tally.rows(np.concatenate(n)) for share, n in at_the_cut.items()}
    return tally, rows


def blocks(work: Accelerated, precision: str) -> Iterator[Block]:
    """All finite coordinates of a pair, as many at a time as there is room for; `bfloat16` rounds
    both sides first.
    """
    base, tuned = (side.reshape(-1) for side in work.stored_there)
    origin = base if work.origin is work.base else work.device.put(work.origin).reshape(-1)
    for first in range(0, base.numel(), work.device.block):
        part = slice(first, first + work.device.block)
        values, w, t = (wide(side[part]) for side in (origin, base, tuned))
        if work.nonfinite:
            finite = torch.isfinite(w) & torch.isfinite(t)
            values, w, t = values[finite], w[finite], t[finite]
        if precision == "bfloat16":
            # By way of float32, as the CPU rounds float64.
            w, t = (side.to(torch.float32).to(torch.bfloat16).to(torch.float32) for side in (w, t))
        yield Block(values, w, t, first)


def wide(values: torch.Tensor) -> torch.Tensor:
    """Sixteen-bit numbers as float32, others as they are."""
    return values.to(torch.float32) if values.element_size() == 2 else values


def classes_of(block: Block, scheme: str) -> torch.Tensor:
    """As `visibility.codes`, of the base as `nulls.classes_of` takes it."""
    if scheme.endswith(BETWEEN):
        grid = scheme.removesuffix(BETWEEN)
        return quarter_codes(block.origin) * PLACES + places(block.origin, grid)
    if scheme == "float16":
        return block.base.to(torch.float16).view(torch.int16).to(torch.int64) & 0xFFFF
    if scheme == "bfloat16":
        return (bits_of(block.base) >> 16) & 0xFFFF
    return quarter_codes(block.base)


def bits_of(values: torch.Tensor) -> torch.Tensor:
    """The bits of each value as a float32, as whole numbers that are not negative."""
    return values.to(torch.float32).contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF


def quarter_codes(values: torch.Tensor) -> torch.Tensor:
    """As `visibility.quarter_codes`."""
    bits = bits_of(values)
    quarter = ((bits >> 23) & EXPONENT) * 4
    for edge in EDGES:
        quarter += (bits & FRACTION) >= int(np.ceil(edge))
    return quarter + (bits >> 31) * SIGN_WIDE


def places(values: torch.Tensor, grid: str) -> torch.Tensor:
    """As `visibility.places`."""
    if grid == "bfloat16" and values.dtype == torch.float32:
        return (bits_of(values) >> 11) & (PLACES - 1)
    form, size = FORMATS[grid], values.abs().to(torch.float64)
    exponent = torch.frexp(size).exponent.to(torch.int64) - 1
    exponent = torch.where(size == 0, form.least, exponent.clamp(min=form.least))
    steps = torch.ldexp(size, form.mantissa - exponent)
    return (PLACES * (steps - steps.floor())).to(torch.int64)


def visible_flags(w: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """As `nulls.visible_flags`, of all: none where nothing moved."""
    d = t - w
    if not torch.isfinite(d).all():
        d = t.to(torch.float64) - w.to(torch.float64)
    size, dtype = d.abs(), np.dtype(str(d.dtype).removeprefix("torch."))
    flags = torch.zeros(d.numel(), dtype=torch.int64, device=d.device)
    for bit, (probe, threshold) in enumerate(PROBES):
        if probe == "absolute":
            visible = size > float(below(threshold, dtype))
        else:
            visible = size > threshold * torch.maximum(w.abs(), (w + d).abs())
        flags += visible.to(torch.int64) << bit
    return flags


def levels(sizes: torch.Tensor, thresholds: np.ndarray) -> torch.Tensor:
    """As `masks.level_of`."""
    level = torch.zeros(sizes.numel(), dtype=torch.int64, device=sizes.device)
    for threshold in thresholds.tolist():
        level += sizes >= threshold
        level += sizes > threshold
    return level


for counts, on_device in ((nulls.count_classes, count_classes), (masks.tally_of, tally_of)):
    counts.register(Accelerated, or_here(on_device, counts.dispatch(Decomposition)))
