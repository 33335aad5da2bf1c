"""Masks of other kinds than what one run moved: sets of several runs' masks, random ones, and those
that the base alone gives.

    union, intersection, difference   of what runs on one base visibly moved
    random                            as many in each tensor as the run moved, drawn by lot
    principal                         the largest of the base's rebuilt from its leading directions
    low-magnitude                     the smallest weights
    safe                              all but what is principal and not small (arXiv 2511.08567)
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from opdviz.checkpoint.formats import FORMATS
from opdviz.errors import RequestError
from opdviz.linalg import rank_of_share
from opdviz.measures.sides import EXACTLY, work_of
from opdviz.order import places_of
from opdviz.pairing import Matching, Pair
from opdviz.runs.masks import drawn_like, visible, visible_of

VISIBLE, RANDOM = "visible", "random"
SETS = ("union", "intersection", "difference")
OF_BASE = ("principal", "low-magnitude", "safe")
KINDS = (VISIBLE, *SETS, RANDOM, *OF_BASE)
Bits = Iterator[tuple[str, np.ndarray]]


def masks_of(
    kind: str, matchings: Sequence[Matching], threshold: float, share: float, seed: int
) -> Bits:
    """The mask of a kind, tensor by tensor: `threshold` is what is visible, `share` how much of
    each matrix principal and low-magnitude masks hold.

    Raises
        RequestError: sets of one run, or more than one for another kind.
    """
    if (len(matchings) > 1) != (kind in SETS):
        expected = "two runs or more" if kind in SETS else "one run"
        raise RequestError(
            f"subnetwork --kind {kind}: found {len(matchings)} of them; expected {expected}."
        )
    if kind in SETS:
        return combined(kind, matchings, threshold)
    if kind in OF_BASE:
        return of_base(kind, matchings[0], share, seed)
    moved = visible(matchings[0], threshold)
    return drawn_like(moved, seed) if kind == RANDOM else moved


def combined(kind: str, matchings: Sequence[Matching], threshold: float) -> Bits:
    """What any of the runs moved, all of them, or the first and no other; a tensor that a run has
    not it has not moved.
    """
    moved = [visible_of(matching, threshold) for matching in matchings]
    for name in dict.fromkeys(chain.from_iterable(moved)):
        shape = matchings[0].base.tensors[name].shape
        nothing = np.zeros(shape, dtype=bool)
        first, *others = (run[name]() if name in run else nothing for run in moved)
        for other in others:
            if kind == "union":
                first = first | other
            else:
                first = first & (other if kind == "intersection" else ~other)
        yield name, first


def of_base(kind: str, matching: Matching, share: float, seed: int) -> Bits:
    """A mask that the base alone decides, of its matrices; a vector has no directions, and is in
    the safe mask as a whole.
    """
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for pair in matching.pairs:
        if FORMATS[pair.base_dtype].kind != "integer" and pair.numel:
            pairs[pair.stored_name(pair.name)].append(pair)
    for at, (name, slices) in enumerate(pairs.items()):
        shape = matching.base.tensors[name].shape
        lots = np.random.default_rng([seed, at])
        if slices[0].is_matrix or kind == "low-magnitude":
            bits = [of_matrix(kind, pair, share, lots).ravel() for pair in slices]
            yield name, np.concatenate(bits).reshape(shape)
        elif kind == "safe":
            yield name, np.ones(shape, dtype=bool)


def of_matrix(kind: str, pair: Pair, share: float, lots: np.random.Generator) -> np.ndarray:
    """A mask of one matrix, flat."""
    small = smallest(np.abs(pair.base).ravel(), share, lots)
    if kind == "low-magnitude":
        return small
    if not np.isfinite(pair.base).all():
        raise RequestError(
            f"subnetwork --kind {kind}: found NaN or infinite weights in {pair.name}; expected"
            " finite ones."
        )
    large = principal(pair, share, lots)
    return large if kind == "principal" else ~(large & ~small)


def smallest(sizes: np.ndarray, share: float, lots: np.random.Generator) -> np.ndarray:
    """The smallest of some sizes; of equal ones at the cut as many as there is room for, by lot."""
    k = places_of(share, sizes.size)
    cut = np.partition(sizes, k - 1)[k - 1]
    mask = sizes < cut
    at_the_cut = np.flatnonzero(sizes == cut)
    mask[lots.permutation(at_the_cut)[: k - int(mask.sum())]] = True
    return mask


def principal(pair: Pair, share: float, lots: np.random.Generator) -> np.ndarray:
    """Where the base rebuilt from a share of its directions is largest; ties by lot."""
    work = work_of(pair, EXACTLY)
    members, tied = work.largest_of_base({share: rank_of_share(share, min(pair.shape))})
    mask = members.astype(bool)
    at_the_cut, weight = tied[share]
    mask[lots.permutation(at_the_cut)[: round(weight * len(at_the_cut))]] = True
    return mask
