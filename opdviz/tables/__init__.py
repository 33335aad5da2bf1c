"""Reading a comparison: tidy tables by name, each of which answers one question."""

import pandas as pd
import pyarrow.compute as pc

from opdviz.errors import RequestError, one_line
from opdviz.store.store import Stored
from opdviz.tables import groups, precision, stored

# Worked out from what is stored.
COMPUTED = {
    "fingerprint": precision.fingerprint,
    "fingerprint_summary": precision.fingerprint_summary,
}
TABLES = ("tensors", *groups.GROUPS, *COMPUTED, *stored.STORED)


def table(comparison: Stored, name: str, *, where: pc.Expression | None = None) -> pd.DataFrame:
    """One tidy table of a comparison; an empty frame where nothing of it is there yet. `where`
    keeps rows of a stored one.

    Raises
        RequestError: no such table.
    """
    if name in groups.GROUPS:
        return groups.grouped(comparison, name)
    if name in COMPUTED:
        return COMPUTED[name](comparison)
    if name == "tensors":
        return stored.tensors(comparison)
    if name not in stored.STORED:
        raise RequestError(
            f"table {one_line(name, limit=40)!r} is unknown; there are: {', '.join(TABLES)}."
        )
    return stored.read(comparison, name, where=where)
