"""A part of an update applied to its base: all of it is the tuned and none the base, to the bit, and
so many moves are kept as were asked for.
"""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opdviz import checkpoint
from opdviz.checkpoint import writing
from opdviz.checkpoint.formats import codes_in
from opdviz.cli import main
from opdviz.runs import apply, masks, relations
from tests.conftest import write_checkpoint

DTYPES = ("bfloat16", "float16", "float32")
NAME = "model.layers.{}.mlp.up_proj.weight"
SHAPES = {NAME.format(0): (40, 30), NAME.format(1): (24, 20), "model.norm.weight": (30,)}


def weights(seed: int) -> dict[str, np.ndarray]:
    """Tensors of a small model."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(scale=0.02, size=shape) for name, shape in SHAPES.items()}


def pair(folder, dtype: str, *, moved: float = 0.5):
    """A base, and a tuned that differs in about a share of its coordinates."""
    base, rng = weights(0), np.random.default_rng(1)
    tuned = {
        name: w + rng.normal(scale=1e-3, size=w.shape) * (rng.random(w.shape) < moved)
        for name, w in base.items()
    }
    base_path = write_checkpoint(folder / "base", base, dtype)
    tuned_path = write_checkpoint(folder / "tuned", tuned, dtype)
    (tuned_path / "config.json").write_text("{}")
    (tuned_path / "tokenizer.json").write_text("{}")
    (tuned_path / "trainer_state.json").write_text("{}")
    return base_path, tuned_path


def codes(path) -> dict[str, np.ndarray]:
    """Every tensor's stored codes."""
    opened = checkpoint.open(path)
    raw = {name: opened.read_raw(name) for name in opened.tensors}
    return {name: codes_in(info.dtype, data, info.dtype) for name, (data, info) in raw.items()}


