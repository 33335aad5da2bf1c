"""Pages are drawn one at a time; a page that waits for a disk or another process gives its turn to
the others.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

TURN = threading.RLock()


@contextmanager
def turn() -> Iterator[None]:
    """Pages are drawn one at a time.

    Together they take as long, and the loop that answers everybody has each of them to wait for.
    """
    with TURN:
        yield


@contextmanager
def stepped_out() -> Iterator[None]:
    """Others may draw meanwhile: for what looks at the checkpoints' disks, which may be slow, or
    waits for another process.

    Never inside a function that Streamlit caches: it holds a lock of its own, and whoever draws
    meanwhile may wait for that.
    """
    has_it = gave_up()
    try:
        yield
    finally:
        if has_it:
            TURN.acquire()


def gave_up() -> bool:
    """Give the turn up and give True; in a callback or a fragment, which are drawn without one,
    there is none to give up.
    """
    try:
        TURN.release()
    except RuntimeError:
        return False
    return True
