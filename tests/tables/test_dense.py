"""Sparse, or only small: the reference beside draws, a dense update that lies on it, a sparse one
that does not.
"""

import numpy as np
import pytest

from opdviz.checkpoint.formats import round_bfloat16
from opdviz.tables import dense
from tests.conftest import compared_here, write_checkpoint

DRAWS = 1_000_000
SHAPES = {
    "model.layers.0.mlp.up_proj.weight": (300, 200, 0.02),
    "model.layers.1.mlp.up_proj.weight": (200, 300, 0.3),
    "model.embed_tokens.weight": (500, 100, 1.0),
}


@pytest.mark.parametrize("ratio", [0.03, 0.5, 1.0, 2.5, 6.0])
def test_what_is_left_of_a_gaussian_change_is_that_of_draws(ratio):
    rng = np.random.default_rng(0)
    steps = rng.standard_normal(DRAWS) / ratio
    off = rng.random(DRAWS) - 0.5
    for table, stored in (
        (dense.on_grid(), np.rint(steps)),
        (dense.between_grid(), np.rint(off + steps) - np.rint(off)),
    ):
        (unchanged,), (square,) = table.at(np.array([ratio]))
        share = (stored == 0).mean()
        assert unchanged == pytest.approx(share, abs=5 * (share * (1 - share) / DRAWS) ** 0.5)
        squares = ratio**2 * stored**2
        assert square == pytest.approx(squares.mean(), abs=5 * squares.std() / DRAWS**0.5)


def compared(folder, dtype: str, size: float, share: float = 1.0):
    """A base and its update by so much of each tensor's size, in a share of the coordinates."""
    rng = np.random.default_rng(1)
    base = {name: rms * rng.standard_normal((m, n)) for name, (m, n, rms) in SHAPES.items()}
    if dtype == "bfloat16":  # an update starts from the base as it is stored
        base = {name: round_bfloat16(w.astype(np.float32)) for name, w in base.items()}
    tuned = {
        name: w
        + size * SHAPES[name][2] * rng.standard_normal(w.shape) * (rng.random(w.shape) < share)
        for name, w in base.items()
    }
    sides = [write_checkpoint(folder / side, w, dtype) for side, w in (("b", base), ("t", tuned))]
    return compared_here(folder / "cache", *sides)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("size", [3e-4, 3e-3, 3e-2])
def test_a_dense_update_lies_on_the_reference_layer_by_layer_and_as_a_whole(tmp_path, dtype, size):
    comparison = compared(tmp_path, dtype, size)
    rows = dense.by_layer(comparison)
    assert rows["layer"].isna().tolist() == [False, False, True] and len(rows) == 3
    for _, row in rows.iterrows():
        share, numel = row["unchanged"], row["numel"]
        # The norm is a sample as well: twice the error of the share alone.
        error = 10 * (share * (1 - share) / numel) ** 0.5
        assert row["dense_unchanged"] == pytest.approx(share, abs=error + 1e-4)
    curve = dense.curve(comparison)
    assert (np.diff(curve["unchanged"]) <= 1e-9).all(), "a larger update leaves less"
    norm = float(np.average(rows["relative_norm"], weights=rows["numel"]))
    whole = float(np.average(rows["unchanged"], weights=rows["numel"]))
    assert dense.at_norm(curve, norm) == pytest.approx(whole, abs=0.01)


def test_a_sparse_update_lies_far_above_it(tmp_path):
    rows = dense.by_layer(compared(tmp_path, "bfloat16", 0.1, share=0.05))
    assert (rows["unchanged"] > 0.94).all()
    assert (rows["dense_unchanged"] < 0.35).all()


def test_what_is_beyond_the_curve_or_not_in_16_bits_has_no_reference(tmp_path):
    comparison = compared(tmp_path, "bfloat16", 0.0)
    assert dense.by_layer(comparison)["dense_unchanged"].isna().all()
    assert dense.at_norm(dense.curve(comparison), 50.0) is None
