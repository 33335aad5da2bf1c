"""A checkpoint whose tensors are cut as another's are: a fused projection as its parts, a stack of
experts as a tensor each, a vocabulary without the rows that the other has not.

Nothing is copied: a cut says which rows of which stored tensor make a tensor, and is made when it
is read.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.records import Source, TensorInfo

EXPERT = "{}"  # in a tail: the number of an expert
NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


class Rule(NamedTuple):
    """How every tensor is cut whose name is `start`, with any numbers for `#`, and `tail`: into
    tensors whose names end in `tails`.

    Its rows come in `groups` (0: each as small as can be), each divided among the tails by
    `shares`. `stacked`: the first axis counts experts, each of them cut so. `flipped`: of the
    other axes inputs come before outputs. `keep`: that many rows alone are kept, where not 0.
    """

    start: str
    tail: str
    tails: tuple[str, ...]
    shares: tuple[int, ...] = (1,)
    groups: int = 1
    stacked: bool = False
    flipped: bool = False
    keep: int = 0

    def fits(self, name: str) -> bool:
        """Whether a tensor of this name is cut by it."""
        return name.endswith(self.tail) and numberless(name[: -len(self.tail)]) == self.start

    @property
    def kind(self) -> str:
        """What it does, as the table `rewrites` calls it."""
        if self.keep:
            return "rows"
        if self.stacked:
            return "stack"
        return "split" if len(self.tails) > 1 else "transpose"


class Cut(NamedTuple):
    """Rows `begin` to `end` of each of a stored tensor's groups of `height` rows: of one expert of
    a stack, and with its last two axes flipped, where so said.
    """

    stored: str
    begin: int
    end: int
    height: int
    groups: int
    expert: int | None
    flipped: bool

    def read(self, read: Callable[..., np.ndarray], first: int, last: int | None) -> np.ndarray:
        """Rows `first` to `last` of what the cut makes, by a function that reads stored rows."""
        width = self.end - self.begin
        last = self.groups * width if last is None else last
        if self.expert is not None or self.flipped:
            return self.grouped(self.matrix(read))[first:last]
        if self.groups == 1:
            return read(self.stored, self.begin + first, self.begin + last)
        # Whole groups, and no others: a large tensor may be asked for by blocks of its rows.
        lowest, highest = first // width, -(-last // width)
        rows = self.grouped(read(self.stored, lowest * self.height, highest * self.height))
        return rows[first - lowest * width : last - lowest * width]

    def matrix(self, read: Callable[..., np.ndarray]) -> np.ndarray:
        """What the groups are of: all of it, one expert, the last two axes flipped."""
        rows = () if self.expert is None else (self.expert, self.expert + 1)
        whole = read(self.stored, *rows)
        if self.expert is not None:
            whole = whole[0]
        return np.swapaxes(whole, -1, -2) if self.flipped else whole

    def grouped(self, rows: np.ndarray) -> np.ndarray:
        """Of whole groups of rows those of the cut."""
        rest = rows.shape[1:]
        groups = rows.reshape(len(rows) // self.height, self.height, *rest)
        return np.ascontiguousarray(groups[:, self.begin : self.end].reshape(-1, *rest))


@dataclass
class Rewritten(Checkpoint):
    """A checkpoint under rules: `cuts` by the name of each tensor that is one."""

    inner: Checkpoint | None = None
    rules: tuple[Rule, ...] = ()
    cuts: dict[str, Cut] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """What it can be opened from again."""
        return self.inner.source._replace(rules=self.rules)

    def read(self, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """Rows of a tensor, promoted (`Checkpoint.read`)."""
        if (cut := self.cuts.get(name)) is None:
            return self.inner.read(name, first, last)
        return cut.read(self.inner.read, first, last)

    def read_raw(
        self, name: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, TensorInfo]:
        """The same rows as they are stored (`Checkpoint.read_raw`)."""
        if (cut := self.cuts.get(name)) is None:
            return self.inner.read_raw(name, first, last)

        def stored(*place) -> np.ndarray:
            return self.inner.read_raw(*place)[0]

        return cut.read(stored, first, last), self.tensors[name]

    def scale_name(self, name: str) -> str | None:
        """The scale that belongs to the stored tensor."""
        return self.inner.scale_name(self.stored(name))

    def scale_fits(self, name: str) -> bool:
        """Whether the stored tensor has a scale that fits."""
        return self.inner.scale_fits(self.stored(name))

    def stored(self, name: str) -> str:
        """The name in the file of what a tensor is cut from."""
        return self.cuts[name].stored if name in self.cuts else name

    def factors(self, name: str, at: int | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """The factors of an adapter's update: of a vocabulary with fewer rows, those of these."""
        cut = self.cuts.get(name)
        if cut is None:
            return self.inner.factors(name, at)
        if cut.groups > 1 or cut.expert is not None or cut.flipped:
            return None
        factors = self.inner.factors(cut.stored)
        return factors and (factors[0][cut.begin : cut.end], factors[1])


def presented(inner: Checkpoint, rules: tuple[Rule, ...]) -> Checkpoint:
    """A checkpoint under rules; itself where there are none."""
    if not rules:
        return inner
    tails = tuple(rule.tail for rule in rules)
    tensors, cuts = {}, {}
    for name, info in inner.tensors.items():
        rule = next((r for r in rules if r.fits(name)), None) if name.endswith(tails) else None
        pieces = list(pieces_of(info, rule)) if rule else []
        if not pieces:
            tensors[name] = info
        for piece, cut in pieces:
            tensors[piece.name], cuts[piece.name] = piece, cut
    facts = (inner.path, inner.files, tensors, inner.notes, inner.aliases, inner.config, inner.word)
    return Rewritten(*facts, inner=inner, rules=rules, cuts=cuts)


def numberless(name: str) -> str:
    """A name with `#` for the numbers in it: one for all layers.

    >>> numberless("model.layers.12.mlp.")
    'model.layers.#.mlp.'
    """
    return NUMBER.sub("#", name)


def pieces_of(info: TensorInfo, rule: Rule) -> Iterator[tuple[TensorInfo, Cut]]:
    """The tensors that a stored one is cut into; none where its rows cannot be divided so."""
    start = info.name[: len(info.name) - len(rule.tail)]
    shape = info.shape[1:] if rule.stacked else info.shape
    if rule.flipped:
        shape = (*shape[:-2], shape[-1], shape[-2])
    total = sum(rule.shares)
    if not shape or shape[0] % (total * max(1, rule.groups)):
        return
    groups = rule.groups or shape[0] // total
    unit = shape[0] // (groups * total)
    for expert in range(info.shape[0]) if rule.stacked else (None,):
        begin = 0
        for tail, share in zip(rule.tails, rule.shares, strict=True):
            end = begin + share * unit
            if rule.keep:
                end = min(end, rule.keep)
            name = start + (tail if expert is None else tail.replace(EXPERT, str(expert), 1))
            cut = Cut(info.name, begin, end, shape[0] // groups, groups, expert, rule.flipped)
            yield info._replace(name=name, shape=(groups * (end - begin), *shape[1:])), cut
            begin = end


def reduced(counts: list[int]) -> tuple[int, ...]:
    """Counts in their least proportion.

    >>> reduced([64, 32, 32])
    (2, 1, 1)
    """
    divisor = math.gcd(*counts) or 1
    return tuple(count // divisor for count in counts)
