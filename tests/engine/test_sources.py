"""Whether the checkpoints are still what was compared: every file in its order, read again where
somebody asks for it.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from opdviz import fingerprint
from opdviz.cli import main
from opdviz.engine import sources
from opdviz.errors import CheckFailed, RequestError
from opdviz.store.store import Store
from tests.conftest import compared_here, write_checkpoint

# Names that do not say how many there are.
SHARDS = ("model-first.safetensors", "model-second.safetensors")
COUNTED = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NAMES = ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight")


def shards(folder: Path, seed: int) -> Path:
    """A checkpoint of two files without an index, so that one that is lost leaves a checkpoint that
    can be opened.
    """
    folder.mkdir()
    draw = np.random.default_rng(seed)
    for file, name in zip(SHARDS, NAMES):
        save_file({name: draw.standard_normal((6, 5)).astype(np.float32)}, folder / file)
    return folder


@pytest.fixture
def compared(tmp_path) -> tuple[Store, str]:
    """A comparison of two checkpoints of two files, and its key."""
    sides = [str(shards(tmp_path / side, seed)) for seed, side in enumerate(("base", "tuned"))]
    cache = tmp_path / "cache"
    assert (
        main(["compare", *sides, "--workers", "1", "--measures", "sparsity", "--cache", str(cache)])
        == 0
    )
    return Store(cache), Store(cache).keys()[0]


def verified(store: Store, capsys) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["verify", "--content", "--cache", str(store.root)])
    return code, capsys.readouterr().out


def lose(folder: Path) -> None:
    (folder / SHARDS[1]).unlink()


def swap(folder: Path) -> None:
    """Both files are known, and each stands in the other's place."""
    for old, new in ((SHARDS[0], "x"), (SHARDS[1], SHARDS[0]), ("x", SHARDS[1])):
        (folder / old).rename(folder / new)


def repeat(folder: Path) -> None:
    (folder / SHARDS[1]).unlink()
    shutil.copyfile(folder / SHARDS[0], folder / "copy")
    (folder / "copy").rename(folder / SHARDS[1])


def rewrite_quietly(folder: Path) -> None:
    """Other values, and the size and the time of before: the memory of fingerprints does not see
    it.
    """
    file = folder / SHARDS[0]
    times, data = (file.stat().st_atime_ns, file.stat().st_mtime_ns), bytearray(file.read_bytes())
    data[-1] ^= 0xFF
    file.write_bytes(data)
    os.utime(file, ns=times)


CHANGED, GONE = (
    "the tuned checkpoint changed",
    "the tuned checkpoint is not on this machine any more, or cannot be opened",
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose, CHANGED),
        (swap, CHANGED),
        (repeat, GONE),  # one tensor in two files
        (rewrite_quietly, CHANGED),
        (shutil.rmtree, GONE),
        (lambda folder: [file.write_bytes(b"junk") for file in folder.iterdir()], GONE),
        (lambda folder: (shutil.rmtree(folder), folder.mkdir()), GONE),
    ],
)
def test_verify_says_what_changed_and_checks_the_rest(compared, tmp_path, capsys, change, words):
    store, key = compared
    assert verified(store, capsys)[0] == 0
    change(tmp_path / "tuned")
    board = store.folder(key) / "board.json"
    board.write_text("[")
    code, out = verified(store, capsys)
    lines = out.splitlines()
    assert code == 1 and len(lines) == 2, out
    assert any(line.startswith(f"{key}: {words}") for line in lines)
    assert any("board.json is damaged" in line for line in lines)


def test_a_lost_shard_is_counted_where_the_others_say_how_many_there_are(tmp_path, capsys):
    sides = [shards(tmp_path / side, seed) for seed, side in enumerate(("base", "tuned"))]
    for side in sides:
        for old, new in zip(SHARDS, COUNTED):
            (side / old).rename(side / new)
    store = Store(tmp_path / "cache")
    compared_here(store.root, *sides)
    assert verified(store, capsys)[0] == 0
    (tmp_path / "tuned" / COUNTED[1]).unlink()
    code, out = verified(store, capsys)
    assert code == 1 and GONE in out and "found 1 of 2 shards and no index" in out


