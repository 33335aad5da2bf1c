"""Several runs on one base as one job: the tables of each by itself, the base worked out once, and
a run that fails costs its own rows alone.
"""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from opdviz import checkpoint
from opdviz.cli import main
from opdviz.engine import measuring, prepare
from opdviz.errors import RequestError
from opdviz.linalg import Decomposition
from opdviz.store import status
from opdviz.store.store import Store
from tests.conftest import compared_here, write_checkpoint

MATRICES = ("model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[Path, list[Path]]:
    """A base in float32 and three runs on it: two stored as it is, one in bf16."""
    folder, rng = tmp_path_factory.mktemp("family"), np.random.default_rng(0)
    base = {name: rng.standard_normal((90, 70)) for name in MATRICES}
    base["model.norm.weight"] = rng.standard_normal(70)
    runs = []
    for name, dtype in (("a", "float32"), ("b", "float32"), ("c", "bfloat16")):
        tuned = {key: w + 1e-2 * rng.standard_normal(w.shape) for key, w in base.items()}
        runs.append(write_checkpoint(folder / name, tuned, dtype))
    return write_checkpoint(folder / "base", base), runs


def together(checkpoints, store: Store) -> list:
    """All runs as one job in this process."""
    base, runs = checkpoints
    prepared = [
        prepare.prepare(
            checkpoint.open(base), checkpoint.open(run), store, run.name, lambda _: None
        )
        for run in runs
    ]
    with ThreadPoolExecutor(1) as executor:
        return measuring.compare_all(prepared, store, executor, listener=lambda _: None)


def tables_of(folder) -> dict:
    """Every stored table of a comparison."""
    return {path.name: pq.read_table(path) for path in folder.glob("tables/*.parquet")}


def test_a_family_has_the_tables_of_each_run_by_itself_and_its_base_once(
    checkpoints, tmp_path, monkeypatch
):
    calls = Counter()

    def count(step: str) -> None:
        real = getattr(Decomposition, step)

        def counted(self, *arguments):
            calls[step] += 1
            return real(self, *arguments)

        monkeypatch.setattr(Decomposition, step, counted)

    for step in ("resolved_base", "marked_base", "summed_products"):
        count(step)
    outcomes = together(checkpoints, Store(tmp_path / "family"))
    # Once as it is stored, once rounded to bf16 as the third run is.
    once = 2 * len(MATRICES)
    assert calls["resolved_base"] == calls["marked_base"] == once
    assert calls["summed_products"] == 3 * len(MATRICES), "each update has its own"
    for run, outcome in zip(checkpoints[1], outcomes, strict=True):
        alone = compared_here(tmp_path / "alone", checkpoints[0], run)
        expected, ours = tables_of(alone.folder), tables_of(outcome.folder)
        names = {name for name in expected if not name.startswith("summary")}
        assert alone.key == outcome.key and len(names) > 20
        assert {name: ours.get(name) for name in names} == {name: expected[name] for name in names}


def test_a_run_that_fails_costs_its_own_rows_alone(checkpoints, tmp_path, monkeypatch):
    real = measuring.work_on

    def failing(pair, *where):
        if pair.tuned_source.path.name == "b" and "mlp" in pair.name:
            raise RequestError("b: its file is gone.")
        return real(pair, *where)

    monkeypatch.setattr(measuring, "work_on", failing)
    store = Store(tmp_path)
    first, failure, third = together(checkpoints, store)
    assert status.state(first) == status.state(third) == "done"
    assert str(failure) == "b: its file is gone."
    (failed,) = (run for run in store.all() if run.key not in (first.key, third.key))
    assert status.state(failed) == "failed" and failed.manifest.failure == str(failure)
    monkeypatch.setattr(measuring, "work_on", real)
    assert {status.state(run) for run in together(checkpoints, store)} == {"done"}


def test_a_run_that_is_stopped_keeps_its_parts_and_the_others_go_on(
    checkpoints, tmp_path, monkeypatch
):
    real, store = measuring.work_on, Store(tmp_path)

    def stopping(pair, *where):
        for run in store.all():
            if run.manifest.tuned.path.endswith("/b"):
                status.ask_to_stop(run)
        return real(pair, *where)

    monkeypatch.setattr(measuring, "work_on", stopping)
    first, failure, third = together(checkpoints, store)
    assert status.state(first) == status.state(third) == "done"
    assert "stopped; what was finished is kept" in str(failure)
    (stopped,) = (run for run in store.all() if run.key not in (first.key, third.key))
    assert status.state(stopped) == "failed" and 0 < status.done_share(stopped) < 1
    assert main(["verify", "--cache", str(tmp_path)]) == 0
    monkeypatch.setattr(measuring, "work_on", real)
    assert {status.state(run) for run in together(checkpoints, store)} == {"done"}
    assert main(["stop", first.key, "--cache", str(tmp_path)]) == 2, "nothing runs"


def test_the_command_takes_many_and_a_later_run_measures_no_other_again(
    checkpoints, tmp_path, capsys
):
    base, (run, other, _) = checkpoints
    where = ["--cache", str(tmp_path), "--json", "--measures", "sparsity"]
    assert main(["compare", str(base), str(run), *where]) == 0
    alone = json.loads(capsys.readouterr().out)
    before = tables_of(Store(tmp_path).folder(alone["key"]))
    assert main(["compare", str(base), str(run), str(other), *where]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both[0] == alone and both[1]["key"] != alone["key"]
    assert tables_of(Store(tmp_path).folder(alone["key"])) == before
    assert len(Store(tmp_path).keys()) == 2


@pytest.mark.parametrize(
    ("runs", "options", "words"),
    [
        (("a", "a"), (), "are the same run"),
        (("a", "b"), ("--name", "x"), "found 1 with 2 runs"),
        (("a", "b"), ("--name", "x", "--name", "x"), "found 'x' for two runs"),
        (("a", "nothing"), (), "nothing"),
    ],
)
def test_what_is_no_family_is_one_line(checkpoints, tmp_path, capsys, runs, options, words):
    base, _ = checkpoints
    paths = [str(base.parent / run) for run in runs]
    assert main(["compare", str(base), *paths, "--cache", str(tmp_path / "c"), *options]) == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("opdviz: ")]
    assert words in line
    assert not Store(tmp_path / "c").keys()


def test_each_run_has_its_name_and_its_labels_and_keeps_them(checkpoints, tmp_path, capsys):
    base, (run, other, _) = checkpoints
    where, pair = ["--cache", str(tmp_path)], [str(base), str(run), str(other)]
    few = ["--measures", "sparsity"]
    said = ["--name", "a", "--name", "b", "--recipe", "opd", "--optimizer=adamw", "--optimizer="]
    assert main(["compare", *pair, *where, *few, *said]) == 0
    assert main(["label", "b", "--optimizer", "sgd", "--recipe", "grpo", *where]) == 0
    assert main(["compare", *pair, *where, *few]) == 0  # again, without a word of them
    capsys.readouterr()
    assert main(["list", "--json", *where]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    labels = {name: (row["recipe"], row["optimizer"]) for name, row in rows.items()}
    assert labels == {"a": ("opd", "adamw"), "b": ("grpo", "sgd")}
    assert main(["label", "a", "b", "--optimizer", "", *where]) == 0
    assert main(["list", *where]) == 0
    assert "a  (opd)" in (text := capsys.readouterr().out) and "b  (grpo)" in text
    for wrong, words in (
        ((), "found no label"),
        (("--recipe", "x" * 61), "at most 60"),
        (("--recipe", " x"), "without spaces around"),
        (("--recipe", "a\nb"), "printable"),
    ):
        assert main(["label", "a", *wrong, *where]) == 2
        assert words in capsys.readouterr().err
    three = ["--recipe", "x", "--recipe", "y", "--recipe", "z"]
    assert main(["compare", *pair, *where, *three]) == 2
    assert "--recipe: found 3 with 2 runs" in capsys.readouterr().err


def test_finished_runs_are_said_before_what_ended_another(
    checkpoints, tmp_path, capsys, monkeypatch
):
    base, runs = checkpoints

    def ended(executor, options, listener):
        return [compared_here(tmp_path / "c", base, runs[0]), RequestError("b: its file is gone.")]

    monkeypatch.setattr("opdviz.cli.pair.compare_on", ended)
    command = ["compare", str(base), *map(str, runs[:2]), "--cache", str(tmp_path / "c"), "--json"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    (finished,) = json.loads(out)
    assert finished["key"] in Store(tmp_path / "c").keys()
    assert err == "opdviz: b: its file is gone.\n"
