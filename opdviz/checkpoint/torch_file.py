"""Read PyTorch files (`.bin`, `.pt`, `.pth`), always with `weights_only=True`: a pickle never runs code here.

The zip format is memory-mapped, so names, shapes and dtypes come without the data. The old format has no map: it is
loaded whole, once a process.
"""

import os
import pickle
import struct
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning OpenMP threads are pathological on shared cores
import numpy as np
import torch

from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line

NAMES = {
    torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16",
    torch.float8_e4m3fn: "float8_e4m3", torch.float8_e5m2: "float8_e5m2", torch.int64: "int64", torch.int32: "int32",
    torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8", torch.bool: "bool",
}  # fmt: skip
BITS = {"bfloat16": torch.uint16, "float8_e4m3": torch.uint8, "float8_e5m2": torch.uint8}
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


def headers(path: Path) -> tuple[list[TensorInfo], list[str], dict[str, str]]:
    """The tensors of a PyTorch file, notes for the user, and aliases (name -> the first name of the same storage)."""
    notes = []
    if not zipfile.is_zipfile(path):
        notes.append(f"{path.name} is in PyTorch's old format: it is loaded once as a whole.")
    state, where = state_dict(path)
    if where:
        notes.append(f"{path.name}: tensors taken from its '{where}' entry.")
    infos, aliases, seen = [], {}, {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            notes.append(f"{path.name}: entry {one_line(name, limit=60)} is no tensor and is left out.")
            continue
        if value.dtype not in NAMES or value.layout != torch.strided:
            raise refused(
                path, f"tensor {one_line(name, limit=60)} of {value.dtype}", "a dense float or integer tensor"
            )
        storage = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride())
        if value.numel() and storage in seen:
            aliases[name] = seen[storage]
            continue
        seen[storage] = name
        infos.append(TensorInfo(name, tuple(value.shape), NAMES[value.dtype], path))
    return infos, notes, aliases


@lru_cache(maxsize=4)
def state_dict(path: Path) -> tuple[dict, str]:
    """The file's mapping of names to tensors, and the wrapper entry it was found in ('' for none).

    Raises
        RequestError: not a PyTorch file, a pickle that wants more than tensors, or no mapping in it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if any(word in str(error) for word in ("Unsupported global", "unsupported GLOBAL", "Unsupported class")):
            raise refused(path, "a pickle that asks to run code", "plain tensors") from None
        raise refused(path, "no readable PyTorch file", "one written by torch.save") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error):
        # what torch raises for a damaged file differs by the byte that is damaged
        raise refused(path, "no readable PyTorch file", "one written by torch.save") from None
    for where in ("", *WRAPPERS):
        inner = loaded.get(where) if where and isinstance(loaded, dict) else loaded
        if isinstance(inner, dict) and any(isinstance(v, torch.Tensor) for v in inner.values()):
            return dict(inner), where
    raise refused(path, f"a {type(loaded).__name__} without tensors", "a state dict (name -> tensor)")


def read(info: TensorInfo, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of a tensor as stored: its numpy type or its bits."""
    value = state_dict(info.path)[0][info.name].detach()
    value = (value[first:last] if value.dim() else value.reshape(1)).contiguous()
    return (value.view(BITS[info.dtype]) if info.dtype in BITS else value).numpy()


def refused(path: Path, found: str, expected: str) -> RequestError:
    """The one-line error for a file that cannot be taken."""
    return RequestError(
        f"open({one_line(path)}): found {found}; expected {expected}. Save the weights as safetensors or with "
        "torch.save(model.state_dict(), ...)."
    )
