"""Where finished work is kept: JSON parts and bundles of them while a comparison runs, one Parquet a table and measure then.

Layout under the cache folder:

    comparisons/<key>/manifest.json                    what was compared, how, which measures at which version
    comparisons/<key>/parts/<pair>.<measure>.<v>.json  one pair under one measure, with a digest of its own bytes
    comparisons/<key>/tables/<table>.<measure>.parquet compacted rows; their digests stand in the manifest
    comparisons/<key>/tables/<table>.<measure>.<n>.parquet the same of a bundle of pairs; the table `pairs` names them
    comparisons/<key>/blocks/<pair>.<row>.<column>.<size>.parquet   values that someone asked to see
    comparisons/<key>/summaries/<name>.<digest>.parquet what pages ask of the whole, made from these tables
    comparisons/<key>/board.json                       pins and notes
    comparisons/<key>/lock                             held by the process that writes; dies with it
    fingerprints.json, jobs/

Everything is written under a temporary name and renamed, so a file is whole or not there.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from opdviz import files
from opdviz.errors import CheckFailed, RequestError, one_line
from opdviz.store import manifest as manifests
from opdviz.store import parquet

LONGEST_NAME = 200
KEY = re.compile(r"^[0-9a-f]{16}$")


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

    def keys(self) -> list[str]:
        """The keys of all comparisons with a sound manifest, newest first."""
        times = {key: parquet.state(self.folder(key) / "manifest.json")[-1:] for key in self.folders()}
        return [key for key in sorted(times, key=times.get, reverse=True) if self.manifest(key)]

    def damaged(self) -> list[str]:
        """The folders of comparisons whose manifest is lost or damaged; one whose run is just starting is not."""
        return [key for key in self.folders() if not self.manifest(key) and not files.running(self.folder(key))]

    def folders(self) -> list[str]:
        """Every folder of comparisons, also those whose manifest is lost."""
        return sorted(p.name for p in self.comparisons.glob("*") if p.is_dir())

    def resolve(self, word: str) -> str:
        """The key that a key, a unique prefix or a name (its newest) stands for.

        Raises
            RequestError: nothing or more than one fits.
        """
        keys = self.keys()
        named = [k for k in keys if self.manifest(k).get("name") == word]
        fitting = [k for k in keys if word and k.startswith(word)]
        if word in self.folders() or named or len(fitting) == 1:
            return word if word in self.folders() else (named or fitting)[0]
        known = ", ".join(one_line(self.manifest(k).get("name", k), limit=40) for k in keys[:6]) or "none yet"
        known += "".join(f"; {one_line(k, limit=40)}: manifest.json is missing or damaged" for k in self.damaged()[:3])
        what = f"fits {len(fitting)} comparisons" if fitting else "is no comparison in the cache"
        raise RequestError(f"{one_line(word, limit=60)!r} {what}; there are: {known}. `opdviz list` shows them.")

    def manifest(self, key: str) -> dict:
        """A comparison's manifest; empty where it cannot be read."""
        manifest = files.json_value(self.folder(key) / "manifest.json")
        return manifest if manifests.sound(manifest, key) else {}

    def sound_manifest(self, key: str) -> dict:
        """A comparison's manifest.

        Raises
            CheckFailed: it is missing or damaged.
        """
        if manifest := self.manifest(key):
            return manifest
        raise CheckFailed(
            f"{one_line(key, limit=40)}: manifest.json is missing or damaged; compare the pair again, which recomputes it."
        )

    def write_manifest(self, key: str, manifest: dict) -> None:
        """Replace a comparison's manifest."""
        files.clear_for_file(self.folder(key) / "manifest.json")
        files.write(self.folder(key) / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())

    def size(self, key: str) -> int:
        """Bytes that a comparison takes."""
        return sum(f.stat().st_size for f in self.folder(key).rglob("*") if f.is_file())

    def forget(self, key: str) -> None:
        """Delete a comparison; refused while it runs."""
        with files.lock(self.folder(key)):
            shutil.rmtree(self.folder(key))


def checked_name(name: str) -> str:
    """A comparison's name, if it can be typed and read on one line.

    Raises
        RequestError: empty, longer than 200 characters, not printable, or the form of a key.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or KEY.match(name):
        found = one_line(ascii(name), limit=60)
        raise RequestError(f"name {found}: expected 1 to {LONGEST_NAME} printable characters that are not a key's.")
    return name
