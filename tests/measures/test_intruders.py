"""Intruder dimensions, against every vector of both matrices, and their chance against draws."""

import numpy as np
import pytest

from opdviz.measures import intruders, magnitude
from opdviz.measures.sides import work_of
from tests.conftest import measured_arrays
from tests.measures.blind_updates import pair_of

RNG = np.random.default_rng(5)
ONLY = (magnitude, intruders)


def by_hand(base: np.ndarray, tuned: np.ndarray, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Of each leading tuned left vector the nearest of the base, and |cosine|."""
    u, _, _ = np.linalg.svd(base.astype(np.float64), full_matrices=False)
    v, _, _ = np.linalg.svd(tuned.astype(np.float64), full_matrices=False)
    cosines = np.abs(u.T @ v[:, :k])
    return cosines.argmax(axis=0), cosines.max(axis=0)


def planted(shape: tuple[int, int], size: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A base with falling values, and the same with some new directions above all of them."""
    base = RNG.standard_normal(shape) * np.geomspace(1, 0.05, shape[1])
    left = np.linalg.qr(RNG.standard_normal((shape[0], count)))[0]
    right = np.linalg.qr(RNG.standard_normal((shape[1], count)))[0]
    norm = np.linalg.norm(base, 2)
    return base, base + size * norm * left @ right.T


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (64, 64), (8, 40)])
@pytest.mark.parametrize("count", [1, 3])
def test_they_are_those_of_all_vectors(tmp_path, shape, count):
    base, tuned = planted(shape, 2.0, count)
    tables, w, t = measured_arrays(tmp_path, base, tuned, measures=ONLY)
    nearest, cosines = by_hand(w, t)
    row, match = tables["intruder"].iloc[0], tables["match"]
    k = min(10, *shape)
    assert row["probed"] == k == len(match)
    np.testing.assert_allclose(match["cosine"], cosines[:k], rtol=1e-6)
    np.testing.assert_array_equal(match["nearest"] - 1, nearest[:k])
    assert row["intruders"] == np.count_nonzero(cosines[:k] < 0.5)
    if min(shape) > 10:
        assert row["intruders"] >= count and row["chance"] == 0.0


def test_all_vectors_are_made_only_where_the_leading_ones_leave_it_open(monkeypatch):
    base = RNG.standard_normal((300, 200)) * np.geomspace(1, 0.05, 200)
    made = []
    for tuned in (
        base * 1.01 + 1e-4 * RNG.standard_normal(base.shape),
        planted((300, 200), 2, 1)[1],
    ):
        pair = pair_of(base, tuned, "float32")
        work = work_of(pair)
        intruders.rows(pair, work)
        made.append(work.of_base.known("every vector") is not None)
    assert made == [False, True]


@pytest.mark.parametrize("shape", [(400, 250), (250, 400)])
@pytest.mark.parametrize("scale", [0.02, 0.11, 0.2])
def test_a_blind_update_makes_as_many_as_chance_says(tmp_path, shape, scale):
    left = np.linalg.qr(RNG.standard_normal((shape[0], 12)))[0]
    right = np.linalg.qr(RNG.standard_normal((shape[1], 12)))[0]
    base = (left * np.geomspace(20, 1, 12)) @ right.T + 1e-3 * RNG.standard_normal(shape)
    counts = []
    for draw in range(3):
        update = scale * RNG.standard_normal(shape)
        tables, _, _ = measured_arrays(tmp_path / str(draw), base, base + update, measures=ONLY)
        counts.append(tables["intruder"].iloc[0]["intruders"])
    # Where values fall by a quarter from one to the next, the edge is met within one of them.
    assert np.mean(counts) == pytest.approx(tables["intruder"].iloc[0]["chance"], abs=1.0)
    assert (np.mean(counts) > 0) == (scale > 0.1)


def test_nothing_moved_nothing_intrudes(tmp_path):
    base = RNG.standard_normal((30, 20))
    tables, _, _ = measured_arrays(tmp_path, base, base, measures=ONLY)
    row = tables["intruder"].iloc[0]
    assert (row["intruders"], row["least"], row["chance"]) == (0, 1.0, 0.0)


def test_a_base_of_nothing_has_no_directions(tmp_path):
    zeros = np.zeros((30, 20))
    tables, _, _ = measured_arrays(tmp_path, zeros, zeros + 1.0, measures=ONLY)
    assert tables.get("intruder") is None or tables["intruder"].empty
