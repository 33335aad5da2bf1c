"""Jobs: a process of their own that two sessions cannot start twice, that can be cancelled, and
that outlives its parent.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from opdviz import jobs
from opdviz.errors import RequestError
from opdviz.store import status
from opdviz.store.manifest import Manifest, Side
from opdviz.store.store import Store
from tests.conftest import GOLDEN

PAIR = (str(GOLDEN / "base"), str(GOLDEN / "tuned_a"))


def ended(folder, seconds: float = 40) -> jobs.Job:
    """The job once it no longer runs."""
    deadline = time.monotonic() + seconds
    while jobs.load(folder).state == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return jobs.load(folder)


def test_a_job_runs_to_its_end_and_is_started_once(tmp_path):
    store = Store(tmp_path)
    first = jobs.start(store, *PAIR, name=["golden"])
    process = (first.folder / "pid").read_text()
    second = jobs.start(store, *PAIR)
    assert first.id == second.id
    assert (second.folder / "pid").read_text() == process
    done = ended(first.folder)
    assert (done.state, done.share) == ("done", 1.0)
    assert [row["name"] for row in status.listing(store)] == ["golden"]
    assert done.status["key"] == store.keys()[0]
    assert "30 pairs" in done.log()


def test_a_cancelled_job_says_so_and_can_be_started_again(tmp_path):
    store = Store(tmp_path)
    job = jobs.start(store, *PAIR)
    jobs.cancel(job)
    assert ended(job.folder).state == "cancelled"
    with pytest.raises(RequestError, match="is not running"):
        jobs.cancel(job)
    assert ended(jobs.start(store, *PAIR).folder).state == "done"


def test_a_killed_job_has_failed_and_a_refused_one_says_why(tmp_path):
    store = Store(tmp_path)
    job = jobs.start(store, *PAIR)
    os.kill(int((job.folder / "pid").read_text()), signal.SIGKILL)
    dead = ended(job.folder)
    assert dead.state == "failed"
    assert "without a word" in dead.message
    wrong = ended(jobs.start(store, PAIR[0], str(tmp_path)).folder)
    assert wrong.state == "failed"
    assert "expected an index, model*.safetensors" in wrong.message


def test_an_ended_job_leaves_no_process_and_no_thread_though_nobody_looks_at_it_again(tmp_path):
    threads = threading.active_count()
    job = jobs.start(Store(tmp_path), PAIR[0], str(tmp_path))  # refused at once
    process = Path("/proc", (job.folder / "pid").read_text())
    assert process.exists()
    deadline = time.monotonic() + 20
    # One that nobody waits for stays as a zombie.
    while process.exists() or threading.active_count() > threads:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_outlives_the_server_that_started_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from opdviz import jobs; from opdviz.store.store"
        " import Store\n"
    )
    code += "jobs.start(Store(Path(sys.argv[1])), *sys.argv[2:])"
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path), *PAIR]
    parent = subprocess.run(command, check=True, capture_output=True, text=True)
    assert parent.stderr == ""  # a process that is left running is meant to be
    (job,) = jobs.all_jobs(Store(tmp_path))
    assert ended(job.folder).state == "done"


def test_a_job_is_known_by_the_pair_that_it_compares_before_it_holds_the_comparison(tmp_path):
    """While its files are read a comparison has no lock: its page must not say that somebody should
    compare it again.
    """
    from opdviz.ui.comparison import is_for

    base, tuned = tmp_path / "base", tmp_path / "tuned"
    facts = dict(key="k", name="n", pairs=0, parameters=0, measures=0, dtypes=())
    manifest = Manifest(base=Side(str(base), "base"), tuned=Side(str(tuned), "tuned"), **facts)
    request = jobs.Request(base=str(tmp_path / "x" / ".." / "base"), tuned=("other", str(tuned)))
    job = jobs.Job("id", tmp_path, request, {}, "running")
    assert is_for(job, manifest)
    assert not is_for(job, replace(manifest, tuned=manifest.base))


def test_a_job_is_called_by_its_runs_and_of_many_by_the_first():
    runs = tuple(f"/runs/{at}" for at in range(5))
    assert jobs.Request(base="/base", tuned=runs[:1], of_each={"name": ("x",)}).title == "x"
    assert jobs.Request(base="/base", tuned=runs[:2]).title == "base → 0 and 1"
    assert jobs.Request(base="/base", tuned=runs).title == "base → 0, 1, 2 and 2 more"
    assert jobs.Request(keys=("a", "b")).title == "overlap of 2 runs"
    assert jobs.parsed("junk").title == " → " and not jobs.parsed("junk").sound


@pytest.mark.parametrize("gpus", [[], ["NVIDIA H100"]])
def test_a_device_is_asked_for_only_where_there_is_a_choice(gpus):
    from streamlit.testing.v1 import AppTest

    script = "from opdviz.ui import job_lines\nimport streamlit as st\n"
    app = AppTest.from_string(script + f"st.text(job_lines.chosen_device({gpus}))").run()
    assert not app.exception
    assert [radio.options for radio in app.radio] == (
        [["CPU", "GPU (NVIDIA H100)"]] if gpus else []
    )
    assert app.text[0].value == ("cpu" if gpus else "None")
