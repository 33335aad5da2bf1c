"""Read PyTorch files (`.bin`, `.pt`, `.pth`), always with `weights_only=True`: a pickle never runs
code here.

The zip format is memory-mapped, so names, shapes and dtypes come without the data. The old format
has no map: it is loaded whole, once a process.
"""

import os
import pickle
import resource
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

# Spinning OpenMP threads are pathological on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import numpy as np
import psutil
import torch

from opdviz.checkpoint import torch_zip
from opdviz.checkpoint.bounded import Unreadable
from opdviz.checkpoint.readers import SEQUENTIAL
from opdviz.checkpoint.records import LONGEST_EMPTY, LONGEST_NAME, TensorInfo, is_name
from opdviz.errors import RequestError, one_line

NAMES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float8_e4m3fn: "float8_e4m3",
    torch.float8_e5m2: "float8_e5m2",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.bool: "bool",
}
BITS = {"bfloat16": torch.uint16, "float8_e4m3": torch.uint8, "float8_e5m2": torch.uint8}
# what torch raises for a damaged file differs by the byte that is damaged
DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    struct.error,
)
ROOM = 700_000_000
MOST_NOTES = 20
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


def headers(path: Path) -> tuple[list[TensorInfo], list[str], dict[str, str]]:
    """The tensors of a PyTorch file, notes for the user, and aliases (name -> the first name of the
    same storage).
    """
    notes = []
    if not torch_zip.is_zip(path):
        notes.append(
            f"{one_line(path.name)} is in PyTorch's old format: it is loaded once as a whole."
        )
    state, where = state_dict(path)
    if where:
        notes.append(f"{one_line(path.name)}: tensors taken from its '{where}' entry.")
    infos, aliases, first_names, others = [], {}, {}, []
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            others.append(one_line(name, limit=60))
            continue
        if not is_name(name):
            raise refused(
                path,
                f"a tensor named {one_line(ascii(name), limit=80)}",
                f"1 to {LONGEST_NAME:,} letters",
            )
        storage = place_of(path, name, value)
        if value.numel() and storage in first_names:
            aliases[name] = first_names[storage]
            continue
        first_names[storage] = name
        infos.append(TensorInfo(name, tuple(value.shape), NAMES[value.dtype], path))
    notes += [
        f"{one_line(path.name)}: entry {name} is no tensor and is left out."
        for name in others[:MOST_NOTES]
    ]
    if len(others) > MOST_NOTES:
        notes.append(
            f"{one_line(path.name)}: {len(others) - MOST_NOTES:,} more entries are no tensors."
        )
    return infos, notes, aliases


def place_of(path: Path, name: str, value: torch.Tensor) -> tuple:
    """Where a tensor's elements lie, the same for two names of one tensor.

    Raises RequestError: it has no elements of its own to read: sparse, quantised, nested, without
    data, or one element that stands for many.
    """
    label = f"tensor {one_line(name, limit=60)}"
    dense = value.layout == torch.strided and not value.is_nested and value.device.type == "cpu"
    if not dense or value.dtype not in NAMES:
        kind = value.layout if value.layout != torch.strided else value.dtype
        kind = "nested tensors" if value.is_nested else "no data (meta)" if value.is_meta else kind
        raise refused(path, f"{label} of {kind}", "a dense float or integer tensor")
    held = value.untyped_storage().nbytes() // value.element_size()
    if value.numel() > held:
        raise refused(
            path,
            f"{label} of {value.numel():,} elements that are {held:,} in the file",
            "each of its own",
        )
    if not value.numel() and max(value.shape) > LONGEST_EMPTY:
        raise refused(
            path,
            f"{label} of no elements with an axis of {max(value.shape):,}",
            f"up to {LONGEST_EMPTY:,}",
        )
    return value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride()


def load(path: Path, *, of_rank: bool = False) -> tuple[dict, str]:
    """The file's mapping of names to tensors, and the wrapper entry it was found in ('' for none).

    Raises RequestError: not a PyTorch file, a pickle that wants more than tensors, or no mapping in
    it.
    """
    try:
        zipped = torch_zip.is_zip(path)
        held, storages = torch_zip.weights(path) if zipped else [], []
        with warnings.catch_warnings(), bounded(path):
            warnings.simplefilter("ignore")
            loaded = torch.load(
                path,
                # Tensors that know their mesh can be placed by name alone.
                map_location="cpu" if of_rank else partial(place_on_cpu, storages),
                weights_only=True,
                mmap=zipped,
            )
        if of_rank and isinstance(loaded, dict):
            held_by = map(storage_of, filter(torch.is_tensor, loaded.values()))
            storages = list({storage.data_ptr(): storage for storage in held_by}.values())
        if zipped and not fit(storages, held):
            raise Unreadable("weights of fewer bytes than their tensors take")
    except Unreadable as why:
        raise refused(path, str(why), "one written by torch.save") from None
    except pickle.UnpicklingError as error:
        if any(
            word in str(error)
            for word in ("Unsupported global", "unsupported GLOBAL", "Unsupported class")
        ):
            raise refused(path, "a pickle that asks to run code", "plain tensors") from None
        raise refused(path, "no readable PyTorch file", "one written by torch.save") from None
    except MemoryError:
        raise refused(
            path, "a pickle that takes far more memory than its file", "plain tensors"
        ) from None
    except DAMAGED:
        raise refused(path, "no readable PyTorch file", "one written by torch.save") from None
    for where in ("", *WRAPPERS):
        inner = loaded.get(where) if where and isinstance(loaded, dict) else loaded
        if isinstance(inner, dict) and any(isinstance(v, torch.Tensor) for v in inner.values()):
            return dict(inner), where
    raise refused(
        path, f"a {type(loaded).__name__} without tensors", "a state dict (name -> tensor)"
    )


