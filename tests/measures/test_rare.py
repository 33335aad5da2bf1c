"""Rare or small: bases without full rank, values at the ends of float64, rows that were zero, a
measure that fails.
"""

import numpy as np
import pytest

from opdviz import measures
from opdviz.linalg import Decomposition
from opdviz.measures import coordinates, geometry, magnitude, spectrum
from tests.conftest import measured_arrays
from tests.measures.blind_updates import NAME, pair_of, work_on

RNG = np.random.default_rng(0)


def of_rank(m: int, n: int, rank: int) -> np.ndarray:
    """A random matrix of a rank."""
    return RNG.standard_normal((m, rank)) @ RNG.standard_normal((rank, n))


def conditioned(n: int, condition: float) -> np.ndarray:
    """A square matrix whose values fall evenly on a log axis."""
    u, v = (np.linalg.qr(RNG.standard_normal((n, n)))[0] for _ in range(2))
    return (u * np.geomspace(1.0, 1 / condition, n)) @ v


@pytest.mark.parametrize("shape", [(600, 500), (500, 500), (64, 40)])
def test_what_the_gram_matrix_does_not_resolve_stays_below_the_error_bound(shape):
    """A delta of rank 8: every further singular value is zero, and what is found there is the
    method's own error.
    """
    delta = of_rank(*shape, 8)
    s = Decomposition(
        RNG.standard_normal(shape), RNG.standard_normal(shape) * 0
    ).delta_spectrum.s  # a full one, for comparison
    assert s[-1] > 0
    work = Decomposition(np.zeros(shape), delta)
    assert 0 < work.delta_spectrum.s[8:].max() < work.bounds["delta"]


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_the_drift_of_a_base_without_full_rank_is_exact(size):
    base = of_rank(600, 500, 50)
    tuned = base + size * RNG.standard_normal(base.shape)
    exact = np.linalg.norm(
        np.linalg.svd(tuned, compute_uv=False) - np.linalg.svd(base, compute_uv=False)
    )
    assert geometry.drift(Decomposition(base, tuned))["drift"] == pytest.approx(exact, rel=1e-6)


def test_a_square_matrix_has_nothing_outside_however_it_is_conditioned():
    base = conditioned(120, 1e9)
    work = Decomposition(base, base + 1e-4 * RNG.standard_normal(base.shape))
    assert work.usable < work.r
    rows = geometry.basis_energies(work)
    assert not any(
        row["energy"] for row in rows if "outside" in (row["row_bin"], row["column_bin"])
    )
    assert sum(row["energy"] for row in rows) == pytest.approx(1.0)


def test_directions_that_the_base_does_not_have_give_no_share():
    base = of_rank(200, 100, 12)
    pair, work = work_on(base, base + 1e-3 * RNG.standard_normal(base.shape), "float64")
    tables = geometry.rows(pair, work)
    for row in tables["projection"]:
        assert (row["energy"] is None) == (row["k"] > 12), row
    assert "directions beyond 12 of 100" in tables["skipped"][0]["reason"]
    assert any(row["energy"] is None for row in tables["basis_energy"])


def test_the_size_of_a_tuned_that_all_but_vanished_is_its_own():
    base = RNG.standard_normal((30, 20)).astype(np.float32)
    row = magnitude.sizes(Decomposition(base, base * np.float32(1e-9)))
    assert row["tuned_norm"] == pytest.approx(1e-9 * row["base_norm"], rel=1e-6)
    assert row["cosine"] == pytest.approx(1.0)


def test_what_is_left_of_almost_pure_shrink_is_not_computed_from_its_rounding():
    base = RNG.standard_normal((60, 40))
    noise = RNG.standard_normal(base.shape)
    for size, given in ((1e-6, False), (1e-3, True)):
        rows = geometry.projections(Decomposition(base, 0.99 * base + 1e-2 * size * noise))
        assert all((row["energy_without_shrink"] is not None) == given for row in rows), size


@pytest.mark.parametrize(("scale", "words"), [
    (1e160, "values beyond 1e+150: their squares do not fit float64"),
    (1e-170, "the base's squares are below what float64 holds: it has no directions"),
])  # fmt: skip
def test_the_ends_of_float64_cost_what_cannot_be_squared_and_say_so(tmp_path, scale, words):
    base = scale * RNG.standard_normal((40, 36))
    tables, w, t = measured_arrays(tmp_path, base, base * 1.01, "float64")
    assert tables["tensors"]["moved"].item() == np.count_nonzero(w != t)
    assert words in set(tables["skipped"]["reason"])


def test_a_row_that_was_zero_and_moved_is_listed_first():
    base = RNG.standard_normal((50, 8)).astype(np.float32)
    base[7] = 0
    name = "model.embed_tokens.weight"
    pair, work = work_on(base, base + np.float32(1e-3), "float32", name=name)
    rows = coordinates.most_moved_rows(pair, work)
    assert len(rows) == 50
    assert (rows[0]["row"], rows[0]["relative_norm"], rows[0]["shrink"], rows[0]["cosine"]) == (
        7,
        None,
        None,
        None,
    )
    assert rows[1]["relative_norm"] > rows[-1]["relative_norm"] > 0


@pytest.mark.parametrize(
    "error", [ValueError("x" * 999), ZeroDivisionError(), KeyError("y"), FloatingPointError()]
)
def test_whatever_a_measure_raises_costs_that_tensor_s_rows_and_is_said(monkeypatch, error):
    def failing(pair, work):
        raise error

    monkeypatch.setattr(geometry, "rows", failing)
    pair = pair_of(RNG.standard_normal((8, 6)), RNG.standard_normal((8, 6)), "float32")
    work = Decomposition(pair.base, pair.tuned)
    (row,) = measures.measure(pair, work, geometry)["skipped"]
    assert (row["name"], row["measure"]) == (NAME, "geometry")
    assert 0 < len(row["reason"]) < 200 and "\n" not in row["reason"]
    assert measures.measure(pair, work, spectrum)["spectrum_summary"]


def test_memory_that_runs_out_is_the_machine_s_and_ends_the_run(monkeypatch):
    def failing(pair, work):
        raise MemoryError

    monkeypatch.setattr(geometry, "rows", failing)
    pair = pair_of(RNG.standard_normal((8, 6)), RNG.standard_normal((8, 6)), "float32")
    with pytest.raises(MemoryError, match="^$"):
        measures.measure(pair, Decomposition(pair.base, pair.tuned), geometry)
