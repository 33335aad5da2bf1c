"""The checkpoints of a comparison: whether they are still what was compared, and opened again where they are."""

from opdviz import checkpoint, fingerprint, pairing
from opdviz.errors import RequestError, one_line
from opdviz.pairing import Matching
from opdviz.store.store import Store

SIDES = ("base", "tuned")


def changes(store: Store, key: str, *, fresh: bool = False) -> list[str]:
    """What is no longer as it was compared, a sentence a side: the files in their order have to be the same ones.

    `fresh` reads every file again; otherwise a file of the same size and time is the one that it was.

    Raises
        CheckFailed: the manifest is damaged.
    """
    manifest, memory = store.sound_manifest(key), fingerprint.Memory(store.root / "fingerprints.json")
    take = fingerprint.afresh if fresh else memory.fingerprint
    sentences = []
    for side in SIDES:
        path = manifest[side]["path"]
        try:
            prints = [take(file) for file in checkpoint.open(path).files]
        except RequestError as error:
            sentences.append(f"the {side} checkpoint is not on this machine any more, or cannot be opened: {error}")
        except OSError as error:
            sentences.append(f"the {side} checkpoint cannot be read ({one_line(path)}: {error.strerror})")
        else:
            if prints != manifest[side].get("fingerprints"):
                sentences.append(f"the {side} checkpoint changed: it is no longer what was compared ({one_line(path)})")
    return sentences


def reopen(store: Store, key: str, purpose: str) -> Matching:
    """The checkpoints of a comparison, matched, if they are still what was compared; `purpose` begins the refusal.

    Raises
        RequestError: they are gone or others by now.
        CheckFailed: the manifest is damaged.
    """
    for sentence in changes(store, key):
        raise RequestError(f"{purpose}: {sentence}; compare the pair again.")
    manifest = store.manifest(key)
    return pairing.match(*(checkpoint.open(manifest[side]["path"]) for side in SIDES), look=True)
