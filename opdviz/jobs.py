"""A job is a folder and a process: cache/jobs/<id>/{request.json,status.json,log.txt} and `opdviz
compare`.

Its state lives on disk, so it survives a rerun, a closed tab and a restart of the server. A file
lock, handed to the process when it starts, says whether it lives, and keeps two sessions from
starting it twice.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from opdviz import files, fingerprint
from opdviz.errors import RequestError
from opdviz.store.store import Store

# Bytes of a log's end that a page shows.
KEPT_LOG = 8_000
PARTS = ("request.json", "status.json", "log.txt", "pid", "cancel")
STATES = ("running", "done", "failed", "cancelled")
TEXTS = ("base", "tuned", "name", "device", "state", "phase", "current", "message", "key")
NUMBERS = ("time", "started", "share", "left", "pairs", "pairs_done", "pid")


@dataclass(frozen=True, slots=True)
class Job:
    """What is known of a job; `state` is running, done, failed or cancelled."""

    id: str
    folder: Path
    request: dict
    status: dict
    state: str

    @property
    def share(self) -> float:
        """How much of the run is done, between 0 and 1."""
        return min(1.0, max(0.0, float(self.status.get("share", 0.0))))

    @property
    def message(self) -> str:
        """Why it failed, in one line."""
        damaged = (
            ""
            if self.request
            else "request.json is missing or damaged; start it again from the two checkpoints"
        )
        return (
            self.status.get("message")
            or damaged
            or "the process ended without a word; the log may say why"
        )

    def log(self) -> str:
        """The end of the job's log."""
        try:
            with os.fdopen(files.opened(self.folder / "log.txt"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - KEPT_LOG))
                return file.read(KEPT_LOG).decode(errors="replace")
        except OSError:
            return ""


def job_id(base: str, tuned: str) -> str:
    """The id of the job that compares two paths: one pair, one job."""
    return fingerprint.of_bytes(os.path.realpath(base), os.path.realpath(tuned))[:12]


def start(
    store: Store, base: str, tuned: str, *, name: str | None = None, device: str | None = None
) -> Job:
    """Start comparing two checkpoints in a process of its own, or find the job that already does.

    Raises
        MachineError: the job's folder cannot be written.
    """
    folder = store.root / "jobs" / job_id(base, tuned)
    for part in (*PARTS, "lock"):
        files.clear_for_file(folder / part)
    request = {"base": str(base), "tuned": str(tuned), "name": name, "time": time.time()}
    request["device"] = device
    files.write(folder / "request.json", json.dumps(request).encode())
    try:
        with files.held(folder / "lock") as lock:
            (folder / "cancel").unlink(missing_ok=True)
            starting = {"state": "running", "share": 0.0, "phase": "starting"}
            files.write(folder / "status.json", json.dumps(starting).encode())
            process = spawn(store, folder, request, lock)
            files.write(folder / "pid", str(process.pid).encode())
    except BlockingIOError:
        pass  # it runs already
    return load(folder)


def spawn(store: Store, folder: Path, request: dict, lock: int) -> subprocess.Popen:
    """The process of a job; it holds the lock for as long as it lives, and ends without anybody's
    looking.
    """
    command = [
        sys.executable,
        "-m",
        "opdviz",
        "compare",
        "--job",
        str(folder),
        "--cache",
        str(store.root),
    ]
    for option in ("name", "device"):
        command += [f"--{option}", request[option]] if request[option] else []
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            [*command, "--", request["base"], request["tuned"]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the server's terminal is not for the job
            pass_fds=(lock,),
        )
    reap(process)
    return process


def reap(process: subprocess.Popen) -> None:
    """Have a job's process taken off the machine's list when it ends, whether or not anybody looks
    at the job again.

    The thread ends with the job; it holds up nobody's exit, because the job outlives whoever
    started it.
    """
    threading.Thread(target=process.wait, name=f"job {process.pid}", daemon=True).start()


def load(folder: Path) -> Job:
    """A job as its folder tells; a job whose process is gone without a last word has failed."""
    request, status = read_facts(folder / "request.json"), read_facts(folder / "status.json")
    state = status.get("state", "failed")
    alive = files.running(folder)
    if state == "running" and not alive:
        state = read_facts(folder / "status.json").get("state", "failed")  # it may just have ended
        stopped = "cancelled" if (folder / "cancel").exists() else "failed"
        state = stopped if state == "running" else state
    return Job(folder.name, folder, request, status, "running" if alive else state)


def read_facts(path: Path) -> dict:
    """What a job's file says, as far as it is of the right type; empty where it cannot be read."""
    value = files.json_value(path)
    facts = value if isinstance(value, dict) else {}
    texts = {k: v for k, v in facts.items() if k in TEXTS and isinstance(v, str)}
    if texts.get("state") not in STATES:
        texts.pop("state", None)
    return texts | {k: v for k, v in facts.items() if k in NUMBERS and type(v) in (int, float)}


def all_jobs(store: Store) -> list[Job]:
    """Every job of the cache, newest first."""
    jobs = [load(path.parent) for path in sorted((store.root / "jobs").glob("*/request.json"))]
    return sorted(jobs, key=lambda job: -float(job.request.get("time", 0.0)))


def cancel(job: Job) -> None:
    """End a running job's process; what it finished stays.

    Raises
        RequestError: it is not running.
    """
    if load(job.folder).state != "running":
        raise RequestError(f"cancel({job.id}): it is not running.")
    (job.folder / "cancel").touch()
    try:
        os.kill(process_id(job.folder), signal.SIGTERM)
    except (OSError, ValueError):
        return


def process_id(folder: Path) -> int:
    """The process of a job.

    Raises
        OSError: no file says it.
        ValueError: the file says something else; 0 and -1 would mean whole groups of processes.
    """
    number = int(files.contents(folder / "pid", most=20))
    if number <= 1:
        raise ValueError(number)
    return number
