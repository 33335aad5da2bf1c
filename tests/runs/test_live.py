"""A training that is followed: recorded in a loop and in a Trainer, killed in mid-write, and written
by somebody else.
"""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from opdviz import checkpoint, files, jobs, live
from opdviz.cli import main
from opdviz.cli.comparing import said_of_each
from opdviz.errors import RequestError
from opdviz.lab import models
from opdviz.runs import following
from opdviz.runs.trajectory import steps_below, trajectories
from opdviz.store import status
from opdviz.store.store import Store
from tests.conftest import write_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own advice
NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(autouse=True)
def job_of_its_own_share(monkeypatch):
    """On a machine that is busy with tests, what gives way to them would not be done in time."""
    monkeypatch.setattr(jobs, "GIVES_WAY", 1)


def finished(cache: Path, seconds: float = 60.0) -> jobs.Job:
    """The one job of a cache, when it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        (job,) = jobs.all_jobs(Store(cache))
        if job.state != "running":
            return job
        assert time.monotonic() < deadline, job.log()
        time.sleep(0.2)


def steps_in(cache: Path) -> tuple[int, ...]:
    """The steps of the one training of a cache, each compared to its end."""
    runs = Store(cache).all()
    assert {status.state(run) for run in runs} == {"done"}
    (training,) = trajectories(runs)
    return training.steps


def test_a_trainer_with_the_callback_is_a_trajectory(tmp_path, capsys):
    model = models.new(64, 1, seed=0)
    words = models.tokenizer()(["1+1=2"] * 8, return_tensors="pt").input_ids.tolist()
    rows = Dataset.from_list([{"input_ids": row, "labels": row} for row in words])
    where = TrainingArguments(
        str(tmp_path / "out"),
        max_steps=5,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    recording = live.Callback(
        tmp_path / "run", every=2, cache=tmp_path / "cache", recipe="sft", optimizer="adamw"
    )
    Trainer(model, where, train_dataset=rows, callbacks=[recording]).train()
    assert "3 steps recorded" in capsys.readouterr().out
    job = finished(tmp_path / "cache")
    assert job.state == "done", job.log()
    assert steps_in(tmp_path / "cache") == (2, 4, 5)
    (first, *_) = Store(tmp_path / "cache").all()
    assert first.manifest.labels == {"recipe": "sft", "optimizer": "adamw"}
    last = checkpoint.open(tmp_path / "run" / "step_5")
    assert last.config["model_type"] and "lm_head.weight" not in last.tensors
    for name, tensor in live.recorder.weights_of(model).items():
        assert np.array_equal(last.read(name), tensor.numpy()), name
    assert main(["verify", "--cache", str(tmp_path / "cache")]) == 0


KILLED = """
    import os, signal, sys
    import torch
    from opdviz import jobs, live
    from opdviz.live import recorder

    jobs.GIVES_WAY = 1

    def half(tensors, path, **_):
        whole(tensors, path)
        size = path.stat().st_size
        with open(path, "r+b") as file:
            file.truncate(size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    model = torch.nn.Linear(40, 30)
    training = live.Recorder(sys.argv[1], model, cache=sys.argv[2])
    for step in (10, 20, 30):
        with torch.no_grad():
            model.weight += 1e-3
        if step == 30:
            whole, recorder.save_file = recorder.save_file, half
        training.record(model, step)
"""


def test_a_training_killed_in_mid_write_leaves_a_store_that_verifies(tmp_path):
    program = [sys.executable, "-c", textwrap.dedent(KILLED)]
    ended = subprocess.run([*program, str(tmp_path / "run"), str(tmp_path / "cache")], timeout=120)
    assert ended.returncode == -signal.SIGKILL
    job = finished(tmp_path / "cache")
    assert job.state == "done", job.log()
    assert steps_in(tmp_path / "cache") == (10, 20)
    assert main(["verify", "--cache", str(tmp_path / "cache")]) == 0
    assert list((tmp_path / "run").glob(".step_30.*")), "what was half-written is no step"
    with pytest.raises(RequestError, match="steps of an earlier training"):
        live.Recorder(tmp_path / "run", torch.nn.Linear(40, 30), cache=tmp_path / "cache")
    assert not files.running(tmp_path / "run"), "what is refused holds nothing"


def test_one_recorder_a_folder_and_none_after_it_is_closed(tmp_path):
    model = torch.nn.Linear(4, 3)
    recorder = live.Recorder(tmp_path / "run", model, cache=tmp_path / "cache")
    with recorder, pytest.raises(RequestError, match="being written by another process"):
        process, deadline = jobs.process_id(recorder.job.folder), time.monotonic() + 10
        nicer = os.getpriority(os.PRIO_PROCESS, 0) + 1
        while os.getpriority(os.PRIO_PROCESS, process) != nicer:  # it gives way to the training
            assert time.monotonic() < deadline
        live.Recorder(tmp_path / "run", model, cache=tmp_path / "cache")
    with pytest.raises(RequestError, match="closed"):
        recorder.record(model, 10)
    with pytest.raises(RequestError, match="every=0"):
        live.Callback(tmp_path / "run", every=0)
    assert finished(tmp_path / "cache").state == "done", "a training without a step"


def test_tied_and_sliced_tensors_are_written_once_each(tmp_path):
    model = torch.nn.Module()
    model.one = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    model.tied = model.one
    model.register_buffer("part", torch.arange(20.0).reshape(4, 5)[:, 1:3])
    tensors = live.recorder.weights_of(model)
    assert set(tensors) == {"one", "part"}
    assert tensors["part"].untyped_storage().nbytes() == 4 * 2 * 4


def test_what_somebody_else_writes_waits_until_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "QUIET", 0.2)
    root = tmp_path / "run"
    whole = write_checkpoint(root / "checkpoint-10", {NAME: np.ones((40, 30))})
    half = root / "checkpoint-20"
    half.mkdir()
    data = (whole / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(data[: len(data) // 2])
    watch = following.Watch(root)
    assert watch.ready() == [] and not watch.over, "it has just been written"
    time.sleep(0.3)
    assert watch.ready() == [whole], "half a file is no step, whatever its age"
    (half / "model.safetensors").write_bytes(data)
    assert watch.ready() == []
    time.sleep(0.3)
    assert watch.ready() == [half] and watch.ready() == []
    assert steps_below(root) == [whole, half]


def test_shards_without_their_index_wait_for_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "QUIET", 0.0)
    step = tmp_path / "run" / "checkpoint-10"
    whole = write_checkpoint(tmp_path / "whole", {NAME: np.ones((40, 30))})
    step.mkdir(parents=True)
    first, second = (step / f"model-0000{at}-of-00002.safetensors" for at in (1, 2))
    first.write_bytes((whole / "model.safetensors").read_bytes())
    watch = following.Watch(tmp_path / "run")
    assert watch.ready() == watch.ready() == []
    with pytest.raises(RequestError, match="found 1 of 2 shards and no index"):
        checkpoint.open(step)
    write_checkpoint(tmp_path / "other", {"model.norm.weight": np.ones(30)})
    second.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    assert watch.ready() == [] and watch.ready() == [step]
    assert set(checkpoint.open(step).tensors) == {NAME, "model.norm.weight"}


def test_the_command_follows_until_it_is_ended(tmp_path):
    base = write_checkpoint(tmp_path / "base", {NAME: np.ones((40, 30))})
    write_checkpoint(tmp_path / "run" / "checkpoint-10", {NAME: np.full((40, 30), 1.5)})
    old = time.time() - 60
    options = ["--cache", str(tmp_path / "cache"), "--workers", "1", "--follow"]
    program = "import sys; from opdviz.runs import following; following.QUIET = 0.1;"
    program += "from opdviz.cli import entry; sys.exit(entry())"
    command = [sys.executable, "-c", program, "compare", str(base), str(tmp_path / "run"), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "(1 compared)" in line:
                break
        other = tmp_path / "run" / "checkpoint-20"
        write_checkpoint(other, {NAME: np.full((40, 30), 2.0)})
        os.utime(other / "model.safetensors", (old, old))
        for line in process.stderr:
            if "(2 compared)" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.stderr.close()
    assert steps_in(tmp_path / "cache") == (10, 20)


def test_one_label_is_that_of_every_step_however_many_come_at_once():
    options = argparse.Namespace(name=None, recipe=["opd"], optimizer=None)
    for steps in (1, 3, 1):
        options.tuned = [Path("step")] * steps
        assert said_of_each(options) == [(None, {"recipe": "opd"})] * steps


def test_wrong_requests_are_one_line(tmp_path, capsys):
    base = write_checkpoint(tmp_path / "base", {NAME: np.ones((4, 3))})
    for tuned, more, words in (
        ([base], [], "found a checkpoint"),
        ([tmp_path / "none"], [], "no such folder"),
        ([tmp_path, tmp_path], [], "found 2 folders"),
        ([tmp_path], ["--name", "x"], "found --name"),
        ([tmp_path], [], "found nothing there"),
    ):
        first = tmp_path / "nothing" if "nothing" in words else base
        options = ["--workers", "1", "--cache", str(tmp_path / "cache"), "--follow", *more]
        assert main(["compare", str(first), *map(str, tuned), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
