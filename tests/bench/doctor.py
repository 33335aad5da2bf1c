"""How long the doctor takes: on a store of 40,000 tensors, and from two checkpoints beside reading
their bytes: `python -m tests.bench.doctor`.

Reading is what `fingerprint.of_file` does, which any comparison begins with; the files are in the
memory of the system either way.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from opdviz import fingerprint
from tests.bench.engine import drawn
from tests.bench.stores import build

TURNS = 3
STORE = 40_000
# 160 million parameters, 320 MB a side.
SHAPES = {
    f"model.layers.{layer}.mlp.{module}.weight": (3072, 2048)
    for layer in range(13)
    for module in ("up_proj", "gate_proj")
}


def doctor(*arguments: str) -> float:
    """Seconds of the command, whatever it finds."""
    command = [sys.executable, "-m", "opdviz", "doctor", *arguments, "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return time.perf_counter() - started


def read(*folders: Path) -> float:
    """Seconds to read every weight of some folders once."""
    started = time.perf_counter()
    for folder in folders:
        fingerprint.of_file(folder / "model.safetensors")
    return time.perf_counter() - started


def main() -> None:
    """Both, medians of a few turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = build(folder / "store", STORE)
        taken = [doctor(key, "--cache", str(folder / "store")) for _ in range(TURNS)]
        print(f"a store of {STORE:,} tensors: {statistics.median(taken):.2f} s")
        small = drawn(folder / "small", dict.fromkeys(SHAPES, (64, 64)))
        caches = [str(folder / f"small{turn}") for turn in range(TURNS)]
        taken = [doctor(*small, "--cache", cache) for cache in caches]
        print(f"as many matrices of 64 x 64: {statistics.median(taken):.2f} s")
        base, tuned = map(Path, drawn(folder / "pair", SHAPES))
        size = sum((side / "model.safetensors").stat().st_size for side in (base, tuned))
        caches = [str(folder / f"cache{turn}") for turn in range(TURNS)]
        taken = [doctor(str(base), str(tuned), "--cache", cache) for cache in caches]
        reading = statistics.median(read(base, tuned) for _ in range(TURNS))
        whole = statistics.median(taken)
        print(
            f"two checkpoints of {size / 1e6:,.0f} MB: {whole:.2f} s, reading them {reading:.3f} s,"
            f" {size / whole / 1e6:,.0f} MB a second"
        )


if __name__ == "__main__":
    main()
