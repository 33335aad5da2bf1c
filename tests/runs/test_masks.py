"""Mask files: what is in them, what they are refused for, and the command that writes them."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from opdviz.checkpoint.formats import round_bfloat16
from opdviz.cli import main
from opdviz.errors import RequestError
from opdviz.runs import masks
from tests.conftest import GOLDEN, write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"
TRUTH = json.loads((GOLDEN / "truth_a.json").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> str:
    """A cache with the golden family's runs a and b."""
    cache = str(tmp_path_factory.mktemp("cache"))
    for run in "ab":
        pair = [str(GOLDEN / "base"), str(GOLDEN / f"tuned_{run}")]
        assert (
            main(
                [
                    "compare",
                    *pair,
                    "--name",
                    run,
                    "--measures",
                    "sparsity",
                    "--workers",
                    "1",
                    "--cache",
                    cache,
                ]
            )
            == 0
        )
    return cache


def subnetwork(cache: str, out, *more: str) -> int:
    return main(["subnetwork", "a", "--out", str(out), "--cache", cache, *more])


def test_the_mask_is_what_the_sparsity_table_counts_as_moved(compared, tmp_path, capsys):
    assert subnetwork(compared, tmp_path / "m.safetensors", "--threshold", "1e-5") == 0
    mask = masks.open_mask(tmp_path / "m.safetensors")
    moved = {name: int(mask.read(name).sum()) for name in mask.tensors}
    assert moved == {name: round(t["numel"] * (1 - t["le_1e5"])) for name, t in TRUTH.items()}
    assert mask.density == pytest.approx(sum(moved.values()) / 196_032)
    assert f"{mask.density:.4%}" in capsys.readouterr().out


def test_any_safetensors_reader_can_unpack_it(compared, tmp_path):
    subnetwork(compared, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "np") as file:
        facts = file.metadata()
        shape = json.loads(facts["shapes"])[NAME]
        bits = (
            np.unpackbits(file.get_tensor(NAME), count=int(np.prod(shape)))
            .reshape(shape)
            .astype(bool)
        )
    assert np.array_equal(bits, masks.open_mask(tmp_path / "m.safetensors").read(NAME))
    assert (
        json.loads(facts["threshold"]) == 1e-5
        and len(facts["key"]) == 16
        and json.loads(facts["base"])
    )


@pytest.mark.parametrize("density", [0.1, 0.05, 0.01])
def test_a_density_is_met_as_near_as_bf16_can_tell_changes_apart(compared, tmp_path, density):
    assert subnetwork(compared, tmp_path / "m.safetensors", "--density", str(density)) == 0
    mask = masks.open_mask(tmp_path / "m.safetensors")
    matching = masks.matching_of(GOLDEN / "base", GOLDEN / "tuned_a")
    sizes = np.concatenate([d.ravel() for _, d in masks.deltas(matching)])
    reached = np.array([np.mean(sizes > t) for t in np.unique(sizes)])
    assert abs(mask.density - density) <= np.abs(reached - density).min() + 1e-3


def test_more_density_than_moved_is_refused(compared, tmp_path, capsys):
    assert subnetwork(compared, tmp_path / "m.safetensors", "--density", "0.9") == 2
    assert "ask for less" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--threshold", "-1"], "a number from 0"),
        (["--threshold", "nan"], "a number from 0"),
        (["--density", "0"], "above 0"),
        (["--density", "0.1", "--threshold", "0"], "give one"),
    ],
)
def test_wrong_thresholds_are_one_line(compared, tmp_path, capsys, more, said):
    assert subnetwork(compared, tmp_path / "m.safetensors", *more) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_base_that_changed_since_is_refused(tmp_path, capsys):
    draw = np.random.default_rng(0)
    w = draw.normal(size=(8, 8))
    base, tuned = (
        write_checkpoint(tmp_path / n, {NAME: w + i}, "bfloat16")
        for i, n in enumerate(("base", "tuned"))
    )
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["compare", str(base), str(tuned), "--name", "x", "--workers", "1", *cache]) == 0
    write_checkpoint(base, {NAME: w + 2}, "bfloat16")
    assert main(["subnetwork", "x", "--out", str(tmp_path / "m.safetensors"), *cache]) == 2
    assert "no longer what was compared" in capsys.readouterr().err


def test_random_masks_have_the_same_density_matrix_by_matrix(compared, tmp_path):
    subnetwork(compared, tmp_path / "m.safetensors")
    mask = masks.open_mask(tmp_path / "m.safetensors")
    drawn = dict(masks.random_like(mask, 0))
    assert {n: int(b.sum()) for n, b in drawn.items()} == {
        n: int(mask.read(n).sum()) for n in mask.tensors
    }
    assert all(np.array_equal(b, drawn[n]) for n, b in masks.random_like(mask, 0))
    other = dict(masks.random_like(mask, 1))
    assert not all(np.array_equal(b, drawn[n]) for n, b in other.items())
    both = sum(int((drawn[n] & mask.read(n)).sum()) for n in drawn)
    expected = sum(int(b.sum()) ** 2 / b.size for b in drawn.values())
    assert both == pytest.approx(expected, rel=0.1)  # blind to the mask it replaces


