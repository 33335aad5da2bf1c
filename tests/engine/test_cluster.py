"""The same comparison on a Dask cluster: the same tables, and nothing lost with its workers."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from distributed import KilledWorker, LocalCluster

from opdviz import checkpoint
from opdviz.engine import cluster, measuring, prepare
from opdviz.engine.workers import Lost
from opdviz.errors import MachineError, RequestError
from opdviz.store.store import Store
from tests.conftest import GOLDEN

PAIR = (GOLDEN / "base", GOLDEN / "tuned_b")
# A cluster of one worker, in this process.
HERE = {
    "n_workers": 1,
    "threads_per_worker": 1,
    "processes": False,
    "protocol": "tcp://",
    "host": "127.0.0.1",
    "dashboard_address": None,
}


@pytest.fixture
def two_workers():
    """A scheduler and two workers of one thread, on this machine alone."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as local:
        yield local


def compared(store: Store, address: str, listener=lambda progress: None):
    """The golden pair on a cluster."""
    prepared = prepare.prepare(*map(checkpoint.open, PAIR), store, "golden", lambda _: None)
    with cluster.executor(address, PAIR) as executor:
        return measuring.compare(prepared, store, executor, listener=listener)


def tables_of(folder: Path) -> dict:
    """Every stored table of a comparison."""
    return {path.name: pq.read_table(path) for path in folder.glob("tables/*.parquet")}


def pids(local: LocalCluster) -> list[int]:
    """The processes of the workers."""
    return [worker.pid for worker in local.workers.values()]


def test_a_cluster_and_processes_of_this_machine_give_the_same_tables(
    golden_store, two_workers, tmp_path
):
    command = [sys.executable, "-m", "opdviz", "compare", *map(str, PAIR), "--cache", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--cluster", two_workers.scheduler_address], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    (here,), (there,) = golden_store.all(), Store(tmp_path).all()
    expected = tables_of(here.folder)
    assert expected == tables_of(there.folder)
    assert len(expected) > 20
    assert not (tmp_path / "pace.json").exists()


def test_a_killed_worker_costs_nothing(golden_store, two_workers, tmp_path):
    killed = []

    def kill_one(progress):
        if progress.pairs_done >= 5 and not killed:
            killed.append(pids(two_workers)[0])
            os.kill(killed[0], signal.SIGKILL)

    comparison = compared(Store(tmp_path), two_workers.scheduler_address, kill_one)
    (here,) = golden_store.all()
    assert killed
    assert tables_of(comparison.folder) == tables_of(here.folder)


def test_a_lost_scheduler_is_one_line_and_the_next_run_goes_on(two_workers, tmp_path):
    closed = []

    def stop(progress):
        if progress.pairs_done >= 5 and not closed:
            closed.append(two_workers.close())

    store = Store(tmp_path)
    with pytest.raises(MachineError, match="scheduler was lost.*finished parts are kept"):
        compared(store, two_workers.scheduler_address, stop)
    (begun,) = store.all()
    assert "scheduler" in begun.manifest.failure
    finished = len(list(begun.folder.glob("parts/*.json")))
    assert finished >= 5
    starts = []
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as again:
        compared(store, again.scheduler_address, lambda p: starts.append(p.parts_done))
    assert starts[0] == finished


def test_what_is_no_cluster_and_what_workers_do_not_see_is_one_line(two_workers, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with (
            pytest.raises(RequestError, match="no scheduler answers there"),
            cluster.executor(address, PAIR),
        ):
            pass
    address = two_workers.scheduler_address
    with (
        pytest.raises(RequestError, match="worker .* does not see /nowhere"),
        cluster.executor(address, (Path("/nowhere"),)),
    ):
        pass


def test_a_cluster_without_workers_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "WAIT", 1)
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as empty,
        pytest.raises(RequestError, match="no worker appeared within 1 s"),
        cluster.executor(empty.scheduler_address, PAIR),
    ):
        pass


def test_what_a_task_came_to_is_handed_over_and_what_is_lost_breaks_the_executor():
    def after(end, *, connected: bool = True) -> Future:
        ended, outcome = Future(), Future()
        end(ended)
        cluster.hand_over(ended, outcome, connected=connected)
        return outcome

    assert after(lambda ended: ended.set_result(7)).result() == 7
    assert isinstance(after(lambda ended: ended.cancel()).exception(), Lost)
    killed = KilledWorker(
        "a task", last_worker=SimpleNamespace(address="tcp://w"), allowed_failures=3
    )
    assert isinstance(after(lambda ended: ended.set_exception(killed)).exception(), Lost)
    raised = MemoryError()
    assert after(lambda ended: ended.set_exception(raised)).exception() is raised
    # What Dask stumbles over while it takes its futures back is no task's error.
    stumbled = after(lambda ended: ended.set_exception(ValueError()), connected=False)
    assert isinstance(stumbled.exception(), Lost)


def test_on_a_cluster_tasks_go_to_workers_that_offer_a_gpu():
    with (
        LocalCluster(**HERE, resources={"GPU": 2}) as local,
        cluster.executor(local.scheduler_address, PAIR, gpus=True) as executor,
    ):
        assert executor._max_workers == 2
        assert executor.submit(sum, [1, 2]).result(timeout=30) == 3


def test_a_cluster_without_a_gpu_is_refused():
    with (
        LocalCluster(**HERE) as local,
        pytest.raises(RequestError, match="no worker of the cluster offers a GPU"),
        cluster.executor(local.scheduler_address, PAIR, gpus=True),
    ):
        raise AssertionError("it was taken")
