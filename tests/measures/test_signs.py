"""Flipped signs, held against counting them, and their chance against blind updates."""

import numpy as np
import pytest

from opdviz.measures import magnitude, signs
from tests.conftest import measured_arrays

RNG = np.random.default_rng(8)
ONLY = (magnitude, signs)


def row_of(folder, base, tuned, dtype="float32"):
    """The one row, and both sides as stored."""
    tables, w, t = measured_arrays(folder, base, tuned, dtype, ONLY)
    return tables["signs"].iloc[0], w, t


def test_signs_are_counted_and_zeros_have_none(tmp_path):
    base = np.array([[1.0, -2.0, 0.0, 3.0], [1e-30, -1e-30, 0.0, 5.0]])
    tuned = np.array([[-1.0, 2.0, 4.0, 0.0], [-1e-30, 1e-30, -1.0, 5.0]])
    row, _, _ = row_of(tmp_path, base, tuned)
    assert (row["flipped"], row["share"]) == (4, 0.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("scale", [3e-4, 3e-3, 0.3])
def test_a_blind_update_flips_as_many_as_chance_says(tmp_path, dtype, scale):
    base = RNG.standard_normal((600, 500)) * 0.05
    row, w, t = row_of(tmp_path, base, base + scale * RNG.standard_normal(base.shape) * 0.05, dtype)
    assert row["flipped"] == np.count_nonzero(np.sign(w) * np.sign(t) < 0)
    expected = row["chance"] * base.size
    assert row["flipped"] == pytest.approx(expected, abs=5 * np.sqrt(expected) + 0.01 * expected)


def test_an_update_that_only_scales_flips_nothing_where_chance_would(tmp_path):
    base = RNG.standard_normal((300, 200))
    row, _, _ = row_of(tmp_path, base, 0.9 * base)
    assert row["flipped"] == 0 and row["chance"] > 0.01


def test_nothing_moved_flips_nothing_by_chance_either(tmp_path):
    base = RNG.standard_normal((30, 20))
    row, _, _ = row_of(tmp_path, base, base)
    assert (row["flipped"], row["chance"]) == (0, 0.0)
