"""Models on a hub, against a server of this machine that speaks the hub's language: what is asked
for, what is downloaded, and what each refusal says.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from opdviz import checkpoint, roots, tables
from opdviz.checkpoint import hub
from opdviz.cli import main
from opdviz.errors import RequestError
from opdviz.report import pack
from opdviz.runs.trajectory import trajectories
from opdviz.store.store import Store
from tests.conftest import GOLDEN, compared_here
from tests.hub_server import Hub, serve

ROOT = Path(__file__).parents[2]
RUNS = ("base", "tuned_a", "tuned_b")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A repository as families lie on the hub: runs in folders, each with its configuration."""
    root = tmp_path_factory.mktemp("models")
    for name in RUNS:
        shutil.copytree(GOLDEN / name, root / "family" / "runs" / name)
    shutil.copytree(GOLDEN / "base", root / "base")
    for step, name in ((10, "tuned_a"), (9, "tuned_b")):
        shutil.copytree(GOLDEN / name, root / f"step_{step}")
    target = "model.layers.0.self_attn.q_proj"
    rows, columns = checkpoint.open(GOLDEN / "base").tensors[f"{target}.weight"].shape
    factors = {"A": torch.full((2, columns), 0.5), "B": torch.full((rows, 2), 0.5)}
    (root / "adapter").mkdir()
    save_file(
        {f"base_model.model.{target}.lora_{name}.weight": x for name, x in factors.items()},
        root / "adapter" / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (root / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    (root / "base" / "training_args.bin").write_bytes(b"not weights")
    (root / "base" / "README.md").write_text("a model")
    return root


@pytest.fixture
def server(models):
    """The hub with a base, a family in folders, and a training in branches."""
    family = {"main": models / "family"}
    steps = {"main": models / "base"} | {f"step_{n}": models / f"step_{n}" for n in (9, 10)}
    running = serve(
        Hub(
            {"lab/base": {"main": models / "base"}, "lab/family": family, "lab/steps": steps}
            | {"lab/adapter": {"main": models / "adapter"}}
        )
    )
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def opdviz(server, tmp_path):
    """A command with that hub and a cache of it that is empty at first."""
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "OPDVIZ_CACHE": str(tmp_path / "cache"),
    }

    def run(*words: str, **more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "opdviz", *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=environment | more, timeout=120
        )

    return run


@pytest.fixture
def here(server, tmp_path, monkeypatch, capsys):
    """The same in this process; what a command refused with."""
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("huggingface.co")[2]
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))

    def run(*words: str) -> str:
        assert main([*words, "--cache", str(tmp_path / "cache")]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1, told
        return told

    return run


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line with which a command refused."""
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr[-2000:]
    return done.stderr


def test_check_reads_headers_alone_and_compare_only_what_is_needed(
    here, server, models, tmp_path, monkeypatch, capsys
):
    def facts_of(*sides: str) -> dict:
        assert done("check", *sides, "--json") == 0
        return json.loads(capsys.readouterr().out)

    def done(*words: str) -> int:
        return main([*words, "--cache", str(tmp_path / "cache")])

    sides = ("hf://lab/base", "hf://lab/family/runs/tuned_b")
    paths = (models / "base", models / "family" / "runs" / "tuned_b")
    facts, weights = (
        facts_of(*sides),
        [path.stat().st_size for path in paths[0].glob("*.safetensors")],
    )
    assert server.hub.sent < sum(weights) / 3, "the headers of both, and what stands beside them"
    assert not any("training_args" in path or "README" in path for path in server.hub.asked)
    local = facts_of(*map(str, paths))
    for name in ("pairs", "parameters", "unmatched", "rewrites", "dtypes"):
        assert facts[name] == local[name], name
    assert done("compare", *sides, "--name", "remote", "--workers", "1") == 0
    remote = Store(tmp_path / "cache").find("remote")
    twin = compared_here(tmp_path / "twin", *paths, "local")
    for name in ("sparsity", "spectrum_summary"):
        pd.testing.assert_frame_equal(tables.table(remote, name), tables.table(twin, name))
    assert remote.manifest.base.path == "hf://lab/base" and remote.manifest.base.label == "base"
    assert remote.manifest.tuned.label == "family/runs/tuned_b"
    asked = len(server.hub.asked)
    assert done("verify", "remote", "--content") == 0
    assert done("block", "remote", "model.norm.weight", "--size", "4") == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert done("compare", *sides, "--workers", "1") == 0, "what lies in the cache is there"
    assert len(server.hub.asked) == asked, "nobody was asked"


def test_an_adapter_comes_with_its_configuration(here, tmp_path, models, capsys):
    sides = ["hf://lab/base", "hf://lab/adapter"]
    cache = ["--cache", str(tmp_path / "cache")]
    for command in ("check", "compare"):
        assert main([command, *sides, "--json", *cache]) == 0
        assert json.loads(capsys.readouterr().out)["pairs"] > 20
    (run,) = Store(tmp_path / "cache").all()
    assert run.manifest.tuned.label == "adapter"
    assert any("LoRA adapter of rank 2 on 1 tensors" in note for note in run.manifest.notes)
    moved = tables.table(run, "tensors").query("moved > 0")["name"]
    assert list(moved) == ["model.layers.0.self_attn.q_proj.weight"]


def test_wildcards_are_runs_in_folders_and_steps_in_branches(opdviz, tmp_path):
    few = ("--measures", "magnitude", "--workers", "1")
    done = opdviz("compare", "hf://lab/base", "hf://lab/family/runs/tuned_*", *few)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "cache")
    assert sorted(run.name for run in store.all()) == [
        "base..family/runs/tuned_a",
        "base..family/runs/tuned_b",
    ]
    done = opdviz(
        "compare",
        "hf://lab/base",
        "hf://lab/steps@step_*",
        *few,
        OPDVIZ_CACHE=str(tmp_path / "steps"),
    )
    assert done.returncode == 0, done.stderr
    (training,) = trajectories(Store(tmp_path / "steps").all())
    assert training.steps == (9, 10)
    assert [run.manifest.tuned.label for run in training.runs] == ["steps@step_9", "steps@step_10"]
    packed = [pack.without_place(run.manifest.tuned).path for run in training.runs]
    assert packed == ["hf://lab/steps@step_9", "hf://lab/steps@step_10"], "where they are to be had"
    assert all(map(hub.is_name, packed))


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("hf://lab/nothing", "found no such model, or none that is open to everybody"),
        ("hf://lab/base@v9", "found no such revision"),
        ("hf://lab/family/runs/tuned_c", "found no such folder or file in it"),
        ("hf://lab/base/model.bin", "found no such file in it"),
        ("hf://lab/family", "expected an index, model*.safetensors"),
        ("hf://lab/family/runs/nix_*", "found nothing that fits"),
        ("hf://lab", "Repository id must be"),
        ("hf://datasets/lab/base", "found a dataset; expected a model"),
        ("hf://lab/base@..%2F..%2Fetc", "found a path out of it"),
        ("hf://lab/base/../../etc", "found a path out of it"),
    ],
)
def test_what_is_not_there_is_one_line(here, word, words):
    assert words in here("check", str(GOLDEN / "base"), word)
    assert words in here("compare", str(GOLDEN / "base"), word, "--workers", "1")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "found a gated model; ask for access on its page, then set HF_TOKEN"),
        (401, "RepoNotFound", "found no such model, or none that is open to everybody"),
        (429, "TooManyRequests", "found the hub's limit of requests reached"),
        (500, "Broken", "the hub answered 500; try again"),
    ],
)
def test_what_the_hub_refuses_is_one_line(here, server, status, code, words):
    server.hub.refuse["lab/base"] = (status, code)
    assert words in here("check", "hf://lab/base", str(GOLDEN / "tuned_a"))


def test_a_download_that_breaks_off_is_one_line(here, server, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)  # it tries again
    server.hub.cut = 1_000
    told = here("compare", "hf://lab/base", str(GOLDEN / "tuned_a"), "--workers", "1")
    assert "Try again" in told
    assert not list((tmp_path / "cache").glob("comparisons/*"))


def test_a_server_that_is_not_there_is_one_line(opdviz):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = opdviz("check", "hf://lab/base", str(GOLDEN / "tuned_a"), **nowhere)
    assert "is there a network?" in refusal(done)
    done = opdviz("compare", "hf://lab/steps", str(GOLDEN / "tuned_a"), HF_HUB_OFFLINE="1")
    assert "found nothing of it in the hub's cache" in refusal(done)


def test_a_server_that_gives_whole_files_alone_is_not_asked_for_headers(here, server):
    server.hub.ranges = False
    told = here("check", "hf://lab/base", str(GOLDEN / "tuned_a"))
    assert "the server gives whole files alone; `compare` downloads them" in told


def test_a_path_never_becomes_a_call_and_the_app_asks_only_where_it_was_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for word in ("lab/base", "hf:/lab/base", "HF://lab/base", "./hf://lab/base"):
        assert not hub.is_hub(word)
        with pytest.raises(RequestError, match="found nothing there"):
            checkpoint.open(word)
    with pytest.raises(RequestError, match="start the app with --hub"):
        roots.allowed("hf://lab/base")
    with pytest.raises(RequestError, match="unless the app was started with --hub"):
        roots.meant("lab/base", [])
    monkeypatch.setenv(roots.HUB, "1")
    assert roots.allowed("hf://lab/base") == roots.meant("hf://lab/base", []) == "hf://lab/base"
    with pytest.raises(RequestError, match="write it hf://lab/base"):
        roots.meant("lab/base", [])
