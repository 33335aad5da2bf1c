"""A pack: comparisons in one file, without their checkpoints.

A zip of what a store holds of them, under the same names, and what it says of itself:

    pack.json                    format, version, keys, and the size and digest of every other file
    comparisons/<key>/...        manifest, tables, summaries and board
    relations/<id>/...           what was worked out of several of them together

Values of weights (`blocks/`) never enter, and of paths only what tells runs apart. Somebody else's
pack is data: everything is checked beside the store, and comes in whole or not at all.
"""

import io
import json
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from opdviz import __version__, files, fingerprint
from opdviz.checkpoint import hub
from opdviz.engine.prepare import STEPS
from opdviz.errors import CheckFailed, MachineError, RequestError, one_line
from opdviz.runs.trajectory import place_of
from opdviz.store import board, checking, manifest, relations
from opdviz.store.manifest import Manifest, Side
from opdviz.store.store import KEY, Store, Stored
from opdviz.tables import summaries

FORMAT = 1
CONTENTS = "pack.json"
NOWHERE = "packed"  # what paths in a pack begin with, which lead to no file
MOST_FILES, MOST_BYTES = 1 << 16, 1 << 33  # of tables, which are not packed a second time
# What a pack may hold, below the folder of a comparison and that of a relation.
OF_COMPARISON = re.compile(
    r"manifest\.json|board\.json|(tables|summaries)/[a-z0-9_]+(\.[a-z0-9_]+)*\.parquet"
)
OF_RELATION = re.compile(r"runs\.json|[a-z_]+\.[a-z0-9]+\.parquet")
ENCRYPTED = 0x1
# What a file that is no zip makes zipfile raise, or a damaged one: of its directory, of names that
# are no text (ValueError), of contents, and of versions that it does not know.
UNREADABLE = (
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
)


def packed(store: Store, comparisons: Sequence[Stored]) -> bytes:
    """The pack of some comparisons, and of what is kept of these alone together.

    Raises
        RequestError: one of them is not whole yet.
        CheckFailed: one of them is damaged.
    """
    contents: dict[str, bytes] = {}
    for comparison in sorted(comparisons, key=lambda one: one.key):
        if comparison.running or not comparison.manifest.complete:
            name = one_line(comparison.name, limit=60)
            raise RequestError(f"pack({name}): it is not compared to its end; compare it first.")
        summaries.write_all(comparison)
        for fault in [*checking.check(comparison.folder), *board.check(comparison.folder)]:
            raise CheckFailed(f"pack: {fault}; compare the pair again, which mends it.")
        contents |= {
            f"comparisons/{comparison.key}/{name}": data for name, data in contents_of(comparison)
        }
    keys = {comparison.key for comparison in comparisons}
    for folder in sorted((store.root / relations.FOLDER).glob("*")):
        if set(relations.keys_of(folder) or [""]) <= keys:
            contents |= {
                f"{relations.FOLDER}/{folder.name}/{path.name}": path.read_bytes()
                for path in sorted(folder.iterdir())
                if path.is_file() and OF_RELATION.fullmatch(path.name)
            }
    return zipped(sorted(keys), contents)


def contents_of(comparison: Stored) -> Iterator[tuple[str, bytes]]:
    """The files of a comparison that travel: its name, its bytes."""
    yield manifest.FILE, elsewhere(comparison.manifest).encoded()
    current = summaries.made_from(comparison)
    for path in sorted(comparison.folder.glob("tables/*.parquet")):
        if path.name in comparison.manifest.tables:
            yield f"tables/{path.name}", path.read_bytes()
    for path in sorted(comparison.folder.glob(f"summaries/*.{current}.*.parquet")):
        yield f"summaries/{path.name}", path.read_bytes()
    if (comparison.folder / "board.json").is_file():
        yield "board.json", (comparison.folder / "board.json").read_bytes()


def elsewhere(facts: Manifest) -> Manifest:
    """A manifest as it travels: nothing in it says where on this machine its checkpoints were."""
    base, tuned = without_place(facts.base), without_place(facts.tuned)
    # The longer path first: the base may be a folder above the tuned.
    words = sorted(
        [(facts.base.path, base.label), (facts.tuned.path, tuned.label)], key=lambda s: -len(s[0])
    )
    # A name that nobody gave is made of both labels.
    words += [(facts.base.label, base.label), (facts.tuned.label, tuned.label)]

    def anonymous(text: str) -> str:
        for of_this_machine, packed_words in words:
            text = text.replace(of_this_machine, packed_words)
        return text

    notes = tuple(map(anonymous, facts.notes))
    return replace(facts, base=base, tuned=tuned, name=anonymous(facts.name), notes=notes)


