"""Opening checkpoints: what is chosen, what is refused in one line, and what is read."""

import json
import math
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from opdviz import checkpoint
from opdviz.checkpoint import safetensors, torch_file
from opdviz.checkpoint.formats import float8_values, promote, round_bfloat16, step
from opdviz.errors import RequestError
from tests.conftest import write_checkpoint

RNG = np.random.default_rng(0)


def raw_safetensors(path, header: bytes, data: bytes = b"", length: int | None = None):
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(shape, offsets, dtype="F32"):
    return json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


class Evil:
    """A pickle that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


REFUSED = {
    "zero bytes": (lambda p: (p / "model.safetensors").write_bytes(b""), "an empty file"),
    "short": (lambda p: (p / "model.safetensors").write_bytes(b"1234"), "4 bytes long"),
    "long header": (lambda p: raw_safetensors(p / "model.safetensors", b"{}", length=10**12), "header of 1,000,000,000,000"),
    "no json": (lambda p: raw_safetensors(p / "model.safetensors", b"not json"), "not JSON"),
    "a list": (lambda p: raw_safetensors(p / "model.safetensors", b"[1]"), "header that is a list"),
    "past the end": (lambda p: raw_safetensors(p / "model.safetensors", entry([4], [0, 16]), b"1234"), "16 of 4"),
    "wrong size": (lambda p: raw_safetensors(p / "model.safetensors", entry([4], [0, 8]), b"12345678"), "16 bytes inside"),
    "negative shape": (lambda p: raw_safetensors(p / "model.safetensors", entry([-4], [0, 16]), b"0" * 16), "whole numbers"),
    "unknown dtype": (lambda p: raw_safetensors(p / "model.safetensors", entry([4], [0, 16], "X9"), b"0" * 16), "of type X9"),
    "no tensor": (lambda p: raw_safetensors(p / "model.safetensors", b"{}"), "no tensor"),
    "nothing": (lambda p: None, "an empty folder"),
    "readme": (lambda p: (p / "README.md").write_text("hello"), "only README.md"),
    "a folder": (lambda p: (p / "model.safetensors").mkdir(), "a folder or device"),
    "missing shard": (lambda p: index(p, "model-00002-of-00002.safetensors"), "is missing"),
    "outside": (lambda p: index(p, "../../etc/passwd"), "file beside it"),
    "absolute": (lambda p: index(p, "/etc/passwd"), "file beside it"),
    "bad index": (lambda p: (p / "model.safetensors.index.json").write_text("{}"), "no weight_map"),
    "gguf": (lambda p: (p / "m.gguf").write_bytes(b"GGUF" + b"0" * 40), "found GGUF"),
    "gguf in disguise": (lambda p: (p / "model.safetensors").write_bytes(b"GGUF" + b"0" * 40), "found GGUF"),
    "evil pickle": (lambda p: torch.save({"w": Evil(p / "owned")}, p / "pytorch_model.bin"), "asks to run code"),
    "evil old pickle": (lambda p: (p / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(p / "owned"))), "PyTorch|run code"),
    "garbage bin": (lambda p: (p / "pytorch_model.bin").write_bytes(b"garbage!" * 10), "no readable PyTorch file"),
    "empty bin": (lambda p: (p / "pytorch_model.bin").write_bytes(b""), "an empty file"),
    "junk bin": (lambda p: (p / "pytorch_model.bin").write_bytes(b"junk"), "no readable PyTorch file"),
    "an index of nothing": (lambda p: (p / "model.safetensors.index.json").write_text('{"weight_map": {}}'), "without a shard"),
    "dtype is a list": (lambda p: raw_safetensors(p / "model.safetensors", entry([1], [0, 4], ["F32"]), b"1234"), "of type"),
    "surrogate": (lambda p: raw_safetensors(p / "model.safetensors", entry([1], [0, 4]).replace(b'"w"', b'"w\\ud800"'), b"1234"),
                  "a name that is text"),
    "101 axes": (lambda p: raw_safetensors(p / "model.safetensors", entry([1] * 101, [0, 4]), b"1234"), "101 axes"),
    "a huge empty": (lambda p: raw_safetensors(p / "model.safetensors", entry([2**62, 0], [0, 0])), "at most 16 axes"),
    "a doubled name": (lambda p: raw_safetensors(p / "model.safetensors", doubled(), b"1234"), "w twice in its header"),
    "metadata": (lambda p: raw_safetensors(p / "model.safetensors", b'{"__metadata__": [1]}'), "__metadata__ that is a list"),
    "overlap": (lambda p: raw_safetensors(p / "model.safetensors", two(0), b"1" * 8), "it to begin at"),
    "a hole": (lambda p: raw_safetensors(p / "model.safetensors", two(8), b"1" * 12), "it to begin at"),
    "several": (lambda p: [(p / f"{n}.safetensors").write_bytes(b"x") for n in "ab"], "2 weight files"),
    "twice": (lambda p: twice(p), "in two files"),
}  # fmt: skip


def doubled():
    one = entry([1], [0, 4])[1:-1]
    return b"{" + one + b"," + one + b"}"


def two(second):
    """Two tensors of four bytes, the second at some offset."""
    tensors = {"a": [0, 4], "b": [second, second + 4]}
    return json.dumps(
        {n: {"dtype": "F32", "shape": [1], "data_offsets": o} for n, o in tensors.items()}
    ).encode()


def index(folder, shard):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))


def twice(folder):
    for n in (1, 2):
        save_file({"w": torch.zeros(2)}, folder / f"model-{n}.safetensors")


@pytest.mark.parametrize(
    "path", ["~nobody-of-that-name/x", "x" * 300, "/x" * 3000, "a\0b", "\ud800", "{}/circle"]
)
def test_what_is_no_path_is_refused_in_one_line(tmp_path, path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(
        RequestError, match="found (nothing there|no such user); expected"
    ) as caught:
        checkpoint.open(path.format(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def somebody_else():
    """Root may read everything: for the length of a test, this process is nobody."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.parametrize("closed", ["folder", "weights", "index", "config"])
