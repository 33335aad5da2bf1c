"""Nuclear norms and ranks beside the base's, held against numpy's singular values."""

import numpy as np
import pytest

from opdviz import checkpoint
from opdviz.measures import magnitude, spectrum
from opdviz.tables import summaries
from tests.conftest import GOLDEN, measured_arrays

RNG = np.random.default_rng(41)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_the_nuclear_norm_is_the_sum_of_singular_values(tmp_path, shape):
    base = RNG.normal(size=shape)
    tables, w, t = measured_arrays(
        tmp_path, base, base + 0.01 * RNG.normal(size=shape), measures=(magnitude, spectrum)
    )
    rows = tables["spectrum_summary"].set_index("matrix")["nuclear_norm"]
    for matrix, values in {"base": w, "tuned": t, "delta": t.astype(float) - w}.items():
        assert rows[matrix] == pytest.approx(np.linalg.norm(values.astype(float), "nuc"), rel=1e-6)
    assert rows["gaussian"] == pytest.approx(rows["delta"], rel=0.05), "the update is Gaussian"


def test_leading_values_alone_have_no_nuclear_norm():
    assert spectrum.summary(np.array([3.0, 2.0]), total=20.0)["nuclear_norm"] is None


def test_ranks_stand_beside_the_base_s(golden_store):
    (comparison,) = golden_store.all()
    rows = summaries.summary(comparison, "by_tensor").set_index("name")
    name = "model.layers.0.mlp.up_proj.weight"
    w, t = (checkpoint.open(GOLDEN / side).read(name).astype(float) for side in ("base", "tuned_b"))
    of_base, of_tuned, of_delta = (
        spectrum.entropy_rank(s / s.sum())
        for s in (np.linalg.svd(x, compute_uv=False) for x in (w, t, t - w))
    )
    assert rows.loc[name, "entropy_rank_tuned"] == pytest.approx(of_tuned / of_base, rel=1e-6)
    assert rows.loc[name, "entropy_rank_relative"] == pytest.approx(of_delta / of_base, rel=1e-5)
