"""Which files of a folder are its weights, by their names alone: of a folder on a disk, and of one
that is listed elsewhere.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import NamedTuple

from opdviz.checkpoint.readers import ENDINGS, METADATA, PIECES, RANKS
from opdviz.errors import RequestError, one_line
from opdviz.words import listing

NEVER = (
    *("consolidated", "training_args", "optimizer", "scheduler", "rng"),
    *("optim_world_size", "extra_state_world_size", "data.pt"),  # of verl
)
PATTERNS = {"safetensors": "model*.safetensors", "bin": "pytorch_model*.bin"}


class Choice(NamedTuple):
    """The weight files of a folder, or the index that names them, and a note that says which were
    chosen.
    """

    files: tuple[str, ...]
    note: str
    index: str | None = None


def choice(names: Sequence[str], where: str) -> Choice:
    """An index names the weights; without one they are `model*.safetensors`, else
    `pytorch_model*.bin`, else the only weight file.

    Raises
        RequestError: there are several that could be meant, or none.
    """
    names = sorted(names)
    if ranks := [name for name in names if RANKS.fullmatch(name)]:
        return ranks_of(ranks, where)
    pieces = [name for name in names if PurePath(name).suffix == PIECES]
    if METADATA in names and pieces:
        note = f"Put together from {len(pieces)} files of torch.distributed.checkpoint."
        return Choice((METADATA, *pieces), note)
    for ending, pattern in PATTERNS.items():
        if indexes := [name for name in names if name.endswith(f".{ending}.index.json")]:
            usual = [name for name in indexes if name.startswith(("model.", "pytorch_model."))]
            return Choice((), "", (usual or indexes)[0])
        files = [name for name in names if fnmatchcase(name, pattern) and is_weights(name)]
        if files:
            return Choice(tuple(files), f"Chosen: {one_line(', '.join(files))}.")
    weights = [name for name in names if PurePath(name).suffix in ENDINGS and is_weights(name)]
    for ending in ENDINGS:
        files = [name for name in weights if PurePath(name).suffix == ending]
        if len(files) == 1:
            return Choice(tuple(files), f"Chosen: {one_line(files[0])}, the only {ending} file.")
        if files:
            some = one_line(", ".join(files[:4]))
            raise RequestError(
                f"open({one_line(where)}): found {len(files)} weight files ({some}); name one of"
                " them."
            )
    some = f"only {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
    raise RequestError(
        f"open({one_line(where)}): found {one_line(some) if names else 'an empty folder'}; expected"
        " an index, model*.safetensors, pytorch_model*.bin or one weight file."
    )


def ranks_of(names: Sequence[str], where: str) -> Choice:
    """The files of all ranks, in their order.

    Raises
        RequestError: one is not there, or there are those of several runs.
    """
    ranks = {name: RANKS.fullmatch(name) for name in names}
    worlds = sorted({int(match["world"]) for match in ranks.values()})
    if len(worlds) > 1:
        raise RequestError(
            f"open({one_line(where)}): found files of {listing([str(n) for n in worlds])} ranks, of"
            " several runs; expected those of one."
        )
    lacking = sorted(set(range(worlds[0])) - {int(match["rank"]) for match in ranks.values()})
    if lacking:
        raise RequestError(
            f"open({one_line(where)}): found {len(names)} of {worlds[0]} ranks, without rank"
            f" {lacking[0]}; expected all of them. Is it still being written, or copied in part?"
        )
    files = sorted(names, key=lambda name: int(ranks[name]["rank"]))
    return Choice(tuple(files), f"Put together from {len(files)} ranks of FSDP.")


def is_weights(name: str) -> bool:
    """Whether a file may hold weights: what trainers keep beside them does not."""
    return not name.startswith(NEVER)