def test_what_may_not_be_read_is_refused_in_one_line(tmp_path, closed, request):
    (write_checkpoint(tmp_path / "x", {"w": np.zeros(2)}) / "model.safetensors").chmod(0o644)
    tmp_path.chmod(0o755)
    # A worker of pytest-xdist has a folder of its own in between.
    for above in tmp_path.parents[:3]:
        above.chmod(0o755)
    names = {
        "folder": "",
        "weights": "model.safetensors",
        "index": "model.safetensors.index.json",
        "config": "config.json",
    }
    path = tmp_path / "x" / names[closed]
    if not path.exists():
        path.write_text('{"weight_map": {"w": "model.safetensors"}}')
    path.chmod(0)
    request.getfixturevalue("somebody_else")
    if closed == "config":
        assert (
            "config.json is not used: found permission denied"
            in checkpoint.open(tmp_path / "x").notes[-1]
        )
        return
    with pytest.raises(
        RequestError, match="found (permission denied|nothing there); expected"
    ) as refused:
        checkpoint.open(tmp_path / "x")
    assert "\n" not in str(refused.value)


def test_more_tensors_than_can_be_held_are_refused(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, {"a": np.zeros(2), "b": np.zeros(2)})
    monkeypatch.setattr(checkpoint, "MOST_TENSORS", 1)
    with pytest.raises(RequestError, match="found more than 1 tensors"):
        checkpoint.open(tmp_path)
    write_checkpoint(tmp_path, {"c": np.zeros(2), "d": np.zeros(2)})
    monkeypatch.setattr(safetensors, "MOST_TENSORS", 1)
    with pytest.raises(RequestError, match="found 2 tensors; expected at most 1"):
        checkpoint.open(tmp_path)


