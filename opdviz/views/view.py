"""What a view is drawn from, and what it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import theme
from opdviz.store.manifest import Manifest
from opdviz.words import format_name


@dataclass(frozen=True)
class Reader:
    """One comparison as views see it: its manifest, its summaries, the rows of one tensor, and the
    tensors with notes.

    `summary(name)`, `rows(table, tensor)` and `moved_given_size(tensor)` give frames;
    `block(tensor, row, column, size)` gives values that were read before, or `None`. `complete`
    says whether every tensor is measured.
    """

    manifest: Manifest
    summary: Callable[[str], pd.DataFrame]
    rows: Callable[[str, str], pd.DataFrame]
    moved_given_size: Callable[[str], pd.DataFrame]
    block: Callable[[str, int, int, int], pd.DataFrame | None]
    noted: frozenset[str] = frozenset()
    complete: bool = True

    @property
    def name(self) -> str:
        """The comparison's name, as figures have it."""
        return self.manifest.title


def not_worked_out(table: str) -> None:
    """No table of how runs lie to each other."""
    return None


@dataclass(frozen=True)
class Several:
    """Some runs on one base as views see them.

    `relation(table)` gives how they lie to each other by their keys, or `None` where nobody worked
    that out; `steps` are the steps of one training that they are, in their order.
    """

    readers: Sequence[Reader]
    relation: Callable[[str], pd.DataFrame | None] = not_worked_out
    training: str = ""
    steps: Sequence[int] = ()

    @property
    def keys(self) -> list[str]:
        """Their keys."""
        return [reader.manifest.key for reader in self.readers]


@dataclass(frozen=True, slots=True)
class View:
    """A figure with what is said about it: its title, one sentence that reads it, its data, the
    quantities it speaks of.

    `figure` is `None` where there is nothing to draw; `reading` then says why. `for_paper` are the
    numbers as text, for a table in a paper; `nodes` a value by tensor, for a graph of the model.
    """

    title: str
    reading: str
    figure: go.Figure | None = None
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    terms: tuple[str, ...] = ()
    for_paper: pd.DataFrame | None = None
    nodes: pd.Series | None = None
    drawn_in: dict[str, go.Figure] = field(default_factory=dict, compare=False, repr=False)

    def inked(self, scheme: str) -> go.Figure:
        """The figure on the page's ground in a scheme, `light` or `dark`; made once, as a view is
        kept for all sessions.
        """
        if scheme not in self.drawn_in:
            self.drawn_in[scheme] = theme.inked(self.figure, scheme)
        return self.drawn_in[scheme]


class Drawing(NamedTuple):
    """How a view is drawn, the page on which it stands, and what of a state it speaks of."""

    make: Callable
    page: str
    keys: tuple[str, ...] = ()


def view(
    title: str, reading: str, figure: go.Figure, data: pd.DataFrame, terms: tuple[str, ...]
) -> View:
    """A view whose figure carries its title: what it shows, and after a colon of what."""
    return View(title, reading, theme.titled(figure, *title.split(": ", 1)), data, terms)


def has_values(rows: pd.DataFrame, column: str) -> bool:
    """Whether any row has a value in a column."""
    return column in rows and bool(rows[column].notna().any())


def nothing_there(reader: Reader, why: str) -> str:
    """Why a figure of a whole run has nothing to show: it is still to come, or there is none for
    these formats.
    """
    return why if reader.complete else "Not computed yet. It appears here as soon as it is."


def counted_in(tensors: pd.DataFrame) -> str:
    """The formats in which coordinates are counted, as a sentence begins.

    >>> counted_in(pd.DataFrame({"counted_as": ["bfloat16", "bfloat16"]}))
    'As bf16'
    """
    return "As " + " and ".join(
        format_name(form) for form in sorted(tensors["counted_as"].unique())
    )
