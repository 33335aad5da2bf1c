"""A command that is run beside a folder of the package's name, as the clone is for who made it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from opdviz import interpreter
from tests.conftest import GOLDEN

PROGRAM = Path(sys.executable).parent / "opdviz"
TRAINING = """
    import torch
    from opdviz.live import Recorder

    model = torch.nn.Linear(40, 30)
    with Recorder("run", model, cache="cache") as recorder:
        with torch.no_grad():
            model.weight += 1e-3
        recorder.record(model, 10)
    recorder.close(wait=True)
    print(recorder.job.folder)
"""


@pytest.fixture
def beside(tmp_path) -> Path:
    """A folder with another that is called as the package is."""
    (tmp_path / "opdviz").mkdir()
    return tmp_path


def test_workers_are_of_the_package(beside):
    checkpoints = [str(GOLDEN / side) for side in ("base", "tuned_a")]
    options = ["--measures", "magnitude", "--workers", "1", "--cache", "cache"]
    done = subprocess.run(
        [PROGRAM, "compare", *checkpoints, *options], cwd=beside, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_jobs_are_of_the_package(beside):
    (beside / "training.py").write_text(textwrap.dedent(TRAINING))
    # A script's own folder is looked at first, unless it is told not to.
    done = subprocess.run(
        [sys.executable, "-P", "training.py"], cwd=beside, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (run,) = (beside / "cache" / "comparisons").iterdir()
    assert (run / "manifest.json").is_file()


def test_where_the_package_itself_is_started_nothing_changes(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(interpreter.HOME)
    assert "PYTHONSAFEPATH" not in interpreter.environment()
    monkeypatch.chdir(tmp_path)
    assert interpreter.environment()["PYTHONSAFEPATH"] == "1"
    with interpreter.in_environment():
        seen = subprocess.run(
            [sys.executable, "-c", "import sys; print(sys.flags.safe_path)"],
            capture_output=True,
            text=True,
        )
    assert seen.stdout.strip() == "True"
    assert "PYTHONSAFEPATH" not in os.environ
