"""What FSDP leaves, written by real ranks, read without a merge and equal to the whole to the bit;
what its files leave open is refused.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.tensor import DTensor, Partial, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec

from opdviz import checkpoint, tables
from opdviz.checkpoint import dcp, dtensor
from opdviz.cli.sources import with_steps
from opdviz.errors import RequestError
from opdviz.measures import FIRST_PASS, MEASURES
from tests.conftest import compared_here, measured, write_checkpoint
from tests.shards import MESHES

ROOT = Path(__file__).parents[2]
WORLD = 4
UP, DOWN = (f"model.layers.0.mlp.{word}_proj.weight" for word in ("up", "down"))
# No number of rows is divided by the ranks, and one rank has none of `down_proj`.
SHAPES = {
    "model.embed_tokens.weight": (13, 6),
    UP: (7, 6),
    DOWN: (6, 7),
    "model.layers.0.self_attn.o_proj.weight": (5, 6),
    "model.norm.weight": (6,),
    "model.rotary_emb.inv_freq": (3,),
}


def with_adapter(folder: Path, whole: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with an adapter added, which is written into a folder."""
    lot = torch.Generator().manual_seed(1)
    factors, tuned = {}, dict(whole)
    for name in (UP, DOWN):
        rows, columns = whole[name].shape
        b, a = (torch.randn(shape, generator=lot) for shape in ((rows, 2), (2, columns)))
        start = f"base_model.model.{name.removesuffix('.weight')}"
        factors |= {f"{start}.lora_A.weight": a, f"{start}.lora_B.weight": b}
        tuned[name] = (whole[name].double() + 2.0 * b.double() @ a.double()).bfloat16()
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return tuned


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Folders of ranks by kind, beside the whole of them."""
    out = tmp_path_factory.mktemp("ranks")
    lot = torch.Generator().manual_seed(0)
    whole = {name: torch.randn(shape, generator=lot).bfloat16() for name, shape in SHAPES.items()}
    torch.save(whole, out / "whole.pt")
    torch.save(with_adapter(out / "adapter", whole), out / "tuned.pt")
    command = [sys.executable, "-m", "tests.shards", str(out), str(WORLD)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=240)
    return out


@pytest.fixture(scope="module")
def whole(written) -> dict[str, torch.Tensor]:
    """The tensors that were written."""
    return torch.load(written / "whole.pt", weights_only=True)


@pytest.fixture(autouse=True)
def afresh():
    """Nothing is remembered of files that a test changes."""
    yield
    for remembered in (dtensor.layout, dtensor.loaded, dcp.layout, dcp.values_of):
        remembered.cache_clear()


@pytest.mark.parametrize("kind", [*MESHES, *(f"{kind}_dcp" for kind in MESHES)])
def test_pieces_are_the_whole_to_the_bit_and_any_rows_of_it(written, whole, kind):
    opened = checkpoint.open(written / kind)
    assert {name: info.shape for name, info in opened.tensors.items()} == SHAPES
    what = "files of torch.distributed.checkpoint" if "dcp" in kind else "ranks of FSDP"
    assert opened.notes == [f"Put together from 4 {what}."]
    assert len(opened.files) == WORLD + ("dcp" in kind)
    for name, value in whole.items():
        bits = value.view(torch.uint16).numpy()
        raw, info = opened.read_raw(name)
        assert info.dtype == "bfloat16" and raw.dtype == bits.dtype and (raw == bits).all()
        for first in range(len(bits)):
            for last in range(first, len(bits) + 1):
                rows, _ = opened.read_raw(name, first, last)
                assert rows.shape == bits[first:last].shape and (rows == bits[first:last]).all()


def test_a_comparison_with_ranks_is_that_with_the_whole(written, whole, tmp_path):
    arrays = {name: value.float().numpy() for name, value in whole.items()}
    base = write_checkpoint(tmp_path / "base", {n: w + 0.25 for n, w in arrays.items()}, "bfloat16")
    twin = write_checkpoint(tmp_path / "twin", arrays, "bfloat16")
    plain = compared_here(tmp_path, base, twin, "twin")
    for kind in ("hsdp", "fsdp_dcp"):
        run = compared_here(tmp_path, base, written / kind, kind)
        for name in ("tensors", "sparsity", "coverage", "spectrum", "projection"):
            pd.testing.assert_frame_equal(tables.table(run, name), tables.table(plain, name))


def sharded(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Two files of safetensors and the index that names them."""
    placed = {
        name: f"model-0000{at % 2 + 1}-of-00002.safetensors" for at, name in enumerate(tensors)
    }
    for file in set(placed.values()):
        save_file({n: tensors[n] for n, its in placed.items() if its == file}, folder / file)
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def old_format(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A PyTorch file as it was before there were zips."""
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


WRITERS = {
    "safetensors": lambda folder, tensors: save_file(tensors, folder / "model.safetensors"),
    "shards": sharded,
    "zip": lambda folder, tensors: torch.save(tensors, folder / "pytorch_model.bin"),
    "old": old_format,
}
OF_RANKS = ("fsdp", "hsdp", "placed", "fsdp_dcp", "placed_dcp")
FORMATS = (*WRITERS, *OF_RANKS)


@pytest.fixture(scope="module")
def formats(written, tmp_path_factory) -> dict[str, dict[str, Path]]:
    """By side and format, a checkpoint of the same tensors."""
    root = tmp_path_factory.mktemp("formats")
    sides = {"base": ("whole.pt", written), "tuned": ("tuned.pt", written / "tuned")}
    paths: dict[str, dict[str, Path]] = {}
    for side, (file, ranks) in sides.items():
        tensors = torch.load(written / file, weights_only=True)
        paths[side] = {kind: ranks / kind for kind in OF_RANKS}
        for kind, write in WRITERS.items():
            paths[side][kind] = root / side / kind
            paths[side][kind].mkdir(parents=True)
            write(paths[side][kind], tensors)
    paths["tuned"]["adapter"] = written / "adapter"
    return paths


@pytest.fixture(scope="module")
def twin(formats) -> dict[str, pd.DataFrame]:
    """The tables of the plain safetensors twins."""
    return measured(formats["base"]["safetensors"], formats["tuned"]["safetensors"])


@pytest.mark.parametrize("tuned", [*FORMATS, "adapter"])
@pytest.mark.parametrize("base", FORMATS)
def test_a_base_in_any_format_with_a_tuned_in_any_gives_the_tables_of_their_twins(
    formats, twin, base, tuned
):
    # Of an adapter directions are those of its factors, and not of their rounded product.
    of_an_adapter = tuned == "adapter"
    measures = FIRST_PASS if of_an_adapter else MEASURES
    rows = measured(formats["base"][base], formats["tuned"][tuned], measures)
    assert twin["tensors"]["delta_norm"].astype(bool).sum() == 2
    for table in rows.keys() - {"skipped"} if of_an_adapter else twin:
        pd.testing.assert_frame_equal(rows[table], twin[table], check_exact=True, obj=table)


def test_two_names_of_one_tensor_are_one(written, tmp_path):
    ranks = shutil.copytree(written / "fsdp", tmp_path / "ranks")
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    for rank in range(WORLD):
        changed(ranks, rank, lambda s: s.update({a: s[b] for a, b in tied.items()}))
    opened = checkpoint.open(ranks)
    assert opened.aliases == tied and opened.tensors.keys() == SHAPES.keys()


def verl(root: Path, ranks: Path, step: int) -> Path:
    """A step of a training as verl leaves it."""
    actor = root / f"global_step_{step}" / "actor"
    shutil.copytree(ranks, actor)
    for rank in range(WORLD):
        (actor / f"optim_world_size_{WORLD}_rank_{rank}.pt").write_bytes(b"not weights")
        (actor / f"extra_state_world_size_{WORLD}_rank_{rank}.pt").write_bytes(b"not weights")
    (root / f"global_step_{step}" / "data.pt").write_bytes(b"the loader's")
    (actor / "huggingface").mkdir()
    facts = {"hidden_size": 6, "num_attention_heads": 2}
    (actor / "huggingface" / "config.json").write_text(json.dumps(facts))
    (root / "latest_checkpointed_iteration.txt").write_text(str(step))
    return actor


def test_a_training_of_verl_is_its_steps_with_their_configuration(written, tmp_path):
    steps = [verl(tmp_path / "run", written / "fsdp", step) for step in (10, 20)]
    assert with_steps([tmp_path / "run"]) == steps
    assert checkpoint.open(steps[0]).config["num_attention_heads"] == 2
    assert len(checkpoint.open(steps[0]).tensors) == len(SHAPES)


def refusal(folder: Path) -> str:
    """The line with which a folder is refused."""
    with pytest.raises(RequestError) as why:
        checkpoint.open(folder)
    assert "\n" not in str(why.value)
    return str(why.value)


def changed(folder: Path, rank: int, change) -> None:
    """A rank's file with some of its tensors changed."""
    path = folder / f"model_world_size_{WORLD}_rank_{rank}.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def placed(value: DTensor, *placements) -> DTensor:
    """A tensor that says it is placed otherwise."""
    spec = DTensorSpec(value.device_mesh, placements, tensor_meta=value._spec.tensor_meta)
    return DTensor(value._local_tensor, spec, requires_grad=False)


def test_files_that_are_not_all_ranks_of_one_run_are_refused(written, tmp_path):
    ranks = shutil.copytree(written / "fsdp", tmp_path / "ranks")
    one = ranks / "model_world_size_4_rank_2.pt"
    assert "found one rank of FSDP; expected its folder" in refusal(one)
    other = ranks / "model_world_size_8_rank_0.pt"
    shutil.copy(one, other)
    assert "found files of 4 and 8 ranks, of several runs" in refusal(ranks)
    other.unlink()
    one.unlink()
    assert "found 3 of 4 ranks, without rank 2" in refusal(ranks)
    one.write_bytes(b"PK\x03\x04 and no more")
    assert "found a zip without a directory" in refusal(ranks)


CHANGES = [
    (2, lambda s: s.pop(UP), "found rank 2 without the tensor model.layers.0.mlp.up_proj"),
    (1, lambda s: s.update({UP: s[UP].float()}), "found rank 1 without the tensor"),
    (1, lambda s: s.update({UP: s["model.embed_tokens.weight"]}), "of another layout on rank 1"),
    (3, lambda s: s.update({UP: placed(s[UP], Shard(1))}), "of another layout on rank 3"),
    (0, lambda s: s["model.rotary_emb.inv_freq"].add_(1), "inv_freq to differ on rank 1"),
]


@pytest.mark.parametrize(("rank", "change", "words"), CHANGES)
def test_ranks_that_do_not_fit_together_are_refused(written, tmp_path, rank, change, words):
    ranks = shutil.copytree(written / "fsdp", tmp_path / "ranks")
    changed(ranks, rank, change)
    assert words in refusal(ranks)


@pytest.mark.parametrize("placement", [Partial(), Shard(1)])
def test_what_a_mesh_leaves_open_is_refused(written, tmp_path, placement):
    ranks = shutil.copytree(written / "fsdp", tmp_path / "ranks")
    for rank in range(WORLD):
        changed(ranks, rank, lambda s: s.update({UP: placed(s[UP], placement)}))
    told = refusal(ranks)
    assert "expected each axis sharded once, or copies" in told or "by its mesh" in told


def test_a_pickle_that_wants_more_is_refused(written, tmp_path):
    ranks = shutil.copytree(written / "fsdp", tmp_path / "ranks")
    torch.save({UP: Path("/etc")}, ranks / "model_world_size_4_rank_1.pt")
    assert "found a pickle that asks to run code" in refusal(ranks)


def of_folder(written: Path, tmp_path: Path) -> Path:
    """A copy of a folder of torch.distributed.checkpoint."""
    return shutil.copytree(written / "fsdp_dcp", tmp_path / "dcp")


def test_a_file_of_pieces_that_is_gone_or_cut_is_refused(written, tmp_path):
    folder = of_folder(written, tmp_path)
    cut = folder / "__1_0.distcp"
    cut.write_bytes(cut.read_bytes()[:-500])
    assert "found a piece beyond the end of __1_0.distcp" in refusal(folder)
    dcp.layout.cache_clear()
    cut.unlink()
    assert "found a piece in __1_0.distcp, which is not there" in refusal(folder)


def test_a_piece_that_is_another_is_refused_when_it_is_read(written, tmp_path):
    folder = of_folder(written, tmp_path)
    (folder / "__0_0.distcp").write_bytes(bytes((folder / "__0_0.distcp").stat().st_size))
    with pytest.raises(RequestError, match="found a piece that is not what .metadata says"):
        checkpoint.open(folder).read(UP)


class Evil:
    """What would run code."""

    def __reduce__(self):
        return os.system, ("touch /tmp/opdviz-was-here",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Evil()), "found a pickle that asks to run code"),
        (b"no pickle", "found no readable .metadata"),
        (pickle.dumps(torch.Size([1])), "found a Size in .metadata"),
        (b"", "found an empty file"),
        (pickle.dumps(Metadata({UP: 1}, None, {})), "found no tensor in .metadata"),
        (pickle.dumps(Metadata(5, None, 6)), "found records that do not fit together"),
    ],
)
def test_metadata_that_is_none_is_refused_and_nothing_runs(written, tmp_path, content, words):
    folder = of_folder(written, tmp_path)
    (folder / ".metadata").write_bytes(content)
    assert words in refusal(folder)
    assert not Path("/tmp/opdviz-was-here").exists()


@pytest.mark.parametrize("cut", [100, 1_000, 3_000])
def test_metadata_that_is_cut_is_refused(written, tmp_path, cut):
    folder = of_folder(written, tmp_path)
    content = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(content[:cut])
    assert "found no readable .metadata" in refusal(folder)
