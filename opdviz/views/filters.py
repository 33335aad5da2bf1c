"""Which tensors a view speaks of: search, filters, order and pages, from the plain values that a
link carries.
"""

import fnmatch
import re

import numpy as np
import pandas as pd

# Rows of a table at once: more are slow to draw, and nobody reads them.
PAGE = 100
KINDS = ("matrices", "norms and biases", "all kinds")
ANY = "any"
KEYS = ("tower", "block", "module", "layers", "expert", "kinds", "tensors")
RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?")


def numbers(text: str) -> list[tuple[int, int]] | None:
    """Ranges like `3`, `3-7` or `0-2, 9`, both ends included; `None` where the text is none.

    >>> numbers("0-2, 9"), numbers("x"), numbers("")
    ([(0, 2), (9, 9)], None, [])
    """
    ranges = []
    for piece in filter(None, (p.strip() for p in text.split(","))):
        match = RANGE.fullmatch(piece)
        if not match:
            return None
        first = int(match[1])
        ranges.append((first, int(match[2] or first)))
    return ranges


def named(names: pd.Series, pattern: str) -> pd.Series:
    """Which names fit: with `*`, `?` or `[` a wildcard pattern of the whole name, otherwise a piece
    of it.

    >>> names = pd.Series(["a.Q.weight", "a.k.weight"])
    >>> named(names, "*.Q.*").tolist(), named(names, "q.").tolist()
    ([True, False], [True, False])
    """
    if set(pattern) & set("*?["):
        matches = re.compile(fnmatch.translate(pattern)).match
        return pd.Series([matches(n) is not None for n in names], index=names.index, dtype=bool)
    return pd.Series([pattern.lower() in n.lower() for n in names], index=names.index, dtype=bool)


def fitting(rows: pd.DataFrame, state: dict) -> pd.DataFrame:
    """The tensors that the filters of a view leave.

    `state` may hold tower, block, module (a value, or `any`), tensors (a pattern), layers and
    expert (ranges), kinds.
    """
    # One mask of all filters: each cut would copy a hundred columns.
    fits = np.ones(len(rows), dtype=bool)
    for key in ("tower", "block", "module"):
        if state.get(key, ANY) != ANY:
            fits &= (rows[key] == state[key]).to_numpy(dtype=bool)
    for key, column in (("layers", "layer"), ("expert", "expert")):
        if ranges := numbers(state.get(key) or ""):
            within = [rows[column].between(low, high).fillna(False) for low, high in ranges]
            fits &= np.any(within, axis=0).astype(bool)
    kinds = state.get("kinds") or KINDS[0]
    if kinds != KINDS[2]:
        small = rows["kind"].isin(["vector", "scalar"]).to_numpy()
        fits &= small if kinds == KINDS[1] else ~small
    rows = rows if fits.all() else rows[fits]
    if pattern := state.get("tensors"):
        rows = rows[named(rows["name"], pattern)]
    return rows


def described(state: dict) -> str:
    """The filters in words; empty without any.

    >>> described({"block": "ffn", "layers": "3-7", "tower": "any"})
    'block ffn, layers 3-7'
    """
    words = [
        f"{key} {state[key]}" for key in ("tower", "block", "module") if state.get(key, ANY) != ANY
    ]
    words += [f"{key} {state[key]}" for key in ("layers", "expert", "tensors") if state.get(key)]
    words += [state["kinds"]] if state.get("kinds", KINDS[0]) != KINDS[0] else []
    return ", ".join(words)


def pages(count: int, a_page: int) -> int:
    """How many pages so many things take; nothing takes one.

    >>> pages(0, 100), pages(100, 100), pages(101, 100)
    (1, 1, 2)
    """
    return max(1, -(-count // a_page))


def page_of(rows: pd.DataFrame, sort: str, number: int, *, ascending: bool = False) -> pd.DataFrame:
    """One page of the rows in the order of a column, missing values last; the last page where there
    are fewer.
    """
    by = [sort, "name"] if sort != "name" else ["name"]
    ordered = rows.sort_values(by, ascending=ascending, na_position="last", kind="stable")
    first = (min(max(number, 1), pages(len(rows), PAGE)) - 1) * PAGE
    return ordered.iloc[first : first + PAGE]
