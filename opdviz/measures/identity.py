"""Which values a tensor holds, and where (definitions, 1): digests that find copies, base values at
other places, and zeros that were none.
"""

import numpy as np
import xxhash

from opdviz.chunks import Chunk, row_blocks
from opdviz.linalg import Decomposition
from opdviz.pairing import Pair

NAME = "identity"
VERSION = 1
NEEDS = "floats"
TABLES = {
    "identity": {
        "name": str,
        "base_digest": str,
        "tuned_digest": str,
        "rearranged": str,
        "new_zeros": int,
        "zeroed_rows": int,
    }
}
TRANSPOSED, PERMUTED = "transposed", "permuted"
MODULUS = 1 << 64  # of sums of whole numbers


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """One row: the digest of each side's finite values, whether the tuned's are the base's at other
    places, how many became exactly zero, and how many rows of a matrix did as a whole.
    """
    base_digest, tuned_digest = xxhash.xxh3_64(), xxhash.xxh3_64()
    for chunk in work.chunks("stored"):
        base_digest.update(np.ascontiguousarray(chunk.base))
        tuned_digest.update(np.ascontiguousarray(chunk.tuned))
    new_zeros = balance = 0
    for chunk in work.values("stored"):
        new_zeros += chunk.number(chunk.moved_tuned == 0)
        balance += sum_of_bits(chunk, chunk.moved_base) - sum_of_bits(chunk, chunk.moved_tuned)
    # What holds the same values has the same sum of them: hardly another tensor is looked at twice.
    same_values = work.moved and balance % MODULUS == 0
    return {
        "identity": [
            {
                "name": pair.name,
                "base_digest": base_digest.hexdigest(),
                "tuned_digest": tuned_digest.hexdigest(),
                "rearranged": rearranged(work) if same_values else None,
                "new_zeros": new_zeros,
                "zeroed_rows": zeroed_rows(work, new_zeros) if pair.is_matrix else None,
            }
        ]
    }


def sum_of_bits(chunk: Chunk, moved: np.ndarray) -> int:
    """The sum over the coordinates that moved of their values read as whole numbers, bit for bit,
    modulo 2^64: the same in any order.
    """
    bits = moved.view(np.uint64 if moved.dtype == np.float64 else np.uint32)
    if chunk.moved_often is not None:
        bits = bits * chunk.moved_often.astype(np.uint64)
    return int(bits.sum(dtype=np.uint64))


def rearranged(work: Decomposition) -> str | None:
    """How the tuned holds the base's values at other places; `None` where it holds others."""
    if work.m == work.n > 1 and transposed(work):
        return TRANSPOSED
    # What did not move is the same on both sides.
    moved = [(chunk.moved_base, chunk.moved_tuned) for chunk in work.chunks("stored")]
    before, after = (np.sort(np.concatenate(side)) for side in zip(*moved, strict=True))
    return PERMUTED if np.array_equal(before, after) else None


def transposed(work: Decomposition) -> bool:
    """Whether a square tuned is the base with rows for columns."""
    return all(
        np.array_equal(work.tuned[rows], work.base.T[rows]) for rows in row_blocks(work.m, work.n)
    )


def zeroed_rows(work: Decomposition, new_zeros: int) -> int:
    """How many rows of a matrix hold zeros alone in the tuned, and did not in the base."""
    if not new_zeros:
        return 0
    zeroed = 0
    for rows in row_blocks(work.m, work.n):
        held_something = work.base[rows].any(axis=1)
        zeroed += int(np.count_nonzero(held_something & ~work.tuned[rows].any(axis=1)))
    return zeroed
