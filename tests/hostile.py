"""Small builders of hostile and damaged checkpoints: each makes one in a folder, and returns the
path to name if not that.

Nothing of this lies in the repository: a test builds what it needs, byte by byte where no library
would write it.
"""

import json
import os
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save, save_file

DEEP = 100_000
BIG = 65_000_000
LAYER = "model.layers.0.self_attn.q_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


def good(folder: Path, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """A checkpoint with nothing wrong: an attention matrix and an embedding, a little different on
    both sides.
    """
    draw = torch.Generator().manual_seed(0)
    tensors = {
        LAYER: torch.randn(16, 16, generator=draw),
        EMBEDDING: torch.randn(8, 16, generator=draw),
    } | more
    if folder.name == "tuned":
        tensors = {n: t * 1.01 if t.dtype == torch.float32 else t for n, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    return tensors


def beside(name: str, content: bytes | str, **more: torch.Tensor):
    """A good checkpoint with a file of this content beside it."""

    def build(folder: Path) -> None:
        good(folder, **more)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return build


def beside_as(name: str, kind: str):
    """A good checkpoint with something beside it that is no plain file."""

    def build(folder: Path) -> None:
        good(folder)
        no_file(folder / name, kind)

    return build


def no_file(path: Path, kind: str) -> None:
    """Something that is no plain file: a folder, a pipe, a link to itself, to nothing or to a
    device; or a very large file.
    """
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with open(path, "wb") as file:
            file.truncate(BIG)
    else:
        path.symlink_to({"circle": path.name, "nothing": "absent", "device": "/dev/zero"}[kind])


def config(value: object, **more: object):
    """A good checkpoint with these in its configuration."""
    return beside(
        "config.json",
        json.dumps(value if isinstance(value, dict) else {"hidden_size": value} | more),
    )


def index(text: str | bytes, name: str = "model.safetensors.index.json"):
    """A good checkpoint with an index of this text."""
    return beside(name, text)


def shard(name: str):
    """A good checkpoint whose index names this shard."""
    return index(json.dumps({"weight_map": {"w": name}}))


def instead(name: str, kind: str):
    """A folder in which what should be a file is none."""

    def build(folder: Path) -> None:
        no_file(folder / name, kind)

    return build


def write(name: str, content: bytes):
    """A folder with one file of these bytes."""

    def build(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return build


def framed(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file: its header, JSON or bytes, framed by its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def raw(header: object, data: bytes = b"", length: int | None = None):
    """A folder whose `model.safetensors` has this header."""
    return write("model.safetensors", framed(header, data, length))


def entry(shape: object = (1,), offsets: object = (0, 4), dtype: object = "F32") -> dict:
    """One entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def one(
    shape: object = (1,), offsets: object = (0, 4), dtype: object = "F32", *, data: bytes = b"1234"
):
    """A folder whose `model.safetensors` has one tensor, described so."""
    return raw({"w": entry(shape, offsets, dtype)}, data)


def named(*names: str):
    """A good checkpoint with tensors of these names as well."""

    def build(folder: Path) -> None:
        entries = {name: entry([1], [4 * i, 4 * i + 4]) for i, name in enumerate(names)}
        (folder / "model.safetensors").write_bytes(framed(entries, b"1234" * len(names)))

    return build


def tensors(**made: torch.Tensor):
    """A good checkpoint with these tensors as well."""

    def build(folder: Path) -> None:
        good(folder, **made)

    return build


def stack(*shape: int):
    """A good checkpoint and a stack of experts without a byte of data."""
    name = "model.layers.0.mlp.experts.gate_up_proj"

    def build(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(
            framed({"w": entry([1], [0, 4]), name: entry(list(shape), [4, 4])}, b"1234")
        )

    return build


def scaled(scale: torch.Tensor, *, shape=(8, 4), dtype=torch.float8_e4m3fn, **more: torch.Tensor):
    """A good checkpoint with float8 codes and this scale."""
    return tensors(codes=torch.ones(shape).to(dtype), codes_scale_inv=scale, **more)


def doubles(*values: float):
    """A base full of one number of float64 and a tuned of another."""

    def build(folder: Path) -> None:
        pattern = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (12, 8)))
        matrix = pattern * values[folder.name == "tuned" and len(values) > 1]
        save_file(
            {EMBEDDING: matrix, LAYER: matrix.clone(), "b": matrix[0].clone()},
            folder / "model.safetensors",
        )

    return build


def saved(value: object, *, old: bool = False):
    """A folder with a PyTorch file of this value."""

    def build(folder: Path) -> None:
        made = value() if callable(value) else value
        torch.save(made, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old)

    return build


class Call:
    """What a pickle calls when it is opened."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def nested() -> dict:
    """A nested tensor of two lengths."""
    return {"w": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}


def rebuilt(size: tuple, stride: tuple, offset: int = 0) -> dict:
    """A tensor of four numbers that claims a size, strides and an offset."""
    storage = torch.zeros(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return {
        "w": Call(
            torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, OrderedDict()
        )
    }


def zipped(change, *, packed: str = "", then=lambda data: data):
    """A PyTorch file in the zip format with its records changed, some packed, and its bytes changed
    in the end.
    """

    def build(folder: Path) -> None:
        path = folder / "pytorch_model.bin"
        torch.save({"w": torch.arange(64.0)}, path)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in change(records).items():
                kind = zipfile.ZIP_DEFLATED if packed and packed in name else zipfile.ZIP_STORED
                archive.writestr(name, data, compress_type=kind, compresslevel=1)
        path.write_bytes(then(path.read_bytes()))

    return build


def unchanged(records: dict[str, bytes]) -> dict[str, bytes]:
    """The records as they are."""
    return records


def with_zeros(count: int):
    """The records with so many zero bytes after the pickle, which nobody reads."""
    return lambda records: {
        n: d + bytes(count) if n.endswith("data.pkl") else d for n, d in records.items()
    }


def sizes(of: bytes, stated: int):
    """A zip's bytes whose directory states another unpacked size for a record."""

    def change(data: bytes) -> bytes:
        at = data.rindex(b"PK\x01\x02")
        while of not in data[at + 46 : at + 46 + struct.unpack_from("<H", data, at + 28)[0]]:
            at = data.rindex(b"PK\x01\x02", 0, at)
        return data[: at + 24] + struct.pack("<I", stated) + data[at + 28 :]

    return change


def longer(data: bytes) -> bytes:
    """A zip's bytes behind others: its directory is not where it says."""
    return data[:4] + b"extra" + data[4:]


def float32(count: int) -> bytes:
    """A safetensors file of one vector."""
    return save({"w": torch.zeros(count)})
