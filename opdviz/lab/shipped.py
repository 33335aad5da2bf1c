"""The lab's first seed, and some runs of others, as they come with the package: what training
moved, and nothing else.

A base lies here whole; a run made from it as one bit a coordinate and the moved coordinates' bits,
as differences from the file it came from; both compressed, as are the masks that runs were trained
under. Expanded, each file is the one that training wrote, byte for byte.
"""

import json
import lzma
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from opdviz import files, fingerprint
from opdviz.errors import CheckFailed, MachineError, RequestError, one_line
from opdviz.lab.places import MASK, RESULTS, RUN, WEIGHTS
from opdviz.store.manifest import Manifest

HERE = Path(__file__).parent / "shipped"
FIRST = ("base", "seed0/opd")
INDEX = "index.json"
ENTRY = {"path", "before", "file", "digest"}
BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
# lzma's smallest: packed once, fetched by everybody.
PRESET = 9


def data_start(file: bytes) -> int:
    """Where a safetensors file's values begin."""
    return 8 + int.from_bytes(file[:8], "little")


def packed(base: bytes, tuned: bytes) -> bytes:
    """`tuned` as what differs from `base`, both bf16 safetensors files with one and the same
    header.

    Raises
        RequestError: the headers or the sizes differ.
    """
    start = data_start(base)
    if base[:start] != tuned[:start] or len(base) != len(tuned):
        raise RequestError(
            "lab ship: found two files with different headers or sizes; expected a base and a run"
            " from it."
        )
    old, new = (np.frombuffer(file, dtype="<u2", offset=start) for file in (base, tuned))
    moved = old != new
    return lzma.compress(
        save({"mask": np.packbits(moved), "values": new[moved] - old[moved]}), preset=PRESET
    )


def unpacked(base: bytes, difference: bytes) -> bytes:
    """The file that `packed` was given as `tuned`."""
    parts, start = load(lzma.decompress(difference)), data_start(base)
    values = np.frombuffer(base, dtype="<u2", offset=start).copy()
    moved = np.unpackbits(parts["mask"], count=values.size).astype(bool)
    values[moved] += parts["values"]
    return base[:start] + values.tobytes()


def pack(root: Path, runs: list[str], into: Path = HERE, *, ends: Sequence[str] = ()) -> list[dict]:
    """Write the runs of a lab folder as they are shipped; the index that says what they are.

    A run whose recipe is trained from nothing is kept whole, any other as its difference from its
    base, and a trajectory as differences from step to step; of the runs in `ends` the last step
    alone. What was shipped before is replaced once all is written.

    Raises
        RequestError: a file is not laid out as the one it was made from.
        MachineError: the disk is full.
    """
    with files.new_folder(into) as work:
        return pack_into(work, root, runs, ends)


def pack_into(into: Path, root: Path, runs: list[str], ends: Sequence[str] = ()) -> list[dict]:
    """The work of `pack`: every run, the results where there are any, and last the index."""
    index: list[dict] = []

    def keep(path: str, before: str | None) -> None:
        file = (root / path / WEIGHTS).read_bytes()
        data = (
            packed((root / before / WEIGHTS).read_bytes(), file)
            if before
            else lzma.compress(file, preset=PRESET)
        )
        entry = {"path": path, "before": before, "file": path.replace("/", ".") + ".xz"}
        index.append(entry | {"digest": fingerprint.of_contents(file)})
        files.write(into / entry["file"], data)

    for run in (*runs, *ends):
        facts = json.loads((root / run / RUN).read_text())
        before = None if facts["recipe"]["loop"] == "pretrain" else facts["recipe"]["base"]
        keep(run, before)
        index[-1]["facts"] = facts
        if (mask := root / run / MASK).is_file():
            index[-1] |= {
                "mask": run.replace("/", ".") + ".mask.xz",
                "mask_digest": fingerprint.of_file(mask),
            }
            files.write(into / index[-1]["mask"], lzma.compress(mask.read_bytes(), preset=PRESET))
        steps = (root / run / "steps").glob("*") if run in runs else ()
        for step in sorted(steps, key=lambda p: int(p.name)):
            keep(f"{run}/steps/{step.name}", before)
            before = f"{run}/steps/{step.name}"
    for name in BESIDE:
        if (root / runs[0] / name).is_file():
            files.write(into / name, (root / runs[0] / name).read_bytes())
    if (root / RESULTS).is_dir():
        shutil.copytree(root / RESULTS, into / RESULTS)
    files.write(into / INDEX, json.dumps(index, indent=1).encode())
    return index


