"""Write a checkpoint of safetensors files, tensor by tensor: no more of it than a block is ever in
memory.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.readers import ENDINGS
from opdviz.checkpoint.records import TensorInfo
from opdviz.checkpoint.safetensors import NAMES

SHARD_BYTES = 5_000_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CODES = {name: code for code, name in NAMES.items()}
# Beside the weights: configuration, tokenizer, templates, code of the model. Not what a trainer
# keeps for itself.
BESIDE = (".json", ".txt", ".model", ".jinja", ".py")
NEVER_BESIDE = ("trainer_state.json", "opdviz.json")
LARGEST_BESIDE = 1 << 28


def write(
    folder: Path,
    tensors: Sequence[TensorInfo],
    blocks: Callable[[TensorInfo], Iterable[np.ndarray]],
) -> None:
    """Write tensors of the given names, shapes and formats into a folder: one file, or shards of
    up to 5 GB with their index. `blocks` gives a tensor's stored codes, in order.

    Raises
        OSError: the disk is full.
    """
    shards = shards_of(tensors)
    names = [shard_name(at, len(shards)) for at in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with open(folder / name, "wb") as file:
            file.write(header(shard))
            for info in shard:
                for codes in blocks(info):
                    file.write(memoryview(np.ascontiguousarray(codes)).cast("B"))
    if len(shards) > 1:
        where = {
            info.name: name for name, shard in zip(names, shards, strict=True) for info in shard
        }
        total = {"total_size": sum(map(size_of, tensors))}
        index = {"metadata": total, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=2))


def size_of(info: TensorInfo) -> int:
    """The bytes of a tensor."""
    return info.numel * FORMATS[info.dtype].size


def shards_of(tensors: Sequence[TensorInfo]) -> list[list[TensorInfo]]:
    """Tensors in files of up to SHARD_BYTES, in their order; one that is larger has its own."""
    shards: list[list[TensorInfo]] = [[]]
    filled = 0
    for info in tensors:
        if shards[-1] and filled + size_of(info) > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(info)
        filled += size_of(info)
    return shards


def shard_name(at: int, count: int) -> str:
    """What a shard is called, as others call theirs; the only one is no shard."""
    if count == 1:
        return SINGLE
    return f"model-{at + 1:05d}-of-{count:05d}.safetensors"


def header(tensors: Sequence[TensorInfo]) -> bytes:
    """The beginning of a safetensors file: the length of a JSON header, and the header, whose end
    is aligned to eight bytes.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for info in tensors:
        first, end = end, end + size_of(info)
        entries[info.name] = {
            "dtype": CODES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [first, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def copy_beside(source: Path, into: Path) -> None:
    """Copy what stands beside the weights of a folder and is needed to load them."""
    for path in files_beside(source):
        shutil.copyfile(path, into / path.name)


def files_beside(source: Path) -> Iterator[Path]:
    """The plain files beside the weights that a model is loaded with."""
    for path in sorted(source.iterdir()):
        if (
            path.suffix in BESIDE
            and not path.name.endswith((".index.json", *ENDINGS, *NEVER_BESIDE))
            and path.is_file()
            and path.stat().st_size <= LARGEST_BESIDE
        ):
            yield path
