"""A job is a folder and a process: cache/jobs/<id>/{request.json,status.json,log.txt} and `opdviz compare`.

Its state lives on disk, so it survives a rerun, a closed tab and a restart of the server. A file lock, handed to the
process when it starts, says whether it lives, and keeps two sessions from starting it twice.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from opdviz import fingerprint
from opdviz.errors import RequestError
from opdviz.store import Store, running, write

KEPT_LOG = 8_000


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
        return float(self.status.get("share", 0.0))

    @property
    def message(self) -> str:
        """Why it failed, in one line."""
        return str(self.status.get("message") or "the process ended without a word; the log may say why")

    def log(self) -> str:
        """The end of the job's log."""
        try:
            return (self.folder / "log.txt").read_text(errors="replace")[-KEPT_LOG:]
        except OSError:
            return ""


def job_id(base: str, tuned: str) -> str:
    """The id of the job that compares two paths: one pair, one job."""
    return fingerprint.of_bytes(os.path.realpath(base), os.path.realpath(tuned))[:12]


def start(store: Store, base: str, tuned: str, *, name: str | None = None) -> Job:
    """Start comparing two checkpoints in a process of its own, or find the job that already does.

    Raises
        MachineError: the job's folder cannot be written.
    """
    folder = store.root / "jobs" / job_id(base, tuned)
    request = {"base": str(base), "tuned": str(tuned), "name": name, "time": time.time()}
    write(folder / "request.json", json.dumps(request).encode())
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return load(folder)
        (folder / "cancel").unlink(missing_ok=True)
        write(folder / "status.json", json.dumps({"state": "running", "share": 0.0, "phase": "starting"}).encode())
        command = [sys.executable, "-m", "opdviz", "compare", "--job", str(folder), "--cache", str(store.root)]
        command += ["--name", name] if name else []
        with open(folder / "log.txt", "w") as log:
            process = subprocess.Popen(
                [*command, "--", str(base), str(tuned)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the server's terminal is not for the job
                pass_fds=(lock.fileno(),),  # the lock lives as long as the job does
            )
        reap(process)
        write(folder / "pid", str(process.pid).encode())
    return load(folder)


def reap(process: subprocess.Popen) -> None:
    """Have a job's process taken off the machine's list when it ends, whether or not anybody looks at the job again.

    The thread ends with the job; it holds up nobody's exit, because the job outlives whoever started it.
    """
    threading.Thread(target=process.wait, name=f"job {process.pid}", daemon=True).start()


def load(folder: Path) -> Job:
    """A job as its folder tells; a job whose process is gone without a last word has failed."""
    request, status = (read_json(folder / f"{part}.json") for part in ("request", "status"))
    state = status.get("state", "failed")
    alive = running(folder)
    if state == "running" and not alive:
        state = read_json(folder / "status.json").get("state", "failed")  # it may just have ended
        stopped = "cancelled" if (folder / "cancel").exists() else "failed"
        state = stopped if state == "running" else state
    return Job(folder.name, folder, request, status, "running" if alive else state)


def read_json(path: Path) -> dict:
    """A JSON object; empty where it cannot be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def all_jobs(store: Store) -> list[Job]:
    """Every job of the cache, newest first."""
    found = [load(path.parent) for path in (store.root / "jobs").glob("*/request.json")]
    return sorted(found, key=lambda job: -float(job.request.get("time", 0.0)))


def cancel(job: Job) -> None:
    """End a running job's process; what it finished stays.

    Raises
        RequestError: it is not running.
    """
    if load(job.folder).state != "running":
        raise RequestError(f"cancel({job.id}): it is not running.")
    (job.folder / "cancel").touch()
    try:
        os.kill(int((job.folder / "pid").read_text()), signal.SIGTERM)
    except (OSError, ValueError):
        return
