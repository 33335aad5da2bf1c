"""Were weights kept in a finer copy and cast, or updated in 16 bits (definitions, 8)? What moved
octave by octave of |W|, beside what the displacements of small weights would move there.

Small weights have a fine grid, so their displacements are known; passed through the coarser grid of
a larger weight they say what would be visible there. Steps that were themselves rounded away leave
nothing above one octave, whatever small weights did.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int

from opdviz.checkpoint.formats import FORMATS
from opdviz.chunks import looked_up, row_blocks
from opdviz.definitions import SIXTEEN_BITS
from opdviz.linalg import Decomposition
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.pairing import Pair

NAME = "octaves"
VERSION = 1
NEEDS = "floats"
TABLES = {
    "octaves": {
        "name": str,
        "octave": int,
        "grid": str,
        "count": int,
        "moved": int,
        "predicted_moves": float,
        "reference": int,
    },
    "skipped": SKIPPED,
}
# Groups of rows by norm, of as many weights each: rows of unlike scale pooled would look like a
# slope.
STRATA, STRATUM = 16, 1 << 15
# Small weights of a stratum from which its displacements are taken at all, and that are enough: the
# grid of larger ones, a quarter of the target's, moves a share in a tail by a third. Few are no
# bias, and their noise is in the error of what is pooled.
FEWEST, ENOUGH = 25, 1_000
# Octaves between a weight and the small ones that speak for it: a grid of a quarter or finer, so
# that their own rounding hardly counts.
BELOW = 3
OCTAVES = 64  # below the largest weight that are told apart; the rest is as good as zero
BIAS = 127  # of a float32's exponent


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of `octaves`, or the reason why the tensor has none."""
    if reason := refusal(pair, work):
        return {"skipped": [skipped(pair, NAME, reason)]}
    counts = counted(work)
    table = [
        {"name": pair.name, "octave": octave, "grid": work.form} | row
        for octave in range(counts.lowest + BELOW + 1, counts.lowest + OCTAVES)
        if (row := one_octave(counts, octave)) is not None
    ]
    if not table:
        reason = f"no octave has {FEWEST} weights of a stratum {BELOW} octaves below it"
        return {"skipped": [skipped(pair, NAME, reason)]}
    return {"octaves": table}


def refusal(pair: Pair, work: Decomposition) -> str | None:
    """Why nothing can be said of a tensor; `None` where it can."""
    if pair.float8:
        return "the steps of float8 differ by scale block"
    if work.form not in SIXTEEN_BITS:
        return f"stored in {work.form}: no step is rounded away"
    if work.off_grid:
        return "the base is stored finer than the tuned: where its weights stood is rounded"
    if not pair.is_matrix or pair.place.block == "embedding":
        return "not a matrix whose rows all learn: norms, biases and embeddings have no power"
    return f"{work.nonfinite:,} coordinates are NaN or infinite" if work.nonfinite else None


@dataclass(frozen=True)
class Counts:
    """Weights of a matrix by stratum and octave, octaves counted from `lowest`: all, those between
    powers of two and how many of these moved; and the moved ones by octave of the weight and of
    the displacement, apart where that is a power of two itself.
    """

    form: str
    lowest: int
    every: Int[np.ndarray, "strata octaves"]
    between: Int[np.ndarray, "strata octaves"]
    moved: Int[np.ndarray, "strata octaves"]
    displaced: Int[np.ndarray, "strata octaves sizes 2"]

    @cached_property
    def small(self) -> Int[np.ndarray, "strata octaves"]:
        """Weights up to each octave; without the lowest, which also holds zeros."""
        return np.cumsum(self.every * (np.arange(OCTAVES) > 0), axis=1)

    @cached_property
    def displacements(self) -> Int[np.ndarray, "strata octaves sizes 2"]:
        """How far these moved."""
        above = np.arange(OCTAVES)[:, None, None] > 0
        return np.cumsum(self.displaced * above, axis=1)

    @cached_property
    def finest(self) -> Int[np.ndarray, " strata"]:
        """The octave up to which a stratum has weights enough: larger ones only add the rounding of
        their own grid.
        """
        return np.argmax(self.small >= np.minimum(ENOUGH, self.small[:, -1:]), axis=1)