def test_other_files_are_no_masks(tmp_path):
    save_file({NAME: np.zeros(3, dtype=np.uint8)}, tmp_path / "x.safetensors")
    with pytest.raises(RequestError, match="found no mask"):
        masks.open_mask(tmp_path / "x.safetensors")
    with pytest.raises(RequestError, match="found no mask"):
        masks.open_mask(GOLDEN / "base" / "model.safetensors")
    with pytest.raises(RequestError, match="no such file"):
        masks.open_mask(tmp_path / "none.safetensors")
    facts = {
        "kind": masks.KIND,
        "version": masks.VERSION,
        "shapes": json.dumps({NAME: [100]}),
        "key": "k",
        "base": "[]",
    }
    save_file(
        {NAME: np.zeros(3, dtype=np.uint8)},
        tmp_path / "y.safetensors",
        facts | {"threshold": "0", "density": "0"},
    )
    with pytest.raises(RequestError, match="found no mask"):  # 3 bytes cannot hold 100 bits
        masks.open_mask(tmp_path / "y.safetensors")


def pair_of(folder, base: dict, tuned: dict, dtype: str = "float32"):
    """Two matched checkpoints of some arrays."""
    return masks.matching_of(
        *(write_checkpoint(folder / n, t, dtype) for n, t in (("base", base), ("tuned", tuned)))
    )


@pytest.mark.parametrize("density", [0.5, 0.15, 0.05])
def test_values_that_are_no_numbers_are_in_no_mask_and_move_no_threshold(tmp_path, density):
    draw = np.random.default_rng(0)
    w = draw.normal(size=(100, 100))
    t = w + draw.normal(scale=0.1, size=w.shape)
    t[draw.random(w.shape) < 0.2] = np.nan
    matching = pair_of(tmp_path, {NAME: w}, {NAME: t})
    ((_, bits),) = masks.visible(matching, masks.threshold_for(matching, density))
    assert bits.mean() == pytest.approx(density, abs=0.01)
    assert not bits[np.isnan(t)].any()


def test_every_tensor_keeps_its_stored_shape(tmp_path):
    draw = np.random.default_rng(0)
    shapes = {
        "model.layers.0.mlp.experts.up_proj": (3, 4, 5),
        "conv.weight": (2, 3, 3, 3),
        "logit_scale": (),
        NAME: (4, 6),
    }
    base = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    tuned = {name: w + (draw.random(shapes[name]) < 0.5) for name, w in base.items()}
    matching = pair_of(tmp_path, base, tuned)
    masks.keep(
        tmp_path / "m.safetensors", masks.visible(matching, 1e-5), key="k", base=[], threshold=1e-5
    )
    mask = masks.open_mask(tmp_path / "m.safetensors")
    assert {name: t.shape for name, t in mask.tensors.items()} == shapes
    for name, w in base.items():
        sides = (round_bfloat16(np.float32(x)).reshape(shapes[name]) for x in (w, tuned[name]))
        assert np.array_equal(mask.read(name), np.not_equal(*sides)), name


def test_out_never_replaces_the_checkpoint_itself(compared, capsys, tmp_path):
    draw = np.random.default_rng(0)
    pair_of(
        tmp_path, {NAME: draw.normal(size=(8, 8))}, {NAME: draw.normal(size=(8, 8))}, "bfloat16"
    )
    cache = ["--cache", str(tmp_path / "cache")]
    sides = [str(tmp_path / side) for side in ("base", "tuned")]
    assert (
        main(["compare", *sides, "--name", "x", "--workers", "1", "--measures", "sparsity", *cache])
        == 0
    )
    file = tmp_path / "tuned" / "model.safetensors"
    kept = file.read_bytes()
    (tmp_path / "link").symlink_to(file)
    for out in (file, tmp_path / "link"):
        assert main(["subnetwork", "x", "--out", str(out), *cache]) == 2
        assert "checkpoint's own file" in capsys.readouterr().err
    assert file.read_bytes() == kept


def test_links_in_a_circle_are_one_line(compared, capsys, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert subnetwork(compared, tmp_path / "loop") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_checkpoints_without_weights_are_refused(tmp_path):
    matching = masks.matching_of(*(integers(tmp_path / side) for side in ("base", "tuned")))
    with pytest.raises(RequestError, match="no weights"):
        masks.keep(
            tmp_path / "m.safetensors",
            masks.visible(matching, 0.0),
            key="k",
            base=[],
            threshold=0.0,
        )


def integers(folder):
    """A checkpoint of whole numbers alone."""
    folder.mkdir()
    save_file({NAME: np.arange(12, dtype=np.int64).reshape(3, 4)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "facts",
    [{"shapes": "[" * 100_000}, {"shapes": json.dumps({NAME: [-7, -1]})}, {"threshold": "inf"}, {"density": "-3"},
     {"shapes": json.dumps({NAME: [float("inf")]})}],
)  # fmt: skip
def test_crafted_masks_are_refused(tmp_path, facts):
    plain = {
        "kind": masks.KIND,
        "version": masks.VERSION,
        "shapes": json.dumps({NAME: [7]}),
        "key": "k",
        "base": "[]",
    }
    plain |= {"threshold": "0", "density": "0.5"}
    save_file({NAME: np.zeros(1, dtype=np.uint8)}, tmp_path / "x.safetensors", plain)
    assert masks.open_mask(tmp_path / "x.safetensors").read(NAME).shape == (7,)
    save_file({NAME: np.zeros(1, dtype=np.uint8)}, tmp_path / "x.safetensors", plain | facts)
    with pytest.raises(RequestError, match="found no mask"):
        masks.open_mask(tmp_path / "x.safetensors")