def same(one, other) -> bool:
    """Whether two checkpoints hold the same bits."""
    a, b = codes(one), codes(other)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def applied(tmp_path, base, tuned, *options: str):
    """The folder that the command writes."""
    out = tmp_path / "-".join(["out", *options]).replace("/", "_").replace("%", "")
    assert main(["apply", str(base), str(tuned), *options, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shard_bytes", [1_000, writing.SHARD_BYTES])
def test_all_is_the_tuned_and_none_the_base_to_the_bit(tmp_path, monkeypatch, dtype, shard_bytes):
    monkeypatch.setattr(writing, "SHARD_BYTES", shard_bytes)
    base, tuned = pair(tmp_path, dtype)
    whole = applied(tmp_path, base, tuned, "--keep-top", "100%")
    assert same(whole, tuned)
    assert same(applied(tmp_path, base, tuned, "--keep-top", "0%"), base)
    sharded = shard_bytes == 1_000
    assert (whole / writing.INDEX).is_file() == sharded
    assert len(list(whole.glob("*.safetensors"))) == (3 if sharded else 1)
    beside = {"config.json", "tokenizer.json", "opdviz.json"}
    assert {path.name for path in whole.glob("*.json")} - {writing.INDEX} == beside
    again = applied(tmp_path, base, whole, "--keep-top", "100.0%")
    assert same(again, tuned), "shards are read as they are written"


def kept_of(base, tuned, out) -> tuple[np.ndarray, np.ndarray]:
    """Of all weights one after the other: which moved, and which of these moves stand in `out`."""
    first, second, third = (codes(path) for path in (base, tuned, out))
    moved = np.concatenate([(first[name] != second[name]).ravel() for name in first])
    kept = np.concatenate([(third[name] != first[name]).ravel() for name in first])
    assert all(((third[n] == first[n]) | (third[n] == second[n])).all() for n in first)
    return moved, kept


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("by", apply.BY)
def test_so_many_moves_are_kept_the_largest_of_them(tmp_path, monkeypatch, dtype, by):
    monkeypatch.setattr(relations, "BLOCK", 256)
    base, tuned = pair(tmp_path, dtype)
    sizes = np.concatenate(
        [
            np.abs(checkpoint.open(tuned).read(n).astype(float) - checkpoint.open(base).read(n))
            for n in SHAPES
        ],
        axis=None,
    )
    before, after = codes(base), codes(tuned)
    steps = np.concatenate(
        [
            np.abs(signed(after[n], dtype) - signed(before[n], dtype)).astype(float).ravel()
            for n in SHAPES
        ]
    )
    for share in ("50%", "10%", "5%", "0.7%"):
        out = applied(tmp_path, base, tuned, "--keep-top", share, "--by", by)
        moved, kept = kept_of(base, tuned, out)
        assert kept.sum() == round(float(share[:-1]) / 100 * moved.sum())
        record = json.loads((out / "opdviz.json").read_text())
        assert (record["kept"], record["moved"]) == (kept.sum(), moved.sum())
        if by != "random":
            key = sizes if by == "size" else steps
            assert key[kept].min() >= key[moved & ~kept].max()


def signed(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Codes as whole numbers that ascend with the values."""
    bits = 8 * raw.itemsize
    size = (raw & raw.dtype.type((1 << (bits - 1)) - 1)).astype(np.int64)
    return np.where(raw >> raw.dtype.type(bits - 1), -size, size)


def test_equal_moves_are_drawn_evenly_over_the_tensors(tmp_path):
    base = {NAME.format(at): np.ones((100, 100)) for at in range(2)}
    tuned = {name: 2 * w for name, w in base.items()}
    tuned[NAME.format(0)][:50] = 1.0
    first = write_checkpoint(tmp_path / "base", base, "bfloat16")
    second = write_checkpoint(tmp_path / "tuned", tuned, "bfloat16")
    drawn = {}
    for seed in "01":
        out = applied(tmp_path, first, second, "--keep-top", "10%", "--seed", seed)
        kept = codes(out)
        drawn[seed] = np.concatenate([(kept[name] == 0x4000).ravel() for name in base])
        shares = [(kept[name] == 0x4000).sum() for name in base]
        assert sum(shares) == 1500 and shares == pytest.approx([500, 1000], abs=2)
    both = (drawn["0"] & drawn["1"]).sum()
    assert both == pytest.approx(150, abs=60), "another seed draws others"
    moves = kept_of(first, second, out)[0]
    assert moves.sum() == 15_000


def test_a_tied_head_follows_its_embedding(tmp_path):
    rng = np.random.default_rng(0)
    embedding = rng.normal(scale=0.02, size=(50, 16))
    tuned = embedding + 1e-3 * rng.choice([-1.0, 1.0], (50, 16))
    paths = []
    for name, w in (("base", embedding), ("tuned", tuned)):
        tensors = {"lm_head.weight": w, "model.embed_tokens.weight": w, NAME.format(0): w.T.copy()}
        paths.append(write_checkpoint(tmp_path / name, tensors, "bfloat16"))
        (paths[-1] / "config.json").write_text('{"tie_word_embeddings": true}')
    out = codes(applied(tmp_path, *paths, "--keep-top", "30%", "--by", "steps"))
    assert np.array_equal(out["lm_head.weight"], out["model.embed_tokens.weight"])
    assert not np.array_equal(out["lm_head.weight"], codes(paths[0])["lm_head.weight"])
    record = json.loads((tmp_path / "out---keep-top-30---by-steps" / "opdviz.json").read_text())
    assert record["numel"] == 2 * 50 * 16, "it counts once"


def test_names_and_formats_are_those_of_the_tuned_and_its_own_tensors_stay(tmp_path):
    base = {name.removeprefix("model."): w for name, w in weights(0).items()}
    first = write_checkpoint(tmp_path / "base", base, "float32")
    tuned = weights(1) | {"score.weight": np.ones((2, 30))}
    second = write_checkpoint(tmp_path / "tuned", tuned, "bfloat16")
    out = codes(applied(tmp_path, first, second, "--keep-top", "0%"))
    assert set(out) == set(tuned) and out["score.weight"].dtype == np.uint16
    expected = codes_in("bfloat16", checkpoint.open(first).read("norm.weight"), "float32")
    assert np.array_equal(out["model.norm.weight"], expected)


def test_the_moves_inside_a_mask_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(relations, "BLOCK", 100)
    base, tuned = pair(tmp_path, "bfloat16")
    matching = masks.matching_of(base, tuned)
    path = tmp_path / "m.safetensors"
    masks.keep(path, masks.visible(matching, 5e-4), key="k", base=[], threshold=5e-4)
    out = applied(tmp_path, base, tuned, "--mask", str(path))
    moved, kept = kept_of(base, tuned, out)
    mask = masks.open_mask(path)
    inside = np.concatenate([mask.read(name).ravel() for name in codes(base)])
    assert np.array_equal(kept, moved & inside) and 0 < kept.sum() < moved.sum()
    other = write_checkpoint(tmp_path / "other", {NAME.format(0): np.ones((40, 31))}, "bfloat16")
    code = main(
        ["apply", str(other), str(other), "--mask", str(path), "--out", str(tmp_path / "x")]
    )
    assert code == 2 and not (tmp_path / "x").exists()


@given(st.lists(st.integers(0, 0xFFFF), min_size=2, max_size=40))
@settings(deadline=None)
def test_steps_are_how_many_numbers_lie_between(numbers):
    raw = np.array(numbers, dtype=np.uint16)
    before, after = raw[:-1], raw[1:]
    apart = np.abs(signed(after, "bfloat16") - signed(before, "bfloat16"))
    assert np.array_equal(apply.distance(before, after).astype(np.int64), apart)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep-top", "0"], "found 0; expected a percentage"),
        (["--keep-top", "110%"], "found 110%; expected a percentage"),
        (["--keep-top", "-5%"], "expected a percentage"),
        (["--keep-top", "nan%"], "expected a percentage"),
        ([], "expected --mask or --keep-top"),
        (["--keep-top", "5%", "--mask", "m"], "expected --mask or --keep-top"),
        (["--mask", "nothing.safetensors"], "no such file"),
        (["--keep-top", "5%", "--seed", "-1"], "--seed: found -1"),
    ],
)
def test_wrong_requests_are_one_line_and_write_nothing(tmp_path, capsys, options, words):
    base, tuned = pair(tmp_path, "bfloat16")
    out = tmp_path / "out"
    joined = [f"{a}={b}" for a, b in zip(options[::2], options[1::2], strict=True)]
    assert main(["apply", str(base), str(tuned), *joined, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and not out.exists()


def test_nothing_is_written_over(tmp_path, capsys):
    base, tuned = pair(tmp_path, "bfloat16")
    before = codes(tuned)
    for out, words in (
        (tuned, "files in it"),
        (tuned / "model.safetensors", "a file"),
        (tmp_path / "a" / "b", "no such folder"),
    ):
        command = ["apply", str(base), str(tuned), "--keep-top", "5%", "--out", str(out)]
        assert main(command) == 2
        assert words in capsys.readouterr().err
    assert all(np.array_equal(w, before[name]) for name, w in codes(tuned).items())
    shutil.rmtree(tmp_path / "base")
    assert main(["apply", str(base), str(tuned), "--keep-top", "5%", "--out", "x"]) == 2
    assert "found nothing there" in capsys.readouterr().err