def index() -> list[dict]:
    """What is shipped, in the order in which it can be expanded; empty where nothing is.

    Raises
        CheckFailed: the index is damaged.
    """
    try:
        entries = json.loads((HERE / INDEX).read_text())
    except OSError:
        return []
    except ValueError:
        entries = None
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and e.keys() >= ENTRY for e in entries
    ):
        raise CheckFailed(f"lab: shipped {INDEX} is damaged; install opdviz again.")
    return entries


def facts(path: str) -> dict:
    """What is known of a shipped run, by its folder below the lab's; empty for any other."""
    return next((entry.get("facts", {}) for entry in index() if entry["path"] == path), {})


def is_of_base(manifest: Manifest) -> bool:
    """Whether a comparison is of a run from the shipped base, undamaged."""
    try:
        digest = next((entry["digest"] for entry in index() if entry["path"] == "base"), None)
    except CheckFailed:
        return False
    return digest is not None and manifest.base.fingerprints == (digest,)


def there(root: Path) -> bool:
    """Whether everything shipped is expanded below a lab folder."""
    return all((root / entry["path"] / WEIGHTS).is_file() for entry in index())


def expand(root: Path, tell: Callable[[float], None] = lambda share: None) -> None:
    """Write every shipped run that a lab folder lacks; a run that is there, of whatever making,
    stays.

    Raises
        CheckFailed: a shipped file is damaged.
        MachineError: the disk is full; nothing half-written stays.
    """
    if there(root):
        return
    expanded: dict[str, bytes] = {}
    entries = index()
    for done, entry in enumerate(entries):
        expanded[entry["path"]] = weights(entry, expanded)
        put(root / entry["path"], expanded[entry["path"]], entry.get("facts"), mask_of(entry))
        tell((done + 1) / len(entries))


def weights(entry: dict, expanded: dict[str, bytes]) -> bytes:
    """One shipped file, expanded and checked; `expanded` holds those before it."""
    try:
        data = (HERE / entry["file"]).read_bytes()
        file = (
            unpacked(expanded[entry["before"]], data) if entry["before"] else lzma.decompress(data)
        )
    except (OSError, lzma.LZMAError, SafetensorError, LookupError, ValueError, TypeError) as error:
        raise CheckFailed(
            f"lab: shipped {entry['file']} cannot be read ({one_line(error, limit=80)})"
        ) from None
    return checked(file, entry["file"], entry["digest"])


def mask_of(entry: dict) -> bytes | None:
    """The mask that a shipped run was trained under, if it was."""
    if "mask" not in entry:
        return None
    try:
        return checked(
            lzma.decompress((HERE / entry["mask"]).read_bytes()),
            entry["mask"],
            entry["mask_digest"],
        )
    except (OSError, lzma.LZMAError) as error:
        raise CheckFailed(
            f"lab: shipped {entry['mask']} cannot be read ({one_line(error, limit=80)})"
        ) from None


def checked(data: bytes, name: str, digest: str) -> bytes:
    """Expanded bytes, if they are what was packed."""
    if fingerprint.of_contents(data) != digest:
        raise CheckFailed(f"lab: shipped {name} is damaged; install opdviz again.")
    return data


def put(folder: Path, file: bytes, facts: dict | None, mask: bytes | None) -> None:
    """Write one run's folder, whole or not at all; beside a trajectory's steps that may be there
    already.
    """
    if (folder / WEIGHTS).is_file():
        return
    try:
        # a folder without its weights is whole once they are there
        with files.new_folder(folder, joining_by=WEIGHTS) as work:
            (work / WEIGHTS).write_bytes(file)
            for name in BESIDE:
                if (HERE / name).is_file():
                    shutil.copyfile(HERE / name, work / name)
            if mask:
                (work / MASK).write_bytes(mask)
            if facts:
                (work / RUN).write_text(json.dumps(facts, indent=1))
    except OSError as error:
        raise MachineError(
            f"lab: cannot write {one_line(folder.name)} ({error.strerror}); make room in the cache"
            " and try again."
        ) from None
