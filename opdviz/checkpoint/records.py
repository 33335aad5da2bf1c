"""What is known of a tensor before its data are read."""

import gc
import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NamedTuple

from opdviz.checkpoint.bounded import is_text
from opdviz.errors import one_line

MOST_TENSORS = 1_000_000  # in a checkpoint; ten times the largest in use
LONGEST_NAME = 10_000
LONGEST_EMPTY = 1 << 20  # an axis of a tensor without elements: nothing in its file bounds it


class TensorInfo(NamedTuple):
    """A tensor's name, shape, dtype (name in FORMATS), file, and byte offset (-1 where the format
    has none).

    A tuple, as there may be a million, and a frozen dataclass takes four times as long to make.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Path
    offset: int = -1

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Source(NamedTuple):
    """What a checkpoint is read from: its path, the base that an adapter is added to, and the rules
    by which its tensors are cut.

    Small, and the same wherever it is opened again: workers get it with every pair.
    """

    path: Path
    over: "Source | None" = None
    rules: tuple = ()


def is_name(name: str) -> bool:
    """Whether a tensor can be called so: text that can be stored, of which something can be read.

    >>> is_name("w"), is_name(""), is_name("\\n"), is_name("w\\ud800")
    (True, False, False, False)
    """
    if name.isprintable() and not name.isspace():
        return 0 < len(name) <= LONGEST_NAME
    return len(name) <= LONGEST_NAME and is_text(name) and one_line(name) != ""


def uncollected(call: Callable) -> Callable:
    """A function that makes a million small records, run without the collector of cycles, which
    would walk them all over and over: that takes longer than making them, and they have no cycles.
    """

    @wraps(call)
    def resting(*arguments, **options):
        enabled = gc.isenabled()
        gc.disable()
        try:
            return call(*arguments, **options)
        finally:
            if enabled:
                gc.enable()

    return resting
