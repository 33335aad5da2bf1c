"""opdviz: what did training do to the weights?

The names for use from Python load what they need on first use: `compare` two checkpoints or `find`
a comparison that is there, and ask it for tables, figures and files; `open` and `match`
checkpoints; read a `table` of a comparison in a `Store`; look a column up in `QUANTITIES`.
"""

from importlib import import_module

__version__ = "0.1.0"
PUBLIC = {
    "compare": "opdviz.notebook",
    "find": "opdviz.notebook",
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


def __dir__() -> list[str]:
    """What there is, for whoever presses Tab."""
    return [*PUBLIC, "__version__"]
