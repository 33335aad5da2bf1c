"""Output heads that a model's configuration calls tied to its embedding, and whether they are."""

from collections.abc import Iterator

import numpy as np

from opdviz.checkpoint import Checkpoint
from opdviz.naming import parse

HEADS = ("lm_head", "embed_out")
EMBEDDINGS = ("embed_tokens", "wte", "embed_in")
MOST_HEADS = 4  # that may be tied: each is held against every tensor
BLOCK = 1 << 22  # elements of two tensors that are held against each other at a time


def tied_heads(side: Checkpoint) -> dict[str, str]:
    """The output heads that the model's own configuration calls tied, each with the embedding of
    its shape.
    """
    return heads_like_embeddings(side) if side.config.get("tie_word_embeddings") else {}


def repeated_heads(side: Checkpoint, other: Checkpoint) -> dict[str, str]:
    """The output heads that repeat their embedding, of a side whose configuration does not say so,
    where the other side has no head; both are read.
    """
    if side.config.get("tie_word_embeddings") or next(named(other, HEADS), None):
        return {}
    heads = heads_like_embeddings(side).items()
    return {head: other_name for head, other_name in heads if not differ(side, head, other_name)}


def heads_like_embeddings(side: Checkpoint) -> dict[str, str]:
    """The output heads with a matrix of the shape of an embedding, and that."""
    ties = {}
    for _, head in zip(range(MOST_HEADS), named(side, HEADS), strict=False):
        shape = side.tensors[head].shape
        embedding = next(
            (name for name in named(side, EMBEDDINGS) if side.tensors[name].shape == shape), None
        )
        if embedding and len(shape) == 2:
            ties[head] = embedding
    return ties


def named(side: Checkpoint, modules: tuple[str, ...]) -> Iterator[str]:
    """The tensors of some modules; a name is taken apart only where one of them stands in it."""
    return (
        name
        for name in side.tensors
        if any(word in name for word in modules) and parse(name).module in modules
    )


def differ(side: Checkpoint, first: str, second: str) -> bool:
    """Whether two tensors of one shape hold different values; read by rows, up to the first
    difference.
    """
    rows, columns = side.tensors[first].shape
    step = max(1, BLOCK // max(1, columns))
    for low in range(0, rows, step):
        high = min(low + step, rows)
        if not np.array_equal(
            side.read(first, low, high), side.read(second, low, high), equal_nan=True
        ):
            return True
    return False


def contradictions(side: Checkpoint, label: str, ties: dict[str, str]) -> dict[str, str]:
    """The heads that are called tied and are not, each with the sentence that says so."""
    return {
        head: (
            f"The {label}'s configuration calls {head} tied to {embedding}, but their values"
            " differ: it is counted."
        )
        for head, embedding in sorted(ties.items())
        if differ(side, head, embedding)
    }
