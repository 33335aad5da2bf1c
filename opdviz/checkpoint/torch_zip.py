"""The directory of a PyTorch file in the zip format, read before anything in it is: what it would
take to open it.

`torch.save` stores its records as they are. A record that is packed can be a thousand times as
large as its file, and a directory can lie, so what PyTorch would expand is bounded by what both of
them say.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from opdviz.checkpoint.bounded import Unreadable

END, END_64, LOCATOR_64, ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
FIRST = b"PK\x03\x04"
TAIL = 22 + (1 << 16)  # the end of a directory, and the longest comment after it
LONGEST_DIRECTORY = 100_000_000
LARGEST_PICKLE = 64_000_000
LARGEST_PACKED = 100_000_000
WIDE = 0xFFFFFFFF
STORED = 0


class Record(NamedTuple):
    """One entry of the directory: its name, whether it is packed, its size when it is not, and its
    size in the file.
    """

    name: str
    packed: bool
    size: int
    taken: int


def is_zip(path: Path) -> bool:
    """Whether PyTorch takes a file for a zip: it looks at the first bytes alone."""
    with open(path, "rb") as file:
        return file.read(4) == FIRST


def weights(path: Path) -> list[int]:
    """The sizes of a zip's records of weights, in their order, after its directory was held against
    its file.

    Raises Unreadable: no directory, one that lies, or records that are too large when they are
    expanded.
    """
    length, sizes = os.path.getsize(path), []
    with open(path, "rb") as file:
        for record in records(file, length):
            name = record.name.lower()  # PyTorch's reader finds a name in any case
            if name.endswith("data.pkl") and record.size > LARGEST_PICKLE:
                raise Unreadable(f"a pickle of {record.size:,} bytes, more than {LARGEST_PICKLE:,}")
            # Mapped as they are, packed bytes would be taken for weights.
            if record.packed and "/data/" in name:
                raise Unreadable("packed weights, which torch.save never writes")
            if record.packed and record.size > LARGEST_PACKED:
                raise Unreadable(
                    f"a packed record of {record.size:,} bytes, more than {LARGEST_PACKED:,}"
                )
            if not record.packed and record.size > length:
                raise Unreadable(f"a record of {record.size:,} bytes in a file of {length:,}")
            sizes += [record.size] if "/data/" in name and record.size else []
    return sizes


def records(file: BinaryIO, length: int) -> Iterator[Record]:
    """The entries of a zip's directory."""
    start, size = directory(file, length)
    if size > LONGEST_DIRECTORY:
        raise Unreadable(f"a directory of {size:,} bytes, more than {LONGEST_DIRECTORY:,}")
    file.seek(start)
    data, at = file.read(size), 0
    while at + 46 <= size and data[at : at + 4] == ENTRY:
        method, packed, unpacked, name, extra, comment = struct.unpack_from(
            "<10xH8xIIHHH", data, at
        )
        after = at + 46 + name
        if WIDE in (unpacked, packed):
            unpacked, packed = wide(data[after : after + extra], unpacked, packed)
        text = data[at + 46 : after].decode("utf-8", "replace")
        yield Record(text, method != STORED, unpacked, packed)
        at = after + extra + comment


def wide(extra: bytes, unpacked: int, taken: int) -> tuple[int, int]:
    """The sizes that do not fit 32 bits, from an entry's extra fields."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(
                struct.unpack_from(f"<{size // 8}Q", extra[at + 4 : at + 4 + size // 8 * 8])
            )
            return tuple(next(numbers, WIDE) if n == WIDE else n for n in (unpacked, taken))
        at += 4 + size
    return unpacked, taken


def directory(file: BinaryIO, length: int) -> tuple[int, int]:
    """Where the directory starts, and its size: right before its own end, so that no two readers
    see two of them.

    Raises
        Unreadable: there is none there.
    """
    first = max(0, length - TAIL)
    file.seek(first)
    tail = file.read(TAIL)
    at = tail.rfind(END)
    if at < 0 or at + 22 > len(tail):
        raise Unreadable("a zip without a directory")
    size, start = struct.unpack_from("<12xII", tail, at)
    end = first + at
    if at >= 20 and tail[at - 20 : at - 16] == LOCATOR_64:
        (end,) = struct.unpack_from("<8xQ", tail, at - 20)
        file.seek(min(end, length))
        record = file.read(56)
        if len(record) < 56 or record[:4] != END_64:
            raise Unreadable("a zip without a directory")
        size, start = struct.unpack_from("<40xQQ", record)
    if start + size != end:
        raise Unreadable("a zip whose directory is not where it says")
    return start, size