def counted(work: Decomposition) -> Counts:
    """One pass over the rows of a matrix on a grid of 16 bits."""
    strata = row_strata(work)
    mantissa = FORMATS[work.form].mantissa
    lowest = max(largest_octave(work) - OCTAVES, -BIAS) + 1
    shape = (int(strata.max()) + 1, OCTAVES, 2)
    # Displacements count from half a grid step of the lowest octave, which is as far below it.
    sizes = (OCTAVES + mantissa + 2, 2)
    every, moved = (np.zeros(shape, dtype=np.int64) for _ in range(2))
    displaced = np.zeros((*shape, *sizes), dtype=np.int64)
    for rows in row_blocks(work.m, work.n):
        w, t = work.base[rows], work.tuned[rows]
        cells = octaves_of(w, lowest, OCTAVES)
        cells += strata[rows, None] * (2 * OCTAVES)
        count_into(every, cells)
        changed = np.flatnonzero(w != t)
        cells, d = cells.ravel()[changed], t.ravel()[changed] - w.ravel()[changed]
        count_into(moved, cells)
        size = octaves_of(d, lowest - mantissa - 1, sizes[0])
        # A displacement has more digits than a weight: only what is all of one power is a tie.
        digits = d.astype(np.float32, copy=False).view(np.uint32) & np.uint32(0xFFFF)
        size[digits > 0] &= ~1
        cells *= 2 * sizes[0]
        cells += size
        count_into(displaced, cells)
    return Counts(
        work.form,
        lowest,
        every.sum(axis=2),
        every[:, :, 0],
        moved[:, :, 0],
        displaced.sum(axis=2),
    )


def count_into(counts: Int[np.ndarray, "..."], cells: Int[np.ndarray, "*cells"]) -> None:
    """Add to each cell how many of some flat cell numbers are its own: where they stand, as new
    counts of every block would be more than its weights.
    """
    np.add.at(counts.reshape(-1), cells.ravel(), 1)


def octaves_of(values: np.ndarray, lowest: int, most: int) -> Int[np.ndarray, "..."]:
    """Twice floor(log2 |x|), counted from an octave, those below it and zeros as 0; one more for
    powers of two.
    """
    # Sign, exponent and seven fraction bits of a float32: where the numbers of float16 have more,
    # those next to a power of two count as one.
    codes = np.ascontiguousarray(values, dtype=np.float32).view(np.uint16)[..., 1::2]
    return looked_up(octave_table(lowest, most), codes)


@lru_cache(maxsize=64)
def octave_table(lowest: int, most: int) -> Int[np.ndarray, " codes"]:
    """The same for every code."""
    codes = np.arange(1 << 16)
    octave = np.clip(((codes >> 7) & 0xFF) - (BIAS + lowest), 0, most - 1)
    return 2 * octave + ((codes & 0x7F) == 0)


def largest_octave(work: Decomposition) -> int:
    """floor(log2) of the largest |W|."""
    largest = max(
        float(np.abs(work.base[rows]).max(initial=0.0)) for rows in row_blocks(work.m, work.n)
    )
    return int(np.frexp(largest)[1]) - 1


def row_strata(work: Decomposition) -> Int[np.ndarray, " rows"]:
    """The group of each row: `STRATA` of about as many rows, by their norm."""
    squares = np.concatenate(
        [np.einsum("ij,ij->i", w, w) for w in (work.base[r] for r in row_blocks(work.m, work.n))]
    )
    order = np.argsort(np.argsort(squares, kind="stable"), kind="stable")
    strata = min(STRATA, max(1, work.m * work.n // STRATUM))
    return order * min(strata, work.m) // work.m


def one_octave(counts: Counts, octave: int) -> dict | None:
    """The row of one octave: its weights in strata that have small ones enough, how many moved, and
    how many would by the displacements of the small ones; `None` where no stratum has enough.
    """
    # Below its normal numbers a format's grid is no finer.
    if octave - BELOW < FORMATS[counts.form].least - 1:
        return None
    at = octave - counts.lowest
    last = np.minimum(counts.finest, at - BELOW)
    reference = counts.small[np.arange(len(last)), last]
    used = (reference >= FEWEST) & (counts.between[:, at] > 0)
    if not used.any():
        return None
    weights, strata = counts.between[used, at], np.flatnonzero(used)
    share = visible(counts, at, strata, last[used]) / reference[used]
    return {
        "count": int(weights.sum()),
        "moved": int(counts.moved[used, at].sum()),
        "predicted_moves": float(weights @ share),
        "reference": int(reference[used].sum()),
    }


def visible(
    counts: Counts, at: int, strata: Int[np.ndarray, " used"], last: Int[np.ndarray, " used"]
) -> Float[np.ndarray, " used"]:
    """How many displacements of small weights change a weight of an octave, by stratum: beyond half
    a step of its grid all, at exactly half one in two, as ties go to the even neighbour.
    """
    sizes = counts.displacements[strata, last]
    # Half a step of octave e is 2^(e - mantissa - 1), and sizes count from the lowest octave's.
    return sizes[:, at + 1 :].sum(axis=(1, 2)) + sizes[:, at, 0] + sizes[:, at, 1] / 2
