"""Were weights kept in a finer copy and cast, or updated in 16 bits (definitions, 8)? What moved
octave by octave of |W|, beside what the displacements of small weights would move there.

Small weights have a fine grid, so their displacements are known; passed through the coarser grid of
a larger weight they say what would be visible there. Steps that were themselves rounded away leave
nothing above one octave, whatever small weights did.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt

from opdviz.checkpoint.formats import FORMATS, Promoted
from opdviz.chunks import CODES, NO_SIGN, Side
from opdviz.definitions import SIXTEEN_BITS
from opdviz.linalg import Decomposition
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.order import histogram
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
    """The weights of a matrix on a grid of 16 bits, and those that moved."""
    mantissa = FORMATS[work.form].mantissa
    lowest = max(largest_octave(work) - OCTAVES, -BIAS) + 1
    groups = len(work.by_value.strata)
    # Displacements count from half a grid step of the lowest octave, which is as far below it.
    least, sizes = lowest - mantissa - 1, OCTAVES + mantissa + 2
    every = np.zeros((groups, OCTAVES, 2), dtype=np.int64)
    displaced = np.zeros((groups, OCTAVES, 2, sizes, 2), dtype=np.int64)
    octaves = octave_table(lowest, OCTAVES)
    for group, values in enumerate(work.by_value.of_strata()):
        for chunk in values:
            octave = octaves.take(upper_halves(chunk.base))
            every[group] += histogram(octave, chunk.often, 2 * OCTAVES).reshape(OCTAVES, 2)
            size = octave_table(least, sizes).take(upper_halves(chunk.delta))
            # A displacement has more digits than a weight: only what is all of one power is a tie.
            digits = chunk.delta.astype(np.float32, copy=False).view(np.uint32) & np.uint32(0xFFFF)
            size[digits > 0] &= ~1
            joint = octave[chunk.moved] * (2 * sizes) + size
            displaced[group] += histogram(joint, chunk.moved_often, displaced[group].size).reshape(
                displaced[group].shape
            )
    return Counts(
        work.form,
        lowest,
        every.sum(axis=2),
        every[:, :, 0],
        displaced[:, :, 0].sum(axis=(2, 3)),
        displaced.sum(axis=2),
    )


def upper_halves(values: Side) -> UInt[np.ndarray, "..."]:
    """Sign, exponent and seven fraction bits of each value as a float32: bfloat16 is just that."""
    if isinstance(values, Promoted) and values.form == "bfloat16":
        return values.codes
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint16)[..., 1::2]


@lru_cache(maxsize=64)
def octave_table(lowest: int, most: int) -> Int[np.ndarray, " codes"]:
    """By upper half twice floor(log2 |x|), counted from an octave, those below it and zeros as 0;
    one more for powers of two. Where the numbers of float16 have more digits, those next to a power
    of two count as one.
    """
    codes = np.arange(CODES)
    octave = np.clip(((codes >> 7) & 0xFF) - (BIAS + lowest), 0, most - 1)
    return 2 * octave + ((codes & 0x7F) == 0)


def largest_octave(work: Decomposition) -> int:
    """floor(log2) of the largest |W|."""
    # Upper halves without their sign rise with what they are of.
    halves = (upper_halves(chunk.base) & NO_SIGN for chunk in work.values("stored"))
    return (max(int(part.max(initial=0)) for part in halves) >> 7) - BIAS


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
