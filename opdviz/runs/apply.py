"""Apply a part of an update to its base: a checkpoint in which only some of the moves are kept, to
be evaluated as any other.

A move is a coordinate whose stored code differs between base and tuned, in the tuned's format. All
of them give the tuned to the bit, none the base. Everything is read in blocks of rows, several
times over, so that a checkpoint of any size takes the memory of a block.
"""

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from opdviz import files
from opdviz.checkpoint import writing
from opdviz.checkpoint.formats import FORMATS, codes_in, promote
from opdviz.checkpoint.records import TensorInfo
from opdviz.engine.progress import Listener, Progress
from opdviz.errors import MachineError, RequestError, one_line
from opdviz.pairing import Matching
from opdviz.runs.masks import Mask
from opdviz.runs.relations import row_blocks

SIZE, STEPS, RANDOM = "size", "steps", "random"
BY = (SIZE, STEPS, RANDOM)
RECORD = "opdviz.json"  # beside the weights: what was kept
HALF = 1 << 16
# Keys by which moves are ordered: 0 for what did not move.
LEAST_KEY, LARGEST_KEY = 1, (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Mixed:
    """A tensor of the checkpoint to be written: as the tuned has it, and the base's name of it
    (`None`: the tuned's alone). `drawn_as` is the name under which moves are drawn: of a tied head
    that of the embedding.
    """

    info: TensorInfo
    base: str | None
    drawn_as: str

    @property
    def is_tied(self) -> bool:
        """Whether it repeats another tensor."""
        return self.drawn_as != self.info.name


class Choice(Protocol):
    """Which moves are kept."""

    def of(self, tensor: Mixed, first: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Whether to keep each coordinate's move of a block, flat; its codes in the base and in the
        tuned, the rows of the block begin at `first`.
        """


def mixture(matching: Matching) -> list[Mixed]:
    """The tensors of the checkpoint to be written, those that repeat another last.

    Raises
        RequestError: float8 codes, which mean something with their scales alone, or sides that are
            laid out differently.
    """
    if any(side.source.rules for side in (matching.base, matching.tuned)):
        stored = matching.rewrites[0]["name"]
        raise RequestError(
            f"apply: found {one_line(stored, limit=80)} laid out otherwise than on the other side;"
            " expected one layout, which one configuration describes. Save both by one library."
        )
    base, tuned = matching.base.tensors, matching.tuned.tensors
    names = {p.stored_name(p.tuned_name): p.stored_name(p.name) for p in matching.pairs}
    ties = {row["name"]: row["tuned_name"] for row in matching.rewrites if row["rule"] == "tie"}
    mixed = []
    for name, info in tuned.items():
        # A tied head is no pair: it is counted once, and has to be written twice.
        repeats = ties.get(name) if name not in names and ties.get(name) in names else None
        its = names.get(repeats or name)
        if its is None and name in base and base[name].shape == info.shape:
            its = name
        sides = (info.dtype, base[its].dtype) if its else ()
        if any(FORMATS[dtype].kind == "float8" for dtype in sides):
            raise RequestError(
                f"apply: found {one_line(name, limit=80)} in float8, whose codes mean something"
                " with their scales alone; expected float32, bfloat16 or float16."
            )
        mixed.append(Mixed(info, its, repeats or name))
    return sorted(mixed, key=lambda tensor: tensor.is_tied)


@dataclass
class Moves:
    """How many weights there are of which base and tuned both have one, how many of them moved, and
    how many of these moves were kept.
    """

    numel: int = 0
    moved: int = 0
    kept: int = 0


@dataclass(frozen=True)
class ByMask:
    """The moves inside a mask; a tensor that it does not name keeps none."""

    mask: Mask

    def of(self, tensor: Mixed, first: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """See `Choice`."""
        if tensor.base not in self.mask.tensors:
            return np.zeros(before.size, dtype=bool)
        row = math.prod(tensor.info.shape[1:])
        return self.mask.part(tensor.base, first * row, before.size)


def fitting(mask: Mask, matching: Matching) -> ByMask:
    """A mask that fits the base.

    Raises
        RequestError: it names a tensor that the base has not, or has in another shape.
    """
    for name, entry in mask.tensors.items():
        info = matching.base.tensors.get(name)
        if info is None or info.shape != entry.shape:
            here = "no such tensor" if info is None else f"shape {info.shape}"
            raise RequestError(
                f"apply --mask {one_line(mask.label, limit=60)}: found {here} for"
                f" {one_line(name, limit=80)} in the base; expected {entry.shape}. Is it the mask"
                " of another model?"
            )
    return ByMask(mask)


class Everything:
    """All moves, or none."""

    def __init__(self, keep: bool):
        self.keep = keep

    def of(self, tensor: Mixed, first: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """See `Choice`."""
        return np.full(before.size, self.keep)


class Top:
    """The largest moves by a key, so many of them exactly: of those at the threshold, which in 16
    bits are many, as many as there is room for, spread evenly over the tensors and drawn by lot.
    """

    def __init__(self, threshold: int, room: int, tied: int, by: str, seed: int):
        self.threshold, self.room, self.tied = threshold, room, tied
        self.by, self.seed = by, seed
        self.passed = 0
        self.starts: dict[str, int] = {}

    def of(self, tensor: Mixed, first: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """See `Choice`; blocks are asked for in their order, tensors that repeat another last."""
        if not first:
            self.passed = self.starts.setdefault(tensor.drawn_as, self.passed)
        key = keys(self.by, before, after, tensor, first, self.seed)
        keep = key > self.threshold
        at = np.flatnonzero(key == self.threshold)
        if len(at):
            # In whole numbers: the shares of all blocks come to the room exactly.
            end = self.passed + len(at)
            places = self.room * end // self.tied - self.room * self.passed // self.tied
            lot = generator(self.seed + 1, tensor.drawn_as, first)
            keep[lot.permutation(at)[:places]] = True
            self.passed = end
        return keep


def generator(seed: int, name: str, first: int) -> np.random.Generator:
    """Random numbers of a block of a tensor, the same whatever was drawn before."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), first])


def keys(
    by: str, before: np.ndarray, after: np.ndarray, tensor: Mixed, first: int, seed: int
) -> np.ndarray:
    """Numbers of 32 bits by which moves are ordered, 0 where nothing moved.

    By size these are the bits of |D| as float32, which ascend as it does; what is not finite is
    largest. By steps, how many numbers of the format lie between.
    """
    moved = before != after
    dtype = tensor.info.dtype
    if by == RANDOM:
        lot = generator(seed, tensor.drawn_as, first)
        key = lot.integers(LEAST_KEY, LARGEST_KEY, size=before.size, dtype=np.uint32, endpoint=True)
    elif by == STEPS:
        key = np.minimum(distance(before, after), LARGEST_KEY).astype(np.uint32)
    else:
        sides = (
            promote(stored(codes, dtype), dtype).astype(np.float64) for codes in (after, before)
        )
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            size = np.abs(np.subtract(*sides)).astype(np.float32)
        key = np.where(np.isnan(size), np.float32(np.inf), size).view(np.uint32)
    return np.where(moved, np.maximum(key, LEAST_KEY), 0)


def stored(codes: np.ndarray, dtype: str) -> np.ndarray:
    """Codes as `promote` takes them."""
    return codes if dtype == "bfloat16" else codes.view(dtype)


def distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How many numbers of their format lie from one code to the other, as uint64."""
    bits = 8 * before.itemsize
    sides = []
    for codes in (before, after):
        size = (codes & codes.dtype.type((1 << (bits - 1)) - 1)).astype(np.uint64)
        sides.append((size, (codes >> codes.dtype.type(bits - 1)).astype(bool)))
    (a, minus_a), (b, minus_b) = sides
    apart = np.maximum(a, b) - np.minimum(a, b)
    return np.where(minus_a == minus_b, apart, a + b)


def top(
    matching: Matching, tensors: list[Mixed], share: float, by: str, seed: int, listener: Listener
) -> Choice:
    """The largest `share` of the moves, from 0 to 1.

    Two counts by halves of the key find the threshold exactly, whatever the size of the model.
    """
    if share in (0.0, 1.0):
        return Everything(keep=share == 1.0)
    counted = [tensor for tensor in tensors if is_counted(matching, tensor)]
    progress = Progress("counting the moves", 2.0 * sum(one.info.numel for one in counted))

    def counts(half: int | None) -> np.ndarray:
        total = np.zeros(HALF, dtype=np.int64)
        for tensor in counted:
            for first, before, after in code_blocks(matching, tensor):
                key = keys(by, before, after, tensor, first, seed)
                high = key >> np.uint32(16)
                chosen_bits = high if half is None else key[high == half] & np.uint32(HALF - 1)
                total += np.bincount(chosen_bits, minlength=HALF)
                if half is None:
                    total[0] -= np.count_nonzero(key == 0)
                progress.advance(before.size)
                listener(progress)
        return total

    high_counts = counts(None)
    moves = int(high_counts.sum())
    keep = round(share * moves)
    if keep in (0, moves):
        return Everything(keep=keep == moves)
    half, above = class_of(high_counts, keep)
    low_counts = counts(half)
    if half == 0:
        low_counts[0] = 0  # what did not move
    low, above_in_class = class_of(low_counts, keep - above)
    room = keep - above - above_in_class
    return Top((half << 16) | low, room, int(low_counts[low]), by, seed)


def class_of(counts: np.ndarray, place: int) -> tuple[int, int]:
    """The class in which the place-th largest lies, and how many are in larger classes."""
    from_above = counts[::-1].cumsum()[::-1]
    at = int(np.flatnonzero(from_above >= place)[-1])
    return at, int(from_above[at] - counts[at])


def is_counted(matching: Matching, tensor: Mixed) -> bool:
    """Whether a tensor's moves count: weights that the base has, once each."""
    return (
        tensor.base is not None
        and not tensor.is_tied
        and FORMATS[tensor.info.dtype].kind != "integer"
    )


def code_blocks(matching: Matching, tensor: Mixed) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The first row of each block of a tensor, and its codes in the base and in the tuned, flat."""
    target = tensor.info.dtype
    for first, last in row_blocks(tensor.info.shape):
        raw, info = matching.base.read_raw(tensor.base, first, last)
        after, _ = matching.tuned.read_raw(tensor.info.name, first, last)
        before = codes_in(target, raw, info.dtype).ravel()
        yield first, before, codes_in(target, after, target).ravel()


def mixed_blocks(
    matching: Matching, tensor: Mixed, choice: Choice, moves: Moves
) -> Iterator[np.ndarray]:
    """The codes of a tensor to be written: the tuned's where its move is kept, else the base's.

    What the tuned alone has is the tuned's. Whole numbers are no weights: all of them are the
    base's, unless every move is kept.
    """
    if tensor.base is None:
        for first, last in row_blocks(tensor.info.shape):
            raw, _ = matching.tuned.read_raw(tensor.info.name, first, last)
            yield codes_in(tensor.info.dtype, raw, tensor.info.dtype)
        return
    counted = is_counted(matching, tensor)
    whole_numbers = FORMATS[tensor.info.dtype].kind == "integer"
    for first, before, after in code_blocks(matching, tensor):
        chooser = Everything(keep=False) if whole_numbers and not all_of(choice) else choice
        keep = chooser.of(tensor, first, before, after)
        if counted:
            moved = before != after
            moves.numel += moved.size
            moves.moved += int(np.count_nonzero(moved))
            moves.kept += int(np.count_nonzero(moved & keep))
        yield np.where(keep, after, before)


def all_of(choice: Choice) -> bool:
    """Whether every move is kept."""
    return isinstance(choice, Everything) and choice.keep


def write(
    matching: Matching,
    tensors: list[Mixed],
    choice: Choice,
    out: Path,
    facts: dict[str, object],
    listener: Listener,
) -> Moves:
    """Write the checkpoint into a new folder, with what stands beside the tuned's weights, and
    `facts` of how it was made; what was kept.

    Raises
        MachineError: the disk is full; nothing half-written stays.
    """
    by_name = {tensor.info.name: tensor for tensor in tensors}
    moves = Moves()
    progress = Progress("writing the weights", float(sum(one.info.numel for one in tensors)))

    def blocks(info: TensorInfo) -> Iterator[np.ndarray]:
        for codes in mixed_blocks(matching, by_name[info.name], choice, moves):
            yield codes
            progress.advance(codes.size)
            progress.current = info.name
            listener(progress)

    # An adapter says nothing of the model that it makes: the base's configuration does.
    source = (matching.tuned.source.over or matching.tuned.source).path
    try:
        with files.new_folder(out) as folder:
            writing.copy_beside(source if source.is_dir() else source.parent, folder)
            writing.write(folder, [tensor.info for tensor in tensors], blocks)
            (folder / RECORD).write_text(json.dumps(facts | asdict(moves), indent=1))
    except OSError as error:
        raise MachineError(
            f"apply --out {one_line(out)}: {error.strerror or error}; nothing half-written stays."
        ) from None
    return moves
