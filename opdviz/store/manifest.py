"""What a comparison's manifest must be for commands and pages to rely on it; one that is not is damaged."""

import re
from collections.abc import Callable

HALF = re.compile("[\ud800-\udfff]")
FORMAT = 2  # of what is stored: tables of an earlier one are computed again, names and boards stay
ID = re.compile(r"[a-z0-9_]+@[0-9]+")
TABLE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\.parquet")  # nothing that leads out of the folder of tables


def text(value: object) -> bool:
    """Whether this is text that can be shown: without halves of characters."""
    return isinstance(value, str) and not HALF.search(value)


def count(value: object) -> bool:
    """Whether this counts something."""
    return type(value) is int and value >= 0


def texts(value: object) -> bool:
    """Whether this is a list of texts."""
    return isinstance(value, list) and all(map(text, value))


def side(value: object) -> bool:
    """Whether these are the facts of a checkpoint; its path may be no UTF-8."""
    if not (isinstance(value, dict) and isinstance(value.get("path"), str) and text(value.get("label"))):
        return False
    return "\0" not in value["path"] and texts(value.get("fingerprints", []))


def measure_ids(value: object) -> bool:
    """Whether this is a list of measures with their versions, none of them twice."""
    return texts(value) and all(map(ID.fullmatch, value)) and len(set(value)) == len(value)


def digests(value: object) -> bool:
    """Whether this says the digest of each stored table."""
    return isinstance(value, dict) and all(TABLE.fullmatch(name) and text(d) for name, d in value.items())


def bundles(value: object) -> bool:
    """Whether this says how many pairs each numbered bundle of a measure has."""
    return isinstance(value, dict) and all(
        ID.fullmatch(id_) and isinstance(counts, dict) and all(n.isdecimal() and count(c) for n, c in counts.items())
        for id_, counts in value.items()
    )


def head_counts(value: object) -> bool:
    """Whether this says how attention is split."""
    return isinstance(value, dict) and all(count(n) for n in value.values())


FIELDS: dict[str, Callable[[object], bool]] = {
    "name": text, "pairs": count, "parameters": count, "measures": count, "compacted": measure_ids, "tables": digests,
    "dtypes": texts, "base": side, "tuned": side,
}  # fmt: skip
OPTIONAL: dict[str, Callable[[object], bool]] = {
    "bundled": bundles, "heads": head_counts, "notes": texts, "failure": text, "format": count,
}  # fmt: skip


def sound(manifest: object, key: str) -> bool:
    """Whether a manifest has everything that commands and pages rely on, and is this comparison's own."""
    if not isinstance(manifest, dict) or not all(fits(manifest.get(k)) for k, fits in FIELDS.items()):
        return False
    if not all(fits(manifest[k]) for k, fits in OPTIONAL.items() if k in manifest):
        return False
    # a folder of an earlier version was taken over under another key
    return outdated(manifest) or manifest.get("key", key) == key


def outdated(manifest: dict) -> bool:
    """Whether a comparison was measured by an earlier version, whose tables mean other things."""
    return bool(manifest) and manifest.get("format") != FORMAT
