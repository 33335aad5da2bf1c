"""Read folders of `torch.distributed.checkpoint`: `.metadata` says where the pieces of each tensor
lie in `*.distcp`.

`.metadata` is a pickle. It is read by an unpickler that knows the records of such a checkpoint and
nothing else, so that nothing in it runs; pieces are read by PyTorch's own restricted one.
"""

import io
import math
import pickle
from functools import lru_cache
from pathlib import Path, PosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch.distributed.checkpoint import filesystem, metadata

from opdviz.checkpoint import torch_file
from opdviz.checkpoint.bounded import Unreadable, read_bytes
from opdviz.checkpoint.readers import METADATA
from opdviz.checkpoint.records import TensorInfo, is_name
from opdviz.errors import RequestError, one_line

LONGEST = 256_000_000  # bytes of `.metadata`
RECORDS = {
    (one.__module__, one.__qualname__): one
    for one in (
        metadata.Metadata,
        metadata.MetadataIndex,
        metadata.TensorStorageMetadata,
        metadata.BytesStorageMetadata,
        metadata.ChunkStorageMetadata,
        metadata.TensorProperties,
        metadata.StorageMeta,
        metadata._MEM_FORMAT_ENCODING,
        filesystem._StorageInfo,
        filesystem._StoragePrefix,
        torch.Size,
        PosixPath,
        torch.serialization._get_layout,
    )
}


class Records(pickle.Unpickler):
    """An unpickler of the records of a checkpoint alone."""

    def find_class(self, module: str, name: str):
        """What a pickle may name."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "pathlib._local":  # as newer Pythons call it
            module = "pathlib"
        if (module, name) not in RECORDS:
            raise Unreadable("a pickle that asks to run code")
        return RECORDS[module, name]


class Piece(NamedTuple):
    """A piece of a tensor: where it begins along every axis, how far it reaches, and its bytes."""

    begins: tuple[int, ...]
    lengths: tuple[int, ...]
    file: Path
    at: int
    size: int


def headers(path: Path) -> tuple[list[TensorInfo], list[str], dict[str, str]]:
    """The tensors of a folder, from its `.metadata`; other files have none of their own."""
    if path.name != METADATA:
        return [], [], {}
    infos = [
        TensorInfo(name, shape, dtype, path) for name, (shape, dtype, _) in layout(path).items()
    ]
    return infos, [], {}


@lru_cache(maxsize=4)
def layout(path: Path) -> dict[str, tuple[tuple[int, ...], str, list[Piece]]]:
    """Of each tensor its shape, its dtype and its pieces; those of an optimizer are left out.

    Raises
        RequestError: `.metadata` cannot be read, or the files do not hold what it says.
    """
    facts = facts_of(path)
    try:
        stored = {(one.fqn, tuple(one.offset or ())): at for one, at in facts.storage_data.items()}
        tensors = {}
        for key, entry in facts.state_dict_metadata.items():
            name = name_of(key, facts.planner_data)
            if name is None or not isinstance(entry, metadata.TensorStorageMetadata):
                continue
            shape, dtype = tuple(entry.size), torch_file.NAMES.get(entry.properties.dtype)
            if dtype is None or not is_name(name):
                raise refused(path, f"{one_line(name, limit=80)} of {entry.properties.dtype}")
            pieces = [piece_of(path, stored, key, chunk) for chunk in entry.chunks]
            if sum(math.prod(piece.lengths) for piece in pieces) != math.prod(shape):
                raise refused(
                    path, f"pieces of {one_line(name, limit=80)} that do not make it whole"
                )
            tensors[name] = shape, dtype, pieces
    except (AttributeError, TypeError, KeyError, ValueError, OSError):
        raise refused(path, "records that do not fit together") from None
    return tensors


def facts_of(path: Path) -> metadata.Metadata:
    """What `.metadata` says.

    Raises
        RequestError: it cannot be read.
    """
    try:
        with torch_file.bounded(path):
            facts = Records(io.BytesIO(read_bytes(path, LONGEST))).load()
    except Unreadable as why:
        raise refused(path, str(why)) from None
    except (*torch_file.DAMAGED, pickle.UnpicklingError, MemoryError, RecursionError):
        raise refused(path, "no readable .metadata") from None
    if not isinstance(facts, metadata.Metadata):
        raise refused(path, f"a {type(facts).__name__} in .metadata")
    return facts


def name_of(key: str, planner_data: object) -> str | None:
    """What a tensor is called without the entry of the state that it stood in; `None` where that is
    no model's.
    """
    place = planner_data.get(key) if isinstance(planner_data, dict) else None
    if not isinstance(place, tuple) or len(place) < 2:
        return None if key.startswith(("optim", "lr_scheduler")) else key
    if place[0] not in torch_file.WRAPPERS:
        return None
    return ".".join(map(str, place[1:]))


def piece_of(path: Path, stored: dict, key: str, chunk: metadata.ChunkStorageMetadata) -> Piece:
    """A piece, in a file beside `.metadata`.

    Raises
        RequestError: it is packed, outside, or longer than its file.
    """
    begins, lengths = tuple(chunk.offsets), tuple(chunk.sizes)
    place = stored.get((key, begins), stored.get((key, ())))
    name = str(place.relative_path)
    file = path.parent / name
    if name != file.name or not file.is_file():
        raise refused(path, f"a piece in {one_line(name, limit=80)}, which is not there")
    if getattr(place, "transform_descriptors", None):
        raise refused(path, "packed pieces")
    if place.offset < 0 or place.length < 0 or place.offset + place.length > file.stat().st_size:
        raise refused(path, f"a piece beyond the end of {one_line(name, limit=80)}")
    return Piece(begins, lengths, file, place.offset, place.length)


def read(info: TensorInfo, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of a tensor as stored: its numpy type or its bits."""
    shape, dtype, pieces = layout(info.path)[info.name]
    return torch_file.rows_of(shape, dtype, pieces, values_of, first, last)


@lru_cache(maxsize=2)
def values_of(piece: Piece) -> torch.Tensor:
    """The values of a piece.

    Raises
        RequestError: they are not what `.metadata` says.
    """
    with open(piece.file, "rb") as file:
        file.seek(piece.at)
        data = io.BytesIO(file.read(piece.size))
    try:
        value = torch.load(data, map_location="cpu", weights_only=True)
    except (*torch_file.DAMAGED, pickle.UnpicklingError):
        value = None
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != piece.lengths:
        raise refused(piece.file, "a piece that is not what .metadata says")
    return value.detach()


def refused(path: Path, found: str) -> RequestError:
    """The one-line error for a checkpoint that cannot be taken."""
    return RequestError(
        f"open({one_line(path.parent)}): found {found}; expected a folder as"
        " torch.distributed.checkpoint.save writes it."
    )
