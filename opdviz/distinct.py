"""The coordinates of two sides of 16 bits by their values: each pair of values once, with how often
it occurs.

A matrix of millions holds a few ten thousand such pairs. What values alone decide - norms, probes,
steps, size classes - is asked of each of them once, and the coordinates are only counted.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Int, UInt

from opdviz.checkpoint.formats import Promoted
from opdviz.chunks import CHUNK, KEPT, Chunk, Coded, Side, are_coded, chunks, row_blocks

# Groups of rows by norm, of as many weights each: rows of unlike scale pooled would look like a
# slope.
STRATA, STRATUM = 16, 1 << 15
# Coordinates that are sorted at a time: more would take memory, and a tenth less time.
SORTED = 1 << 20
FEW = 4  # coordinates a pair, at least, for which to count them pays
Keys = UInt[np.ndarray, " pairs"]  # 32 bits: the codes of both sides
Often = Int[np.ndarray, " pairs"]
Tally = tuple[Keys, Often]


class Values:
    """The values of a pair as stored, by strata: groups of a matrix's rows by the base's norm."""

    def __init__(self, base: Side, tuned: Side):
        is_matrix = base.ndim == 2
        self.base, self.tuned = (s if is_matrix else s.reshape(1, -1) for s in (base, tuned))

    @cached_property
    def strata(self) -> list[Int[np.ndarray, " rows"]]:
        """The rows of each stratum, those of the least norm first."""
        m, n = self.base.shape
        groups = min(STRATA, max(1, m * n // STRATUM), max(1, m))
        if groups == 1:
            return [np.arange(m)]
        blocks = (self.base[rows] for rows in row_blocks(m, n))
        squares = np.concatenate([np.einsum("ij,ij->i", w, w) for w in blocks])
        rank = np.argsort(np.argsort(squares, kind="stable"), kind="stable")
        return [np.flatnonzero(rank * groups // m == group) for group in range(groups)]

    @cached_property
    def held(self) -> list[Tally] | None:
        """The pairs of values of each stratum; `None` where the sides are not of 16 bits, or so
        unlike that many coordinates are a pair of their own.
        """
        if not are_coded(self.base, self.tuned):
            return None
        # A stratum tells what the others are like: of unlike sides only the first is sorted.
        most_of_stratum = self.base.size // FEW // len(self.strata)
        tallies, pairs = [], 0
        for rows in self.strata:
            tallies.append(self.tally(rows))
            of_stratum = tallies[-1][0].size
            pairs += of_stratum
            if of_stratum > most_of_stratum or pairs > KEPT:
                return None
        return tallies

    @cached_property
    def every(self) -> list[Chunk] | None:
        """All of them, where they are held."""
        return self.held and list(chunks_of(merged(self.held), self.base.form))

    def of_strata(self) -> Iterator[Iterable[Chunk]]:
        """The values of each stratum; one by one where they are not held."""
        if self.held:
            yield from (chunks_of(one, self.base.form) for one in self.held)
            return
        for rows in self.strata:
            base, tuned = (side[rows] for side in (self.base, self.tuned))
            yield chunks(base, base, tuned, finite=True, coarse=False)

    def tally(self, rows: Int[np.ndarray, " rows"]) -> Tally:
        """The pairs of some rows."""
        size = max(1, SORTED // max(1, self.base.shape[1]))
        tallies = []
        for first in range(0, max(1, rows.size), size):
            part = rows[first : first + size]
            tallies.append(tally(self.base.part(part).codes, self.tuned.part(part).codes))
        return merged(tallies)


def tally(base: UInt[np.ndarray, "..."], tuned: UInt[np.ndarray, "..."]) -> Tally:
    """The distinct pairs of some codes, and how often each occurs."""
    # Of all, not of those that moved alone: to gather these takes as long as to sort the rest.
    both = np.empty((base.size, 2), dtype=np.uint16)
    both[:, 0], both[:, 1] = base.reshape(-1), tuned.reshape(-1)
    keys = both.reshape(-1).view(np.uint32)
    keys.sort()
    starts = starts_of_runs(keys)
    return keys[starts], np.diff(starts, append=keys.size)


def merged(tallies: list[Tally]) -> Tally:
    """Several tallies as one."""
    if len(tallies) == 1:
        return tallies[0]
    keys, often = (np.concatenate(each) for each in zip(*tallies, strict=True))
    order = np.argsort(keys)
    keys = keys[order]
    starts = starts_of_runs(keys)
    return keys[starts], np.add.reduceat(often[order], starts)


def starts_of_runs(ordered: Keys) -> Int[np.ndarray, " runs"]:
    """Where the runs of equal keys begin."""
    is_start = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_start[1:])
    return np.flatnonzero(is_start)


def chunks_of(held: Tally, form: str) -> Iterator[Chunk]:
    """The pairs of a tally that are finite on both sides, as chunks."""
    keys, often = held
    for first in range(0, keys.size, CHUNK):
        part = slice(first, first + CHUNK)
        codes = keys[part].view(np.uint16).reshape(-1, 2).T
        base, tuned = (Promoted.of_codes(np.ascontiguousarray(side), form) for side in codes)
        is_finite = base.is_finite & tuned.is_finite
        yield Coded(base.part(is_finite), tuned.part(is_finite), often[part][is_finite])
