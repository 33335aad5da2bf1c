"""Open any checkpoint: names, shapes and dtypes from headers alone, one tensor or a block of its
rows on demand.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from opdviz.checkpoint import beside, hub
from opdviz.checkpoint.folder import choice
from opdviz.checkpoint.formats import FORMATS, promote
from opdviz.checkpoint.readers import (
    ENDINGS,
    METADATA,
    PIECES,
    RANKS,
    READERS,
    reader_of,
)
from opdviz.checkpoint.records import MOST_TENSORS, TensorInfo, uncollected
from opdviz.errors import RequestError, one_line

SCALES = ("_scale_inv", "_scale")
SCALE_BLOCK = 128
UNUSABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENXIO,
)
tokens, tokens_note = beside.tokens, beside.tokens_note


@dataclass
class Checkpoint:
    """An open checkpoint: `tensors` by name, the `files` that hold them, and `notes` on what was
    chosen.
    """

    path: Path
    files: list[Path]
    tensors: dict[str, TensorInfo]
    notes: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    word: str = ""  # as somebody named it, where that was on a hub

    def read(self, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """Rows `first` to `last` (all by default) of a tensor, promoted: float32, float64, or
        integers as they are.

        float8 codes are multiplied by their scale tensor. A scalar comes as an array of one
        element.

        Raises
            RequestError: no tensor of that name, or float8 codes without a scale.
        """
        raw, info = self.read_raw(name, first, last)
        values = promote(raw, info.dtype)
        if FORMATS[info.dtype].kind == "float8":
            # A scale may be too large, infinite or NaN.
            with np.errstate(over="ignore", invalid="ignore"):
                return values * self.scale(name, first, first + len(raw))
        return values

    def read_raw(
        self, name: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, TensorInfo]:
        """The same rows as they are stored (bits, where numpy has no such number), and what is
        known of the tensor.

        Raises
            RequestError: no tensor of that name.
        """
        if name not in self.tensors:
            raise RequestError(f"read({one_line(name, limit=80)}): no such tensor in {self.path}")
        info = self.tensors[name]
        last = (info.shape[0] if info.shape else 1) if last is None else last
        return reader_of(info.path).read(info, first, last), info

    def scale_name(self, name: str) -> str | None:
        """The name of the scale tensor that belongs to a float8 tensor, if it is there."""
        return next((name + s for s in SCALES if name + s in self.tensors), None)

    def scale_fits(self, name: str) -> bool:
        """Whether a float8 tensor has a scale whose numbers each belong to known elements."""
        scale = self.tensors.get(self.scale_name(name) or "")
        if scale is None or FORMATS[scale.dtype].kind != "float" or not scale.numel:
            return False
        shape = self.tensors[name].shape
        if scale.numel == 1:
            return True
        # A scale may have fewer axes than its tensor: one number a row.
        lengths = zip(scale.shape, shape, strict=False)
        return len(scale.shape) <= len(shape) and all(
            0 < count <= max(length, 1) for count, length in lengths
        )

    def scale(self, name: str, first: int, last: int) -> np.ndarray:
        """The scale of rows `first` to `last`: one number, or one a row, or one a block of it."""
        if not self.scale_fits(name):
            raise RequestError(
                f"read({one_line(name, limit=80)}): float8 without a scale tensor that fits; its"
                " codes say nothing"
            )
        scale = np.asarray(self.read(self.scale_name(name)), dtype=np.float32)
        if scale.size == 1:
            return scale.reshape(())
        shape = self.tensors[name].shape
        for axis, length in enumerate(shape[: scale.ndim]):
            if scale.shape[axis] not in (1, length):
                whole = -(-length // scale.shape[axis])
                block = SCALE_BLOCK if -(-length // SCALE_BLOCK) == scale.shape[axis] else whole
                scale = np.repeat(scale, block, axis=axis).take(range(length), axis=axis)
        scale = scale.reshape(scale.shape + (1,) * (len(shape) - scale.ndim))
        return scale[first:last] if scale.shape[0] > 1 else scale


@uncollected
def open(path: str | Path) -> Checkpoint:  # the verb of this module: checkpoint.open(path)
    """A file or a folder as a Checkpoint, from its headers alone; of a model on a hub what lies in
    the hub's cache on this machine.

    Raises RequestError: nothing there, nothing readable, a shard missing, an index that points
    outside.
    """
    word = str(path) if hub.is_hub(path) else ""
    path = located(hub.kept(word) if word else path)
    with readable(path):
        folder = path if path.is_dir() else path.parent
        if RANKS.fullmatch(path.name) and not path.is_dir():
            raise RequestError(
                f"open({one_line(path)}): found one rank of FSDP; expected its folder, which"
                " has all of them."
            )
        files, notes = choose(path) if path.is_dir() else ([path], [])
        tensors, aliases = gather(path, files, notes)
        config, more = beside.config_of(folder)
    return Checkpoint(path, files, tensors, notes + more, aliases, config, word)


def gather(
    path: Path, files: list[Path], notes: list[str]
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors of all files by name, and aliases; what readers note is added to `notes`."""
    tensors: dict[str, TensorInfo] = {}
    aliases: dict[str, str] = {}
    for file in files:
        infos, more, tied = headers(file)
        notes += more
        aliases |= tied
        named = {info.name: info for info in infos}
        if not tensors.keys().isdisjoint(named):
            twice = one_line(next(name for name in named if name in tensors), limit=80)
            raise RequestError(f"open({one_line(path)}): tensor {twice} is in two files.")
        tensors |= named
        if len(tensors) > MOST_TENSORS:
            raise RequestError(
                f"open({one_line(path)}): found more than {MOST_TENSORS:,} tensors; expected fewer."
            )
    if not tensors:
        raise RequestError(f"open({one_line(path)}): found no tensor in {one_line(files[0].name)}.")
    return tensors, aliases


