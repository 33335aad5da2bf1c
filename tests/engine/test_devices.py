"""Where the heavy steps run: what `--device` asks for, what is at hand, and what is said of it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from opdviz import checkpoint, jobs
from opdviz.cli import main
from opdviz.engine import devices, measuring, prepare
from opdviz.errors import RequestError
from opdviz.linalg import accelerator
from opdviz.measures import SECOND_PASS
from opdviz.measures.sides import How
from opdviz.store import reading
from opdviz.store.store import Store
from tests.conftest import GOLDEN

PAIR = (GOLDEN / "base", GOLDEN / "tuned_b")
SIDES = [str(side) for side in PAIR]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver that lists one GPU, of which torch, as it is installed for tests, knows nothing."""
    folder = tmp_path / "gpus" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H100\nIRQ: 7\n")
    monkeypatch.setattr(devices, "DRIVER", folder.parent)
    monkeypatch.setattr(accelerator.torch.cuda, "is_available", lambda: False)
    accelerator.device.cache_clear()


def test_a_machine_without_a_gpu_is_left_to_its_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "nothing")
    assert devices.gpus() == []
    assert devices.chosen("cpu") == ("cpu", "")
    assert devices.chosen("auto") == ("cpu", "cpu: this machine lists no GPU")


def test_a_gpu_that_torch_cannot_use_is_not_taken_silently(driver):
    assert devices.gpus() == ["NVIDIA H100"]
    device, why = devices.chosen("auto")
    assert device == "cpu" and why.startswith("cpu: --device cuda: torch ") and "no GPU" in why
    with pytest.raises(RequestError, match="finds no GPU here"):
        devices.chosen("cuda")


def test_check_says_what_is_at_hand(driver, tmp_path, capsys):
    assert main(["check", *SIDES, "--cache", str(tmp_path)]) == 0
    assert "A GPU is at hand (NVIDIA H100): `compare` uses it with" in capsys.readouterr().out
    assert main(["check", *SIDES, "--json", "--cache", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["gpus"] == ["NVIDIA H100"]


def test_a_comparison_on_a_device_says_so_beside_its_spectra(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "device", lambda name: accelerator.Device("cpu"))
    store = Store(tmp_path)
    prepared = prepare.prepare(*map(checkpoint.open, PAIR), store, None, lambda _: None)
    with ThreadPoolExecutor(1) as executor:
        comparison = measuring.compare(
            prepared,
            store,
            executor,
            measures=SECOND_PASS,
            pattern="*layers.0.mlp*",
            how=How("cuda"),
            listener=lambda _: None,
        )
    rows = reading.read(comparison, "spectrum_summary").to_pylist()
    methods = {row["method"] for row in rows if row["matrix"] in ("base", "tuned", "delta")}
    assert methods == {"exact (cpu)"}
    assert not (tmp_path / "pace.json").exists(), "the pace of a device is not the machine's"


def test_a_job_is_started_on_the_device_that_was_chosen(tmp_path, monkeypatch):
    commands = []

    def spawned(command, **_):
        commands.append(command)
        raise OSError("not started")

    monkeypatch.setattr(jobs.subprocess, "Popen", spawned)
    with pytest.raises(OSError, match="not started"):
        jobs.start(Store(tmp_path), *SIDES, device="cuda")
    (command,) = commands
    assert "--device=cuda" in command
    (job,) = jobs.all_jobs(Store(tmp_path))
    assert job.request.device == "cuda"


def test_a_device_left_to_the_machine_is_not_left_to_a_cluster(tmp_path, capsys):
    command = ["compare", *SIDES, "--cluster", "tcp://127.0.0.1:1", "--device", "auto"]
    assert main([*command, "--cache", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "--cluster" in err and err.count("\n") == 1