def test_two_files_of_one_header_keep_their_own_values(tmp_path):
    sides = [
        write_checkpoint(tmp_path / name, {"w": np.full(3, value)})
        for name, value in (("a", 1.0), ("b", 2.0))
    ]
    opened = [checkpoint.open(side) for side in sides]
    assert [side.tensors["w"].path.parent for side in opened] == sides
    assert [side.read("w").tolist() for side in opened] == [[1.0] * 3, [2.0] * 3]


def test_one_header_in_a_shorter_file_is_held_against_that_file(tmp_path):
    path = write_checkpoint(tmp_path / "a", {"w": np.zeros(3)}) / "model.safetensors"
    checkpoint.open(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RequestError, match="is it truncated"):
        checkpoint.open(path)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_refused_in_one_line(tmp_path, case):
    make, words = REFUSED[case]
    make(tmp_path)
    with pytest.raises(RequestError, match=words) as caught:
        checkpoint.open(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_a_truncated_file_is_refused(tmp_path):
    path = write_checkpoint(tmp_path, {"w": RNG.standard_normal((20, 20))}) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RequestError, match="truncated"):
        checkpoint.open(tmp_path)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(RequestError, match="found nothing there"):
        checkpoint.open(tmp_path / "absent")


def test_safetensors_come_before_bin_and_helpers_are_never_taken(tmp_path):
    write_checkpoint(tmp_path, {"w": np.zeros(3)})
    for name in (
        "pytorch_model.bin",
        "training_args.bin",
        "optimizer.pt",
        "consolidated.safetensors",
        "rng_state.pth",
    ):
        (tmp_path / name).write_bytes(b"never read")
    opened = checkpoint.open(tmp_path)
    assert [f.name for f in opened.files] == ["model.safetensors"]
    assert opened.notes == ["Chosen: model.safetensors."]


def test_an_index_names_the_shards(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(2)}, tmp_path / "model-00002-of-00002.safetensors")
    save_file({"c": torch.ones(2)}, tmp_path / "model-old.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert sorted(checkpoint.open(tmp_path).tensors) == ["a", "b"]


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_pytorch_files_give_the_same_values(tmp_path, old, wrapper):
    x = torch.tensor(RNG.standard_normal((6, 4)), dtype=torch.bfloat16)
    state = {"w": x, "tied": x, "n": torch.arange(3), "s": torch.tensor(2.5)}
    saved = {wrapper: state} if wrapper else state
    torch.save(saved, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    torch_file.state_dict.cache_clear()
    opened = checkpoint.open(tmp_path)
    assert opened.aliases == {"tied": "w"}
    assert any("old format" in note for note in opened.notes) == old
    np.testing.assert_array_equal(opened.read("w", 2, 5), x.float().numpy()[2:5])
    assert opened.read("s").tolist() == [2.5]
    assert opened.read("n").tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_block_of_rows_is_promoted_exactly(tmp_path, dtype):
    x = torch.tensor(RNG.standard_normal((10, 7, 3)), dtype=dtype)
    save_file({"w": x}, tmp_path / "model.safetensors")
    values = checkpoint.open(tmp_path).read("w", 3, 8)
    assert values.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    np.testing.assert_array_equal(values, x[3:8].to(torch.float64).numpy())


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float8_e4m3fn, "float8_e4m3"), (torch.float8_e5m2, "float8_e5m2")]
)
def test_float8_codes_have_the_values_that_torch_gives_them(dtype, name):
    codes = torch.arange(256, dtype=torch.uint8)
    np.testing.assert_array_equal(float8_values(name), codes.view(dtype).float().numpy())


@pytest.mark.parametrize("shape", [(), (6, 1), (2, 2)])
def test_float8_is_scaled_by_its_scale_tensor(tmp_path, shape):
    rows, columns = (256, 256) if shape == (2, 2) else (6, 4)
    codes = torch.tensor(RNG.standard_normal((rows, columns))).to(torch.float8_e4m3fn)
    scale = torch.tensor(RNG.random(shape), dtype=torch.float32)
    save_file({"w": codes, "w_scale_inv": scale}, tmp_path / "model.safetensors")
    wide = scale.repeat_interleave(128, 0).repeat_interleave(128, 1) if shape == (2, 2) else scale
    found = checkpoint.open(tmp_path).read("w", 1, 5)
    np.testing.assert_allclose(found, (codes.float() * wide).numpy()[1:5])


