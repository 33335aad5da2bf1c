"""How the updates of several runs on one base lie to each other, coordinate by coordinate: which
both moved, in which direction, and how many runs moved each.

All runs are read side by side, a block of rows at a time, so that a tensor of any size takes the
memory of a block of each. What blind updates would share is worked out from the size of each weight
(quarter octaves), and from size and row: definitions, 7.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from opdviz import pairing
from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.records import Source, TensorInfo
from opdviz.definitions import PROBES as MASKED
from opdviz.definitions import TOP_CHANNELS
from opdviz.measures.visibility import codes, quarters, visible_masks
from opdviz.pairing import Matching
from opdviz.runs.masks import seen

# As bf16: any change at all, a visible one, one beyond a share of the larger of both weights.
PROBES = tuple((probe if threshold else "exact", threshold) for probe, threshold in MASKED)
BLOCK, FEW = 1 << 19, 16  # coordinates of a run at a time, of up to so many runs
# Quarter octaves from the least magnitude of 16 bits to the largest, and before them zero.
LEAST, SIZES = -600, 1201


@dataclass(frozen=True, slots=True)
class Tuned:
    """A run's tensor: which of the runs, where it lies, its name there."""

    run: int
    source: Source
    name: str


@dataclass(frozen=True, slots=True)
class Shared:
    """A base tensor that several runs have: its name, its checkpoint, its shape and format, and the
    runs' tensors.
    """

    name: str
    source: Source
    shape: tuple[int, ...]
    dtype: str
    tuned: tuple[Tuned, ...]

    @property
    def numel(self) -> int:
        """How many coordinates it has."""
        return math.prod(self.shape)


def shared(matchings: Sequence[Matching], *, by: int = 2) -> list[Shared]:
    """The base tensors of floats that so many runs or more have in one shape, the largest first.

    Bases of one file may be cut differently for different runs: a tensor is that of the first run
    whose base has it, and of the others that have it in this shape.
    """
    bases: dict[str, tuple[Source, TensorInfo]] = {}
    tuned: dict[str, dict[int, Tuned]] = {}
    for run, matching in enumerate(matchings):
        for pair in matching.pairs:
            name, its = pair.stored_name(pair.name), pair.stored_name(pair.tuned_name)
            info = matching.base.tensors[name]
            _, first = bases.setdefault(name, (matching.base.source, info))
            if matching.tuned.tensors[its].shape == info.shape == first.shape:
                # A stack that is cut into many pairs is read as the one tensor that it is.
                tuned.setdefault(name, {})[run] = Tuned(run, matching.tuned.source, its)
    tensors = [
        Shared(name, source, info.shape, info.dtype, tuple(tuned[name].values()))
        for name, (source, info) in bases.items()
        if len(tuned.get(name, ())) >= by
        and FORMATS[info.dtype].kind != "integer"
        and 0 not in info.shape
    ]
    return sorted(tensors, key=lambda tensor: (-tensor.numel, tensor.name))


def of_tensor(tensor: Shared, names: Sequence[str]) -> dict[str, list[dict]]:
    """Every table's rows of one tensor; `names` are those of all runs.

    Raises
        RequestError: a checkpoint cannot be read any more.
    """
    tally = Tally(len(tensor.tuned), tensor.shape)
    base = pairing.opened(tensor.source)
    runs = [(pairing.opened(tuned.source), tuned.name) for tuned in tensor.tuned]
    grid = "float16" if tensor.dtype == "float16" else "bfloat16"
    for first, last in row_blocks(tensor.shape, len(tensor.tuned)):
        weights = base.read(tensor.name, first, last)
        coarse = seen(weights, tensor.dtype)
        sizes = sizes_of(coarse, grid)
        changes, stored = [], []
        for side, name in runs:
            values = side.read(name, first, last)
            after = seen(values, side.tensors[name].dtype)
            changes.append(difference(coarse, after))
            stored.append(difference(weights, values))
        tally.add(coarse, sizes, changes, stored, first)
    return tally.tables(tensor.name, [names[tuned.run] for tuned in tensor.tuned])


