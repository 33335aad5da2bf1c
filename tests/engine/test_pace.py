"""The estimate before a start follows what runs on this machine took."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from opdviz import checkpoint, roots
from opdviz.cli import main
from opdviz.engine import estimate, measuring, pace, prepare, probe
from opdviz.store.store import Store
from tests.conftest import GOLDEN


def test_the_median_of_the_latest_runs_is_the_pace(tmp_path):
    assert pace.pace(tmp_path) == 1.0
    for seconds in (40.0, 20.0, 30.0):
        pace.learn(tmp_path, work=10.0, seconds=seconds)
    assert pace.pace(tmp_path) == 3.0
    for _ in range(pace.KEPT):
        pace.learn(tmp_path, work=10.0, seconds=5.0)
    assert pace.remembered(tmp_path) == [0.5] * pace.KEPT


def test_a_short_run_and_a_clock_that_was_set_teach_nothing(tmp_path):
    pace.learn(tmp_path, work=0.1, seconds=1.0)
    pace.learn(tmp_path, work=10.0, seconds=10_000.0)
    pace.learn(tmp_path, work=10.0, seconds=-3.0)
    assert not pace.path_of(tmp_path).exists()


@pytest.mark.parametrize("content", ["{", "{}", '["x", null, -1.0, 1e9]', "[NaN]", ""])
def test_a_damaged_memory_is_none(tmp_path, content):
    pace.path_of(tmp_path).write_text(content)
    assert pace.pace(tmp_path) == 1.0
    pace.learn(tmp_path, work=10.0, seconds=20.0)
    assert pace.pace(tmp_path) == 2.0


def test_a_run_teaches_and_the_next_check_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "LEAST_WORK", 0.0)
    store, sides = Store(tmp_path), [GOLDEN / "base", GOLDEN / "tuned_a"]
    opened = [checkpoint.open(side) for side in sides]
    prepared = prepare.prepare(*opened, store, None, lambda progress: None)
    with ThreadPoolExecutor(1) as executor:
        measuring.compare(prepared, store, executor, listener=lambda progress: None)
    (measured,) = pace.remembered(tmp_path)
    assert 1 / pace.SLOWEST <= measured <= pace.SLOWEST
    pace.path_of(tmp_path).write_text(json.dumps([7.0]))
    seconds = {}
    for cache in (tmp_path, tmp_path / "new"):
        monkeypatch.setenv("OPDVIZ_CACHE", str(cache))
        seconds[cache.name] = roots.check(*map(str, sides))[0]["seconds"] - estimate.STARTING
    assert seconds[tmp_path.name] == pytest.approx(7 * seconds["new"])


def test_a_probe_measures_this_machine_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("opdviz.cli.pair.WORTH_A_PROBE", 0.0)
    command = ["check", str(GOLDEN / "base"), str(GOLDEN / "tuned_a"), "--cache", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    (measured,) = pace.remembered(tmp_path)
    assert 1 / 20 < measured < 20
    first = json.loads(capsys.readouterr().out)["seconds"]
    monkeypatch.setattr(probe, "probe", None)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == first
