"""The k-th smallest of many numbers in blocks is what sorting all of them gives."""

import numpy as np
import pytest

from opdviz import order


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [None, 1])
def test_cuts_are_those_of_the_sorted_numbers(dtype, decimals):
    """Also where many are equal, where one is nothing and where one is beyond a float32."""
    values = np.abs(np.random.default_rng(0).standard_normal(1000)).astype(dtype)
    values = values if decimals is None else values.round(decimals)
    values[:3] = [0.0, 1e-40, 1e39 if dtype == np.float64 else 3e38]
    places = [1, 2, 17, 500, 999, 1000]
    blocks = np.array_split(values, 7)
    for k, cut in zip(places, order.cuts(lambda: ((b, None) for b in blocks), places), strict=True):
        value = np.sort(values)[k - 1]
        assert cut == (value, np.count_nonzero(values < value), np.count_nonzero(values == value))
