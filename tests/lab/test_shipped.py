"""Packing runs as what moved, and expanding them again bit for bit."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from opdviz import files
from opdviz.errors import CheckFailed, MachineError, RequestError
from opdviz.lab import shipped


def weights(seed: int, rows: int = 64, moved: float = 0.3, base: bytes | None = None) -> bytes:
    """A safetensors file of 16-bit values: fresh ones, or a base's with some of them changed by a
    few steps.
    """
    draw = np.random.default_rng(seed)
    if base is None:
        values = draw.integers(0, 1 << 16, size=(rows, 33), dtype=np.uint16)
        return save({"a.weight": values, "b.weight": values[:3].copy()}, metadata={"format": "pt"})
    start = shipped.data_start(base)
    values = np.frombuffer(base, dtype=np.uint16, offset=start).copy()
    chosen = draw.random(values.size) < moved
    values[chosen] += draw.integers(-3, 4, size=int(chosen.sum())).astype(np.int16).view(np.uint16)
    return base[:start] + values.tobytes()


def run(
    root,
    name: str,
    file: bytes,
    *,
    base: str | None = "base",
    steps: dict[int, bytes] | None = None,
) -> None:
    """A run's folder as training leaves it."""
    (root / name).mkdir(parents=True)
    (root / name / "model.safetensors").write_bytes(file)
    (root / name / "config.json").write_text("{}")
    loop = "distillation" if base else "pretrain"
    (root / name / "run.json").write_text(
        json.dumps({"recipe": {"loop": loop, "base": base}, "seed": 0})
    )
    for step, data in (steps or {}).items():
        (root / name / "steps" / str(step)).mkdir(parents=True)
        (root / name / "steps" / str(step) / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize("moved", [0.0, 0.01, 0.5, 1.0])
def test_a_difference_expands_to_the_same_bytes(moved):
    base = weights(0)
    tuned = weights(1, moved=moved, base=base)
    assert shipped.unpacked(base, shipped.packed(base, tuned)) == tuned


def test_a_difference_is_small():
    base = weights(0, rows=4096)
    tuned = weights(1, moved=0.3, base=base)
    assert len(shipped.packed(base, tuned)) < 0.2 * len(tuned)


def test_files_of_two_layouts_are_refused():
    with pytest.raises(RequestError, match="headers"):
        shipped.packed(weights(0), weights(0, rows=65))
    with pytest.raises(RequestError, match="sizes"):
        shipped.packed(weights(0), weights(0)[:-1])


def test_a_failed_packing_leaves_what_was_shipped(package):
    before = {p: p.read_bytes() for p in shipped.HERE.rglob("*") if p.is_file()}
    (package / "seed0/opd/model.safetensors").write_bytes(weights(0, rows=65))
    with pytest.raises(RequestError):
        shipped.pack(package, ["base", "seed0/opd"], shipped.HERE)
    assert {p: p.read_bytes() for p in shipped.HERE.rglob("*") if p.is_file()} == before
    assert not list(shipped.HERE.parent.glob(".*.tmp"))


@pytest.mark.parametrize("text", ["{", "null", '{"a": 1}', "5", '["a"]', "[{}]"])
def test_a_damaged_index_is_one_line(package, tmp_path, text):
    (shipped.HERE / "index.json").write_text(text)
    with pytest.raises(CheckFailed, match="index.json is damaged"):
        shipped.expand(tmp_path / "lab")
    assert not shipped.is_of_base({"base": {"fingerprints": ["x"]}})


def test_a_run_that_lost_its_weights_gets_them_back(package, tmp_path):
    shipped.expand(tmp_path / "lab")
    lost = tmp_path / "lab" / "seed0/opd/model.safetensors"
    kept = lost.read_bytes()
    lost.unlink()
    shipped.expand(tmp_path / "lab")
    assert lost.read_bytes() == kept and not list((tmp_path / "lab").rglob("*.tmp"))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A lab folder with a base and a run that has a trajectory, shipped."""
    root, here = tmp_path / "trained", tmp_path / "package"
    base = weights(0)
    steps = {5: weights(5, base=base), 10: weights(10, base=base)}
    run(root, "base", base, base=None)
    run(root, "seed0/opd", steps[10], steps=steps)
    (root / "results").mkdir()
    (root / "results" / "runs.parquet").write_bytes(b"results")
    (root / "seed0/opd/mask.safetensors").write_bytes(b"a mask")
    shipped.pack(root, ["base", "seed0/opd"], here)
    monkeypatch.setattr(shipped, "HERE", here)
    return root


def test_what_is_shipped_expands_to_what_was_trained(package, tmp_path):
    told = []
    shipped.expand(tmp_path / "lab", told.append)
    trained = sorted(p.relative_to(package) for p in package.rglob("model.safetensors"))
    assert (
        sorted(
            p.relative_to(tmp_path / "lab") for p in (tmp_path / "lab").rglob("model.safetensors")
        )
        == trained
    )
    for path in trained:
        assert (tmp_path / "lab" / path).read_bytes() == (package / path).read_bytes()
    assert (tmp_path / "lab" / "seed0/opd/run.json").is_file() and (
        tmp_path / "lab" / "seed0/opd/config.json"
    ).is_file()
    assert (tmp_path / "lab" / "seed0/opd/mask.safetensors").read_bytes() == b"a mask"
    assert (shipped.HERE / "results" / "runs.parquet").read_bytes() == b"results"
    assert told[-1] == 1.0 and shipped.there(tmp_path / "lab")


def test_a_run_of_one_s_own_is_left_alone(package, tmp_path):
    own = tmp_path / "lab" / "seed0" / "opd"
    own.mkdir(parents=True)
    (own / "model.safetensors").write_bytes(b"mine")
    shipped.expand(tmp_path / "lab")
    assert (own / "model.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_file_is_one_line_and_writes_nothing(package, tmp_path, harm):
    file = shipped.HERE / "seed0.opd.xz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    (
        file.unlink()
        if harm == "gone"
        else file.write_bytes(bytes(data) if harm == "flip" else file.read_bytes()[:40])
    )
    with pytest.raises(CheckFailed, match="seed0.opd.xz"):
        shipped.expand(tmp_path / "lab")
    assert not (tmp_path / "lab" / "seed0").exists()


def test_a_full_disk_leaves_nothing_half_written(package, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(MachineError, match="No space left"):
        shipped.expand(tmp_path / "lab")
    assert not list((tmp_path / "lab").rglob("*.safetensors")) and not list(
        (tmp_path / "lab").rglob("*.tmp")
    )