def test_what_changed_is_opened_by_nobody(compared, tmp_path, capsys):
    store, key = compared
    assert [pair.name for pair in sources.reopen(store.open(key), "x").pairs] == list(NAMES)
    shutil.copytree(tmp_path / "tuned", tmp_path / "other")
    lose(tmp_path / "other")
    other = compared_here(store.root, tmp_path / "base", tmp_path / "other").key
    lose(tmp_path / "base")
    with pytest.raises(
        RequestError, match="x: the base checkpoint changed: it is no longer what was compared"
    ):
        sources.reopen(store.open(key), "x")
    cache = ("--cache", str(store.root))
    for command in (
        ("block", key, NAMES[0]),
        ("subnetwork", key, "--out", str(tmp_path / "m")),
        ("overlap", key, other),
    ):
        assert main([*command, *cache]) == 2
        assert "the base checkpoint changed" in capsys.readouterr().err
    (store.folder(key) / "manifest.json").write_text("{")
    for command in (
        ("block", key, NAMES[0]),
        ("subnetwork", key, "--out", str(tmp_path / "m")),
        ("overlap", key, other),
    ):
        assert main([*command, *cache]) == 1
        assert "manifest.json is missing or damaged" in capsys.readouterr().err
    with pytest.raises(CheckFailed, match=r"manifest\.json"):
        sources.changes(store.open(key))


def test_a_hub_s_blob_is_read_again_and_not_believed(tmp_path):
    (tmp_path / "blobs").mkdir()
    name = hashlib.sha256(b"weights").hexdigest()
    blob = tmp_path / "blobs" / name
    blob.write_bytes(b"weights")
    memory = fingerprint.Memory(tmp_path / "none.json")
    assert fingerprint.afresh(blob) == memory.fingerprint(blob) == name
    blob.write_bytes(b"weightz")
    assert memory.fingerprint(blob) == name != fingerprint.afresh(blob)


@pytest.mark.parametrize(
    "known",
    [
        [1],
        3,
        "x",
        None,
        {"a": 1},
        {"a": ["0" * 32]},
        {"a": {"b": "0" * 32}},
        {"a": "junk"},
        {"a": "0" * 31},
        {"a": None},
    ],
)
def test_a_memory_of_fingerprints_of_wrong_types_is_ignored(tmp_path, known):
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps(known))
    assert fingerprint.Memory(path).known == {}
    path.write_text(json.dumps({"a": "0" * 32, "b": 1}))
    assert fingerprint.Memory(path).known == {"a": "0" * 32}


def test_no_reason_of_a_float8_pair_has_a_brace(tmp_path, capsys):
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        draw = torch.randn(128, 128, generator=torch.Generator().manual_seed(len(side)))
        tensors = {
            NAMES[0]: draw.to(torch.float8_e4m3fn),
            f"{NAMES[0]}_scale_inv": torch.ones(1, 1),
        }
        save_torch(tensors, tmp_path / side / "model.safetensors")
    pair, cache = (
        [str(tmp_path / "base"), str(tmp_path / "tuned")],
        ["--cache", str(tmp_path / "cache")],
    )
    assert main(["compare", *pair, "--name", "x", "--workers", "1", *cache]) == 0
    capsys.readouterr()
    assert main(["show", "x", "skipped", "--format", "json", *cache]) == 0
    reasons = [row["reason"] for row in json.loads(capsys.readouterr().out)]
    assert reasons and not any(c in reason for reason in reasons for c in "{}")


def test_a_path_that_is_no_utf_8_is_compared_listed_and_verified(tmp_path, capsys):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ba\xffse"))
    draw = np.random.default_rng(0)
    sides = [
        write_checkpoint(side, {NAMES[0]: draw.standard_normal((6, 5))})
        for side in (folder, tmp_path / "tuned")
    ]
    cache = ["--cache", str(tmp_path / "cache")]
    assert (
        main(["compare", *map(str, sides), "--workers", "1", "--measures", "sparsity", *cache]) == 0
    )
    assert main(["verify", "--content", *cache]) == 0
    capsys.readouterr()
    assert main(["list", *cache]) == 0
    assert "ba?se..tuned" in capsys.readouterr().out
