"""Where finished work is kept: JSON parts and bundles of them while a comparison runs, one Parquet
a table and measure then.

Layout under the cache folder; a comparison's own files stand in `comparisons/<key>/`:

    manifest.json                              what was compared, how, which measures are there
    parts/<pair>.<measure>.<v>.json            one pair under one measure, with its digest
    tables/<table>.<measure>.parquet           compacted rows; their digests are in the manifest
    tables/<table>.<measure>.<n>.parquet       the same of a bundle of pairs
    blocks/<pair>.<row>.<column>.<size>.parquet   values that someone asked to see
    summaries/<name>.<digest>.<digest>.parquet    what pages ask of the whole, from these tables
    board.json, focus                          pins and notes; the tensor that someone looks at
    stop                                       somebody wants this comparison to end
    lock, board.lock                           held by the process that writes; they die with it
    ../../fingerprints.json, ../../jobs/, ../../relations/

Everything is written under a temporary name and renamed, so a file is whole or not there.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from opdviz import files
from opdviz.errors import CheckFailed, RequestError, one_line
from opdviz.store import manifest as manifests
from opdviz.store import parquet, relations
from opdviz.store.manifest import Manifest

LONGEST_NAME, LONGEST_LABEL = 200, 60
KEY = re.compile(r"^[0-9a-f]{16}$")


@dataclass(frozen=True, slots=True)
class Stored:
    """A comparison as it stands on disk, its manifest read once: by a command, or for one drawing
    of a page.
    """

    folder: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """The key: what was compared, in sixteen digits."""
        return self.folder.name

    @property
    def name(self) -> str:
        """What people call it."""
        return self.manifest.name

    @property
    def running(self) -> bool:
        """Whether a process writes it now."""
        return files.running(self.folder)

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())

    def again(self) -> "Stored":
        """The same with its manifest read anew.

        Raises
            CheckFailed: it is missing or damaged by now.
        """
        return opened(self.folder)

    def changed(self, **facts) -> "Stored":
        """The same with other facts in its manifest, which is written."""
        manifest = replace(self.manifest, **facts)
        manifests.write(self.folder, manifest)
        return Stored(self.folder, manifest)


def root_of(where: Path | str | None = None) -> Path:
    """The folder of a store: the one that is named, that of the environment, or `cache`.

    Raises
        RequestError: it is a file, or no name of a folder.
    """
    root = Path(where or os.environ.get("OPDVIZ_CACHE") or "cache")
    try:
        why = "a file" if root.exists() and not root.is_dir() else ""
    except OSError as error:  # a name longer than the disk takes, or a folder that may not be read
        why = (error.strerror or "no usable name").lower()
    if why or "\0" in str(root):
        raise RequestError(f"cache {one_line(root)}: found {why or 'a NUL'}; expected a folder.")
    return root


def opened(folder: Path) -> Stored:
    """The comparison in a folder.

    Raises
        CheckFailed: its manifest is missing or damaged.
    """
    if manifest := manifests.read(folder):
        return Stored(folder, manifest)
    key = one_line(folder.name, limit=40)
    raise CheckFailed(
        f"{key}: manifest.json is missing or damaged; compare the pair again, which recomputes it."
    )


@dataclass(frozen=True)
class Store:
    """The cache folder."""

    root: Path

    @property
    def comparisons(self) -> Path:
        """The folder of comparisons."""
        return self.root / "comparisons"

    def folder(self, key: str) -> Path:
        """One comparison's folder."""
        return self.comparisons / key

    def folders(self) -> list[Path]:
        """Every folder of comparisons, also those whose manifest is lost."""
        return sorted(p for p in self.comparisons.glob("*") if p.is_dir())

    def all(self) -> list[Stored]:
        """All comparisons with a sound manifest, newest first."""
        times = {folder: parquet.state(folder / manifests.FILE)[-1:] for folder in self.folders()}
        newest_first = sorted(times, key=times.get, reverse=True)
        return [
            Stored(folder, manifest)
            for folder in newest_first
            if (manifest := manifests.read(folder))
        ]

    def keys(self) -> list[str]:
        """Their keys."""
        return [comparison.key for comparison in self.all()]

    def damaged(self) -> list[str]:
        """The keys of comparisons whose manifest is lost or damaged; one whose run is just starting
        is not.
        """
        return [f.name for f in self.folders() if not manifests.read(f) and not files.running(f)]

    def open(self, key: str) -> Stored:
        """One comparison.

        Raises
            CheckFailed: its manifest is missing or damaged.
        """
        return opened(self.folder(key))

    def find(self, word: str) -> Stored:
        """The comparison that a key, a unique beginning of one, or a name (its newest) stands for.

        Raises
            RequestError: nothing or more than one fits.
            CheckFailed: its manifest is missing or damaged.
        """
        return self.open(self.resolve(word))

    def resolve(self, word: str) -> str:
        """Its key alone, which also a damaged one has.

        Raises
            RequestError: nothing or more than one fits.
        """
        comparisons = self.all()
        folders = [folder.name for folder in self.folders()]
        named = [comparison.key for comparison in comparisons if comparison.name == word]
        beginning = [
            comparison.key for comparison in comparisons if word and comparison.key.startswith(word)
        ]
        if word in folders:
            return word
        if named or len(beginning) == 1:
            return (named or beginning)[0]
        names = (
            ", ".join(one_line(comparison.name, limit=40) for comparison in comparisons[:6])
            or "none yet"
        )
        names += "".join(
            f"; {one_line(k, limit=40)}: manifest.json is missing or damaged"
            for k in self.damaged()[:3]
        )
        what = (
            f"fits {len(beginning)} comparisons" if beginning else "is no comparison in the cache"
        )
        raise RequestError(
            f"{one_line(word, limit=60)!r} {what}; there are: {names}. `opdviz list` shows them."
        )

    def rename(self, key: str, name: str) -> Stored:
        """Give a comparison another name; refused while it runs: a run that goes on would write its
        own manifest over this one.

        Raises
            RequestError: the name cannot be one, or the comparison runs.
        """
        checked_name(name)
        with files.lock(self.folder(key)):
            return self.open(key).changed(name=name)

    def label(self, key: str, labels: Mapping[str, str]) -> Stored:
        """Say a comparison's recipe or optimizer; an empty text takes one off. Refused while it
        runs, as another name is.

        Raises
            RequestError: a label cannot be one, or the comparison runs.
        """
        checked_labels(labels)
        with files.lock(self.folder(key)):
            comparison = self.open(key)
            labels = comparison.manifest.labels | labels
            return comparison.changed(labels={k: text for k, text in labels.items() if text})

    def forget(self, key: str) -> None:
        """Delete a comparison; refused while it runs."""
        with files.lock(self.folder(key)):
            shutil.rmtree(self.folder(key))
            relations.drop(self.root, key)


def checked_name(name: str) -> str:
    """A comparison's name, if it can be typed and read on one line.

    Raises
        RequestError: empty, longer than 200 characters, not printable, or the form of a key.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or KEY.match(name):
        words = one_line(ascii(name), limit=60)
        raise RequestError(
            f"name {words}: expected 1 to {LONGEST_NAME} printable characters that are not a key's."
        )
    return name


def checked_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Labels of a run, if they can be typed and read on one line.

    Raises
        RequestError: one is longer than 60 characters, or not printable.
    """
    for field, text in labels.items():
        if len(text) > LONGEST_LABEL or not text.isprintable() or text != text.strip():
            raise RequestError(
                f"{field} {one_line(ascii(text), limit=80)}: expected at most {LONGEST_LABEL}"
                " printable characters without spaces around them."
            )
    return labels
