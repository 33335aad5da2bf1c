"""What stands beside the weights: configuration, index, tokens. It explains them, and anybody may
have written it.

A configuration or tokens that cannot be read cost what they would have told, and a sentence says
so; an index that cannot be read leaves open what the weights are.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from opdviz.checkpoint.bounded import Unreadable, from_json, is_text, read_bytes
from opdviz.errors import RequestError, one_line

LONGEST = 64_000_000  # bytes: twice the largest tokenizer in use
MOST_TOKENS = 4_000_000
LONGEST_TOKEN = 200
SHARD = re.compile(r".+-(?P<at>[0-9]{1,6})-of-(?P<every>[0-9]{1,6})\.[a-z]+")


def explaining(folder: Path) -> Path:
    """The folder that explains a checkpoint: its own, or the one below it in which verl keeps
    configuration and tokens.
    """
    below = folder / "huggingface"
    return below if not (folder / "config.json").exists() and below.is_dir() else folder


def config_of(folder: Path) -> tuple[dict, list[str]]:
    """The folder's `config.json`, and a note where there is one that cannot be read; empty then."""
    folder = explaining(folder)
    try:
        config = from_json(read_bytes(folder / "config.json", LONGEST))
        if not isinstance(config, dict):
            raise Unreadable(f"a {type(config).__name__} instead of an object")
    except FileNotFoundError:
        return {}, []
    except Unreadable as why:
        return {}, [f"config.json is not used: found {why}. Heads and tied weights are not known."]
    return config, []


def shards(index: Path, folder: Path) -> list[Path]:
    """The files that an index names, each checked to be a plain name that is there.

    Raises
        RequestError: it cannot be read, names nothing, or something outside or absent.
    """
    names = named_shards(index)
    for name in names:
        if not os.path.exists(folder / name):  # False, too, where no file can have that name
            label = one_line(name, limit=80)
            raise RequestError(
                f"open({one_line(index)}): shard {label} is missing; copy it beside the index."
            )
    return [folder / name for name in names]


def named_shards(index: Path) -> list[str]:
    """The files that an index names, each checked to be a name of a file beside it.

    Raises
        RequestError: it cannot be read, names nothing, or something outside.
    """
    try:
        names = sorted(set(from_json(read_bytes(index, LONGEST))["weight_map"].values()))
    except (Unreadable, FileNotFoundError) as error:
        why = error if isinstance(error, Unreadable) else "a link to nothing"
        raise RequestError(
            f"open({one_line(index)}): found {why}; expected a JSON index of shards."
        ) from None
    except (KeyError, TypeError, AttributeError):
        raise RequestError(
            f"open({one_line(index)}): found no weight_map; expected a JSON index of shards."
        ) from None
    if not names:
        raise RequestError(
            f"open({one_line(index)}): found an index without a shard; expected a weight_map that"
            " names files."
        )
    for name in names:
        label = one_line(name, limit=80)
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise RequestError(
                f"open({one_line(index)}): found the shard {label}; expected a file beside it."
            )
    return names


def refuse_missing(files: Sequence[Path], folder: Path) -> None:
    """Refuse shards of which some are not there, where no index names them: they say in their own
    names how many they are, and while a trainer writes them the index is not there yet.

    Raises
        RequestError: one is missing.
    """
    shards = [match for file in files if (match := SHARD.fullmatch(file.name))]
    every = max((int(match["every"]) for match in shards), default=0)
    here = {int(match["at"]) for match in shards}
    if len(here) < every:
        raise RequestError(
            f"open({one_line(folder)}): found {len(here)} of {every} shards and no index; expected"
            " all of them. Is it still being written, or copied in part?"
        )


def tokens(path: Path) -> dict[int, str]:
    """Token text by vocabulary row from a tokenizer file beside the checkpoint; empty where there
    is none.
    """
    try:
        return vocabulary(path if path.is_dir() else path.parent)
    except Unreadable:
        return {}


def tokens_note(path: Path) -> list[str]:
    """A note where there is a tokenizer file that cannot be read."""
    try:
        vocabulary(path if path.is_dir() else path.parent)
    except Unreadable as why:
        return [f"{why}. Rows of the vocabulary have no words."]
    return []


def vocabulary(folder: Path) -> dict[int, str]:
    """Token text by row from `tokenizer.json`, else `vocab.txt`; empty where neither is there.

    Raises
        Unreadable: the file that is there is not what its name says.
    """
    folder = explaining(folder)
    for name, read in (("tokenizer.json", from_tokenizer), ("vocab.txt", from_lines)):
        try:
            data = read_bytes(folder / name, LONGEST)
            return {row: written(text) for row, text in read(data).items()}
        except FileNotFoundError:
            continue
        except Unreadable as why:
            raise Unreadable(f"{name} is not used: found {why}") from None
    return {}


def from_tokenizer(data: bytes) -> dict[int, str]:
    """The vocabulary of a `tokenizer.json`: text to row, or a list of texts with their scores."""
    try:
        vocab = from_json(data)["model"]["vocab"]
        pairs = (
            vocab.items()
            if isinstance(vocab, dict)
            else [(entry[0], i) for i, entry in enumerate(vocab)]
        )
    except (KeyError, TypeError, IndexError):
        raise Unreadable("no vocabulary in it") from None
    if not all(type(row) is int and row >= 0 for _, row in pairs):
        raise Unreadable("rows that are no numbers")
    return {row: str(text) for text, row in pairs}


def from_lines(data: bytes) -> dict[int, str]:
    """The vocabulary of a `vocab.txt`: a token a line."""
    if data.count(b"\n") > MOST_TOKENS:
        raise Unreadable(f"more than {MOST_TOKENS:,} lines")
    try:
        return dict(enumerate(data.decode().splitlines()))
    except UnicodeDecodeError:
        raise Unreadable("bytes that are no text") from None


def written(token: str) -> str:
    """A token as a table keeps it: not too long, and without lone surrogates, which no file can
    hold.
    """
    token = token[:LONGEST_TOKEN]
    return token if is_text(token) else token.encode("utf-8", "replace").decode()
