"""Open any checkpoint: names, shapes and dtypes from headers alone, one tensor or a block of its
rows on demand.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from opdviz.checkpoint import adapter, beside, hub, merged, quantised, rewrites
from opdviz.checkpoint.folder import choice
from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.readers import (
    ENDINGS,
    METADATA,
    PIECES,
    RANKS,
    READERS,
    reader_of,
)
from opdviz.checkpoint.records import MOST_TENSORS, Source, TensorInfo, uncollected
from opdviz.errors import RequestError, one_line

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
        quantised.refuse(path, tensors)
        if files[0].stem == adapter.STEM:
            return replace(adapter.opened(path, files[0], tensors, notes), word=word)
        config, more = beside.config_of(folder)
    return Checkpoint(path, files, tensors, notes + more, aliases, config, word)


def reopened(source: Source) -> Checkpoint:
    """What a source stands for, opened again: an adapter added to its base, tensors cut by rules.

    Raises
        RequestError: as `open`, and an adapter that does not fit its base.
    """
    side = open(source.path)
    if source.over:
        side = merged.merged(reopened(source.over), side)
    return rewrites.presented(side, source.rules)


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
            f"open({one_line(file)}): found GGUF, a format for inference whose weights are codes;"
            " expected safetensors or PyTorch weights. Name the model that it was made from."
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
