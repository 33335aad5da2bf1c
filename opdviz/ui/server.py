"""What this server was started with."""

import os
from pathlib import Path

from opdviz.store.store import Store


def store() -> Store:
    """The store of this server."""
    return Store(Path(os.environ.get("OPDVIZ_CACHE") or "cache").resolve())


def read_only() -> bool:
    """Whether nothing can be started or written from the pages."""
    return os.environ.get("OPDVIZ_READ_ONLY") == "1"
