"""The identity of a checkpoint file: the XXH3-128 of its bytes, remembered by path, size and
modification time.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import xxhash

from opdviz import files

# Bytes at a time: large enough for the speed of a disk, small enough to report progress.
CHUNK = 1 << 22
DIGEST = re.compile(r"^[0-9a-f]{32}$")
SHA256_NAME = re.compile(r"^[0-9a-f]{64}$")


def of_bytes(*parts: bytes | str) -> str:
    """The XXH3-128 hex digest of the parts, each preceded by its length so that no two lists
    collide.

    >>> of_bytes("ab", "c") == of_bytes("a", "bc")
    False
    """
    digest = xxhash.xxh3_128()
    for part in parts:
        # a path may hold bytes that are no text, which Python keeps as lone surrogates
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def of_file(path: Path, advance: Callable[[int], None] = lambda n: None) -> str:
    """The XXH3-128 hex digest of a file's bytes; `advance` is told the number of bytes of every
    chunk read.
    """
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def of_contents(data: bytes) -> str:
    """What `of_file` gives for a file of these bytes."""
    return xxhash.xxh3_128_hexdigest(data)


def afresh(file: Path) -> str:
    """A file's fingerprint from its bytes as they are now: of a hub's blob the SHA-256 that its
    name should be.
    """
    real = file.resolve()
    if not is_blob(real):
        return of_file(real)
    with open(real, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_blob(real: Path) -> bool:
    """Whether a file lies in a hub's cache under the name of its SHA-256."""
    return bool(SHA256_NAME.match(real.name)) and real.parent.name == "blobs"


class Memory:
    """Fingerprints already taken, kept in one JSON file; an entry holds while path, size and mtime
    are the same.
    """

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[str, str] = {}
        memory = files.json_value(path)  # one that cannot be read is made again
        if isinstance(memory, dict):
            self.known = {k: v for k, v in memory.items() if isinstance(v, str) and DIGEST.match(v)}

    def fingerprint(self, file: Path, advance: Callable[[int], None] = lambda n: None) -> str:
        """The file's fingerprint: a hub blob's own SHA-256 name, a remembered digest, or a fresh
        reading.
        """
        real = file.resolve()
        if is_blob(real):
            return real.name
        state = real.stat()
        entry = f"{real}|{state.st_size}|{state.st_mtime_ns}"
        if entry not in self.known:
            self.known[entry] = of_file(real, advance)
        else:
            advance(state.st_size)
        return self.known[entry]

    def save(self) -> None:
        """Write the memory, and delete the temporaries that killed processes left.

        Raises
            MachineError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.clear_for_file(self.path)
        prefix = f"{self.path.name}."
        # Else one run would sweep what another writes.
        with files.held(self.path.with_suffix(".lock"), wait=True):
            for leftover in self.path.parent.glob(f"{prefix}*{files.TEMPORARY}"):
                leftover.unlink(missing_ok=True)
            files.write(
                self.path, json.dumps(self.known, indent=0, sort_keys=True).encode(), prefix=prefix
            )
