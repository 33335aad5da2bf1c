"""Read safetensors files: the header first, then one tensor or a block of its rows at a time.

The format: 8 bytes of little-endian header length, a JSON header, then the tensors' bytes. The header is not trusted:
whatever it says is held against the file's size before a byte of data is read.
"""

import json
import math
import os
from pathlib import Path

import numpy as np

from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line

NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
BITS = {"bfloat16": "uint16", "float8_e4m3": "uint8", "float8_e5m2": "uint8"}
LONGEST_HEADER = 100_000_000
MOST_AXES, LONGEST_AXIS = 16, 1 << 48


def headers(path: Path) -> list[TensorInfo]:
    """Every tensor that the file's header names, checked against the file's size.

    Raises
        RequestError: not a safetensors file, or a header that its file cannot hold.
    """
    header, start = read_header(path)
    size = path.stat().st_size - start
    found = []
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict):
                raise broken(path, f"__metadata__ that is a {type(entry).__name__}", "a JSON object")
            continue
        found.append(tensor_info(path, name, entry, start, size))
    end = start
    for info in sorted(found, key=lambda i: (i.offset, i.numel)):
        if info.offset != end:
            raise broken(
                path, f"tensor {one_line(info.name, limit=80)} at byte {info.offset:,}", f"it to begin at {end:,}"
            )
        end += info.numel * FORMATS[info.dtype].size
    return found


def read_header(path: Path) -> tuple[dict, int]:
    """The header as a dict, and the offset where the data begin."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise broken(path, f"{size} bytes long", "at least 8 bytes of header length")
        length = int.from_bytes(first, "little")
        if length > min(size - 8, LONGEST_HEADER):
            raise broken(path, f"a header of {length:,} bytes in a file of {size:,}", "a header inside the file")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=unique)
    except Doubled as doubled:
        raise broken(path, f"{doubled} twice in its header", "every name once") from None
    except (ValueError, RecursionError):
        raise broken(path, "a header that is not JSON", "a JSON header") from None
    if not isinstance(header, dict):
        raise broken(path, f"a header that is a {type(header).__name__}", "a JSON object")
    return header, 8 + length


class Doubled(ValueError):
    """A name that stands twice in one JSON object."""


def unique(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object; a name that stands twice would leave open which tensor is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Doubled(one_line(next(n for n in names if names.count(n) > 1), limit=80))
    return found


def tensor_info(path: Path, name: str, entry: object, start: int, size: int) -> TensorInfo:
    """One header entry as a TensorInfo, or a RequestError that says what is wrong with it."""
    label = one_line(name, limit=80)
    try:
        dtype, shape, (low, high) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise broken(path, f"tensor {label} without dtype, shape and data_offsets", "all three") from None
    if not label or not name.isprintable() and "\ud800" <= max(name) <= "\udfff":
        raise broken(path, f"a tensor named {label!r}", "a name that is text")
    if not isinstance(dtype, str) or dtype not in NAMES:
        raise broken(path, f"tensor {label} of type {one_line(dtype, limit=20)}", f"one of {', '.join(NAMES)}")
    if not all(type(n) is int and n >= 0 for n in (*shape, low, high)):
        raise broken(path, f"tensor {label} with shape {one_line(shape, limit=60)}", "whole numbers from 0")
    if len(shape) > MOST_AXES or max(shape, default=0) > LONGEST_AXIS:
        raise broken(
            path, f"tensor {label} with {len(shape)} axes of up to {max(shape):,}", f"at most {MOST_AXES} axes"
        )
    wanted = math.prod(shape) * FORMATS[NAMES[dtype]].size
    if high - low != wanted or high > size:
        found = f"tensor {label} at bytes {low:,} to {high:,} of {size:,}"
        raise broken(path, found, f"{wanted:,} bytes inside the file (is it truncated?)")
    return TensorInfo(name, shape, NAMES[dtype], path, start + low)


def read(info: TensorInfo, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of a tensor (elements, for a vector) as stored: its numpy type or its bits."""
    row = math.prod(info.shape[1:])
    kind = np.dtype(BITS.get(info.dtype, info.dtype))
    offset = info.offset + first * row * kind.itemsize
    data = np.empty((last - first) * row, dtype=kind)
    with open(info.path, "rb", buffering=0) as file:
        file.seek(offset)
        view, filled = memoryview(data).cast("B"), 0
        while filled < view.nbytes:
            count = file.readinto(view[filled:])
            if not count:
                raise broken(info.path, f"{os.path.getsize(info.path):,} bytes", "the bytes its header names")
            filled += count
    return data.reshape((last - first, *info.shape[1:]))


def broken(path: Path, found: str, expected: str) -> RequestError:
    """The one-line error for a file that is not what its name says."""
    return RequestError(f"open({one_line(path)}): found {found}; expected {expected}. Copy or download it again.")
