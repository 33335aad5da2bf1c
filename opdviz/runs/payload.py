"""What an update takes to send: its bytes under four encodings, from the base to each run and from
each step of a training to the next.

A tensor is encoded by itself, in the format of what arrives:

    mask      one bit a coordinate, then the new values of those that changed
    index32   32 bits for the place of each that changed, then its new value
    gap16     16 bits for how many lie between two that changed (65,535 says that as many are
              passed and the count goes on), then its new value
    xor_zstd  old and new codes by exclusive or, compressed by zstd block by block
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from opdviz import pairing
from opdviz.checkpoint.formats import FORMATS, codes_in
from opdviz.runs.relations import Shared, row_blocks
from opdviz.store.relations import BASE

# The columns that hold bytes sent, in words.
ENCODINGS = {
    "mask_bytes": "bit mask + values",
    "index32_bytes": "32-bit index + values",
    "gap16_bytes": "16-bit gaps + values",
    "xor_zstd_bytes": "xor + zstd",
}
COUNTS = ("numel", "moved", "full_bytes", *ENCODINGS)
LEVEL = 3  # of zstd, its default
GAP_ESCAPE = (1 << 16) - 1


def of_tensor(
    tensor: Shared, names: Sequence[str], *, steps: Sequence[tuple[str, str]]
) -> dict[str, list[dict]]:
    """The `payload` rows of one tensor: from the base to every run that has it, and between each
    two runs of `steps`.

    Runs in float8 are left out where the other side is in another format: their codes mean
    something with their scales alone.

    Raises
        RequestError: a checkpoint cannot be read any more.
    """
    sides = {BASE: (pairing.opened(tensor.source), tensor.name)}
    sides |= {names[run.run]: (pairing.opened(run.source), run.name) for run in tensor.tuned}
    formats = {name: side.tensors[its].dtype for name, (side, its) in sides.items()}
    pairs = [(BASE, names[run.run]) for run in tensor.tuned]
    pairs += [pair for pair in steps if set(pair) <= set(sides)]
    pairs = [(a, b) for a, b in pairs if comparable(formats[a], formats[b])]
    tallies = {(a, b): Tally(FORMATS[formats[b]].size) for a, b in pairs}
    for first, last in row_blocks(tensor.shape, len(tensor.tuned)):
        raw = {name: side.read_raw(its, first, last)[0] for name, (side, its) in sides.items()}
        for (a, b), tally in tallies.items():
            before = codes_in(formats[b], raw[a], formats[a])
            tally.add(before.ravel(), codes_in(formats[b], raw[b], formats[b]).ravel())
    return {
        "payload": [
            {"name": tensor.name, "run_a": a, "run_b": b} | tally.row()
            for (a, b), tally in tallies.items()
        ]
    }


def comparable(one: str, other: str) -> bool:
    """Whether codes of one format can be made codes of another."""
    return one == other or "float8" not in (FORMATS[one].kind, FORMATS[other].kind)


class Tally:
    """Bytes over the blocks of one tensor, whose elements take `size` bytes each."""

    def __init__(self, size: int):
        self.size = size
        self.numel = self.moved = self.gap_words = self.packed = 0
        self.last = -1  # the place of the last coordinate that changed
        self.codec = pa.Codec("zstd", compression_level=LEVEL)

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Take in the codes of a block, the next after those before."""
        changed = before ^ after
        places = np.flatnonzero(changed) + self.numel
        if len(places):
            passed = np.diff(places, prepend=self.last) - 1
            self.gap_words += len(places) + int((passed // GAP_ESCAPE).sum())
            self.last = int(places[-1])
        self.numel += changed.size
        self.moved += len(places)
        self.packed += len(self.codec.compress(changed.tobytes()))

    def row(self) -> dict[str, int]:
        """The columns of a row."""
        values = self.moved * self.size
        return {
            "numel": self.numel,
            "moved": self.moved,
            "full_bytes": self.numel * self.size,
            "mask_bytes": -(-self.numel // 8) + values,
            "index32_bytes": 4 * self.moved + values,
            "gap16_bytes": 2 * self.gap_words + values,
            "xor_zstd_bytes": self.packed,
        }


def whole(table: pd.DataFrame, *more: str) -> pd.DataFrame:
    """The bytes of all tensors together, a row each two sides, in the order of the table; columns
    that are of both sides, `more`, stay.
    """
    by = ["run_a", "run_b", *more]
    return table.groupby(by, sort=False, as_index=False)[list(COUNTS)].sum()
