"""The checkpoints of a comparison: whether they are still what was compared, and opened again where
they are.
"""

from opdviz import checkpoint, fingerprint, pairing
from opdviz.errors import RequestError, one_line
from opdviz.pairing import Matching
from opdviz.store.store import Stored


def changes(comparison: Stored, *, fresh: bool = False) -> list[str]:
    """What is no longer as it was compared, a sentence a side: the files in their order have to be
    the same ones.

    `fresh` reads every file again; otherwise a file of the same size and time is the one that it
    was.
    """
    memory = fingerprint.Memory(comparison.folder.parents[1] / "fingerprints.json")
    take = fingerprint.afresh if fresh else memory.fingerprint
    sentences = []
    for side, compared in (
        ("base", comparison.manifest.base),
        ("tuned", comparison.manifest.tuned),
    ):
        path = compared.path
        try:
            prints = tuple(take(file) for file in checkpoint.open(path).files)
        except RequestError as error:
            sentences.append(
                f"the {side} checkpoint is not on this machine any more, or cannot be opened:"
                f" {error}"
            )
        except OSError as error:
            sentences.append(
                f"the {side} checkpoint cannot be read ({one_line(path)}: {error.strerror})"
            )
        else:
            if prints != compared.fingerprints:
                sentences.append(
                    f"the {side} checkpoint changed: it is no longer what was compared"
                    f" ({one_line(path)})"
                )
    return sentences


def reopen(comparison: Stored, purpose: str) -> Matching:
    """The checkpoints of a comparison, matched, if they are still what was compared; `purpose`
    begins the refusal.

    Raises
        RequestError: they are gone or others by now.
    """
    for sentence in changes(comparison):
        raise RequestError(f"{purpose}: {sentence}; compare the pair again.")
    sides = (comparison.manifest.base, comparison.manifest.tuned)
    return pairing.match(*(checkpoint.open(side.path) for side in sides), look=True)
