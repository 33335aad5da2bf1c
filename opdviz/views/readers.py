"""Stored comparisons as views see them, without a page: for reports, commands and notebooks."""

from collections.abc import Sequence
from functools import cache, partial

from opdviz.errors import OpdvizError
from opdviz.runs import relate
from opdviz.runs.trajectory import named, trajectories
from opdviz.store import board
from opdviz.store.store import Store, Stored
from opdviz.tables import by_tensor, stored, summaries
from opdviz.views.view import Reader, Several


def reader_of(comparison: Stored) -> Reader:
    """What views are drawn from, without a page: no values of weights. Each frame is read once."""
    try:
        with_notes = frozenset(note["tensor"] for note in board.read(comparison.folder)["notes"])
    except OpdvizError:
        with_notes = frozenset()
    return Reader(
        comparison.manifest,
        cache(partial(summaries.summary, comparison)),
        cache(partial(stored.of_tensor, comparison)),
        cache(lambda name: by_tensor.moved_given_size(comparison, name=name)),
        lambda *_: None,
        with_notes,
    )


def several_of(store: Store, comparisons: Sequence[Stored]) -> Several:
    """Some comparisons on one base, with what was worked out between them; where all of them are
    steps of one training, in the order of their steps.
    """
    trainings = named(trajectories(comparisons))
    name, training = next(iter(trainings.items()), ("", None))
    steps: Sequence[int] = ()
    if training is not None and len(training.runs) == len(comparisons):
        comparisons, steps = training.runs, training.steps
    return Several(
        [reader_of(comparison) for comparison in comparisons],
        partial(relate.table, store, comparisons),
        name if steps else "",
        steps,
    )
