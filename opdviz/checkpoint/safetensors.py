"""Read safetensors files: the header first, then one tensor or a block of its rows at a time.

The format: 8 bytes of little-endian header length, a JSON header, then the tensors' bytes. The header is not trusted:
whatever it says is held against the file's size before a byte of data is read.
"""

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np

from opdviz.checkpoint.bounded import Unreadable, from_json
from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.records import LONGEST_EMPTY, LONGEST_NAME, MOST_TENSORS, TensorInfo, is_name
from opdviz.errors import RequestError, one_line

NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
BITS = {"bfloat16": "uint16", "float8_e4m3": "uint8", "float8_e5m2": "uint8"}
LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it
MOST_AXES, LONGEST_AXIS = 16, 1 << 48


def headers(path: Path) -> list[TensorInfo]:
    """Every tensor that the file's header names, checked against the file's size.

    Raises
        RequestError: not a safetensors file, or a header that its file cannot hold.
    """
    header, start = read_header(path)
    if not isinstance(metadata := header.pop("__metadata__", {}), dict):
        raise broken(path, f"__metadata__ that is a {type(metadata).__name__}", "a JSON object")
    if len(header) > MOST_TENSORS:
        raise broken(path, f"{len(header):,} tensors", f"at most {MOST_TENSORS:,}")
    size = path.stat().st_size - start
    infos = [tensor_info(path, name, entry, start, size) for name, entry in header.items()]
    end = 0
    for low, high, name in sorted((*entry["data_offsets"], name) for name, entry in header.items()):
        if low != end:
            label = one_line(name, limit=80)
            raise broken(path, f"tensor {label} at byte {start + low:,}", f"it to begin at {start + end:,}")
        end = high
    return infos


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
        header = from_json(text, unique)
    except Unreadable as why:
        raise broken(path, f"{why} in its header", "a JSON header that names every tensor once") from None
    if not isinstance(header, dict):
        raise broken(path, f"a header that is a {type(header).__name__}", "a JSON object")
    return header, 8 + length


def unique(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object; a name that stands twice would leave open which tensor is meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise Unreadable(f"{one_line(counts.most_common(1)[0][0], limit=80)} twice")
    return value


def tensor_info(path: Path, name: str, entry: object, start: int, size: int) -> TensorInfo:
    """One header entry as a TensorInfo, or a RequestError that says what is wrong with it."""
    try:
        dtype, shape, (low, high) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise faulty(path, name, "without dtype, shape and data_offsets", "all three") from None
    if not is_name(name):
        named = f"a tensor named {one_line(ascii(name), limit=80)}"
        raise broken(path, named, f"a name that is text of up to {LONGEST_NAME:,} letters")
    if type(dtype) is not str or dtype not in NAMES:
        raise faulty(path, name, f"of type {one_line(dtype, limit=20)}", f"one of {', '.join(NAMES)}")
    for number in (*shape, low, high):
        if type(number) is not int or number < 0:
            raise faulty(path, name, f"with shape {one_line(shape, limit=60)}", "whole numbers from 0")
    if shape and (len(shape) > MOST_AXES or max(shape) > LONGEST_AXIS):
        raise faulty(path, name, f"with {len(shape)} axes of up to {digits(max(shape))}", f"at most {MOST_AXES} axes")
    wanted = math.prod(shape) * FORMATS[NAMES[dtype]].size
    if high - low != wanted or high > size:
        where = f"at bytes {digits(low)} to {digits(high)} of {size:,}"
        raise faulty(path, name, where, f"{wanted:,} bytes inside the file (is it truncated?)")
    if not wanted and shape and max(shape) > LONGEST_EMPTY:
        raise faulty(path, name, f"of no elements with an axis of {max(shape):,}", f"axes of up to {LONGEST_EMPTY:,}")
    return TensorInfo(name, shape, NAMES[dtype], path, start + low)


def digits(number: int) -> str:
    """A number in full, or in short where that would be a page of digits.

    >>> digits(1234), digits(10**40)
    ('1,234', '1.0e+40')
    """
    if number < 10**30:
        return f"{number:,}"
    return f"{number:.1e}" if number < 10**300 else "10^300 and more"


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


def faulty(path: Path, name: str, what: str, expected: str) -> RequestError:
    """The one-line error for one entry of a header."""
    return broken(path, f"tensor {one_line(name, limit=80)} {what}", expected)


def broken(path: Path, found: str, expected: str) -> RequestError:
    """The one-line error for a file that is not what its name says."""
    return RequestError(f"open({one_line(path)}): found {found}; expected {expected}. Copy or download it again.")
