"""The share of an update that changes no singular value, held against planted frames and values."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group

from opdviz.measures import geometry, magnitude
from opdviz.tables.by_tensor import with_isospectral_residual
from tests.conftest import measured_arrays

RNG = np.random.default_rng(43)
M, N = 60, 40
LEFT, RIGHT = (ortho_group.rvs(size, random_state=RNG) for size in (M, N))
S = np.geomspace(3.0, 0.3, N)


def matrix(s, left=LEFT, right=RIGHT) -> np.ndarray:
    return (left[:, :N] * s) @ right.T


def residual(folder, tuned) -> pd.Series:
    """The residual of an update of one base, and its chance."""
    tables, _, _ = measured_arrays(folder, matrix(S), tuned, "float64", (magnitude, geometry))
    drift = tables["drift"].rename(columns={"chance": "nss_chance"})
    rows = tables["tensors"][["name", "relative_norm"]].merge(drift, on="name")
    return with_isospectral_residual(rows).iloc[0]


def test_other_values_in_the_same_frames_leave_nothing(tmp_path):
    assert residual(tmp_path, matrix(1.01 * S))["isospectral_residual"] == pytest.approx(
        0, abs=1e-9
    )


def test_the_same_values_in_other_frames_leave_everything(tmp_path):
    turned = matrix(S, left=ortho_group.rvs(M, random_state=RNG))
    assert residual(tmp_path, turned)["isospectral_residual"] == pytest.approx(1, abs=1e-9)


def test_noise_is_at_chance_and_near_the_tuned_values_in_the_base_s_frames(tmp_path):
    base, noise = matrix(S), 1e-3 * RNG.standard_normal((M, N))
    row = residual(tmp_path, base + noise)
    # What is left when the tuned's values are put on the base's frames: needs every vector.
    tuned_values = np.linalg.svd(base + noise, compute_uv=False)
    framed = np.linalg.norm(base + noise - matrix(tuned_values)) ** 2 / np.linalg.norm(noise) ** 2
    assert row["isospectral_residual"] == pytest.approx(framed, abs=2e-3)
    assert row["isospectral_residual"] == pytest.approx(
        row["isospectral_residual_chance"], abs=0.02
    )
    assert 0.97 < row["isospectral_residual"] < 0.995
