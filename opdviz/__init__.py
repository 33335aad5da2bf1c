"""opdviz: what did training do to the weights?

The names for use from Python load what they need on first use: `open` and `match` checkpoints, find
a comparison in a `Store`, read a `table` of it, look a column up in `QUANTITIES`.
"""

from importlib import import_module

__version__ = "0.1.0"
PUBLIC = {
    "open": "opdviz.checkpoint",
    "match": "opdviz.pairing",
    "Store": "opdviz.store.store",
    "table": "opdviz.tables",
    "QUANTITIES": "opdviz.quantities",
}


def __getattr__(name: str) -> object:
    """A public name, from the module where it stands."""
    if name not in PUBLIC:
        raise AttributeError(
            f"module 'opdviz' has no attribute {name!r}; there are: {', '.join(PUBLIC)}."
        )
    return getattr(import_module(PUBLIC[name]), name)
