"""The board of a comparison: figures that somebody pinned, with captions, and notes on its tensors.
Kept beside its tables.

    comparisons/<key>/board.json   {"pins": [{id, view, state, caption}], "notes": [{id, tensor,
    text, who, time}]}

Two people may write at once, so every change is made under a lock of its own.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from opdviz import files
from opdviz.errors import CheckFailed, MachineError, RequestError, one_line
from opdviz.store.checking import Fault

LONGEST_CAPTION = 4_000
LONGEST_NOTE = 2_000
LONGEST_WHO = 60
MOST = 500
LATEST = 2.0**35  # seconds: a thousand years on; beyond that a calendar gives up
DAMAGED = "is damaged; mend it, or move it away to start an empty board."
EMPTY = {"pins": [], "notes": []}
FIELDS = {
    "pins": {"id": str, "view": str, "state": dict, "caption": str},
    "notes": {"id": str, "tensor": str, "text": str, "who": str, "time": (int, float)},
}


def read(folder: Path) -> dict:
    """The pins and notes of a comparison, in their order.

    Raises
        CheckFailed: the file is damaged; it is left as it is.
    """
    path = folder / "board.json"
    if not path.exists() and not path.is_symlink():
        return {name: [] for name in EMPTY}
    if not sound(value := files.json_value(path)):
        raise CheckFailed(f"{folder.name}: board.json {DAMAGED}")
    return value


def check(folder: Path) -> list[Fault]:
    """What is wrong with a comparison's board."""
    try:
        read(folder)
    except CheckFailed:
        return [Fault(folder.name, "board", "board.json", DAMAGED)]
    return []


def sound(found: object) -> bool:
    """Whether a board has what pages rely on."""
    if not isinstance(found, dict):
        return False
    lists = [(found.get(name), fields) for name, fields in FIELDS.items()]
    if not all(
        isinstance(rows, list) and all(fitting(row, fields) for row in rows)
        for rows, fields in lists
    ):
        return False
    ids = [row["id"] for rows, _ in lists for row in rows]
    return len(set(ids)) == len(ids) and all(0 <= note["time"] < LATEST for note in found["notes"])


def fitting(row: object, fields: dict) -> bool:
    """Whether a pin or a note has its fields, each of its type."""
    return isinstance(row, dict) and all(
        isinstance(row.get(k), kind) and not isinstance(row[k], bool) for k, kind in fields.items()
    )


def change(folder: Path, how: Callable[[dict], None]) -> None:
    """Read the board, change it and write it, while nobody else does.

    Raises
        CheckFailed: the board is damaged.
        MachineError: it cannot be written.
        RequestError: the comparison is gone.
    """
    if not folder.is_dir():
        raise RequestError(f"board({folder.name[:12]}): this comparison is gone from the cache.")
    try:
        with files.held(folder / "board.lock", wait=True):
            board = read(folder)
            how(board)
            files.write(
                folder / "board.json", json.dumps(board, indent=1, allow_nan=False).encode()
            )
    except OSError as error:
        raise MachineError(
            f"board({folder.name[:12]}): board.lock: {error.strerror}; nothing was changed. Make"
            " the cache writable."
        ) from None


def new_id() -> str:
    """An id that no other pin or note has."""
    return os.urandom(6).hex()


def shortened(text: str, longest: int, what: str) -> str:
    """A text that is not too long.

    Raises
        RequestError: it is.
    """
    if len(text) > longest:
        raise RequestError(f"{what} of {len(text):,} characters: at most {longest:,} are kept.")
    return text


def pin(folder: Path, view: str, state: dict, caption: str) -> str:
    """Add a figure in one state, with a caption; its id.

    Raises
        RequestError: the caption is too long, or the board is full.
    """
    entry = {
        "id": new_id(),
        "view": view,
        "state": state,
        "caption": shortened(caption, LONGEST_CAPTION, "caption"),
    }
    change(folder, lambda found: add(found["pins"], entry))
    return entry["id"]


def note(folder: Path, tensor: str, text: str, who: str) -> str:
    """Add a note on a tensor: what was found, and by whom; its id.

    Raises
        RequestError: nothing was written, or too much.
    """
    if not text.strip():
        raise RequestError("note: found no text; expected what was seen in this tensor.")
    entry = {"id": new_id(), "tensor": tensor, "text": shortened(text, LONGEST_NOTE, "note")}
    entry |= {"who": one_line(shortened(who, LONGEST_WHO, "name")), "time": time.time()}
    change(folder, lambda found: add(found["notes"], entry))
    return entry["id"]


def add(rows: list[dict], made: dict) -> None:
    """Append, unless there are too many.

    Raises
        RequestError: there are.
    """
    if len(rows) >= MOST:
        raise RequestError(f"board: it holds {MOST} already; take some off first.")
    rows.append(made)


def with_sentence(pin: dict) -> bool:
    """Whether a pin is shown under the sentence that reads its figure; it is until somebody
    switches that off.
    """
    return pin.get("sentence") is not False


def caption(folder: Path, id_: str, text: str, sentence: bool = True) -> None:
    """Write another caption over a pin, with or without the generated sentence."""
    shortened(text, LONGEST_CAPTION, "caption")

    def set_(found: dict) -> None:
        for row in found["pins"]:
            if row["id"] == id_:
                row |= {"caption": text, "sentence": sentence}

    change(folder, set_)


def move(folder: Path, id_: str, by: int) -> None:
    """Move a pin by some places, at most to an end."""

    def shift(found: dict) -> None:
        at = next((i for i, row in enumerate(found["pins"]) if row["id"] == id_), None)
        if at is not None:
            row = found["pins"].pop(at)
            found["pins"].insert(max(0, at + by), row)

    change(folder, shift)


def remove(folder: Path, id_: str) -> None:
    """Take a pin or a note off."""

    def drop(found: dict) -> None:
        for name in FIELDS:
            found[name] = [row for row in found[name] if row["id"] != id_]

    change(folder, drop)
