"""One pair under one measure, as JSON with a digest of its own bytes; it stands alone until a
bundle takes it up.
"""

import json
from pathlib import Path

from opdviz import files, fingerprint
from opdviz.measures.skipping import SKIPPED
from opdviz.store import columns
from opdviz.store import manifest as manifests


def pair_key(name: str) -> str:
    """The file-name form of a pair's name."""
    return fingerprint.of_bytes(name)[:20]


def part_path(folder: Path, name: str, measure: str, version: int) -> Path:
    """Where a part stands."""
    return folder / "parts" / f"{pair_key(name)}.{measure}.{version}.json"


def encode_part(name: str, tables: dict[str, list[dict]]) -> bytes:
    """A part's bytes: a digest line, then the pair's rows of every table."""
    body = json.dumps(
        {"name": name, "tables": tables}, allow_nan=False, separators=(",", ":")
    ).encode()
    return fingerprint.of_bytes(body).encode() + b"\n" + body


def decode_part(path: Path, *, holding: str = "") -> dict | None:
    """A part, or `None` where it is missing, its bytes are not those that were written, what they
    say is no part of the pair and measure of its file's name, or it has not the table `holding`.
    """
    try:
        digest, _, body = files.contents(path).partition(b"\n")
    except OSError:
        return None
    if holding and f'"{holding}":'.encode() not in body:
        return None
    part = files.parsed(body) if digest == fingerprint.of_bytes(body).encode() else None
    return part if fitting_part(part, path.name) else None


def fitting_part(part: object, file: str) -> bool:
    """Whether this is a part of the pair and the measure that its file's name says."""
    pair, measure, *_ = file.split(".")
    if not (
        isinstance(part, dict)
        and manifests.text(name := part.get("name"))
        and pair_key(name) == pair
    ):
        return False
    tables_of_measure = columns.COLUMNS.get(measure, {}) | {"skipped": SKIPPED}
    tables = part.get("tables")
    return isinstance(tables, dict) and all(
        table in tables_of_measure and columns.fitting_rows(tables_of_measure[table], name, rows)
        for table, rows in tables.items()
    )
