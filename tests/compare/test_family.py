"""Several runs on one base as one job: the tables of each by itself, the base worked out once, and
a run that fails costs its own rows alone.
"""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest

from opdviz import checkpoint
from opdviz.cli import main
from opdviz.compare import measuring, prepare
from opdviz.errors import RequestError
from opdviz.linalg import Decomposition
from opdviz.store import status
from opdviz.store.store import Store
from tests.conftest import GOLDEN, compared_here

BASE, RUNS = GOLDEN / "base", (GOLDEN / "tuned_a", GOLDEN / "tuned_b")


def family(store: Store) -> list:
    """Both golden runs as one job in this process."""
    prepared = [
        prepare.prepare(
            checkpoint.open(BASE), checkpoint.open(run), store, run.name, lambda _: None
        )
        for run in RUNS
    ]
    with ThreadPoolExecutor(1) as executor:
        return measuring.compare_all(prepared, store, executor, listener=lambda _: None)


def tables_of(folder) -> dict:
    """Every stored table of a comparison."""
    return {path.name: pq.read_table(path) for path in folder.glob("tables/*.parquet")}


def test_a_family_has_the_tables_of_each_run_by_itself_and_its_base_once(tmp_path, monkeypatch):
    calls = Counter()

    def count(step: str) -> None:
        real = getattr(Decomposition, step)

        def counted(self, *arguments):
            calls[step] += 1
            return real(self, *arguments)

        monkeypatch.setattr(Decomposition, step, counted)

    for step in ("resolved_base", "marked_base", "summed_products"):
        count(step)
    together = family(Store(tmp_path / "family"))
    once = Counter(calls)
    for run, outcome in zip(RUNS, together, strict=True):
        alone = compared_here(tmp_path / "alone", BASE, run)
        expected = tables_of(alone.folder)
        assert alone.key == outcome.key and len(expected) > 20
        names = {name for name in expected if not name.startswith("summary")}
        ours = tables_of(outcome.folder)
        assert {name: ours.get(name) for name in names} == {name: expected[name] for name in names}
    apart = calls - once
    assert apart["resolved_base"] == 2 * once["resolved_base"] > 0
    assert apart["marked_base"] == 2 * once["marked_base"] > 0
    assert apart["summed_products"] == once["summed_products"], "each update has its own"


def test_a_run_that_fails_costs_its_own_rows_alone(tmp_path, monkeypatch):
    real = measuring.work_on

    def failing(pair, *where):
        if "tuned_b" in str(pair.tuned_path) and "mlp" in pair.name:
            raise RequestError("tuned_b: its file is gone.")
        return real(pair, *where)

    monkeypatch.setattr(measuring, "work_on", failing)
    store = Store(tmp_path)
    whole, failure = family(store)
    assert status.state(whole) == "done"
    assert str(failure) == "tuned_b: its file is gone."
    (other,) = (run for run in store.all() if run.key != whole.key)
    assert status.state(other) == "failed" and other.manifest.failure == str(failure)
    monkeypatch.setattr(measuring, "work_on", real)
    assert {status.state(run) for run in family(store)} == {"done"}


def test_the_command_takes_many_and_a_later_run_measures_no_other_again(
    tmp_path, capsys, monkeypatch
):
    where = ["--cache", str(tmp_path), "--json", "--measures", "sparsity"]
    assert main(["compare", str(BASE), str(RUNS[0]), *where]) == 0
    alone = json.loads(capsys.readouterr().out)
    before = tables_of(Store(tmp_path).folder(alone["key"]))
    assert main(["compare", str(BASE), *map(str, RUNS), *where]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both[0] == alone and both[1]["key"] != alone["key"]
    assert tables_of(Store(tmp_path).folder(alone["key"])) == before
    assert len(Store(tmp_path).keys()) == 2


@pytest.mark.parametrize(
    ("runs", "options", "words"),
    [
        ((RUNS[0], RUNS[0]), (), "are the same run"),
        (RUNS, ("--name", "x"), "found with 2 runs"),
        ((RUNS[0], GOLDEN / "nothing"), (), "nothing"),
    ],
)
def test_what_is_no_family_is_one_line(tmp_path, capsys, runs, options, words):
    command = ["compare", str(BASE), *map(str, runs), "--cache", str(tmp_path / "c"), *options]
    assert main(command) == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("opdviz: ")]
    assert words in line
    assert not Store(tmp_path / "c").keys()
