"""Heads, bands and rows: where they lie, how they are written, and that their shares add up to the
tensor's.
"""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opdviz import slices

COUNTS = {"query": 8, "key_value": 2, "size": 16}
SAME = {"query": 8, "key_value": 8, "size": 16}


@pytest.mark.parametrize(
    ("module", "shape", "counts", "first", "last", "number"),
    [
        ("q_proj", (128, 96), COUNTS, ("head 0", "row", 0, 16), ("head 7", "row", 112, 128), 8),
        ("k_proj", (32, 96), COUNTS, ("kv head 0", "row", 0, 16), ("kv head 1", "row", 16, 32), 2),
        (
            "attention.self.value",
            (128, 96),
            SAME,
            ("head 0", "row", 0, 16),
            ("head 7", "row", 112, 128),
            8,
        ),
        (
            "o_proj",
            (96, 128),
            COUNTS,
            ("head 0", "column", 0, 16),
            ("head 7", "column", 112, 128),
            8,
        ),
        (
            "attention.output.dense",
            (96, 128),
            SAME,
            ("head 0", "column", 0, 16),
            ("head 7", "column", 112, 128),
            8,
        ),
        (
            "qkv_proj",
            (192, 96),
            COUNTS,
            ("q head 0", "row", 0, 16),
            ("v head 1", "row", 176, 192),
            12,
        ),
        ("c_proj", (128, 96), SAME, ("head 0", "row", 0, 16), ("head 7", "row", 112, 128), 8),
        (
            "attn.c_attn",
            (96, 384),
            SAME,
            ("q head 0", "column", 0, 16),
            ("v head 7", "column", 368, 384),
            24,
        ),
    ],
)
def test_heads_lie_where_the_configuration_puts_them(module, shape, counts, first, last, number):
    found = slices.heads(module, shape, counts)
    assert (found[0], found[-1], len(found)) == (slices.Part(*first), slices.Part(*last), number)


@pytest.mark.parametrize(
    ("module", "shape", "counts"),
    [
        ("q_proj", (128, 96), {}),
        ("q_proj", (100, 96), COUNTS),
        ("gate_proj", (128, 96), COUNTS),
        ("q_proj", (96, 128), COUNTS),
        ("output.dense", (96, 128), COUNTS),
    ],
)
def test_no_heads_are_made_up(module, shape, counts):
    assert slices.heads(module, shape, counts) == []


@given(st.sampled_from(["row", "column"]), st.integers(0, 40), st.integers(1, 40))
def test_what_is_written_is_read_back(axis, low, width):
    found = slices.parse(slices.band(axis, low, low + width), (50, 60), [])
    inside = low + width <= (50 if axis == "row" else 60)
    assert found == (
        slices.Part(slices.band(axis, low, low + width), axis, low, low + width) if inside else None
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "head 99",
        "rows 9-3",
        "rows -1",
        "row 50",
        "columns 0-60",
        "row 1 ",
        "<b>",
        "rows 1-",
        "row ٣",
        "row ²",
        f"row {'7' * 6000}",
        "row 1\n",
    ],
)
def test_a_part_that_is_not_there_is_none(text):
    assert slices.parse(text, (50, 60), slices.heads("q_proj", (128, 96), COUNTS)) is None


def test_shares_of_heads_are_those_of_their_bands():
    profile = pd.DataFrame(
        {
            "axis": ["row"] * 4 + ["column"],
            "low": [0, 8, 16, 24, 0],
            "high": [8, 16, 24, 32, 96],
            "energy": [0.1, 0.2, 0.3, 0.4, 1.0],
            "moved": [0.0, 1.0, 0.5, 0.5, 0.5],
            "moved_bfloat16": [None] * 5,
        }
    )
    rows = slices.by_head(profile, slices.heads("k_proj", (32, 96), COUNTS))
    assert rows["energy"].tolist() == pytest.approx([0.3, 0.7])
    assert rows["even"].tolist() == [0.5, 0.5]
    assert rows["moved"].tolist() == [0.5, 0.5]
    assert rows["moved_bfloat16"].isna().all()
    assert slices.measured(profile, slices.Part("rows 4-11", "row", 4, 12)) is None
