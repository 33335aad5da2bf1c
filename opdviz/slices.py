"""Parts of a matrix that have a name of their own: attention heads, bands of rows or columns,
single rows.

A part is written in a link as `head 3`, `kv head 1`, `rows 128-191`, `columns 0-63` or `row 1234`.
"""

import re
from dataclasses import dataclass

import pandas as pd

QUERY = ("q_proj", "query", "wq", "q")
KEY_VALUE = ("k_proj", "v_proj", "key", "value", "wk", "wv", "k", "v")
OUTPUT = ("o_proj", "attention.output.dense", "wo", "o", "c_proj")
FUSED = ("qkv_proj", "c_attn")
TRANSPOSED = ("c_attn", "c_proj")  # GPT-2 stores inputs by outputs
SPAN = re.compile(r"(rows|columns|row|column) ([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows or columns `low` to `high` (one past the last) of a matrix, and what they are called."""

    label: str
    axis: str
    low: int
    high: int


def heads(module: str, shape: tuple[int, int], counts: dict) -> list[Part]:
    """The attention heads of a matrix by the model's head counts (`pairing.head_counts`); empty
    where it has none.

    >>> [p.label for p in heads("k_proj", (64, 256), {"query": 8, "key_value": 2, "size": 32})]
    ['kv head 0', 'kv head 1']
    >>> heads("o_proj", (256, 256), {"query": 8, "key_value": 2, "size": 32})[1]
    Part(label='head 1', axis='column', low=32, high=64)
    """
    if not counts:
        return []
    query, shared, size = counts["query"], counts["key_value"], counts["size"]
    module = module.removesuffix(".weight")
    leaf = module if module in OUTPUT else module.split(".")[-1]
    if leaf in QUERY:
        groups = [("head", query)]
    elif leaf in KEY_VALUE:
        groups = [("head" if shared == query else "kv head", shared)]
    elif leaf in OUTPUT:
        groups = [("head", query)]
    elif leaf in FUSED:
        groups = [("q head", query), ("k head", shared), ("v head", shared)]
    else:
        return []
    names = [f"{word} {i}" for word, count in groups for i in range(count)]
    axis = "column" if (leaf in OUTPUT) != (leaf in TRANSPOSED) else "row"
    if shape[axis == "column"] != len(names) * size:
        return []
    return [Part(name, axis, i * size, (i + 1) * size) for i, name in enumerate(names)]


def parse(text: str, shape: tuple[int, int], known: list[Part]) -> Part | None:
    """The part that a text names, if it lies inside a matrix of this shape.

    >>> parse("rows 4-7", (16, 8), []), parse("columns 6-9", (16, 8), [])
    (Part(label='rows 4-7', axis='row', low=4, high=8), None)
    """
    named = next((part for part in known if part.label == text), None)
    match = SPAN.fullmatch(text or "")
    if named or not match:
        return named
    low = int(match[2])
    high = int(match[3] or low) + 1
    axis = match[1].removesuffix("s")
    return Part(text, axis, low, high) if low < high <= shape[axis == "column"] else None


def band(axis: str, low: int, high: int) -> str:
    """The text of a band of rows or columns; `high` is one past the last.

    >>> band("row", 4, 8), band("column", 3, 4)
    ('rows 4-7', 'column 3')
    """
    return f"{axis} {low}" if high - low == 1 else f"{axis}s {low}-{high - 1}"


def measured(profile: pd.DataFrame, part: Part) -> dict | None:
    """Share of energy and of moved coordinates of a part, from bands that together are the part;
    `None` where none are.

    Keys: energy, even (what an even spread would hold), moved, moved_bfloat16.
    """
    bands = profile[
        (profile["axis"] == part.axis)
        & (profile["low"] >= part.low)
        & (profile["high"] <= part.high)
    ]
    width = (bands["high"] - bands["low"]).astype(float)
    if bands.empty or width.sum() != part.high - part.low:
        return None
    length = float(profile.loc[profile["axis"] == part.axis, "high"].max())
    sums = {"energy": float(bands["energy"].sum()) if bands["energy"].notna().all() else None}
    sums["even"] = float(width.sum()) / length
    for column in ("moved", "moved_bfloat16"):
        complete = bands[column].notna().all()
        sums[column] = (
            float((bands[column].astype(float) * width).sum() / width.sum()) if complete else None
        )
    return sums


def by_head(profile: pd.DataFrame, known: list[Part]) -> pd.DataFrame:
    """One row a head: label, axis, low, high, energy, even, moved, moved_bfloat16."""
    rows = [
        {"part": part.label, "axis": part.axis, "low": part.low, "high": part.high} | sums
        for part in known
        if (sums := measured(profile, part))
    ]
    return pd.DataFrame(rows)
