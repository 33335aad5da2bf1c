"""Read what FSDP leaves, a file a rank (`model_world_size_W_rank_R.pt`, as verl writes them),
without a merge: the mesh and placements of each tensor, which are in the files, say where its
pieces belong.

What they leave open is refused and not guessed: pieces that are partial sums, shards of shards, and
plain tensors that differ from rank to rank.
"""

import logging
import math
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed.tensor  # registers its classes as safe to unpickle
from torch.distributed.tensor import DTensor, Replicate, Shard

from opdviz.checkpoint import torch_file
from opdviz.checkpoint.readers import RANKS
from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line

# What it has to say of meshes without processes is of no use here.
logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
# Mapped, not read.
loaded = lru_cache(maxsize=1024)(partial(torch_file.load, of_rank=True))


class Piece(NamedTuple):
    """What a rank has of a tensor: where it begins along every axis, and how far it reaches."""

    file: Path
    begins: tuple[int, ...]
    lengths: tuple[int, ...]


def headers(path: Path) -> tuple[list[TensorInfo], list[str], dict[str, str]]:
    """The tensors of all ranks, from the file of the first; the others' files have none of their
    own.
    """
    files = files_of(path)
    if path != files[0]:
        return [], [], {}
    infos, aliases, first_names = [], {}, {}
    for name, (shape, dtype, pieces) in layout(path).items():
        # Two names of one tensor have one storage on every rank.
        storages = tuple((piece, local(piece, name).data_ptr()) for piece in pieces)
        first = first_names.setdefault(storages, name) if math.prod(shape) else name
        if first != name:
            aliases[name] = first
            continue
        infos.append(TensorInfo(name, shape, dtype, path))
    return infos, [], aliases


def files_of(path: Path) -> list[Path]:
    """The files of all ranks, in their order.

    Raises
        RequestError: one is not there.
    """
    world = int(RANKS.fullmatch(path.name)["world"])
    files = [path.with_name(f"model_world_size_{world}_rank_{rank}.pt") for rank in range(world)]
    for rank, file in enumerate(files):
        if not file.is_file():
            raise refused(path.parent, f"no file of rank {rank} of {world}", "all of them")
    return files


@lru_cache(maxsize=4)
def layout(first: Path) -> dict[str, tuple[tuple[int, ...], str, list[Piece]]]:
    """Of each tensor its shape, its dtype and the pieces that make it, each once.

    Raises
        RequestError: the ranks do not fit together.
    """
    files = files_of(first)
    states = [loaded(file)[0] for file in files]
    tensors = {}
    for name, value in states[0].items():
        if not isinstance(value, torch.Tensor):
            continue
        values = [state.get(name) for state in states]
        for rank, other in enumerate(values):
            if type(other) is not type(value) or other.dtype != value.dtype:
                raise refused(
                    first.parent,
                    f"rank {rank} without the tensor {one_line(name, limit=80)} of rank 0",
                    "ranks of one run",
                )
        if value.dtype not in torch_file.NAMES:
            raise refused(first.parent, f"a tensor of {value.dtype}", "floats or integers")
        pieces = (
            sharded(first.parent, name, values, files)
            if isinstance(value, DTensor)
            else alike(first.parent, name, values, files)
        )
        tensors[name] = tuple(value.shape), torch_file.NAMES[value.dtype], pieces
    return tensors


def alike(folder: Path, name: str, values: list[torch.Tensor], files: list[Path]) -> list[Piece]:
    """A tensor that every rank has whole: a buffer, or one that is not sharded."""
    for rank, other in enumerate(values):
        if not torch.equal(other, values[0]):
            raise refused(
                folder,
                f"the plain tensor {one_line(name, limit=80)} to differ on rank {rank}",
                "a mesh that says how its pieces lie",
            )
    shape = tuple(values[0].shape)
    return [Piece(files[0], (0,) * len(shape), shape)]


def sharded(folder: Path, name: str, values: list[DTensor], files: list[Path]) -> list[Piece]:
    """The pieces of a tensor that ranks share, of copies the first."""
    label, shape = one_line(name, limit=80), tuple(values[0].shape)
    pieces = []
    for rank, value in enumerate(values):
        if tuple(value.shape) != shape or value.placements != values[0].placements:
            raise refused(folder, f"{label} of another layout on rank {rank}", "ranks of one run")
        mesh = value.device_mesh.mesh
        at = (mesh == rank).nonzero()
        if len(at) != 1:
            raise refused(folder, f"rank {rank} outside the mesh of {label}", "ranks of one run")
        coordinate = at[0].tolist()
        begins, lengths = place(folder, label, shape, value.placements, mesh.shape, coordinate)
        if tuple(value._local_tensor.shape) != lengths:
            local = "x".join(map(str, value._local_tensor.shape))
            raise refused(
                folder,
                f"{label} with {local} on rank {rank}",
                f"{'x'.join(map(str, lengths))} by its mesh",
            )
        copies = zip(value.placements, coordinate, strict=True)
        if all(not isinstance(one, Replicate) or number == 0 for one, number in copies):
            pieces.append(Piece(files[rank], begins, lengths))
    if sum(math.prod(piece.lengths) for piece in pieces) != math.prod(shape):
        raise refused(folder, f"pieces of {label} that do not make it whole", "ranks of one run")
    return pieces


def place(
    folder: Path, label: str, shape: tuple, placements: tuple, mesh: tuple, coordinate: list
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the piece of a rank begins along every axis, and how far it reaches: a sharded axis is
    cut into pieces as long as the first, so that the last may be shorter, or empty.
    """
    begins, lengths = [0] * len(shape), list(shape)
    axes = [one.dim for one in placements if type(one) is Shard]
    decided = all(type(one) in (Shard, Replicate) for one in placements)
    if not decided or len(set(axes)) < len(axes):
        raise refused(
            folder, f"{label} placed as {placements}", "each axis sharded once, or copies"
        )
    for one, ranks, number in zip(placements, mesh, coordinate, strict=True):
        if type(one) is Shard:
            each = -(-shape[one.dim] // ranks)
            begins[one.dim] = min(number * each, shape[one.dim])
            lengths[one.dim] = min(each, shape[one.dim] - begins[one.dim])
    return tuple(begins), tuple(lengths)


def read(info: TensorInfo, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of a tensor as stored: its numpy type or its bits."""
    shape, dtype, pieces = layout(info.path)[info.name]
    return torch_file.rows_of(shape, dtype, pieces, partial(local, name=info.name), first, last)


def local(piece: Piece, name: str) -> torch.Tensor:
    """What a rank has of a tensor."""
    value = loaded(piece.file)[0][name].detach()
    return value._local_tensor if isinstance(value, DTensor) else value


def refused(folder: Path, found: str, expected: str) -> RequestError:
    """The one-line error for ranks that cannot be put together."""
    return RequestError(
        f"open({one_line(folder)}): found {found}; expected {expected}. Or merge the ranks with the"
        " trainer's own script."
    )
