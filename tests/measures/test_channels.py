"""Energy of rows and columns, held against sorting them, and their chance against draws."""

import numpy as np
import pytest

from opdviz.measures import blind, channels, magnitude
from tests.conftest import measured_arrays

RNG = np.random.default_rng(31)
ONLY = (magnitude, channels)


def shares(folder, base, tuned, dtype="float32"):
    """The rows by axis, and the update as stored."""
    tables, w, t = measured_arrays(folder, base, tuned, dtype, ONLY)
    return tables["channels"].set_index("axis"), t.astype(float) - w


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(60, 25), (25, 60)])
def test_the_share_is_that_of_the_largest(tmp_path, dtype, shape):
    base = RNG.normal(size=shape)
    scale = np.exp(RNG.normal(size=(shape[0], 1)))
    rows, d = shares(tmp_path, base, base + 0.05 * scale * RNG.normal(size=shape), dtype)
    for axis, across in (("row", 1), ("column", 0)):
        energy = np.sort((d**2).sum(axis=across))[::-1]
        k = int(np.ceil(0.1 * len(energy)))
        assert rows.loc[axis, "k"] == k
        assert rows.loc[axis, "energy_share"] == pytest.approx(energy[:k].sum() / energy.sum())
    assert rows.loc["row", "energy_share"] > 1.3 * rows.loc["row", "chance"], "rows differ"


def test_the_chance_is_that_of_gaussian_draws():
    for channels_, width in ((100, 64), (37, 5), (20, 400), (500, 16)):
        k = int(np.ceil(0.1 * channels_))
        draws = []
        for _ in range(400):
            energy = np.sort((RNG.normal(size=(channels_, width)) ** 2).sum(axis=1))[::-1]
            draws.append(energy[:k].sum() / energy.sum())
        error = np.std(draws) / np.sqrt(len(draws))
        expected = blind.channel_concentration(k, channels_, width)
        assert expected == pytest.approx(np.mean(draws), abs=5 * error + 0.01 * expected)


def test_what_did_not_move_has_no_share(tmp_path):
    base = RNG.normal(size=(12, 8))
    rows, _ = shares(tmp_path, base, base)
    assert rows["energy_share"].isna().all() and rows["chance"].notna().all()
