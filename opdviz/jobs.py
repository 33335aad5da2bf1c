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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from opdviz import files, fingerprint
from opdviz.errors import RequestError
from opdviz.interpreter import environment
from opdviz.store.manifest import LABELS
from opdviz.store.relations import PAYLOAD
from opdviz.store.store import Store
from opdviz.words import count, listing

# Bytes of a log's end that a page shows.
KEPT_LOG = 8_000
# Of each run, as the command line has them: as many as there are runs, or none.
OF_EACH = ("name", *LABELS)
GIVES_WAY = 19  # nicest: a job that follows a training takes what the training leaves
PARTS = ("request.json", "status.json", "log.txt", "pid", "cancel")
STATES = ("running", "done", "failed", "cancelled")
TEXTS = ("state", "phase", "current", "message", "key")
NUMBERS = ("started", "share", "left", "pairs", "pairs_done", "pid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a job was asked for: a base and runs on it, what each is to be called, and its labels;
    or the `keys` of comparisons whose overlap is to be worked out, with the `table` that is asked
    for.

    With `follow` the run is a training's folder, whose steps are compared as they come. `of_each`
    has by option (`name`, `recipe`, `optimizer`) a text for each run, empty for none.
    """

    base: str = ""
    tuned: tuple[str, ...] = ()
    of_each: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    table: str | None = None
    device: str | None = None
    workers: int | None = None
    follow: bool = False
    time: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether it can be asked for again: its file may be damaged."""
        return bool(self.keys or (self.base and self.tuned))

    @property
    def title(self) -> str:
        """What it makes: the name that was given, or its folders."""
        if self.keys:
            what = "payload" if self.table == PAYLOAD else "overlap"
            return f"{what} of {count(len(self.keys), 'run')}"
        names = [name for name in self.of_each.get("name", ()) if name]
        if len(self.tuned) == 1 and names:
            return names[0]
        runs = names if len(names) == len(self.tuned) else list(map(last_piece, self.tuned))
        return f"{last_piece(self.base)} → {listing(runs) if runs else ''}"

    def covers(self, base: str, tuned: str) -> bool:
        """Whether it compares these two paths."""
        paths = map(os.path.realpath, (self.base, *self.tuned))
        return bool(self.base) and os.path.realpath(base) == next(paths) and tuned in paths

    @property
    def id(self) -> str:
        """The id of its job: the same work, one job."""
        return (
            relation_id(*self.keys, table=self.table)
            if self.keys
            else job_id(self.base, *self.tuned)
        )

    @property
    def command(self) -> list[str]:
        """The command that does it, without the program and the job's folder."""
        if self.keys and self.table == PAYLOAD:
            return ["payload", "--", *self.keys]
        if self.keys:
            table = [f"--table={self.table}"] if self.table else []
            return ["overlap", *table, "--", *self.keys]
        options = [f"--{name}={value}" for name, values in self.of_each.items() for value in values]
        options += [f"--device={self.device}"] if self.device else []
        options += [f"--workers={self.workers}"] if self.workers else []
        options += ["--follow"] if self.follow else []
        return ["compare", *options, "--", self.base, *self.tuned]

    def encoded(self) -> bytes:
        """The request as the JSON that `parsed` takes."""
        names = ("base", "tuned", "keys", "table", "device", "workers", "follow", "time")
        facts = {name: getattr(self, name) for name in names}
        return json.dumps(facts | dict(self.of_each)).encode()


def parsed(value: object) -> Request:
    """A request from JSON, as far as it is of the right type. One of an earlier version has one run
    and its name as plain texts.
    """
    facts = value if isinstance(value, dict) else {}
    base, device, table = (text_of(facts.get(name)) for name in ("base", "device", "table"))
    when, workers = facts.get("time"), facts.get("workers")
    return Request(
        base=base or "",
        tuned=texts(facts.get("tuned")),
        keys=texts(facts.get("keys")),
        of_each={option: texts(facts.get(option)) for option in OF_EACH},
        table=table,
        device=device,
        workers=workers if type(workers) is int else None,
        follow=facts.get("follow") is True,
        time=float(when) if type(when) in (int, float) else 0.0,
    )


def text_of(value: object) -> str | None:
    """A text from JSON; `None` where it is anything else."""
    return value if isinstance(value, str) else None


def texts(value: object) -> tuple[str, ...]:
    """Some texts from JSON, or one; none where it is anything else."""
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(values) if all(isinstance(text, str) for text in values) else ()


def last_piece(path: str) -> str:
    """The last piece of a path."""
    return path.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Job:
    """What is known of a job; `state` is running, done, failed or cancelled."""

    id: str
    folder: Path
    request: Request
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
            if self.request.sound
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


def job_id(base: str, *tuned: str) -> str:
    """The id of the job that compares some paths: the same runs, one job."""
    return fingerprint.of_bytes(*map(os.path.realpath, (base, *tuned)))[:12]


def relation_id(*keys: str, table: str | None = None) -> str:
    """The id of the job that works out a table of how some comparisons lie to each other."""
    return fingerprint.of_bytes("overlap", table or "", *sorted(keys))[:12]


def start(
    store: Store,
    base: str,
    *tuned: str,
    device: str | None = None,
    **of_each: Sequence[str],
) -> Job:
    """Start comparing a base with runs on it in a process of its own, or find the job that already
    does; `of_each` are `name`, `recipe` and `optimizer`, a text for each run.

    Raises
        MachineError: the job's folder cannot be written.
    """
    texts_of_each = {option: tuple(values) for option, values in of_each.items() if any(values)}
    request = Request(
        base=base, tuned=tuned, of_each=texts_of_each, device=device, time=time.time()
    )
    return start_request(store, request)


def start_request(store: Store, request: Request) -> Job:
    """Start what was asked for, or find the job that already does it.

    Raises
        MachineError: the job's folder cannot be written.
    """
    folder = store.root / "jobs" / request.id
    for part in (*PARTS, "lock"):
        files.clear_for_file(folder / part)
    files.write(folder / "request.json", request.encoded())
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


def spawn(store: Store, folder: Path, request: Request, lock: int) -> subprocess.Popen:
    """The process of a job; it holds the lock for as long as it lives, and ends without anybody's
    looking.
    """
    name, *rest = request.command
    where = ["--job", str(folder), "--cache", str(store.root)]
    command = [sys.executable, "-m", "opdviz", name, *where, *rest]
    if request.follow:
        command = ["nice", "-n", str(GIVES_WAY), *command]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,  # Ctrl-C in the server's terminal is not for the job
            pass_fds=(lock,),
        )
    if request.follow:
        # Linux gives each session a share of its own, in which nice counts only inside it.
        with suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(GIVES_WAY))
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
    request = parsed(files.json_value(folder / "request.json"))
    status = read_facts(folder / "status.json")
    state = status.get("state", "failed")
    alive = files.running(folder)
    if state == "running" and not alive:
        state = read_facts(folder / "status.json").get("state", "failed")  # it may just have ended
        stopped = "cancelled" if (folder / "cancel").exists() else "failed"
        state = stopped if state == "running" else state
    return Job(folder.name, folder, request, status, "running" if alive else state)


def read_facts(path: Path) -> dict:
    """What a job says of itself, as far as it is of the right type; empty where that cannot be
    read.
    """
    value = files.json_value(path)
    facts = value if isinstance(value, dict) else {}
    texts = {k: v for k, v in facts.items() if k in TEXTS and isinstance(v, str)}
    if texts.get("state") not in STATES:
        texts.pop("state", None)
    return texts | {k: v for k, v in facts.items() if k in NUMBERS and type(v) in (int, float)}


def all_jobs(store: Store) -> list[Job]:
    """Every job of the cache, newest first."""
    jobs = [load(path.parent) for path in sorted((store.root / "jobs").glob("*/request.json"))]
    return sorted(jobs, key=lambda job: -job.request.time)


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
