"""Masks of every kind, on planted updates and beside a plain computation."""

import numpy as np
import pytest

from opdviz.cli import main
from opdviz.runs import mask_kinds, masks
from tests.conftest import compared_here, write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"
SHAPE = (40, 30)
ROWS = np.arange(SHAPE[0])[:, None]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A cache with two runs that moved rows 0 to 19 and 10 to 29, and their names."""
    folder = tmp_path_factory.mktemp("family")
    rng = np.random.default_rng(0)
    weights = {NAME: rng.normal(scale=0.02, size=SHAPE), "model.norm.weight": np.ones(30)}
    base = write_checkpoint(folder / "base", weights, "bfloat16")
    for name, first in (("a", 0), ("b", 10)):
        moves = (first <= ROWS) & (first + 20 > ROWS)
        tuned = weights | {NAME: weights[NAME] + 0.05 * moves}
        compared_here(
            folder / "cache", base, write_checkpoint(folder / name, tuned, "bfloat16"), name
        )
    return folder


def mask_of(family, *options: str) -> masks.Mask:
    """The mask that the command writes."""
    out = family / "mask.safetensors"
    assert main(["subnetwork", *options, "--cache", str(family / "cache"), "--out", str(out)]) == 0
    return masks.open_mask(out)


@pytest.mark.parametrize(
    ("kind", "first", "last"), [("union", 0, 30), ("intersection", 10, 20), ("difference", 0, 10)]
)
def test_sets_of_what_two_runs_moved(family, kind, first, last):
    mask = mask_of(family, "a", "b", "--kind", kind)
    assert np.array_equal(mask.read(NAME), np.broadcast_to((first <= ROWS) & (last > ROWS), SHAPE))
    assert not mask.read("model.norm.weight").any()
    assert mask.density == pytest.approx((last - first) * 30 / (1200 + 30))
    assert len(mask.key.split(",")) == 2


def test_as_many_at_random_in_each_tensor(family):
    mask = mask_of(family, "a", "--kind", "random")
    drawn = mask.read(NAME)
    assert drawn.sum() == 600 and not mask.read("model.norm.weight").any()
    assert drawn[:20].sum() == pytest.approx(300, abs=60)
    again = mask_of(family, "a", "--kind", "random", "--seed", "1").read(NAME)
    assert again.sum() == 600 and not np.array_equal(drawn, again)


def test_masks_of_the_base_are_those_of_a_plain_computation(family):
    base = masks.matching_of(family / "base", family / "a").base.read(NAME).astype(float)
    large = mask_of(family, "a", "--kind", "principal", "--density", "0.2").read(NAME)
    u, s, vt = np.linalg.svd(base)
    rebuilt = np.abs((u[:, :6] * s[:6]) @ vt[:6]).ravel()
    expected = np.zeros(base.size, dtype=bool)
    expected[np.argsort(-rebuilt)[:240]] = True
    assert np.array_equal(large.ravel(), expected)
    small = mask_of(family, "a", "--kind", "low-magnitude", "--density", "0.2").read(NAME)
    assert small.sum() == 240
    assert np.abs(base[small]).max() <= np.abs(base[~small]).min()
    safe = mask_of(family, "a", "--kind", "safe", "--density", "0.2")
    assert np.array_equal(safe.read(NAME), ~(large & ~small))
    assert safe.read("model.norm.weight").all(), "a vector has no principal directions"


def test_equal_weights_at_the_cut_are_drawn_by_lot():
    lots = [np.random.default_rng(seed) for seed in range(2)]
    masks_ = [mask_kinds.smallest(np.repeat([1.0, 2.0], 500), 0.25, lot) for lot in lots]
    for mask in masks_:
        assert mask.sum() == 250 and not mask[500:].any()
    assert (masks_[0] & masks_[1]).sum() == pytest.approx(125, abs=40)


def test_experts_are_masked_slice_by_slice(tmp_path):
    name = "model.layers.0.mlp.experts.down_proj"
    stack = (
        np.random.default_rng(0).normal(size=(3, 20, 16))
        * np.array([1.0, 5.0, 25.0])[:, None, None]
    )
    paths = [write_checkpoint(tmp_path / at, {name: stack}, "float32") for at in ("base", "tuned")]
    (only,) = mask_kinds.of_base("low-magnitude", masks.matching_of(*paths), 0.1, 0)
    assert only[0] == name and only[1].shape == stack.shape
    assert only[1].sum(axis=(1, 2)).tolist() == [32, 32, 32]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["a", "--kind", "union"], "found 1 of them; expected two runs or more"),
        (["a", "b"], "found 2 of them; expected one run"),
        (["a", "a", "--kind", "union"], "named twice"),
        (["a", "--kind", "safe", "--threshold", "0"], "found --threshold"),
        (["a", "b", "--kind", "union", "--density", "0.1"], "found --density"),
        (["a", "--kind", "principal", "--density", "2"], "--density: found 2"),
        (["a", "--seed=-1"], "--seed: found -1"),
    ],
)
def test_wrong_requests_are_one_line(family, capsys, options, words):
    out = family / "no.safetensors"
    command = ["subnetwork", *options, "--cache", str(family / "cache"), "--out", str(out)]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and not out.exists()
