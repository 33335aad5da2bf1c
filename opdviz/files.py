"""Small files that anybody may have put there: read as a whole where they are plain files, never waited for.

A named pipe in place of a file would hang its reader for ever, a device may have no end, and JSON can hold what Python
cannot: numbers of thousands of digits, a hundred thousand brackets, half a character.
"""

import errno
import json
import math
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

MOST_BYTES = 1 << 26
LARGEST_WHOLE = 1 << 63  # tables hold whole numbers of 64 bits, and beyond 1,000 bits a division fails
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
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
        return file.read(most)


def json_value(path: Path) -> object:
    """The value of a JSON file; `None` where it is not there or cannot be read."""
    try:
        return parsed(contents(path))
    except OSError:
        return None


def parsed(data: bytes) -> object:
    """A JSON value of finite numbers, whole ones of 64 bits, and whole characters; `None` where it is not that.

    Halves of characters stay where they stand for bytes of a path that is no UTF-8.

    >>> parsed(b'{"a": 1}'), parsed(b'NaN'), parsed(b'1e999'), parsed(b'"\\\\ud800"'), parsed(b"[" * 100_000)
    ({'a': 1}, None, None, None, None)
    """
    try:
        value = json.loads(data.decode(), parse_int=whole, parse_float=finite, parse_constant=refused)
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
    """Take away what stands in a plain file's place and is none: a new one cannot be renamed over a folder."""
    if not path.is_file() and (path.exists() or path.is_symlink()):
        clear(path)
