"""The same job beyond one machine: an executor whose tasks run on the workers of a Dask cluster.

Tasks are pairs and names of measures, results are parts; the tensors stay where they are. The
workers read the checkpoints themselves, from a file system that they share with whoever asks.
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

from opdviz.engine.workers import Lost
from opdviz.errors import RequestError, one_line
from opdviz.measures import MEASURES, measure_id

GPU = "GPU"  # the resource that a worker offers: dask worker --resources "GPU=1"
CONNECT = 10  # seconds for the scheduler to answer
WAIT = 60  # seconds for a first worker to appear
# Times that a task starts again which raised, as one does that found no memory. How often one may
# take its worker with it is Dask's own setting (distributed.scheduler.allowed-failures).
RETRIES = 2


class Cluster(Executor):
    """Dask's own executor in the vocabulary of the standard library's: whatever the cluster loses
    for good is a broken executor.
    """

    def __init__(self, client, *, gpus: bool = False):
        # A task that needs a GPU goes to workers that offer one, as many at a time as they do.
        needs = {"resources": {GPU: 1}} if gpus else {}
        self.client = client
        self.inner = client.get_executor(pure=False, retries=RETRIES, **needs)
        # What is asked of any executor: how many tasks it takes at a time.
        self._max_workers = gpus_of(client) if gpus else sum(client.nthreads().values())

    def submit(self, function: Callable, /, *arguments) -> Future:
        """Run a call on some worker."""
        outcome: Future = Future()
        self.inner.submit(function, *arguments).add_done_callback(
            lambda ended: hand_over(ended, outcome, connected=self.client.status == "running")
        )
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what runs, or cancel it."""
        self.inner.shutdown(wait=wait and not cancel_futures)


def gpus_of(client) -> int:
    """How many GPUs the workers offer."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return int(sum(worker["resources"].get(GPU, 0) for worker in workers))


def hand_over(ended: Future, outcome: Future, *, connected: bool) -> None:
    """Give one future's result to another; what the cluster lost as `Lost`. Without a connection no
    error is of the task: Dask may stumble over a future that it takes back.
    """
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    error = None if ended.cancelled() else ended.exception()
    if ended.cancelled() or (error and not connected):
        outcome.set_exception(Lost("the cluster's scheduler was lost, or cancelled the job"))
    elif isinstance(error, (KilledWorker, CommClosedError)):
        words = one_line(error, limit=120)
        outcome.set_exception(Lost(f"the cluster lost the workers of a task ({words})"))
    elif error:  # as it was raised on the worker
        outcome.set_exception(error)
    else:
        outcome.set_result(ended.result())


@contextmanager
def executor(
    address: str, checkpoints: tuple[Path, ...], *, gpus: bool = False
) -> Iterator[Executor]:
    """An executor on the cluster of a scheduler's address, whose workers see some checkpoints;
    with `gpus` on those that offer one.

    Raises
        RequestError: no such cluster, no worker, another version on one, files that one does not
            see, or no GPU.
    """
    try:
        from distributed import Client
    except ImportError:
        raise RequestError(
            "--cluster: the package distributed is missing (pip install -r"
            " requirements-cluster.txt)."
        ) from None
    # What it has to say of lost connections is said in one line.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RequestError(
            f"--cluster {one_line(address, limit=60)}: no scheduler answers there"
            f" ({one_line(error, limit=120)}); expected an address like tcp://host:8786."
        ) from None
    try:
        refuse_unfit(client, checkpoints)
        if gpus and not gpus_of(client):
            raise RequestError(
                "--device cuda: no worker of the cluster offers a GPU; start those that have one"
                ' with `dask worker --resources "GPU=1"`.'
            )
        running = Cluster(client, gpus=gpus)
        try:
            yield running
        finally:
            running.shutdown(cancel_futures=True)  # nothing runs any more, unless it was cut short
    finally:
        client.close(timeout=CONNECT)


def refuse_unfit(client, checkpoints: tuple[Path, ...]) -> None:
    """Ask every worker for its engine and its files.

    Raises
        RequestError: there is none, or one does not fit.
    """
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise RequestError(f"--cluster: no worker appeared within {WAIT} s.") from None
    try:
        facts = client.run(facts_of_worker, [str(path) for path in checkpoints])
    except ImportError:
        raise RequestError(
            "--cluster: a worker cannot import opdviz; install the same version there."
        ) from None
    ours, _ = facts_of_worker([])
    for worker, (engine, unseen) in sorted(facts.items()):
        if engine != ours:
            raise RequestError(
                f"--cluster: worker {worker} has another version of opdviz; install the same one"
                " there."
            )
        for path in unseen:
            raise RequestError(
                f"--cluster: worker {worker} does not see {one_line(path)}; workers need the same"
                " file system under the same paths."
            )


def facts_of_worker(paths: list[str]) -> tuple[list[str], list[str]]:
    """On a worker: its measures with their versions, and which of some paths it does not see."""
    return [measure_id(m) for m in MEASURES], [path for path in paths if not os.path.exists(path)]
