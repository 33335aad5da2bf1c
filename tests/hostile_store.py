"""What can be wrong with a store, as a table: what is done to it, the words that say it, the table
whose reading says it too.
"""

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from opdviz import fingerprint, measures
from opdviz.store import parts, values
from opdviz.store.store import Store
from opdviz.tables import summaries

ROOT = Path(__file__).parent.parent
ALL_SUMMARIES = summaries.SUMMARIES
SECONDS = 20  # for all commands on one damage: a pipe would be waited for without end
TENSOR = "model.layers.1.mlp.up_proj.weight"
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Place:
    """One comparison that is about to be damaged, and a sound one of another pair beside it."""

    store: Store
    key: str
    other: Path

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.store.folder(self.key)

    def table(self, name: str) -> Path:
        """One of its tables."""
        return self.folder / "tables" / f"{name}.parquet"


Damage = Callable[[Place], object]


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def edited(**changes) -> Damage:
    """Other entries in the manifest."""

    def damage(at: Place) -> None:
        path = at.folder / "manifest.json"
        write_json(path, json.loads(path.read_text()) | changes)

    return damage


def manifest_text(text: str | bytes) -> Damage:
    """Something else in the manifest's place."""
    data = text if isinstance(text, bytes) else text.encode()
    return lambda at: (at.folder / "manifest.json").write_bytes(data)


def with_name(spelled: str) -> Damage:
    """A manifest whose name is spelled in JSON as nobody of ours would."""

    def damage(at: Place) -> None:
        path = at.folder / "manifest.json"
        path.write_text(path.read_text().replace('"golden"', spelled))

    return damage


def note_digest(at: Place, path: Path) -> None:
    """Make the manifest's digest of a table fit."""
    manifest = at.folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["tables"][path.name] = fingerprint.of_file(path)
    write_json(manifest, facts)


