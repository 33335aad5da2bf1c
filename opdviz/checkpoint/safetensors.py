"""Read safetensors files: the header first, then one tensor or a block of its rows at a time.

The format: 8 bytes of little-endian header length, a JSON header, then the tensors' bytes. The
header is not trusted: whatever it says is held against the file's size before a byte of data is
read.
"""

import math
import os
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np

from opdviz.checkpoint.bounded import Unreadable, from_json
from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.quantised import DEQUANTISED, MX
from opdviz.checkpoint.records import LONGEST_EMPTY, LONGEST_NAME, MOST_TENSORS, TensorInfo, is_name
from opdviz.errors import RequestError, one_line

NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
}
BITS = {"bfloat16": "uint16", "float8_e4m3": "uint8", "float8_e5m2": "uint8"}
LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it
MOST_AXES, LONGEST_AXIS = 16, 1 << 48


class Misfit(ValueError):
    """What a header holds that no file has, and what it should be: words that stand after 'found'
    and 'expected'.
    """

    def __init__(self, found: str, expected: str):
        super().__init__(found)
        self.found, self.expected = found, expected


def headers(path: Path) -> tuple[list[TensorInfo], list[str], dict[str, str]]:
    """The tensors of a file, as a reader gives them: this format has no notes and no aliases."""
    return infos(path), [], {}


def infos(path: Path) -> list[TensorInfo]:
    """Every tensor that the file's header names, checked against the file's size.

    Raises
        RequestError: not a safetensors file, or a header that its file cannot hold.
    """
    try:
        text, size = read_header(path)
        return [
            TensorInfo(name, shape, dtype, path, offset)
            for name, shape, dtype, offset in tensors(text, size)
        ]
    except Misfit as why:
        raise broken(path, why.found, why.expected) from None


def metadata(path: Path) -> dict:
    """What the header says of the file itself.

    Raises
        RequestError: not a safetensors file.
    """
    try:
        return parse(read_header(path)[0])[1]
    except Misfit as why:
        raise broken(path, why.found, why.expected) from None