state_dict = lru_cache(maxsize=4)(load)


def storage_of(value: torch.Tensor) -> torch.UntypedStorage:
    """The bytes of a tensor, or of what a rank has of it."""
    return getattr(value, "_local_tensor", value).untyped_storage()


def place_on_cpu(
    storages: list[torch.UntypedStorage], storage: torch.UntypedStorage, _: str
) -> torch.UntypedStorage:
    """A storage as it was read, whatever device it was saved from; it is added to `storages`."""
    storages.append(storage)
    return storage


def fit(storages: list[torch.UntypedStorage], held: list[int]) -> bool:
    """Whether mapped storages take no more than the records that hold them: beyond these lie other
    tensors' bytes.
    """
    sizes = [s.nbytes() for s in sorted(storages, key=lambda s: s.data_ptr()) if s.nbytes()]
    if len(sizes) != len(held):
        return sum(sizes) <= sum(held)
    return all(need <= room for need, room in zip(sizes, held, strict=True))


@contextmanager
def bounded(path: Path) -> Iterator[None]:
    """Let this process take only so much memory: a pickle of 50 bytes can ask for any. Only Linux
    counts it so.

    The old format is held once in full and read through a copy; the zip format is mapped, which
    counts as well.
    """
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = psutil.Process().memory_info().data + 2 * path.stat().st_size + ROOM
    if soft != resource.RLIM_INFINITY:
        most = min(most, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def read(info: TensorInfo, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of a tensor as stored: its numpy type or its bits."""
    stored = state_dict(info.path)[0][info.name].detach()
    part = stored[first:last] if stored.dim() else stored.reshape(1)
    if os.environ.get(SEQUENTIAL) and part.is_contiguous() and not part.is_neg():
        part = copied(part, info.path)
    return bits(part.resolve_neg().contiguous(), info.dtype)


def copied(mapped: torch.Tensor, path: Path) -> torch.Tensor:
    """A contiguous part of a mapped file, read into memory of its own; itself where it is not
    mapped.
    """
    offset = offset_of(mapped.data_ptr(), path)
    if offset is None or not mapped.numel():
        return mapped
    held = np.fromfile(path, np.uint8, mapped.numel() * mapped.element_size(), offset=offset)
    return torch.from_numpy(held).view(mapped.dtype).reshape(mapped.shape)


def offset_of(address: int, path: Path) -> int | None:
    """Where in a file an address of its map is; `None` where it is no such address, or the system
    does not list its maps.
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        span, _, begin, _, _, *name = line.split(maxsplit=5)
        low, high = (int(edge, 16) for edge in span.split("-"))
        if low <= address < high:
            mapped_here = name and name[0] == str(path.resolve())
            return address - low + int(begin, 16) if mapped_here else None
    return None


def bits(value: torch.Tensor, dtype: str) -> np.ndarray:
    """A tensor as numpy has it, or its bits where numpy has no such number."""
    return (value.view(BITS[dtype]) if dtype in BITS else value).numpy()


def rows_of(
    shape: tuple[int, ...],
    dtype: str,
    pieces: Sequence,
    values_of: Callable[..., torch.Tensor],
    first: int,
    last: int,
) -> np.ndarray:
    """Rows of a tensor that lies in pieces, each of which `begins` along every axis somewhere and
    has `lengths`, put together as stored.
    """
    if not shape:
        return bits(values_of(pieces[0]).reshape(1).contiguous(), dtype)
    sample = torch.empty(0, dtype=next(one for one, name in NAMES.items() if name == dtype))
    rows = np.empty((last - first, *shape[1:]), bits(sample, dtype).dtype)
    for piece in pieces:
        begin, end = max(first, piece.begins[0]), min(last, piece.begins[0] + piece.lengths[0])
        if begin < end:
            part = values_of(piece)[begin - piece.begins[0] : end - piece.begins[0]]
            along = zip(piece.begins[1:], piece.lengths[1:], strict=True)
            place = (slice(at, at + length) for at, length in along)
            rows[begin - first : end - first, *place] = bits(part.contiguous(), dtype)
    return rows


def refused(path: Path, found: str, expected: str) -> RequestError:
    """The one-line error for a file that cannot be taken."""
    return RequestError(
        f"open({one_line(path)}): found {found}; expected {expected}. Save the weights as"
        " safetensors or with torch.save(model.state_dict(), ...)."
    )