@pytest.mark.parametrize(
    "scale",
    [torch.ones(0), torch.ones(4, 0), torch.ones(4, 4, 1), torch.ones(5, 1), torch.ones(4).int()],
)
def test_float8_with_a_scale_that_does_not_fit_is_refused(tmp_path, scale):
    save_file(
        {"w": torch.zeros(4, 4).to(torch.float8_e4m3fn), "w_scale": scale},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(RequestError, match="without a scale tensor that fits"):
        checkpoint.open(tmp_path).read("w")


def test_float8_without_a_scale_is_refused(tmp_path):
    save_file({"w": torch.zeros(4, 4).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(RequestError, match="without a scale"):
        checkpoint.open(tmp_path).read("w")


def test_rounding_and_steps_are_those_of_torch():
    x = np.concatenate(
        [RNG.standard_normal(5000) * 10.0 ** RNG.integers(-30, 30, 5000), [0.0, -0.0, np.inf]]
    )
    x = x.astype(np.float32)
    np.testing.assert_array_equal(
        round_bfloat16(x), torch.tensor(x).to(torch.bfloat16).float().numpy()
    )
    assert np.isnan(round_bfloat16(np.array([np.nan], dtype=np.float32))[0])
    one = torch.tensor(1.0)
    assert step(np.array([1.0]), "bfloat16")[0] == torch.finfo(torch.bfloat16).eps
    assert step(np.array([1.0]), "float16")[0] == torch.finfo(torch.float16).eps
    assert float(one) + step(np.array([1.0]), "float32")[0] == float(
        torch.nextafter(one, torch.tensor(2.0))
    )
    assert step(np.array([0.0]), "float16")[0] == 2.0**-24


def test_bfloat16_bits_are_read_as_they_are():
    bits = np.arange(0, 1 << 16, 7, dtype=np.uint16)
    wanted = (
        torch.tensor(bits.astype(np.int32)).to(torch.uint16).view(torch.bfloat16).float().numpy()
    )
    np.testing.assert_array_equal(promote(bits, "bfloat16"), wanted)


def test_tokens_come_from_either_file(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    assert checkpoint.tokens(tmp_path) == {0: "a", 1: "b"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"x": 1, "y": 0}}}))
    assert checkpoint.tokens(tmp_path) == {1: "x", 0: "y"}
    (tmp_path / "tokenizer.json").write_text("broken")
    assert checkpoint.tokens(tmp_path) == {}


@pytest.mark.parametrize("shape", [(7, 5), (4,), ()])
def test_plain_reads_of_a_mapped_file_give_what_its_map_does(tmp_path, monkeypatch, shape):
    random = torch.Generator().manual_seed(0)
    whole = {f"w{at}": torch.randn(shape, generator=random).to(torch.bfloat16) for at in range(3)}
    whole["turned"] = torch.randn(6, 4, generator=random).T
    torch.save(whole, tmp_path / "pytorch_model.bin")
    opened = checkpoint.open(tmp_path)
    mapped = {name: opened.read(name) for name in whole}
    some = opened.read("w1", 1, 3) if shape else None
    counts = []
    read = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *a, **k: counts.append(a[2]) or read(*a, **k))
    monkeypatch.setenv("OPDVIZ_SEQUENTIAL", "1")
    for name, values in mapped.items():
        np.testing.assert_array_equal(opened.read(name), values)
    if shape:
        np.testing.assert_array_equal(opened.read("w1", 1, 3), some)
    # Every tensor that lies in one piece, and of rows their bytes alone.
    size = 2 * math.prod(shape)
    assert counts == [size] * 3 + ([2 * size // shape[0]] if shape else [])
