"""The lab's commands, from the shipped base and teacher: a short run end to end, the same bits
again, and what is refused.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch

from opdviz.cli import main
from opdviz.definitions import VISIBLE
from opdviz.errors import RequestError
from opdviz.lab import keeping, plan, recipes, shipped
from opdviz.lab.places import Places
from opdviz.runs import masks
from tests.commands import RUN, in_a_process, opdviz

ROOT = Path(__file__).parent.parent.parent
STEPS = 6
SHORT = ["--seed", "0", "--steps", str(STEPS)]
RUNS = f"seed0.steps{STEPS}"


def weights(cache: Path, run: str = f"{RUNS}/opd") -> bytes:
    """The bytes of a run's saved model."""
    return (cache / "lab" / run / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def killed_then_run(tmp_path_factory, shipped_runs):
    """A short OPD run that was killed once while it trained, and then run again."""
    cache = tmp_path_factory.mktemp("lab")
    shutil.copytree(shipped_runs, cache / "lab")
    command = [*RUN, "lab", "run", "opd", *SHORT, "--cache", str(cache)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    folder, deadline = cache / "lab" / RUNS, time.monotonic() + 120
    while not list(folder.glob("progress/opd")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(folder.glob(".opd.*.tmp")) and not (folder / "opd").exists()
    return cache, in_a_process("lab", "run", "opd", *SHORT, cache=cache)


def test_a_short_run_goes_end_to_end(killed_then_run):
    cache, done = killed_then_run
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "training:" in done.stderr
    facts = json.loads((cache / "lab" / RUNS / "opd" / "run.json").read_text())
    assert facts["curve"][-1]["step"] == STEPS and 0 < facts["curve"][-1]["unchanged_exact"] < 1
    assert [row["step"] for row in facts["diagnostics"]][0] == 1 and facts["diagnostics"][-1][
        "cv_sqrt_v"
    ] > 0
    assert 0.4 < facts["accuracy"]["test"] < 0.95


def test_parts_of_a_run_are_graded_between_its_base_and_itself(killed_then_run, monkeypatch):
    cache, _ = killed_then_run
    monkeypatch.setattr(keeping, "SHARES", (1.0, 0.5, 0.0))
    places = Places(cache / "lab", 0, STEPS)
    told = []
    rows = keeping.curves([(places, recipes.RECIPES["opd"])], lambda p: told.append(p.done))
    assert told == [1, 2, 3, 4, 5], "all and none are graded once"
    by = rows.set_index(["by", "share"])
    facts = places.facts(recipes.RECIPES["opd"])
    assert by["accuracy"]["size", 1.0] == facts["accuracy"]["test"]
    assert by["kept"]["size", 0.0] == 0 and 0.4 < by["accuracy"]["size", 0.0] < 0.95
    half = round(0.5 * by["kept"]["size", 1.0])
    assert [by["kept"][way, 0.5] for way in ("size", "steps", "random")] == [half] * 3
    with pytest.raises(RequestError, match="none of these runs is finished"):
        keeping.curves([(places, recipes.RECIPES["grpo"])], told.append)


def test_a_killed_run_leaves_nothing_behind(killed_then_run):
    cache, _ = killed_then_run
    assert (
        not list((cache / "lab").rglob("*.tmp"))
        and not (cache / "lab" / RUNS / "progress").exists()
    )


def test_a_finished_run_is_not_run_again(killed_then_run):
    cache, _ = killed_then_run
    before = (cache / "lab" / RUNS / "opd" / "run.json").stat().st_mtime_ns
    done = opdviz("lab", "run", "opd", *SHORT, "--json", cache=cache)
    assert done.returncode == 0 and json.loads(done.stdout)[0]["test"] is not None
    assert (cache / "lab" / RUNS / "opd" / "run.json").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def again(tmp_path_factory, shipped_runs) -> Path:
    """The same OPD run and the one under its random mask, in a cache of their own; both keep their
    float32 weights.
    """
    cache = tmp_path_factory.mktemp("again")
    shutil.copytree(shipped_runs, cache / "lab")
    # Trains `opd` first, which it needs.
    done = in_a_process("lab", "run", "opd_random_mask", *SHORT, "--master", cache=cache)
    assert done.returncode == 0, done.stderr[-2000:]
    return cache


def test_the_same_seed_gives_the_same_bits_and_a_mask_is_kept_to(killed_then_run, again):
    cache, _ = killed_then_run
    assert weights(again) == weights(cache)
    run = again / "lab" / RUNS / "opd_random_mask"
    mask = masks.open_mask(run / "mask.safetensors")
    opd = dict(
        masks.visible(masks.matching_of(again / "lab" / "base", run.parent / "opd"), VISIBLE)
    )
    assert {n: int(mask.read(n).sum()) for n in mask.tensors} == {
        n: int(b.sum()) for n, b in opd.items()
    }
    moved = {n: d > 0 for n, d in masks.deltas(masks.matching_of(again / "lab" / "base", run))}
    assert not any((moved[n] & ~mask.read(n)).any() for n in moved)
    assert sum(int(m.sum()) for m in moved.values()) > 500


def test_master_weights_are_kept_on_request_and_round_to_the_saved_ones(again):
    from safetensors.torch import load_file

    run = again / "lab" / RUNS / "opd_random_mask"
    master, saved = (load_file(folder / "model.safetensors") for folder in (run / "master", run))
    assert {t.dtype for t in master.values()} == {torch.float32}
    assert all(torch.equal(t.to(torch.bfloat16), saved[name]) for name, t in master.items())
    assert any((t.to(torch.bfloat16).float() != t).any() for t in master.values())
    written = (run / "run.json").stat().st_mtime_ns
    # Both are there.
    assert opdviz("lab", "run", "opd_random_mask", *SHORT, "--master", cache=again).returncode == 0
    assert (run / "run.json").stat().st_mtime_ns == written


def test_shipped_masked_runs_moved_nothing_else(shipped_runs):
    places = Places(shipped_runs)
    opd = masks.matching_of(places.of("base"), places.of("opd"))
    threshold = masks.threshold_for(opd, recipes.PAPER_DENSITY)
    for run, source, limit in (
        ("opd_subnetwork", "opd", VISIBLE),
        ("opd_subnetwork_17", "opd", threshold),
        ("grpo_subnetwork", "grpo", VISIBLE),
    ):
        allowed = dict(
            masks.visible(masks.matching_of(places.of("base"), places.of(source)), limit)
        )
        moved = {
            n: d > 0 for n, d in masks.deltas(masks.matching_of(places.of("base"), places.of(run)))
        }
        assert not any((moved[n] & ~allowed[n]).any() for n in moved), run
        assert sum(int(m.sum()) for m in moved.values()) > 10_000


def test_what_is_shipped_was_made_by_the_recipes_as_they_stand(shipped_runs):
    places = Places(shipped_runs)
    for recipe in (recipes.BASES[0], recipes.TEACHER, *recipes.MAIN):
        facts = places.facts(recipe)
        assert facts, f"{recipe.name} was shipped by another recipe"
        assert facts["seed"] == (recipe.seed or 0)
    assert 0.4 <= places.facts(recipes.BASES[0])["accuracy"]["test"] <= 0.75
    assert places.facts(recipes.TEACHER)["accuracy"]["test"] >= 0.95
    opd = places.facts(recipes.RECIPES["opd"])
    assert 0.5 <= opd["curve"][-1]["unchanged_exact"] <= 0.95
    assert len(list((places.of("opd") / "steps").iterdir())) >= 8
    assert plan.missing(recipes.MAIN, places) == []


def test_what_is_shipped_is_small():
    assert sum(f.stat().st_size for f in shipped.HERE.rglob("*") if f.is_file()) < 25e6


def test_needs_come_before_what_needs_them(tmp_path):
    order = [r.name for r in plan.missing(plan.recipes_of(["opd_subnetwork"]), Places(tmp_path))]
    assert order == ["base", "teacher", "opd", "opd_subnetwork"]


def test_no_two_recipes_share_a_name_and_both_grids_hold_five_rates():
    every = (*recipes.BASES, recipes.TEACHER, *recipes.MAIN, *recipes.ABLATION, *recipes.SWEEP)
    assert all(recipes.RECIPES[recipe.name] == recipe for recipe in every)
    for name, rates in recipes.GRIDS.items():
        assert len(set(rates)) >= 5 and recipes.RECIPES[name].learning_rate in rates


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "ppo"], "there are: main, controls, ablation, sweep, all, sft"),
        (["run", "opd", "--steps", "0"], "expected 1 to"),
        (["run", "opd", "--seed", "-1"], "whole number from 0"),
        (["run", "opd", "--workers", "0"], "expected 1 to 256"),
        (["dance"], "invalid choice"),
    ],
)
def test_wrong_requests_are_one_line(tmp_path, capsys, arguments, said):
    assert main(["lab", *arguments, "--cache", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", [None, "0.9.1", "2.0.0"])
@pytest.mark.usefixtures("lab_folder")
def test_missing_and_unfit_packages_are_one_line(tmp_path, capsys, monkeypatch, found):
    def told(name: str) -> str:
        if name == "trl" and found is None:
            raise PackageNotFoundError(name)
        return found if name == "trl" else version(name)

    monkeypatch.setattr(plan, "version", told)
    assert main(["lab", "run", "opd", *SHORT, "--cache", str(tmp_path)]) == 2
    err = capsys.readouterr().err.strip()
    wanted = "expected trl>=1.16,<2. pip install -r requirements-lab.txt"
    assert err == f"opdviz: lab run: found trl {found or 'none'}; {wanted}"


def test_the_packages_asked_for_are_those_of_the_requirements():
    lines = (ROOT / "requirements-lab.txt").read_text().splitlines()
    assert {f"{name}{wanted}" for name, wanted in plan.PACKAGES.items()} == {
        line for line in lines if line[0] not in "#-"
    }


def test_a_run_made_from_another_base_is_not_finished(lab_folder):
    places = Places(lab_folder)
    assert places.facts(recipes.RECIPES["opd"])
    teacher = places.of("teacher") / "model.safetensors"
    teacher.write_bytes((places.of("base") / "model.safetensors").read_bytes())
    assert [r.name for r in plan.missing(plan.recipes_of(["opd_subnetwork", "sft"]), places)] == [
        "opd",
        "opd_subnetwork",
    ]


@pytest.mark.usefixtures("lab_folder")
def test_everything_but_training_works_without_the_lab_s_packages(tmp_path):
    code = (
        "import sys\nfor name in ('transformers', 'trl', 'datasets', 'accelerate', 'tokenizers'):"
        " sys.modules[name] = None\nfrom opdviz.cli import main\ncache = ['--cache',"
        f" {str(tmp_path)!r}]\nassert main(['lab', 'list', *cache]) == 0\npair ="
        f" [{str(tmp_path / 'lab' / 'base')!r},"
        f" {str(tmp_path / 'lab' / 'seed0' / 'opd')!r}]\nassert main(['compare', *pair,"
        " '--measures', 'sparsity', '--workers', '1', '--name', 'x', *cache]) == 0\nassert"
        f" main(['subnetwork', 'x', '--out', {str(tmp_path / 'm.safetensors')!r}, *cache]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not run yet" not in done.stdout


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(tmp_path, lab_folder):
    size = 1 << 20

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = in_a_process("lab", "run", "sft", "--steps", "1", cache=tmp_path, preexec_fn=small)
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("opdviz: ")]
    assert "make room" in line and "Traceback" not in done.stderr
    assert not (lab_folder / "seed0.steps1" / "sft").exists() and not list(
        lab_folder.rglob("*.tmp")
    )


def test_a_busy_folder_is_refused(tmp_path, capsys):
    from opdviz import files

    with files.lock(tmp_path / "lab"):
        assert main(["lab", "run", "opd", *SHORT, "--cache", str(tmp_path)]) == 2
    assert "another process" in capsys.readouterr().err


def test_evaluate_without_runs_says_what_to_do(tmp_path, capsys):
    assert main(["lab", "evaluate", "--cache", str(tmp_path)]) == 2
    assert "no run is finished" in capsys.readouterr().err


def test_the_curve_counts_what_the_engine_counts():
    """The curve's unchanged share, counted in torch while training, is what the engine counts in
    the saved files.
    """
    from opdviz.lab import results

    runs = results.read(ROOT / "nowhere")["runs"]
    curve = results.read(ROOT / "nowhere")["curve"]
    last = curve[curve["step"] == curve["steps"]].set_index(["recipe", "seed"])
    main_ = runs[runs["main"]].set_index(["recipe", "seed"])
    for column in ("unchanged_exact", "unchanged_absolute", "relative_norm"):
        assert np.allclose(main_[column], last.loc[main_.index, column], rtol=1e-9), column


def test_evaluate_makes_the_shipped_results_from_the_shipped_runs(tmp_path, lab_folder):
    from opdviz.lab import results

    some = {"seed0": ("opd", "grpo", "grpo_subnetwork"), "seed1": ("opd_16bit",), "seed2": ()}
    for run in lab_folder.glob("seed*/*"):
        if run.name not in some[run.parent.name]:
            shutil.rmtree(run)
    done = opdviz("lab", "evaluate", "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    by_claim = {row["claim"]: row for row in json.loads(done.stdout)}
    assert by_claim["The mask of RL serves as well."]["verdict"] != "not measured yet"
    assert by_claim["SGD falls behind AdamW."]["seeds"] == 3, (
        "what was measured before of runs that are not here stays"
    )
    made, kept = results.read(lab_folder), results.read(tmp_path / "nowhere")
    for table in ("runs", "curve", "layers", "overlap"):
        ours = made[table]
        keys = [
            c
            for c in ("recipe", "seed", "step", "layer", "run_a", "run_b", "seed_a", "seed_b")
            if c in ours
        ]
        both = ours.merge(kept[table], on=keys, suffixes=("", "_kept"))
        assert len(both) == len(ours) > 0, table
        for column in ours.select_dtypes("number").columns.difference([*keys, "seconds"]):
            assert np.allclose(both[column], both[f"{column}_kept"], rtol=1e-9, equal_nan=True), (
                table,
                column,
            )


def test_a_fresh_cache_lists_what_is_shipped(tmp_path, capsys):
    assert main(["lab", "list", "--json", "--cache", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 12 and all(row["test"] > 0.5 for row in rows)
    for seed, graded in (("1", True), ("7", False)):  # of the second seed some are shipped
        assert main(["lab", "list", "--json", "--seed", seed, "opd", "--cache", str(tmp_path)]) == 0
        assert (json.loads(capsys.readouterr().out)[0]["test"] is not None) == graded
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, '{"recipe": {}}'])
def test_a_damaged_run_is_a_run_that_is_not_there(tmp_path, lab_folder, capsys, text):
    (lab_folder / "seed0" / "opd" / "run.json").write_text(text)
    assert main(["lab", "list", "--json", "opd", "grpo", "--cache", str(tmp_path)]) == 0
    opd, grpo = json.loads(capsys.readouterr().out)
    assert opd["test"] is None and grpo["test"] > 0.5


def test_damaged_results_are_one_line(tmp_path):
    from opdviz.errors import CheckFailed
    from opdviz.lab import results

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "runs.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CheckFailed, match="lab evaluate"):
        results.read(tmp_path)


def test_a_base_with_another_configuration_is_one_line(tmp_path, lab_folder):
    config = lab_folder / "base" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 256', '"hidden_size": 512'))
    done = in_a_process("lab", "run", "sft", "--steps", "1", cache=tmp_path)
    assert (
        done.returncode == 2
        and "not that of its weights" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not list(lab_folder.rglob("*.tmp"))


@pytest.mark.usefixtures("lab_folder")
def test_ctrl_c_is_one_line_even_while_the_workers_start(tmp_path):
    command = [*RUN, "lab", "run", "sft", *SHORT, "--cache", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "lab" / RUNS / "progress").is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err and "Traceback" not in err


@pytest.mark.usefixtures("lab_folder")
def test_names_may_stand_after_options(tmp_path, capsys):
    assert main(["lab", "list", "--json", "--cache", str(tmp_path), "opd", "sft"]) == 0
    assert [row["recipe"] for row in json.loads(capsys.readouterr().out)] == ["opd", "sft"]
    assert main(["list", "--cache", str(tmp_path), "opd"]) == 2
    assert "unrecognized" in capsys.readouterr().err
