"""Files and folders that are whole or not there, locks that die with their process, and small files
read with care.

The only place that renames and locks. Anybody may have put something in a file's place: a named
pipe would hang its reader for ever, a device may have no end, and JSON can hold what Python cannot
- numbers of thousands of digits, a hundred thousand brackets, half a character.
"""

import errno
import fcntl
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from opdviz.errors import MachineError, RequestError

TEMPORARY = ".tmp"
MOST_BYTES = 1 << 26
# Tables hold whole numbers of 64 bits, and beyond 1,000 bits a division fails.
LARGEST_WHOLE = 1 << 63
HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # half a character, as JSON spells it


def opened(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file; a pipe, a socket, a device or a folder is not opened.

    Raises
        OSError: it is not there, or no plain file.
    """
    with suppress(FileNotFoundError):
        plain(path, os.stat(path))
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        plain(path, os.fstat(descriptor))  # it may have been exchanged in between
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def plain(path: Path, state: os.stat_result) -> None:
    """Refuse what is no plain file.

    Raises
        OSError: it is none.
    """
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "no plain file", str(path))


def contents(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a plain file of at most `most` bytes.

    Raises
        OSError: it is not there, no plain file, or larger.
    """
    with os.fdopen(opened(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
        return file.read(size)  # a read of `most` would set that much memory aside


def json_value(path: Path) -> object:
    """The value of a JSON file; `None` where it is not there or cannot be read."""
    try:
        return parsed(contents(path))
    except OSError:
        return None


def parsed(data: bytes) -> object:
    """A JSON value of finite numbers, whole ones of 64 bits, and whole characters; `None` where it
    is not that.

    Halves of characters stay where they stand for bytes of a path that is no UTF-8.

    >>> parsed(b'{"a": 1}'), parsed(b"NaN"), parsed(b"1e999"), parsed(b"[" * 100_000)
    ({'a': 1}, None, None, None)
    """
    try:
        value = json.loads(
            data.decode(), parse_int=whole, parse_float=finite, parse_constant=refused
        )
        if HALF.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError):
        return None
    return value


def whole(text: str) -> int:
    """A whole number of 64 bits."""
    value = int(text)
    return value if -LARGEST_WHOLE <= value < LARGEST_WHOLE else refused(text)


def finite(text: str) -> float:
    """A number that is not too large."""
    value = float(text)
    return value if math.isfinite(value) else refused(text)


def refused(text: str) -> NoReturn:
    """Not in JSON of ours.

    Raises
        ValueError: always.
    """
    raise ValueError(text[:40])


def clear(path: Path) -> None:
    """Take away what stands at a path, be it a folder or a pipe."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear_for_file(path: Path) -> None:
    """Take away what stands in a plain file's place and is none: a new one cannot be renamed over a
    folder.
    """
    if not path.is_file() and (path.exists() or path.is_symlink()):
        clear(path)


def write(path: Path, data: bytes, *, prefix: str = "") -> None:
    """Write bytes under a temporary name, which begins with `prefix`, and rename.

    Raises
        MachineError: the disk is full or the file may not grow; nothing half-written stays.
    """
    # the file's own name may be as long as a disk takes already
    temporary = path.with_name(f"{prefix}{os.urandom(8).hex()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise MachineError(
            f"write({path.name}): {error.strerror or error}; what was finished before is kept. Make"
            " room and run it again."
        ) from None


def move(folder: Path, into: Path) -> None:
    """Give a folder another name beside its own, whole."""
    os.replace(folder, into)


@contextmanager
def new_folder(into: Path, *, joining_by: str | None = None) -> Iterator[Path]:
    """A folder to be filled, which then stands at `into`, whole, in place of what was there; it
    goes where that fails.

    With `joining_by` a folder that is there keeps what it has: the files join it, the one of that
    name last.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{into.name}.", suffix=TEMPORARY, dir=into.parent))
    try:
        yield work
        work.chmod(0o755)  # a temporary folder is its owner's alone
        if joining_by is not None and into.exists():
            for name in sorted(
                (file.name for file in work.iterdir()), key=lambda name: name == joining_by
            ):
                os.replace(work / name, into / name)
        else:
            shutil.rmtree(into, ignore_errors=True)
            os.replace(work, into)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[int]:
    """Hold a lock file, which dies with its process; the descriptor, for a child that is to hold it
    on.

    Raises
        BlockingIOError: another process holds it, and nobody wants to wait.
        OSError: it cannot be opened.
    """
    with os.fdopen(opened(path, os.O_WRONLY | os.O_CREAT), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file.fileno()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a comparison for writing.

    Raises
        RequestError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clear_for_file(folder / "lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / "lock"))
        except BlockingIOError:
            raise RequestError(
                f"{folder.name[:12]} is being written by another process; wait for it or cancel it."
            ) from None
        yield


def running(folder: Path) -> bool:
    """Whether a living process holds a folder: a comparison that is written, or a job."""
    try:
        descriptor = opened(folder / "lock")
    except OSError:  # not there, or nothing that a process of ours could hold
        return False
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def sweep(folder: Path) -> None:
    """Delete temporaries that a killed process left; the caller holds the lock."""
    for leftover in folder.rglob(f"*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)
