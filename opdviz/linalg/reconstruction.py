"""A base rebuilt from its leading directions, |U_k S_k V_k'|, and where it is largest."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Float

from opdviz.checkpoint.formats import Promoted
from opdviz.chunks import CHUNK, KEPT
from opdviz.order import LEADING_BITS, leading_bits, places_of

Ties = tuple[np.ndarray, float]  # the coordinates at a cut, and the part of each that belongs to it


class Reconstructions:
    """The sizes of a matrix rebuilt at some ranks, a block of rows of its tall orientation at a
    time.

    `v` has the leading short-side vectors as columns, `products` gives some rows of A v.
    """

    def __init__(
        self,
        base: Float[np.ndarray, "m n"] | Promoted,
        v: Float[np.ndarray, "r k"],
        products: Callable[[slice], Float[np.ndarray, "rows k"]],
    ):
        self.base, self.v, self.products = base, v, products
        self.is_tall = base.shape[0] >= base.shape[1]
        self.long, self.r = max(base.shape), min(base.shape)

    def largest(self, ranks: dict[float, int]) -> tuple[np.ndarray, dict[float, Ties]]:
        """For each share, which coordinates hold that share of the largest sizes at its rank: one
        bit a share for those that do for certain (flat, in order), and apart from them the ties.
        """
        members = np.zeros(self.base.size, dtype=np.uint8)
        mark = self.mark_whole if self.base.size <= KEPT else self.mark_by_blocks
        return members, mark(ranks, members)

    def mark_whole(self, ranks: dict[float, int], members: np.ndarray) -> dict[float, Ties]:
        """Set the bits of the members, and give the ties."""
        by_rank = {
            rank: np.empty((self.long, self.r), dtype=np.float32) for rank in set(ranks.values())
        }
        for rows, blocks in self.blocks(by_rank):
            for rank, block in blocks.items():
                by_rank[rank][rows] = block
        tall, tied = np.zeros(members.size, dtype=np.uint8), {}
        for bit, (share, rank) in enumerate(ranks.items()):
            sizes = by_rank[rank].reshape(-1)
            k = places_of(share, sizes.size)
            cut = np.partition(sizes, sizes.size - k)[sizes.size - k]
            above = sizes > cut
            tall |= above.view(np.uint8) << np.uint8(bit)
            at_the_cut = np.flatnonzero(sizes == cut)
            part = (k - int(np.count_nonzero(above))) / at_the_cut.size
            tied[share] = self.as_stored(at_the_cut), part
        # Turned at the end: one byte a coordinate instead of the sizes of every rank.
        tall = tall.reshape(self.long, self.r)
        members.reshape(self.base.shape)[:] = tall if self.is_tall else tall.T
        return tied

    def as_stored(self, at: np.ndarray) -> np.ndarray:
        """Flat positions of the tall orientation as those of the matrix."""
        return at if self.is_tall else at % self.r * self.long + at // self.r

    def mark_by_blocks(self, ranks: dict[float, int], members: np.ndarray) -> dict[float, Ties]:
        """The same of a matrix of which full-size arrays are much memory, in two passes over its
        rows.

        The first counts the sizes by their leading bits, which says in which bits each cut lies;
        the second marks what is above them, and keeps the few that share them.
        """
        counts = {rank: np.zeros(LEADING_BITS, dtype=np.int64) for rank in set(ranks.values())}
        for _, blocks in self.blocks(counts):
            for rank, block in blocks.items():
                counts[rank] += np.bincount(leading_bits(block).reshape(-1), minlength=LEADING_BITS)
        cuts = {
            share: cut_bits(counts[rank], places_of(share, members.size))
            for share, rank in ranks.items()
        }
        near: dict[float, list[tuple]] = {share: [] for share in ranks}
        tall = members.reshape(self.base.shape)
        tall = tall if self.is_tall else tall.T
        for rows, blocks in self.blocks(counts):
            for bit, (share, rank) in enumerate(ranks.items()):
                bits = leading_bits(blocks[rank])
                tall[rows] |= (bits > cuts[share][0]).view(np.uint8) << np.uint8(bit)
                long, short = np.nonzero(bits == cuts[share][0])
                near[share].append((rows.start + long, short, blocks[rank][long, short]))
        tied = {}
        for bit, (share, pieces) in enumerate(near.items()):
            long, short, sizes = (np.concatenate(part) for part in zip(*pieces, strict=True))
            at = self.as_stored(long * self.r + short)
            above, tied[share] = split_at_the_cut(at, sizes, cuts[share][1])
            members[above] |= np.uint8(1 << bit)
        return tied

    def blocks(self, ranks: Iterable[int]) -> Iterator[tuple[slice, dict[int, np.ndarray]]]:
        """(rows, by rank |U_k S_k V_k'| as float32) of the tall matrix, a few hundred thousand
        elements at a time.

        Each rank adds its own columns to the one before: together they cost what the largest costs.
        """
        v = np.ascontiguousarray(self.v.T)
        size = max(1, CHUNK // self.r)
        for first in range(0, self.long, size):
            rows = slice(first, first + size)
            products = self.products(rows)
            total, before = np.zeros((len(products), self.r)), 0
            sizes = {}
            for rank in sorted(ranks):
                if rank == self.r:  # all directions give the matrix back, without their rounding
                    base = self.base if self.is_tall else self.base.T
                    sizes[rank] = np.abs(base[rows]).astype(np.float32, order="C")
                    continue
                total += products[:, before:rank] @ v[before:rank]
                # Products in float64, kept as float32: only their order is asked for.
                sizes[rank] = total.astype(np.float32)
                np.abs(sizes[rank], out=sizes[rank])
                before = rank
            yield rows, sizes


def cut_bits(counts: np.ndarray, places: int) -> tuple[int, int]:
    """From counts by leading bits: those in which the last of the largest lies, and how many places
    are left for what has them.
    """
    beyond = int(counts.sum()) - np.cumsum(counts)
    bits = int(np.argmax(beyond < places))
    return bits, places - int(beyond[bits])


def split_at_the_cut(at: np.ndarray, sizes: np.ndarray, places: int) -> tuple[np.ndarray, Ties]:
    """Of coordinates and their sizes, those above the cut for so many places, and the ties."""
    cut = np.partition(sizes, sizes.size - places)[sizes.size - places]
    above, at_the_cut = at[sizes > cut], at[sizes == cut]
    return above, (at_the_cut, (places - above.size) / at_the_cut.size)