def read_header(path: Path) -> tuple[bytes, int]:
    """The header's JSON, and the size of the file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise Misfit(f"{size} bytes long", "at least 8 bytes of header length")
        length = int.from_bytes(first, "little")
        if length > min(size - 8, LONGEST_HEADER):
            raise Misfit(
                f"a header of {length:,} bytes in a file of {size:,}", "a header inside the file"
            )
        return file.read(length), size


# Base and tuned are mostly saved by one program, with the same header: the second is not parsed
# again.
@lru_cache(maxsize=1)
def tensors(text: bytes, size: int) -> list[tuple[str, tuple[int, ...], str, int]]:
    """Name, shape, dtype and offset of every tensor that a header names, if a file of `size` bytes
    can hold them.

    Raises
        Misfit: the header is none, or says what cannot be.
    """
    start, (header, _) = 8 + len(text), parse(text)
    if len(header) > MOST_TENSORS:
        raise Misfit(f"{len(header):,} tensors", f"at most {MOST_TENSORS:,}")
    records = [tensor(name, entry, start, size - start) for name, entry in header.items()]
    end = 0
    for low, high, name in sorted((*entry["data_offsets"], name) for name, entry in header.items()):
        if low != end:
            raise Misfit(
                f"{of_tensor(name)} at byte {start + low:,}", f"it to begin at {start + end:,}"
            )
        end = high
    return records


def parse(text: bytes) -> tuple[dict, dict]:
    """A header's entries by the tensor's name, and its metadata."""
    try:
        header = from_json(text, unique)
    except Unreadable as why:
        raise Misfit(f"{why} in its header", "a JSON header that names every tensor once") from None
    if not isinstance(header, dict):
        raise Misfit(f"a header that is a {type(header).__name__}", "a JSON object")
    if not isinstance(metadata := header.pop("__metadata__", {}), dict):
        raise Misfit(f"__metadata__ that is a {type(metadata).__name__}", "a JSON object")
    return header, metadata


def unique(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object; a name that stands twice would leave open which tensor is meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise Unreadable(f"{one_line(counts.most_common(1)[0][0], limit=80)} twice")
    return value


def tensor(
    name: str, entry: object, start: int, size: int
) -> tuple[str, tuple[int, ...], str, int]:
    """Name, shape, dtype and offset of one tensor, by its entry in the header; data of `size` bytes
    begin at `start`.
    """
    try:
        dtype, shape, (low, high) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if type(dtype) is str and MX.fullmatch(dtype):
            coded = f"of type {dtype}, codes of an MX format"
            raise Misfit(coded, f"the weights themselves. {DEQUANTISED}")
        if type(dtype) is not str or dtype not in NAMES:
            raise Misfit(f"of type {one_line(dtype, limit=20)}", f"one of {', '.join(NAMES)}")
        needed = bytes_of(dtype, *shape)
    except Misfit as why:
        raise Misfit(f"{of_tensor(name)} {why.found}", why.expected) from None
    except (TypeError, KeyError, ValueError):
        raise Misfit(
            f"{of_tensor(name)} without dtype, shape and data_offsets", "all three"
        ) from None
    if not is_name(name):
        named = f"a tensor named {one_line(ascii(name), limit=80)}"
        raise Misfit(named, f"a name that is text of up to {LONGEST_NAME:,} letters")
    if type(low) is not int or type(high) is not int or low < 0:
        raise Misfit(
            f"{of_tensor(name)} at bytes {one_line((low, high), limit=60)}", "whole numbers from 0"
        )
    if high - low != needed or high > size:
        where = f"at bytes {digits(low)} to {digits(high)} of {size:,}"
        raise Misfit(
            f"{of_tensor(name)} {where}", f"{needed:,} bytes inside the file (is it truncated?)"
        )
    return name, shape, NAMES[dtype], start + low


def of_tensor(name: str) -> str:
    """A tensor in an error."""
    return f"tensor {one_line(name, limit=80)}"


# A model has few shapes and may have a million tensors. `typed`, as True equals 1 and would pass
# for it.
@lru_cache(maxsize=1 << 12, typed=True)
def bytes_of(dtype: str, *shape: object) -> int:
    """The bytes that a tensor of this type and shape takes.

    Raises
        Misfit: there is no such shape.
        TypeError: a list or an object stands for a length.
    """
    if any(type(length) is not int or length < 0 for length in shape):
        raise Misfit(f"with shape {one_line(shape, limit=60)}", "whole numbers from 0")
    longest = max(shape, default=0)
    if len(shape) > MOST_AXES or longest > LONGEST_AXIS:
        raise Misfit(
            f"with {len(shape)} axes of up to {digits(longest)}", f"at most {MOST_AXES} axes"
        )
    elements = math.prod(shape)
    if not elements and longest > LONGEST_EMPTY:
        raise Misfit(
            f"of no elements with an axis of {longest:,}", f"axes of up to {LONGEST_EMPTY:,}"
        )
    return elements * FORMATS[NAMES[dtype]].size


def digits(number: int) -> str:
    """A number in full, or in short where that would be a page of digits.

    >>> digits(1234), digits(10**40)
    ('1,234', '1.0e+40')
    """
    if number < 10**30:
        return f"{number:,}"
    return f"{number:.1e}" if number < 10**300 else "10^300 and more"


def read(info: TensorInfo, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of a tensor (elements, for a vector) as stored: its numpy type or its
    bits.
    """
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
                raise broken(
                    info.path, f"{os.path.getsize(info.path):,} bytes", "the bytes its header names"
                )
            filled += count
    return data.reshape((last - first, *info.shape[1:]))


def broken(path: Path, found: str, expected: str) -> RequestError:
    """The one-line error for a file that is not what its name says."""
    return RequestError(
        f"open({one_line(path)}): found {found}; expected {expected}. Copy or download it again."
    )
