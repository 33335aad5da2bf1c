"""The rounding null beside the plain formula in float64, and its scale."""

import math

import numpy as np
import pytest

from opdviz.checkpoint.formats import rounded
from opdviz.linalg import Decomposition, rounding
from opdviz.measures import spectrum


def moved(m: int, n: int, form: str) -> Decomposition:
    """A matrix and a small update of low rank, as a format stores them."""
    rng = np.random.default_rng(3)
    base = rounded((0.03 * rng.standard_normal((m, n))).astype(np.float32), form)
    update = rng.standard_normal((m, 6)) @ rng.standard_normal((6, n))
    update *= 3e-3 * np.linalg.norm(base) / np.linalg.norm(update)
    return Decomposition(base, rounded((base + update).astype(np.float32), form), form=form)


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(300, 120), (120, 300)])
def test_what_storing_leaves_is_that_of_the_plain_formula(form, shape):
    work = moved(*shape, form)
    update = work.stored_update()
    base, delta = work.base.astype(np.float64), work.tuned.astype(np.float64) - work.base
    left, s, right = np.linalg.svd(delta, full_matrices=False)
    low_rank = left[:, :16] * s[:16] @ right[:16]
    everything = slice(None)
    for scale in (0.3, 1.0, 1.7):
        plain = rounded(base + scale * low_rank, form) - base
        assert update.norm_at(scale) == pytest.approx(np.linalg.norm(plain), rel=1e-4)
        change = update.change(everything, everything)
        # A sum that float32 rounds onto a tie may go to the other neighbour.
        assert np.mean(change != plain) < 1e-3
        tall = (change if shape[0] > shape[1] else change.T).astype(np.float64)
        np.testing.assert_allclose(update.gram(), tall.T @ tall, rtol=1e-9, atol=1e-20)


def test_the_null_has_the_norm_of_the_update():
    work = moved(600, 200, "bfloat16")
    values, reason = spectrum.rounding_null(work)
    assert reason is None and len(values) == 200
    norm = math.sqrt(work.delta_energy)
    assert np.linalg.norm(values) == pytest.approx(norm, rel=rounding.PRECISION)


@pytest.mark.parametrize("power", [0.1, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("wanted", [1e-3, 1.0, 40.0])
def test_a_scale_is_found_in_few_tries_wherever_it_lies(power, wanted):
    tries = []

    def norm_at(scale: float) -> float:
        tries.append(scale)
        return scale**power

    exact = wanted ** (1 / power)
    scale = rounding.matching_scale(norm_at, wanted)
    if exact > rounding.LARGEST_SCALE:
        assert scale is None
    else:
        assert scale**power == pytest.approx(wanted, rel=rounding.PRECISION)
    assert len(tries) <= rounding.TRIES


def test_a_norm_that_goes_by_steps_has_a_scale_where_a_step_fits_and_none_where_none_does():
    def steps(scale: float) -> float:
        return math.floor(50 * scale) / 50

    assert steps(rounding.matching_scale(steps, 1.3)) == pytest.approx(1.3)
    assert rounding.matching_scale(steps, 1.31) is None
    assert rounding.matching_scale(lambda scale: min(scale, 2.0), 3.0) is None
    assert rounding.matching_scale(lambda scale: 0.0, 1.0) is None
