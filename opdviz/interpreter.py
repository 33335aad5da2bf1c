"""Other Pythons that find this very package."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """The environment for a Python of ours: one that does not look for modules in the folder where
    it starts, as a folder called opdviz there - the clone, seen from beside it - would be taken for
    the package. Where the package itself is found that way, it stays so.
    """
    safe = {} if Path.cwd() == HOME else {"PYTHONSAFEPATH": "1"}
    return os.environ | safe


@contextmanager
def in_environment() -> Iterator[None]:
    """Have processes that are started meanwhile inherit that environment."""
    before = dict(os.environ)
    os.environ.update(environment())
    try:
        yield
    finally:
        if "PYTHONSAFEPATH" not in before:
            os.environ.pop("PYTHONSAFEPATH", None)