def row_blocks(shape: tuple[int, ...], runs: int = 1) -> Iterator[tuple[int, int]]:
    """The rows of a tensor in blocks that take about as much memory whatever its shape: of many
    runs fewer rows at a time.
    """
    rows = shape[0] if shape else 1
    coordinates = BLOCK * FEW // max(FEW, runs)
    step = max(1, coordinates * rows // max(1, math.prod(shape)))
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def difference(base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """tuned - base of each coordinate, flat in float64; one that is not finite counts as NaN."""
    with np.errstate(invalid="ignore"):
        return tuned.astype(np.float64).ravel() - base.astype(np.float64).ravel()


def sizes_of(weights: np.ndarray, grid: str) -> np.ndarray:
    """The quarter octave of each weight's size, from 1 on; 0 is that of zero."""
    classes = codes(weights.ravel(), grid) & np.uint16(0x7FFF)
    return np.clip(quarters(grid) - LEAST, 0, SIZES - 1)[classes]


class Tally:
    """Counts over the blocks of one tensor, for all pairs of runs at once."""

    def __init__(self, runs: int, shape: tuple[int, ...]):
        self.runs, self.shape, self.numel = runs, shape, 0
        probes = len(PROBES)
        # By size of the weight: all, and those that each run moved.
        self.of_size = np.zeros(SIZES)
        self.moved = np.zeros((probes, runs, SIZES))
        # By pair: moved by both, and what sizes and rows alone would give.
        self.both, self.given_rows = np.zeros((2, probes, runs, runs))
        # By how many runs moved a coordinate.
        self.by_many = np.zeros((probes, runs + 1))
        self.opposite = np.zeros((runs, runs))
        # Of the stored updates: their products, and their energy by row and by column.
        self.products = np.zeros((runs, runs))
        rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, 1)
        self.by_row, self.by_column = np.zeros((runs, rows)), np.zeros((runs, columns))

    def add(
        self,
        weights: np.ndarray,
        sizes: np.ndarray,
        changes: list[np.ndarray],
        stored: list[np.ndarray],
        first: int,
    ) -> None:
        """Take in a block of rows, the first of them `first`: the weights as they are seen, their
        sizes, and the updates of every run as seen and as stored.
        """
        self.numel += sizes.size
        self.of_size += np.bincount(sizes, minlength=SIZES)
        cells, of_cell = self.cells(sizes)
        flat = weights.ravel().astype(np.float64)
        by_run = np.stack([visible_masks(flat, change) for change in changes])
        for at in range(len(PROBES)):
            masks = by_run[:, at]
            for run, mask in enumerate(masks):
                self.moved[at, run] += np.bincount(sizes[mask], minlength=SIZES)
            # Counts of a block are exact in float32.
            ones = masks.astype(np.float32)
            self.both[at] += ones @ ones.T
            in_cells = np.stack(
                [np.bincount(cells[mask], minlength=len(of_cell)) for mask in masks]
            )
            self.given_rows[at] += (in_cells / np.maximum(of_cell, 1)) @ in_cells.T
            self.by_many[at] += np.bincount(masks.sum(axis=0), minlength=self.runs + 1)
        up, down = (np.stack([sign(change) for change in changes]) for sign in (rises, falls))
        crossed = up @ down.T
        self.opposite += crossed + crossed.T
        self.add_stored(np.stack(stored), first)

    def cells(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cell of size and row of each coordinate, and how many each cell has; a vector is one
        row, whose cells are its sizes, and these are summed at the end.
        """
        if len(self.shape) < 2:
            return np.zeros(sizes.size, dtype=np.int64), np.array([0.0])
        occurs = np.bincount(sizes, minlength=SIZES) > 0
        kinds = np.cumsum(occurs) - 1
        row = np.arange(sizes.size) // self.shape[-1]
        cells = row * int(kinds[-1] + 1) + kinds[sizes]
        return cells, np.bincount(cells).astype(np.float64)

    def add_stored(self, stored: np.ndarray, first: int) -> None:
        """Take in the stored updates of a block, a row a run."""
        self.products += stored @ stored.T
        if len(self.shape) > 1:
            energy = stored.reshape(self.runs, -1, self.by_column.shape[1]) ** 2
            self.by_row[:, first : first + energy.shape[1]] += energy.sum(axis=2)
            self.by_column += energy.sum(axis=1)

    def tables(self, name: str, names: Sequence[str]) -> dict[str, list[dict]]:
        """Every table's rows."""
        pairs = list(combinations(range(self.runs), 2))
        where = {pair: {"tensor": name} | self.named(pair, names) for pair in pairs}
        return {
            "overlap": [
                where[pair] | {"threshold": threshold, "probe": probe} | self.overlap(at, *pair)
                for pair in pairs
                for at, (probe, threshold) in enumerate(PROBES)
            ],
            "relation": [where[pair] | self.relation(*pair) for pair in pairs],
            "consensus": [
                {"tensor": name, "threshold": threshold, "probe": probe, "numel": self.numel} | row
                for at, (probe, threshold) in enumerate(PROBES)
                for row in self.consensus(at)
            ],
        }

    @staticmethod
    def named(pair: tuple[int, int], names: Sequence[str]) -> dict[str, str]:
        """The columns that name the two runs."""
        return {"run_a": names[pair[0]], "run_b": names[pair[1]]}

    def overlap(self, at: int, a: int, b: int) -> dict:
        """Counts, shares and expectations of two masks under one probe."""
        moved = self.moved[at]
        in_a, in_b, both = (int(n) for n in (moved[a].sum(), moved[b].sum(), self.both[at, a, b]))
        given_size = float((moved[a] * moved[b] / np.maximum(self.of_size, 1)).sum())
        given_rows = float(self.given_rows[at, a, b]) if len(self.shape) > 1 else given_size
        row = {"numel": self.numel, "a": in_a, "b": in_b, "both": both}
        row |= {"chance_both": in_a * in_b / self.numel, "expected_both": given_size}
        return row | {"expected_both_rows": given_rows} | shares(row)

    def relation(self, a: int, b: int) -> dict:
        """Direction of two updates where both moved, the angle between them, and their channels."""
        both, opposite = int(self.both[0, a, b]), int(self.opposite[a, b])
        norms = self.products[a, a] * self.products[b, b]
        row = {
            "numel": self.numel,
            "both_moved": both,
            "conflict": opposite,
            "conflict_share": opposite / both if both else None,
            "conflict_chance": 0.5,
            "cosine": float(self.products[a, b] / np.sqrt(norms)) if norms > 0 else None,
            "cosine_spread": self.numel**-0.5,
        }
        for axis, energy in (("row", self.by_row), ("column", self.by_column)):
            index, chance = channels(energy[a], energy[b])
            row |= {f"{axis}_jaccard": index, f"{axis}_jaccard_chance": chance}
        return row

    def consensus(self, at: int) -> Iterator[dict]:
        """How many coordinates were moved by so many of the runs, beside what runs give that know
        nothing but the sizes of the weights: a Poisson-binomial count in each size.
        """
        chances = self.moved[at] / np.maximum(self.of_size, 1)
        by_size = np.zeros((self.runs + 1, SIZES))
        by_size[0] = 1.0
        for chance in chances:
            by_size[1:] = by_size[1:] * (1 - chance) + by_size[:-1] * chance
            by_size[0] *= 1 - chance
        expected = (by_size * self.of_size).sum(axis=1)
        for moved_by in range(self.runs + 1):
            yield {
                "runs": self.runs,
                "moved_by": moved_by,
                "count": int(self.by_many[at, moved_by]),
                "expected": float(expected[moved_by]),
            }


def rises(change: np.ndarray) -> np.ndarray:
    """1 where an update is positive."""
    return (change > 0).astype(np.float32)


def falls(change: np.ndarray) -> np.ndarray:
    """1 where an update is negative."""
    return (change < 0).astype(np.float32)


def channels(a: np.ndarray, b: np.ndarray) -> tuple[float | None, float | None]:
    """Jaccard index of the channels (rows or columns) that hold most of the energy of two updates,
    and that of random ones as many; missing where there is one channel, or an update is zero.
    """
    count = round(TOP_CHANNELS * len(a))
    if len(a) < 2 or count < 1 or not (a.any() and b.any() and np.isfinite([a, b]).all()):
        return None, None
    top_a, top_b = (set(np.argsort(-one, kind="stable")[:count].tolist()) for one in (a, b))
    share = count / len(a)
    return len(top_a & top_b) / len(top_a | top_b), share / (2 - share)


def shares(row: dict) -> dict:
    """What follows from the counts; missing where a mask is empty."""
    n, a, b, both = (row[column] for column in ("numel", "a", "b", "both"))
    p, q = a / n, b / n
    return {
        "jaccard": both / (a + b - both) if a + b else None,
        "a_in_b": both / a if a else None,
        "b_in_a": both / b if b else None,
        "jaccard_chance": p * q / (p + q - p * q) if a + b else None,
    }