def located(path: str | Path) -> Path:
    """A path that somebody typed, if there is something.

    Raises
        RequestError: there is nothing, or nothing can have that name.
    """
    with readable(path):
        try:
            expanded = Path(path).expanduser()
            # False, too, for links in a circle, a NUL byte and a name too long.
            if os.path.exists(expanded):
                return expanded
        except RuntimeError:  # ~nobody/model
            raise RequestError(
                f"open({one_line(path)}): found no such user; expected a path."
            ) from None
    raise RequestError(
        f"open({one_line(expanded)}): found nothing there; expected a checkpoint file or folder."
    )


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turn what a system says of a path that cannot be used into a wrong request; a failing disk
    stays a failure.

    Raises
        RequestError: it may not be read, is gone, or is not what it has to be.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        why = (error.strerror or "no usable path").lower()
        raise RequestError(
            f"open({one_line(path)}): found {why}; expected a checkpoint that may be read."
        ) from None


def headers(file: Path) -> tuple[list[TensorInfo], list[str], dict[str, str]]:
    """The tensors, notes and aliases of one weight file, read by what the file is."""
    if not file.is_file():
        raise RequestError(
            f"open({one_line(file)}): found a folder or device; expected a weight file."
        )
    with file.open("rb") as stream:
        first = stream.read(4)
    if first == b"GGUF":
        raise RequestError(
            f"open({one_line(file)}): found GGUF, a quantised format for inference; expected"
            " safetensors or PyTorch weights. Name the original checkpoint."
        )
    if file.suffix in READERS or file.name == METADATA or file.suffix == PIECES:
        if not first:
            raise RequestError(
                f"open({one_line(file)}): found an empty file; expected weights. Copy it again."
            )
        return reader_of(file).headers(file)
    raise RequestError(
        f"open({one_line(file)}): found a '{file.suffix}' file; expected one of"
        f" {', '.join(ENDINGS)}."
    )


def choose(folder: Path) -> tuple[list[Path], list[str]]:
    """The weight files of a folder and a note that says which were weights."""
    names = [file.name for file in folder.iterdir()]
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    try:
        weights = choice(names, str(folder))
    except RequestError:
        if gguf and not any(name.endswith(ENDINGS) for name in names):
            headers(folder / gguf[0])  # says what it is
        raise
    if weights.index:
        files = beside.shards(folder / weights.index, folder)
        return files, [f"{len(files)} files named by {one_line(weights.index)}."]
    files = [folder / name for name in weights.files]
    beside.refuse_missing(files, folder)
    return files, [weights.note]


def read_config(folder: Path) -> dict:
    """The folder's `config.json` as a dict; empty where there is none or it cannot be read."""
    return beside.config_of(folder)[0]
