"""What a first start costs: unpacking the lab's checkpoints, and comparing `opd` with its base by
the app's own job.

python -m tests.bench.first_start
"""

import tempfile
import time
from pathlib import Path

from opdviz import jobs
from opdviz.lab import shipped
from opdviz.store.store import Store
from opdviz.tables import protocols

REPEATS = 3


def once(cache: Path) -> tuple[float, float]:
    """Seconds to unpack, and seconds until the comparison is done."""
    started = time.monotonic()
    shipped.expand(cache / "lab")
    unpacked = time.monotonic()
    job = jobs.start(
        Store(cache), *(str(cache / "lab" / name) for name in shipped.FIRST), name=["lab opd"]
    )
    while jobs.load(job.folder).state == "running":
        time.sleep(0.02)
    assert jobs.load(job.folder).state == "done"
    assert protocols.headline(Store(cache).open(Store(cache).resolve("lab opd")))
    return unpacked - started, time.monotonic() - unpacked


def main() -> None:
    """Print the medians."""
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            times.append(once(Path(folder)))
    unpack, compare = (sorted(column)[REPEATS // 2] for column in zip(*times))
    plain = sum(len((shipped.HERE / entry["file"]).read_bytes()) for entry in shipped.index())
    print(f"{len(shipped.index())} checkpoints of {plain / 1e6:.1f} MB unpacked in {unpack:.1f} s")
    print(
        f"the first comparison done after {compare:.1f} s more; {unpack + compare:.1f} s in all, of"
        " 60 allowed"
    )


if __name__ == "__main__":
    main()