def without_place(side: Side) -> Side:
    """A side whose path tells it from others, and steps of one training from each other's, without
    the folders above; a model on a hub is nobody's place.
    """
    if hub.is_hub(side.path):
        return side
    place = place_of(side.path)
    above = Path(place.root) if place else Path(side.path).parent
    if above.name in STEPS:  # whose numbers are steps because of its name
        above = above.parent
    below = nobodys(Path(side.path).relative_to(above).parts)
    digest = fingerprint.of_bytes(str(above))[:8]
    label = "/".join(nobodys(side.label.split("/")))
    return replace(side, path=str(PurePosixPath(NOWHERE, digest, *below)), label=label)


def nobodys(parts: Sequence[str]) -> list[str]:
    """Pieces of a path or label without the name of this user, as of a checkpoint that lies in
    their home.
    """
    return [part for part in parts if part != Path.home().name] or ["checkpoint"]


def zipped(keys: list[str], contents: dict[str, bytes]) -> bytes:
    """The bytes of a pack; the same for the same contents."""
    about = {
        "format": FORMAT,
        "opdviz": __version__,
        "comparisons": keys,
        "files": {
            name: {"bytes": len(data), "digest": fingerprint.of_contents(data)}
            for name, data in contents.items()
        },
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {CONTENTS: json.dumps(about, indent=1).encode(), **contents}.items():
            # No time is given: the first one that a zip can say, and the same bytes every time.
            archive.writestr(zipfile.ZipInfo(name), data, how_packed(name))
    return buffer.getvalue()


def how_packed(name: str) -> int:
    """How a file stands in a pack: a table as it is, since it is compressed in itself, so that what
    it claims to be long it is.
    """
    return zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED


def unpack(store: Store, path: Path) -> tuple[list[str], list[str]]:
    """Bring a pack's comparisons into a store: the keys that came, and those that were there before
    and were left as they are.

    Raises
        RequestError: the file is no pack, or anything in it is not what a pack holds; nothing is
            written.
        MachineError: the disk is full, or the store cannot be written.
    """
    purpose = f"unpack({one_line(path, limit=120)})"
    with folder_beside(store) as work:
        beside = Store(work)
        keys = extract(path, beside.root, purpose)
        check(beside, keys, purpose)
        present = {folder.name for folder in store.folders()}
        new = [key for key in keys if key not in present]
        store.comparisons.mkdir(exist_ok=True)
        for key in new:
            files.move(beside.folder(key), store.folder(key))
        for folder in (beside.root / relations.FOLDER).glob("*"):
            into = store.root / relations.FOLDER / folder.name
            if not into.exists():
                into.parent.mkdir(exist_ok=True)
                files.move(folder, into)
    return new, [key for key in keys if key in present]


@contextmanager
def folder_beside(store: Store) -> Iterator[Path]:
    """A folder of a store's disk that is gone afterwards.

    Raises
        MachineError: the store cannot be written.
    """
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".pack.", suffix=files.TEMPORARY, dir=store.root
        ) as work:
            yield Path(work)
    except OSError as error:
        raise MachineError(
            f"unpack: {one_line(store.root)}: {error.strerror}; make the cache writable, or name"
            " another with --cache."
        ) from None


def digest(path: Path) -> str:
    """The fingerprint of a pack's file.

    Raises
        RequestError: it is not there, or no plain file.
    """
    try:
        files.plain(path, os.stat(path))
        return fingerprint.of_file(path)
    except OSError as error:
        raise RequestError(f"pack({one_line(path, limit=120)}): {error.strerror}.") from None


def extract(path: Path, into: Path, purpose: str) -> list[str]:
    """Write a pack's files below a folder, each as large and with the digest that the pack says;
    the keys of its comparisons.

    Raises
        RequestError: anything else is found.
    """
    try:
        with os.fdopen(files.opened(path), "rb") as file, zipfile.ZipFile(file) as archive:
            entries = plain_entries(archive, purpose)
            if CONTENTS not in entries:
                raise RequestError(f"{purpose}: found no {CONTENTS}; this is no pack.")
            about = files.parsed(read(archive, entries[CONTENTS], files.MOST_BYTES, purpose))
            keys, sizes = contents_said(about, set(entries) - {CONTENTS}, purpose)
            for name, (size, digest) in sizes.items():
                data = read(archive, entries[name], size, purpose)
                if len(data) != size or fingerprint.of_contents(data) != digest:
                    raise RequestError(
                        f"{purpose}: {name} is not what {CONTENTS} says; it is damaged."
                    )
                files.write(into / name, data)
    except UNREADABLE as error:
        words = one_line(getattr(error, "strerror", None) or error, limit=120)
        raise RequestError(
            f"{purpose}: {words}; expected a pack that `opdviz pack` wrote."
        ) from None
    return keys