def forged(name: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    """A table that is another one by now, its digest fitting."""

    def damage(at: Place) -> None:
        path = at.table(name)
        pq.write_table(change(pq.read_table(path)), path, row_group_size=1_000)
        note_digest(at, path)

    return damage


def replaced(
    column: str, change: Callable[[list], list], kind: pa.DataType | None = None
) -> Callable:
    """Other values in a column."""

    def changed(rows: pa.Table) -> pa.Table:
        at = rows.column_names.index(column)
        values = pa.array(
            change(rows[column].to_pylist()), type=kind or rows.schema.field(column).type
        )
        return rows.set_column(at, column, values)

    return changed


def middle(value: object) -> Callable[[list], list]:
    """Another value in the middle."""
    return lambda values: [*values[: len(values) // 2], value, *values[len(values) // 2 + 1 :]]


AB = pa.table({"a": [1], "b": ["x"]})


def instead(where: str, kind: str) -> Damage:
    """A pipe, a socket, a device, a folder, a link to nothing, or an empty file instead of a file."""

    def damage(at: Place) -> None:
        (path,) = [*at.folder.glob(where)] or [at.folder / where]
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        make = {
            "pipe": lambda: os.mkfifo(path),
            "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o600),
            "device": lambda: path.symlink_to("/dev/zero"),
            "folder": lambda: (path.mkdir(), (path / "inner").write_text("x")),
            "nothing": lambda: path.symlink_to("nowhere"),
            "empty": lambda: path.touch(),
            "gone": lambda: None,
        }
        make[kind]()

    return damage


def beside(where: str, kind: str) -> Damage:
    """The same in the store, outside of the comparison."""
    return lambda at: instead(str(at.store.root / where), kind)(Place(at.store, at.key, at.other))


def outside(path: str, text: str) -> Damage:
    """A file in the store, outside of the comparison."""

    def damage(at: Place) -> None:
        (at.store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (at.store.root / path).write_text(text)

    return damage


def pipe_outside(path: str) -> Damage:
    """A pipe in the store, outside of the comparison."""

    def damage(at: Place) -> None:
        (at.store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (at.store.root / path).unlink(missing_ok=True)
        os.mkfifo(at.store.root / path)

    return damage


def flipped(at: Place) -> None:
    path = at.table("projection.geometry")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def others_table(at: Place) -> None:
    shutil.copyfile(
        at.other / "tables" / "tensors.magnitude.parquet", at.table("tensors.magnitude")
    )


def unnamed(at: Place) -> None:
    path = at.folder / "manifest.json"
    facts = json.loads(path.read_text())
    del facts["tables"]["drift.geometry.parquet"]
    write_json(path, facts)


def huge(at: Place) -> None:
    os.truncate(at.folder / "manifest.json", (1 << 26) + 2)


def tables_file(at: Place) -> None:
    shutil.rmtree(at.folder / "tables")
    (at.folder / "tables").write_text("x")


def summary_of(name: str, make: Callable[[Place], pd.DataFrame]) -> Damage:
    """Another frame as a summary, every digest in its name fitting."""

    def damage(at: Place) -> None:
        (path,) = (at.folder / "summaries").glob(f"{name}.*")
        path.unlink()
        data = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(make(at), preserve_index=False), data)
        digest = fingerprint.of_contents(data.getvalue().to_pybytes())
        made = summaries.made_from(at.store.open(at.key))
        path.with_name(f"{name}.{made}.{digest}.parquet").write_bytes(data.getvalue().to_pybytes())

    return damage


def text_norms(at: Place) -> pd.DataFrame:
    return summaries.summary(at.store.open(at.key), "by_tensor").assign(delta_norm="large")


def tails(at: Place) -> pd.DataFrame:
    return summaries.summary(at.store.open(at.key), "tails")


def block(frame: pd.DataFrame, name: str = TENSOR) -> Damage:
    """A kept block of values from row 0, column 0, of size 64."""

    def damage(at: Place) -> None:
        path = values.block_path(at.folder, name, 0, 0, 64)
        path.parent.mkdir(exist_ok=True)
        frame.to_parquet(path, index=False)

    return damage


def grid(rows: int, columns_: int) -> pd.DataFrame:
    at = np.indices((rows, columns_)).reshape(2, -1)
    return pd.DataFrame({"row": at[0], "column": at[1], "base": 0.0, "tuned": 1.0})


def block_pipe(at: Place) -> None:
    (at.folder / "blocks").mkdir(exist_ok=True)
    os.mkfifo(values.block_path(at.folder, TENSOR, 0, 0, 64))


def part_of(at: Place) -> Path:
    """A part that is in no bundle."""
    return min((at.folder / "parts").glob("*.magnitude.*"))


def signed(path: Path, body: bytes) -> None:
    path.write_bytes(fingerprint.of_bytes(body).encode() + b"\n" + body)


def part(change: Callable[[dict], object]) -> Damage:
    """A part that says something else, its digest fitting."""

    def damage(at: Place) -> None:
        value = parts.decode_part(part_of(at))
        signed(part_of(at), json.dumps(change(value)).encode())

    return damage


def row_with(**values) -> Callable[[dict], dict]:
    """A part whose row has other values."""
    return lambda value: value | {"tables": {"tensors": [value["tables"]["tensors"][0] | values]}}


def part_text(body: bytes) -> Damage:
    return lambda at: signed(part_of(at), body)


def moved_part(at: Place) -> None:
    shutil.copyfile(
        part_of(at), parts.part_path(at.folder, TENSOR, "magnitude", measures.magnitude.VERSION)
    )


def part_instead(kind: str) -> Damage:
    return lambda at: instead(f"parts/{part_of(at).name}", kind)(at)


def foreign_part(at: Place) -> None:
    value = parts.decode_part(part_of(at))
    rows = [value["tables"]["tensors"][0] | {"name": "stranger"}]
    path = parts.part_path(at.folder, "stranger", "magnitude", measures.magnitude.VERSION)
    path.write_bytes(parts.encode_part("stranger", {"tensors": rows}))


OTHER_COLUMNS, FOREIGN = (
    "has other columns than this version reads",
    "holds tensors that are not in this comparison",
)
MANIFEST = "manifest.json is missing or"
# Damages of a finished comparison: what, words, table that is read.
WHOLE: dict[str, tuple[Damage, str, str | None]] = {
    "other columns": (forged("projection.geometry", lambda rows: AB), f"projection.geometry.parquet {OTHER_COLUMNS}",
                      "projection"),
    "other columns of the table that all read": (forged("tensors.magnitude", lambda rows: AB), OTHER_COLUMNS, "tensors"),
    "another type": (forged("rotation.geometry", replaced("k", lambda v: list(map(float, v)), pa.float64())),
                     OTHER_COLUMNS, "rotation"),
    "a column less": (forged("drift.geometry", lambda rows: rows.drop_columns(["nss"])), OTHER_COLUMNS, "drift"),
    "columns in another order": (forged("tail.spectrum", lambda rows: rows.select(rows.column_names[::-1])),
                                 OTHER_COLUMNS, "tail"),
    "not a number": (forged("drift.geometry", replaced("nss", middle(float("nan")))), "drift.geometry.parquet is damaged",
                     "drift"),
    "infinity": (forged("spectrum.spectrum", replaced("sigma", middle(float("inf")))),
                 "spectrum.spectrum.parquet is damaged", "spectrum"),
    "another comparison's name": (forged("tensors.magnitude", replaced("name", middle("stranger"))),
                                  f"tensors.magnitude.parquet {FOREIGN}, 'stranger' the first", "tensors"),
    "another comparison's names alone": (forged("angle.geometry", replaced("name", lambda v: ["stranger"] * len(v))),
                                         f"angle.geometry.parquet {FOREIGN}", "angle"),
    "a name that is missing": (forged("steps.sparsity", replaced("name", middle(None))), FOREIGN, "steps"),
    "another comparison's table": (others_table, "tensors.magnitude.parquet is damaged", "tensors"),
    "other pairs": (forged("pairs.pairing", lambda rows: pa.table({"name": [f"x{i}" for i in range(30)]})), FOREIGN,
                    "tensors"),
    "a pair twice": (forged("pairs.pairing", replaced("name", lambda v: [v[0], *v[:-1]])),
                     "pairs.pairing.parquet is damaged", None),
    "pairs of other columns": (forged("pairs.pairing", lambda rows: AB), f"pairs.pairing.parquet {OTHER_COLUMNS}", "tensors"),
    "pairs lost": (instead("tables/pairs.pairing.parquet", "gone"), "pairs.pairing.parquet is missing", "tensors"),
    "left-overs of other columns": (forged("unmatched.pairing", lambda rows: AB), OTHER_COLUMNS, "unmatched"),
    "a table lost": (instead("tables/sparsity.sparsity.parquet", "gone"), "sparsity.sparsity.parquet is missing", "sparsity"),
    "a table of nothing": (instead("tables/sparsity.sparsity.parquet", "empty"), "sparsity.parquet is damaged", "sparsity"),
    "a flipped bit": (flipped, "projection.geometry.parquet is damaged", "projection"),
    "a pipe for a table": (instead("tables/coverage.coverage.parquet", "pipe"), "coverage.parquet is no plain file",
                           "coverage"),
    "a folder for a table": (instead("tables/tensors.magnitude.parquet", "folder"), "is no plain file", "tensors"),
    "a folder for left-overs": (instead("tables/unmatched.pairing.parquet", "folder"), "is no plain file", "unmatched"),
    "a socket for a table": (instead("tables/profile.coordinates.parquet", "socket"), "is no plain file", "profile"),
    "a device for a table": (instead("tables/rank.spectrum.parquet", "device"), "is no plain file", "rank"),
    "a link to nothing for a table": (instead("tables/rank.spectrum.parquet", "nothing"), "is missing", "rank"),
    "a table that the manifest does not name": (unnamed, "drift.geometry.parquet is not named in manifest.json", None),
    "a file for the folder of tables": (tables_file, "tables is no folder", "tensors"),
    "a table out of the folder": (edited(tables={"../../x.parquet": "0"}), MANIFEST, "tensors"),
    "a pipe for the manifest": (instead("manifest.json", "pipe"), MANIFEST, "tensors"),
    "a folder for the manifest": (instead("manifest.json", "folder"), MANIFEST, "tensors"),
    "a device for the manifest": (instead("manifest.json", "device"), MANIFEST, "tensors"),
    "the manifest lost": (instead("manifest.json", "gone"), MANIFEST, "tensors"),
    "a hundred thousand brackets": (manifest_text(DEEP), MANIFEST, "tensors"),
    "a number of 5,000 digits": (edited(settings=10**4_000), MANIFEST, "tensors"),
    "digits beyond Python": (manifest_text('{"pairs": ' + "9" * 5_000 + "}"), MANIFEST, "tensors"),
    "pairs that are not a number": (edited(pairs=float("nan")), MANIFEST, "tensors"),
    "a number beyond all": (with_name('1e999'), MANIFEST, "tensors"),
    "half a character": (with_name(r'"\ud800"'), MANIFEST, "tensors"),
    "a byte of no character": (with_name(r'"\udcff"'), MANIFEST, "tensors"),
    "no UTF-8": (manifest_text(b'{"name": "\xff"}'), MANIFEST, "tensors"),
    "pairs below nothing": (edited(pairs=-1), MANIFEST, "tensors"),
    "a manifest of 64 MB": (huge, MANIFEST, "tensors"),
    "another comparison's manifest": (lambda at: shutil.copyfile(at.other / "manifest.json", at.folder / "manifest.json"),
                                      MANIFEST, "tensors"),
    "a measure twice": (edited(compacted=["magnitude@2"] * 7), MANIFEST, "tensors"),
    "a measure that nobody knows": (edited(compacted=["magic@1"]), "manifest.json names a measure that is unknown", None),
    "a summary of another frame": (summary_of("blocks", tails), "is damaged", None),
    "a summary of text for numbers": (summary_of("by_tensor", text_norms), "is damaged", None),
    "a summary of nothing": (instead("summaries/blocks.*", "empty"), "is damaged", None),
    "a pipe for a summary": (instead("summaries/by_tensor.*", "pipe"), "is damaged", None),
    "a folder for a summary": (instead("summaries/headline.*", "folder"), "is damaged", None),
    "a block of other columns": (block(AB.to_pandas()), "is damaged", None),
    "a block of another shape": (block(grid(3, 3)), "is damaged", None),
    "a block of text": (block(grid(64, 64).assign(base="x")), "is damaged", None),
    "a block of another's tensor": (block(grid(64, 64), "stranger"), "is of a tensor that is not in this comparison", None),
    "a pipe for a block": (block_pipe, "is damaged", None),
    "a pipe for the lock": (instead("lock", "pipe"), "lock is no plain file", None),
    "a folder for the lock": (instead("lock", "folder"), "lock is no plain file", None),
    "a pipe for what is looked at": (instead("focus", "pipe"), "focus is no plain file", None),
    "a pipe for the fingerprints": (pipe_outside("fingerprints.json"), "fingerprints.json is unreadable", None),
    "brackets for the fingerprints": (outside("fingerprints.json", DEEP), "fingerprints.json is unreadable", None),
}  # fmt: skip
# Of one that was stopped before its end; a part is left out of what is read.
PARTS: dict[str, tuple[Damage, str, str | None]] = {
    "a part that is a list": (part(lambda value: [1]), "is damaged", None),
    "a part without a name": (part(lambda value: {"tables": value["tables"]}), "is damaged", None),
    "a part without tables": (part(lambda value: value | {"tables": []}), "is damaged", None),
    "a part of rows that are none": (part(lambda value: value | {"tables": {"tensors": [1]}}), "is damaged", None),
    "a part of another table": (part(lambda value: value | {"tables": {"drift": []}}), "is damaged", None),
    "a part of text for numbers": (part(row_with(delta_norm="large")), "is damaged", None),
    "a part of numbers for text": (part(row_with(block=3)), "is damaged", None),
    "a part of truth for numbers": (part(row_with(numel=True)), "is damaged", None),
    "a part of unknown columns": (part(row_with(magic=1)), "is damaged", None),
    "a part of a number beyond all": (part(row_with(numel=10**30)), "is damaged", None),
    "a part of brackets": (part_text(DEEP.encode()), "is damaged", None),
    "a part under another's name": (moved_part, "is damaged", None),
    "a part of another comparison": (foreign_part, "is of a tensor that is not in this comparison", None),
    "a pipe for a part": (part_instead("pipe"), "is damaged", None),
    "a folder for a part": (part_instead("folder"), "is damaged", None),
    "a bundle of another comparison's names": (forged("tensors.magnitude.0", replaced("name", middle("stranger"))),
                                               f"tensors.magnitude.0.parquet {FOREIGN}", "tensors"),
    "a bundle of other columns": (forged("sparsity.sparsity.1", lambda rows: AB), OTHER_COLUMNS, "sparsity"),
    "a bundle whose pairs are others": (forged("pairs.geometry.0", replaced("name", middle("stranger"))),
                                        f"pairs.geometry.0.parquet {FOREIGN}", None),
}  # fmt: skip
# What people wrote, and what is of no comparison: said, and left as it is.
LEFT: dict[str, tuple[Damage, str]] = {
    "a pipe for the board": (instead("board.json", "pipe"), "board.json is damaged"),
    "a folder for the board": (instead("board.json", "folder"), "board.json is damaged"),
    "brackets for the board": (
        lambda at: (at.folder / "board.json").write_text(DEEP),
        "board.json is damaged",
    ),
    "half a character on the board": (
        lambda at: (at.folder / "board.json").write_text(
            r'{"pins": [{"id": "\ud800", "view": "layers", "state": {}, "caption": ""}],'
            r' "notes": []}'
        ),
        "board.json is damaged",
    ),
    "a pipe for a job's state": (
        pipe_outside("jobs/x/status.json"),
        "jobs/x/status.json is unreadable",
    ),
    "a pipe for a job's request": (
        pipe_outside("jobs/x/request.json"),
        "jobs/x/request.json is unreadable",
    ),
    "a pipe for a job's lock": (pipe_outside("jobs/x/lock"), "jobs/x/lock is no plain file"),
    "a pipe for whose relations they are": (
        pipe_outside("relations/0123456789abcdef/runs.json"),
        "relations/0123456789abcdef does not say whose relations it holds",
    ),
    "a file between relations": (
        outside("relations/odd\n\x1b[31m", "x"),
        "does not say whose relations it holds",
    ),
    "a file between comparisons": (
        outside("comparisons/odd\n\x1b[31m", "x"),
        "is no comparison's folder",
    ),
    "an empty folder": (
        lambda at: (at.store.comparisons / "0123456789abcdef").mkdir(),
        "manifest.json is missing",
    ),
    "a folder of another name": (
        lambda at: (at.store.comparisons / "odd\n").mkdir(),
        "has no comparison's name",
    ),
}
