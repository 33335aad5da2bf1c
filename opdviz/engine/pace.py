"""How long this machine takes for work beside what its estimate says: remembered in the store by
every run, and asked before the next.
"""

import json
from pathlib import Path
from statistics import median

from opdviz import files

KEPT = 9  # of the latest runs; their median is the pace
LEAST_WORK = 2.0  # estimated seconds: below, starting the workers is most of a run
# Times slower or faster than the estimate: beyond, the clock was set or the machine slept.
SLOWEST = 100.0


def path_of(root: Path) -> Path:
    """Where a store remembers it."""
    return root / "pace.json"


def remembered(root: Path) -> list[float]:
    """Seconds a second of estimated work took, one a run, the latest last; a file that is damaged
    says nothing.
    """
    written = files.json_value(path_of(root))
    numbers = written if isinstance(written, list) else []
    return [n for n in numbers if type(n) is float and 1 / SLOWEST <= n <= SLOWEST][-KEPT:]


def pace(root: Path) -> float:
    """What an estimate is multiplied with on this machine; 1 before any run."""
    runs = remembered(root)
    return median(runs) if runs else 1.0


def learn(root: Path, *, work: float, seconds: float) -> None:
    """Remember that so many seconds of estimated work took so many seconds.

    Raises
        MachineError: it cannot be written.
    """
    if work < LEAST_WORK or not 1 / SLOWEST <= seconds / work <= SLOWEST:
        return
    runs = [*remembered(root), round(seconds / work, 3)][-KEPT:]
    files.write(path_of(root), json.dumps(runs).encode())
