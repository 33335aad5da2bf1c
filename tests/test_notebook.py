"""Use from Python: the public names, a comparison in a script and in a notebook, and what it hands
to trackers.
"""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import pandas as pd
import plotly.graph_objects as go
import pytest

import opdviz
from opdviz import notebook, tables, views
from opdviz.errors import OpdvizError, RequestError
from opdviz.store.store import Store
from tests import notebook as written
from tests.conftest import GOLDEN, compared_here, reader_of

SIDES = (GOLDEN / "base", GOLDEN / "tuned_b")


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> notebook.Comparison:
    """The golden pair, compared from Python."""
    return opdviz.compare(*SIDES, name="golden", cache=tmp_path_factory.mktemp("python"), workers=1)


def test_there_are_at_most_seven_names_and_no_room_hides_one():
    assert len(opdviz.PUBLIC) <= 7 and set(opdviz.PUBLIC) < set(dir(opdviz))
    for name, module in opdviz.PUBLIC.items():
        assert importlib.util.find_spec(f"opdviz.{name}") is None, f"{name} is a room as well"
        assert getattr(opdviz, name) is getattr(importlib.import_module(module), name)
        assert getattr(opdviz, name).__doc__ or name == "QUANTITIES"
    with pytest.raises(AttributeError, match="there are: compare, find"):
        _ = opdviz.nothing


def test_a_comparison_gives_what_the_commands_and_pages_give(golden):
    stored = golden.store.find("golden")
    assert golden.key == stored.key and golden.name == "golden"
    pd.testing.assert_frame_equal(golden.table("coverage"), tables.table(stored, "coverage"))
    drawn = views.draw("layers", reader_of(stored), {"quantity": "stable_rank", "over": True})
    view = golden.view("layers", quantity="stable rank", over=True)
    assert view.reading == drawn.reading and view.figure.to_json() == drawn.figure.to_json()
    assert isinstance(golden.figure("layers"), go.Figure)
    headline = golden.headline()
    rows = reader_of(stored).summary("headline").set_index("quantity")
    assert headline["relative_norm"] == rows["value"]["relative_norm"]
    assert headline["stable_rank by chance"] == rows["chance"]["stable_rank"]
    assert all(type(value) is float for value in headline.values())
    assert golden.findings().columns.tolist() == ["rule", "severity", "sentence"]
    assert opdviz.find(golden.key[:6], cache=golden.store.root).key == golden.key


def test_it_shows_its_headline_beside_chance_and_nothing_of_it_is_markup(golden, tmp_path):
    assert repr(golden) == "Comparison('golden': base → tuned_b, 30 tensors)"
    evil = notebook.Comparison(Store(tmp_path), compared_here(tmp_path, *SIDES, "<b>evil"))
    shows = evil._repr_html_()
    assert "&lt;b&gt;evil" in shows and "<b>" not in shows
    assert "relative norm (%)" in shows and "published OPD" in shows and "in brackets" in shows


def test_figures_reports_and_packs_are_saved(golden, tmp_path):
    other = opdviz.compare(GOLDEN / "base", GOLDEN / "tuned_a", cache=golden.store.root, workers=1)
    golden.save(tmp_path / "a.json", "run_maps", beside=[other], quantity="cosine")
    assert "Cosine" in (tmp_path / "a.json").read_text()
    golden.report(tmp_path / "a.html", protocol="B")
    assert "Under protocol B" in (tmp_path / "a.html").read_text()
    golden.pack(tmp_path / "a.opdviz")
    assert (tmp_path / "a.opdviz").read_bytes().startswith(b"PK")
    with pytest.raises(RequestError, match="found ending 'xls'"):
        golden.save(tmp_path / "a.xls", "layers")
    with pytest.raises(RequestError, match="'k' is unknown; it knows quantity"):
        golden.figure("layers", k=3)
    with pytest.raises(RequestError, match="is unknown; there are"):
        golden.table("nothing")


