"""Planted families: the same update twice, negated, in other places, at random; every chance level
is met within its sampling error.
"""

import numpy as np
import pytest

from opdviz.checkpoint.formats import round_bfloat16
from opdviz.runs import relations
from opdviz.runs.masks import matching_of
from tests.conftest import write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"
SHAPE = (160, 120)
NUMEL = SHAPE[0] * SHAPE[1]


def related(folder, base: np.ndarray, *updates: np.ndarray, dtype: str = "bfloat16") -> dict:
    """Every table of the updates of one matrix."""
    base = round_bfloat16(base.astype(np.float32)) if dtype == "bfloat16" else base
    first = write_checkpoint(folder / "base", {NAME: base}, dtype)
    runs = [
        write_checkpoint(folder / f"run{at}", {NAME: base + update}, dtype)
        for at, update in enumerate(updates)
    ]
    (tensor,) = relations.shared([matching_of(first, run) for run in runs])
    return relations.of_tensor(tensor, [f"run{at}" for at in range(len(updates))])


@pytest.fixture
def weights() -> np.ndarray:
    """Weights of one size, whose grid is the same everywhere, so that an update stays what it is."""
    return np.random.default_rng(0).choice([-1.0, 1.0], SHAPE)


def steps(seed: int, share: float = 0.3) -> np.ndarray:
    """Whole steps of that grid up or down at random, in a share of the coordinates."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], SHAPE) * (rng.random(SHAPE) < share) / 64


def test_the_same_update_twice_and_its_negative(tmp_path, weights):
    update = steps(1)
    tables = related(tmp_path, weights, update, update, -update)
    same, opposite, _ = tables["relation"]
    assert (same["run_a"], same["run_b"], opposite["run_b"]) == ("run0", "run1", "run2")
    moved = int((update != 0).sum())
    assert same["both_moved"] == opposite["both_moved"] == moved
    assert (same["conflict"], opposite["conflict"]) == (0, moved)
    assert (same["conflict_share"], opposite["conflict_share"]) == (0.0, 1.0)
    assert same["cosine"] == pytest.approx(1.0) and opposite["cosine"] == pytest.approx(-1.0)
    assert same["row_jaccard"] == same["column_jaccard"] == opposite["row_jaccard"] == 1.0
    for row in tables["overlap"]:
        assert row["jaccard"] == row["a_in_b"] == 1.0
    exact = [row for row in tables["consensus"] if row["probe"] == "exact"]
    assert [row["count"] for row in exact] == [NUMEL - moved, 0, 0, moved]


def test_disjoint_updates_share_nothing(tmp_path, weights):
    update, half = steps(1, 1.0), np.arange(SHAPE[0])[:, None] < SHAPE[0] // 2
    tables = related(tmp_path, weights, update * half, update * ~half)
    (relation,) = tables["relation"]
    assert relation["both_moved"] == 0 and relation["conflict_share"] is None
    assert relation["cosine"] == 0.0 and relation["row_jaccard"] == 0.0
    assert all(row["jaccard"] == row["a_in_b"] == 0.0 for row in tables["overlap"])


def test_random_updates_meet_every_chance_level_within_its_error(tmp_path, weights):
    tables = related(tmp_path, weights, *(steps(seed) for seed in range(1, 5)))
    share = 0.3
    for row in tables["overlap"]:
        spread = (NUMEL * share**2 * (1 - share**2)) ** 0.5
        for level in ("chance_both", "expected_both", "expected_both_rows"):
            assert row["both"] == pytest.approx(row[level], abs=5 * spread), level
        assert row["jaccard"] == pytest.approx(row["jaccard_chance"], abs=0.02)
    for row in tables["relation"]:
        error = 0.5 / row["both_moved"] ** 0.5
        assert row["conflict_share"] == pytest.approx(row["conflict_chance"], abs=5 * error)
        assert abs(row["cosine"]) < 5 * row["cosine_spread"]
    # Ten pairs of channels each: their mean lies near chance, one of them anywhere.
    for axis in ("row", "column"):
        index = [row[f"{axis}_jaccard"] for row in tables["relation"]]
        chance = tables["relation"][0][f"{axis}_jaccard_chance"]
        assert np.mean(index) == pytest.approx(chance, abs=0.12)
    exact = [row for row in tables["consensus"] if row["probe"] == "exact"]
    assert sum(row["count"] for row in exact) == NUMEL
    for row in exact:
        assert row["count"] == pytest.approx(row["expected"], abs=5 * row["expected"] ** 0.5 + 5)


@pytest.mark.parametrize("sizes", [(2e-5, 2e-4), (2e-5, 5e-5)])
def test_blind_updates_of_very_different_size_are_what_sizes_explain(tmp_path, sizes):
    rng = np.random.default_rng(0)
    base = rng.normal(scale=0.02, size=(400, 300))
    updates = [rng.normal(scale=size, size=base.shape) for size in sizes]
    row = related(tmp_path, base, *updates)["overlap"][0]
    error = 5 / row["both"] ** 0.5  # and what a quarter octave leaves of the sizes
    assert row["both"] / row["expected_both"] == pytest.approx(1.0, abs=error + 0.01)
    assert row["both"] > 1.05 * row["chance_both"]


def test_wide_checkpoints_are_counted_as_bf16_and_their_angle_as_stored(tmp_path):
    rng = np.random.default_rng(0)
    base, update = rng.normal(scale=0.02, size=SHAPE), rng.normal(scale=1e-7, size=SHAPE)
    tables = related(tmp_path, base, update, update, dtype="float32")
    assert tables["overlap"][0]["a"] < 0.02 * NUMEL, "few of so small changes show in bf16"
    assert tables["relation"][0]["cosine"] == pytest.approx(1.0)


def test_the_relative_probe_counts_beside_the_larger_of_both_weights(tmp_path, weights):
    tables = related(tmp_path, weights / 64, steps(1) / 64, steps(2) / 64)
    by_probe = {row["probe"]: row for row in tables["overlap"]}
    assert by_probe["relative"]["a"] == by_probe["exact"]["a"]
    tables = related(tmp_path / "small", weights / 2**14, steps(1) / 2**14, steps(2) / 2**14)
    by_probe = {row["probe"]: row for row in tables["overlap"]}
    assert by_probe["relative"]["a"] == by_probe["exact"]["a"] > by_probe["absolute"]["a"] == 0


def test_vectors_zeros_and_updates_that_moved_nothing_have_rows_too(tmp_path):
    name = "model.norm.weight"
    base = write_checkpoint(tmp_path / "base", {name: np.array([0.0, 1.0, 2.0])})
    moved = write_checkpoint(tmp_path / "moved", {name: np.array([0.5, 1.0, 2.5])})
    runs = [matching_of(base, moved), matching_of(base, base)]
    tables = relations.of_tensor(*relations.shared(runs), ["a", "b"])
    (relation,) = tables["relation"]
    assert relation["cosine"] is None and relation["row_jaccard"] is None
    assert tables["overlap"][0]["a"] == 2 and tables["overlap"][0]["b_in_a"] is None