def plain_entries(archive: zipfile.ZipFile, purpose: str) -> dict[str, zipfile.ZipInfo]:
    """The entries of a zip by name.

    Raises
        RequestError: too many or too large, a name twice or none that a pack has, a link, a folder,
            or a password.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    every = archive.infolist()
    total = sum(entry.file_size for entry in every)
    unpacked = sum(entry.file_size for entry in every if entry.compress_type)
    if len(every) > MOST_FILES or total > MOST_BYTES or unpacked > files.MOST_BYTES:
        raise RequestError(
            f"{purpose}: found {len(every):,} files of {total:,} bytes, {unpacked:,} of them"
            f" compressed; expected at most {MOST_FILES:,} of {MOST_BYTES:,} and"
            f" {files.MOST_BYTES:,}."
        )
    for entry in every:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        words = (
            "is there twice"
            if entry.filename in entries
            else "is no name that a pack has"
            if not allowed(entry.filename)
            else "is a link, a folder or a device"
            if kind not in (0, stat.S_IFREG)
            else "is encrypted, or compressed in another way"
            if entry.flag_bits & ENCRYPTED or entry.compress_type != how_packed(entry.filename)
            else ""
        )
        if words:
            raise RequestError(f"{purpose}: {one_line(entry.filename, limit=80)} {words}.")
        entries[entry.filename] = entry
    return entries


def allowed(name: str) -> bool:
    """Whether a pack may hold a file of this name: nothing leads out of its folder."""
    if name == CONTENTS:
        return True
    room, _, rest = name.partition("/")
    key, _, file = rest.partition("/")
    pattern = {"comparisons": OF_COMPARISON, relations.FOLDER: OF_RELATION}.get(room)
    return bool(pattern and KEY.fullmatch(key) and pattern.fullmatch(file))


def contents_said(
    about: object, names: set[str], purpose: str
) -> tuple[list[str], dict[str, tuple[int, str]]]:
    """What a pack says of itself: its keys, and the size and digest of each file.

    Raises
        RequestError: it is of another format, or does not speak of the files that are there.
    """
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        form = about.get("format") if isinstance(about, dict) else None
        raise RequestError(
            f"{purpose}: found a pack of format {one_line(form, limit=20)}; expected {FORMAT}."
        )
    keys, listed = about.get("comparisons"), about.get("files")
    sizes = {}
    for name, row in listed.items() if isinstance(listed, dict) else ():
        size, digest = (row.get("bytes"), row.get("digest")) if isinstance(row, dict) else (None, 0)
        if manifest.count(size) and manifest.text(digest):
            sizes[name] = (size, digest)
    folders = {name.split("/")[1] for name in names if name.startswith("comparisons/")}
    sound = isinstance(keys, list) and all(map(manifest.text, keys)) and set(keys) == folders
    if not sound or set(sizes) != names or len(sizes) != len(listed) or len(set(keys)) != len(keys):
        raise RequestError(f"{purpose}: {CONTENTS} does not speak of the files that are there.")
    return keys, sizes


def read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int, purpose: str) -> bytes:
    """The bytes of an entry, of which no more are unpacked than it may have.

    Raises
        RequestError: it has more.
    """
    with archive.open(entry) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise RequestError(f"{purpose}: {entry.filename} is larger than {most:,} bytes.")
    return data


def check(store: Store, keys: Sequence[str], purpose: str) -> None:
    """Read everything that was unpacked.

    Raises
        RequestError: a comparison is damaged, not whole, or of another version.
    """
    for key in keys:
        facts = manifest.read(store.folder(key))
        if facts is None or not facts.complete:
            raise RequestError(
                f"{purpose}: comparison {key} is damaged, not whole, or of another version; pack it"
                " again with this one."
            )
        for side in (facts.base, facts.tuned):
            path = PurePosixPath(side.path)
            nowhere = path.parts[:1] == (NOWHERE,) or hub.is_name(side.path)
            if not nowhere or ".." in path.parts:
                raise RequestError(
                    f"{purpose}: comparison {key} names files of a machine,"
                    f" {one_line(side.path, limit=80)}; a pack names none."
                )
        faults = [*checking.check(store.folder(key)), *board.check(store.folder(key))]
        for fault in faults or summaries.check(store.open(key)):
            raise RequestError(f"{purpose}: {fault}.")
    for place, words in relations.faults(store.root):
        raise RequestError(f"{purpose}: {place} {words}.")
    for folder in (store.root / relations.FOLDER).glob("*"):
        if not set(relations.keys_of(folder) or ()) <= set(keys):
            raise RequestError(f"{purpose}: {folder.name} relates runs that are not in it.")