@pytest.mark.parametrize(
    ("base", "how", "words"),
    [
        ("nowhere", {}, "found nothing there; expected a checkpoint"),
        (SIDES[0], {"workers": 999}, "--workers: found 999; expected 1 to 256"),
        (SIDES[0], {"device": "tpu"}, "tpu"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, base, how, words):
    with pytest.raises(OpdvizError, match=words) as refusal:
        opdviz.compare(base, SIDES[1], cache=tmp_path, **how)
    assert "\n" not in str(refusal.value) and not str(refusal.value).startswith("opdviz:")


def test_a_script_needs_no_guard_and_keeps_its_environment(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, opdviz\n"
        "before = dict(os.environ)\n"
        f"c = opdviz.compare({str(SIDES[0])!r}, {str(SIDES[1])!r}, cache='cache')\n"
        "print(c, 'torch' in sys.modules, dict(os.environ) == before)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Comparison('base..tuned_b': base → tuned_b, 30 tensors) False True\n"
    assert done.stderr == ""


def test_ctrl_c_ends_the_work_and_what_it_finished_stays(tmp_path):
    code = (
        f"import opdviz; opdviz.compare({str(SIDES[0])!r}, {str(SIDES[1])!r}, cache='c', workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    parts = tmp_path / "c" / "comparisons"
    until = time.monotonic() + 60
    while not list(parts.glob("*/parts/*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    jobs = notebook.jobs
    (job,) = jobs.all_jobs(Store(tmp_path / "c"))
    while job.state == "running" and time.monotonic() < until:
        time.sleep(0.05)
        job = jobs.load(job.folder)
    assert job.state in ("cancelled", "done"), job.log()
    assert opdviz.compare(*SIDES, cache=tmp_path / "c", workers=1).headline()


def test_the_line_on_a_terminal_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    say = notebook.progress_line()
    say("opdviz: 5 %")
    say("")
    assert capsys.readouterr().err == "\r\x1b[Kopdviz: 5 %\r\x1b[K"


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> nbformat.NotebookNode:
    """The notebook of the docs, run in an empty folder."""
    return written.executed(tmp_path_factory.mktemp("notebook"))


def test_the_notebook_of_the_docs_runs_and_shows_what_it_did(ran):
    kept = nbformat.read(written.NOTEBOOK, as_version=4)
    for cell, before in zip(ran.cells, kept.cells, strict=True):
        if cell.cell_type != "code":
            continue
        now = [one for one in cell.outputs if not written.is_progress(one)]
        assert len(now) == len(before.outputs), cell.source
        for output, old in zip(now, before.outputs, strict=True):
            data = output.get("data", {})
            if written.LIVE in data:
                assert "image/png" in old["data"], "python -m tests.notebook"
            elif "text/html" in data:
                assert data["text/html"] == old["data"]["text/html"]
            else:
                assert output.get("text") == old.get("text"), cell.source
    assert (
        sum(written.LIVE in one.get("data", {}) for c in ran.cells for one in c.get("outputs", []))
        == 3
    )


def logging_code(name: str) -> str:
    """The lines of the notebook that log to a tracker."""
    (text,) = [
        cell.source for cell in nbformat.read(written.NOTEBOOK, 4).cells if "tracker" in cell.source
    ]
    return re.search(rf"\*\*{re.escape(name)}\*\*\n```python\n(.*?)```", text, re.S)[1]


def test_tensorboard_gets_the_headline_and_a_figure(golden, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    exec(logging_code("TensorBoard"), {"opd": golden})
    events = EventAccumulator(str(tmp_path / "runs" / "opd")).Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == set(golden.headline())
    (norm,) = events.Scalars("relative_norm")
    assert norm.value == pytest.approx(golden.headline()["relative_norm"])
    assert tags["images"] == ["layers"]


def test_trackio_gets_the_headline_and_a_figure(golden, tmp_path):
    golden_again = f"opdviz.find({golden.key!r}, cache={str(golden.store.root)!r})"
    script = f"import opdviz\nopd = {golden_again}\n{logging_code('trackio')}"
    script += textwrap.dedent("""
        import sqlite3
        (log,) = sqlite3.connect("logs/opd.db").execute("select metrics from metrics limit 1").fetchone()
        import json
        assert json.loads(log)["relative_norm"] == opd.headline()["relative_norm"], log
        assert "layers" in json.loads(log)
    """)
    alone = os.environ | {"TRACKIO_DIR": "logs", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_lines_for_other_trackers_are_python(golden):
    for name in ("Weights & Biases", "MLflow"):
        compile(logging_code(name), name, "exec")
        assert "opd.headline()" in logging_code(name)
        assert 'opd.figure("layers")' in logging_code(name)
