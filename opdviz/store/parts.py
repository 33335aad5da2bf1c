"""One pair under one measure, as JSON with a digest of its own bytes; it stands alone until a
bundle takes it up.
"""

import json
from collections import defaultdict
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
    """A part's bytes: a digest line, then the pair's rows of every table.

    Raises
        ValueError: a number is NaN or infinite.
    """
    body = json.dumps(
        {"name": name, "tables": tables}, allow_nan=False, separators=(",", ":")
    ).encode()
    return fingerprint.of_bytes(body).encode() + b"\n" + body


def decode_part(path: Path, *, holding: str = "") -> dict | None:
    """A part, or `None` where it is missing, its bytes are not those that were written, what they
    say is no part of the pair and measure of its file's name, or it has not the table `holding`.
    """
    part = part_in_shape(path, holding=holding)
    return part if part and all(fits(path, t, rows) for t, rows in part["tables"].items()) else None


def decode_parts(paths: list[Path]) -> list[dict | None]:
    """The same of many parts of one measure: of each table the values of all are looked at
    together, in a third of the time.
    """
    parts = [part_in_shape(path) for path in paths]
    by_table = defaultdict(list)
    for part in filter(None, parts):
        for table, rows in part["tables"].items():
            by_table[table] += rows
    if all(fits(paths[0], table, rows) for table, rows in by_table.items()):
        return parts
    return [decode_part(path) for path in paths]


def part_in_shape(path: Path, *, holding: str = "") -> dict | None:
    """A part as above whose values nobody has looked at."""
    try:
        digest, _, body = files.contents(path).partition(b"\n")
    except OSError:
        return None
    if holding and f'"{holding}":'.encode() not in body:
        return None
    part = files.parsed(body) if digest == fingerprint.of_bytes(body).encode() else None
    if not isinstance(part, dict):
        return None
    name, tables = part.get("name"), part.get("tables")
    if not (manifests.text(name) and pair_key(name) == path.name.split(".")[0]):
        return None
    columns_of = tables_of(path)
    in_shape = isinstance(tables, dict) and all(
        table in columns_of and columns.rows_in_shape(columns_of[table], name, rows)
        for table, rows in tables.items()
    )
    return part if in_shape else None


def fits(path: Path, table: str, rows: list[dict]) -> bool:
    """Whether every value of some rows of a part's table is of its column's type."""
    return columns.fitting_values(tables_of(path)[table], rows)


def tables_of(path: Path) -> dict[str, columns.Columns]:
    """The tables of the measure that a part's file name says."""
    return columns.COLUMNS.get(path.name.split(".")[1], {}) | {"skipped": SKIPPED}
