"""A pool of processes with one BLAS thread each, that die with their parent."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import forkserver

from opdviz.interpreter import in_environment

# With the parts of scipy that only who measures needs, which are loaded where they are first used.
SCIPY = ("scipy.linalg", "scipy.optimize", "scipy.sparse", "scipy.special")
ENGINE = ("opdviz.engine.measuring", *SCIPY)
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Lost(BrokenExecutor):
    """An executor lost what it was doing, and says how."""


@contextmanager
def pool(workers: int, *, preload: tuple[str, ...] = ENGINE):
    """An executor of some processes, with the modules that they need loaded before they start.

    Two workers of one thread beat one of two; a server process that has the engine loaded makes
    them cheap to start.
    """
    os.environ |= dict.fromkeys(ONE_THREAD, "1") | {"OMP_WAIT_POLICY": "PASSIVE"}
    # a command that is cut short leaves the queue's semaphores to the tracker, which removes them
    # and would say so
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    # By the server and its workers, for good: the parent tells them to leave.
    with ctrl_c_ignored(), in_environment():
        forkserver.ensure_running()
    reader, writer = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(
        workers, mp_context=context, initializer=die_with, initargs=(reader,)
    )
    try:
        yield executor
    except BaseException:
        writer.close()  # the workers see the end of the pipe and leave at once
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
    writer.close()


def dismiss(executor: Executor) -> None:
    """Let the processes leave, of whom nothing will be asked any more; what they hold is free."""
    executor.shutdown(wait=False)


def count(executor: Executor) -> int:
    """How many processes an executor has."""
    return getattr(executor, "_max_workers", None) or os.cpu_count() or 1


def results(
    executor: Executor, start_next: Callable[[list], tuple | None], *, every: float
) -> Iterator[tuple[object, object] | None]:
    """Each task with its result, in the order in which they end; in between, at times, `None`.

    `start_next` is told the tasks that run, and gives a task with the call that does it (function,
    arguments...), or `None` while none may start. `None` comes after every round and at least after
    so many seconds, so that progress can be shown.

    Raises
        BrokenExecutor: a worker was lost.
    """
    running = {}
    while True:
        while call := start_next(list(running.values())):
            task, function, *arguments = call
            running[executor.submit(function, *arguments)] = task
        if not running:
            return
        finished, _ = wait(running, return_when=FIRST_COMPLETED, timeout=every)
        for future in finished:
            yield running.pop(future), future.result()
        yield None


@contextmanager
def ctrl_c_ignored():
    """Processes started within ignore Ctrl-C from their first instruction on, also while they
    import.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def die_with(reader) -> None:
    """In a worker: leave as soon as the parent's end of the pipe closes, for whatever reason."""

    def watch() -> None:
        try:
            reader.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
