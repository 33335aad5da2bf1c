"""Leading directions of two updates: the same, independent, of low rank and stored in bf16."""

import numpy as np
import pytest

from opdviz.checkpoint.formats import round_bfloat16
from opdviz.runs import relations, subspaces
from opdviz.runs.masks import matching_of
from tests.conftest import write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"
SHAPE = (240, 160)


def similar(folder, base: np.ndarray, *updates: np.ndarray, dtype: str) -> list[dict]:
    """The rows of the updates of one matrix."""
    if dtype == "bfloat16":
        base = round_bfloat16(base.astype(np.float32))
    first = write_checkpoint(folder / "base", {NAME: base}, dtype)
    runs = [
        write_checkpoint(folder / f"run{at}", {NAME: base + update}, dtype)
        for at, update in enumerate(updates)
    ]
    (tensor,) = relations.shared([matching_of(first, run) for run in runs])
    names = [f"run{at}" for at in range(len(runs))]
    return subspaces.of_tensor(tensor, names)["subspace_similarity"]


def low_rank(seed: int, rank: int, size: float) -> np.ndarray:
    """An update of some directions, of so much a coordinate."""
    rng = np.random.default_rng(seed)
    update = rng.standard_normal((SHAPE[0], rank)) @ rng.standard_normal((rank, SHAPE[1]))
    return size * update / update.std()


def test_one_update_twice_has_one_subspace_and_a_random_other_that_of_chance(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(scale=0.02, size=SHAPE)
    first, other = (1e-3 * rng.standard_normal(SHAPE) for _ in range(2))
    rows = similar(tmp_path, base, first, first, other, dtype="float32")
    assert len(rows) == 3 * 2 and {row["k"] for row in rows} == {16}, "16 is a tenth of 160"
    for row in rows:
        assert row["chance"] == 16 / SHAPE[row["side"] == "right"]
        if row["run_b"] == "run1":
            assert row["similarity"] == pytest.approx(1.0)
        else:
            assert row["similarity"] == pytest.approx(row["chance"], rel=0.5)
            assert row["null_low"] <= row["similarity"] <= row["null_high"]


def test_independent_updates_of_low_rank_exceed_chance_and_lie_inside_the_rotation_null(tmp_path):
    """Beyond its rank a stored update is the rounding of weights, whose grid both runs share."""
    rng = np.random.default_rng(0)
    columns = np.exp(2.0 * rng.standard_normal(SHAPE[1]))  # some inputs have coarse weights
    base = 0.02 * columns * rng.standard_normal(SHAPE)
    rows = similar(tmp_path, base, *(low_rank(s, 2, 1e-4) for s in (1, 2)), dtype="bfloat16")
    (right,) = (row for row in rows if row["side"] == "right")
    assert right["similarity"] > 1.5 * right["chance"]
    assert right["null_low"] <= right["similarity"] <= right["null_high"]


def test_what_both_runs_share_lies_above_the_rotation_null(tmp_path):
    rng = np.random.default_rng(0)
    base, shared = rng.normal(scale=0.02, size=SHAPE), low_rank(1, 16, 1e-3)
    updates = [shared + 2e-4 * rng.standard_normal(SHAPE) for _ in range(2)]
    for row in similar(tmp_path, base, *updates, dtype="bfloat16"):
        assert row["similarity"] > 0.8 > row["null_high"]


def test_an_update_of_fewer_directions_than_are_compared_has_no_similarity(tmp_path):
    base = np.random.default_rng(0).normal(scale=0.02, size=SHAPE)
    rows = similar(tmp_path, base, np.zeros(SHAPE), low_rank(1, 30, 1e-2), dtype="float32")
    assert {row["similarity"] for row in rows} == {None}
    exact = np.zeros(SHAPE)
    exact[0] = 1.0  # one direction
    rows = similar(tmp_path / "one", base, exact, low_rank(1, 30, 1e-2), dtype="float32")
    assert {row["similarity"] for row in rows} == {None}
