"""Search, filters, order and pages of tensors, from the plain values of a link."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opdviz.views import filters


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two layers of a mixture of experts, a norm and an embedding."""
    return pd.DataFrame(
        {
            "name": ["l0.q", "l0.e0.up", "l0.e1.up", "l1.q", "l1.norm", "embed"],
            "layer": pd.array([0, 0, 0, 1, 1, None], dtype="Int64"),
            "expert": pd.array([None, 0, 1, None, None, None], dtype="Int64"),
            "block": ["attention", "ffn", "ffn", "attention", "norm", "embedding"],
            "module": ["q", "experts.up", "experts.up", "q", "norm", "embed"],
            "tower": "language",
            "kind": ["matrix"] * 4 + ["vector", "matrix"],
            "size": [3.0, 1.0, None, 2.0, 5.0, 4.0],
        }
    )


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ({}, ["l0.q", "l0.e0.up", "l0.e1.up", "l1.q", "embed"]),
        ({"kinds": "all kinds"}, ["l0.q", "l0.e0.up", "l0.e1.up", "l1.q", "l1.norm", "embed"]),
        ({"kinds": "norms and biases"}, ["l1.norm"]),
        ({"layers": "1-9"}, ["l1.q"]),
        ({"layers": "0, 1", "block": "attention"}, ["l0.q", "l1.q"]),
        ({"expert": "1"}, ["l0.e1.up"]),
        ({"tensors": "E0"}, ["l0.e0.up"]),
        ({"tensors": "*.up"}, ["l0.e0.up", "l0.e1.up"]),
        ({"tensors": "up", "module": "q"}, []),
        (
            {"block": "any", "tower": "language", "layers": "", "expert": None},
            ["l0.q", "l0.e0.up", "l0.e1.up", "l1.q", "embed"],
        ),
    ],
)
def test_filters_keep_what_fits(rows, state, kept):
    assert filters.fitting(rows, state)["name"].tolist() == kept


@given(st.text(max_size=30))
def test_any_text_is_ranges_or_none(text):
    found = filters.numbers(text)
    assert found is None or all(
        isinstance(low, int) and isinstance(high, int) for low, high in found
    )


@given(st.text(max_size=30))
def test_any_pattern_can_be_searched_for(pattern):
    names = pd.Series(["a.b", "[x]", "é"])
    matches = filters.named(names, pattern)
    assert matches.dtype == bool and list(matches.index) == [0, 1, 2]
    if not set(pattern) & set("*?["):
        assert matches.tolist() == [pattern.lower() in name.lower() for name in names]


def test_pages_are_cut_after_sorting_and_missing_values_come_last(rows, monkeypatch):
    monkeypatch.setattr(filters, "PAGE", 4)
    first = filters.page_of(rows, "size", 1)
    assert (first["name"].tolist(), filters.pages(len(rows), 4)) == (
        ["l1.norm", "embed", "l0.q", "l1.q"],
        2,
    )
    second = filters.page_of(rows, "size", 2)
    assert second["name"].tolist() == ["l0.e0.up", "l0.e1.up"]
    assert filters.page_of(rows, "size", 99)["name"].tolist() == second["name"].tolist()
    assert filters.page_of(rows, "name", 1, ascending=True)["name"].iloc[0] == "embed"
    assert filters.page_of(rows.iloc[:0], "size", 1).empty


@pytest.mark.parametrize("text", ["²", "٣", "7" * 6000, f"1-{'7' * 6000}", "1-٣"])
def test_digits_of_other_scripts_and_endless_numbers_are_no_ranges(text):
    assert filters.numbers(text) is None
