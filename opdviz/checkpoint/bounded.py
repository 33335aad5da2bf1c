"""Files that anybody may have written, read within bounds: regular files only, so many bytes, so
many values.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

# A value takes a comma, colon or bracket and some 60 bytes of memory: 700 MB.
MOST_SIGNS = 12_000_000
SIGNS = b",:[{"


class Unreadable(ValueError):
    """Why a file tells nothing: words that stand after 'found'."""


def read_bytes(path: Path, longest: int) -> bytes:
    """The bytes of a regular file.

    Raises
        Unreadable: it is none, it is longer than `longest`, or it may not be read.
        FileNotFoundError: there is nothing of that name.
    """
    try:
        # a pipe without a writer would block, and a device never end; neither does when it is asked
        # what it is
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise Unreadable("a folder or device")
            if facts.st_size > longest:
                raise Unreadable(f"more than {longest:,} bytes")
            return file.read(longest)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(
            "a folder or device" if isinstance(error, IsADirectoryError) else reason(error)
        ) from None


def reason(error: OSError) -> str:
    """A system's error in lower case, to stand within a sentence."""
    return (error.strerror or "no readable file").lower()


def from_json(data: bytes, hook: Callable | None = None) -> object:
    """The value that JSON text stands for; `hook` makes its objects from pairs.

    Raises
        Unreadable: it is no JSON, nested too deep, or of too many values.
    """
    if sum(data.count(sign) for sign in SIGNS) > MOST_SIGNS:
        raise Unreadable("JSON of too many values")
    try:
        return json.loads(data, object_pairs_hook=hook)
    except RecursionError:
        raise Unreadable("JSON that is nested too deep") from None
    except Unreadable:
        raise
    except ValueError:  # also bytes that are no text, and integers of more digits than Python reads
        raise Unreadable("text that is not JSON") from None


def is_text(name: str) -> bool:
    """Whether a name can be written: a lone surrogate has no bytes.

    >>> is_text("w"), is_text("\\ud800")
    (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
