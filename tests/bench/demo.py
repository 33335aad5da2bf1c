"""Speed and memory on the demonstration pair, as ratios in one run: `python -m tests.bench.demo`.

The other side is the tests' oracle: the same definitions by dense SVDs and whole-array passes, in
one process of one thread. Ours runs with one worker for the ratio of arithmetic, and with two as
users run it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import psutil  # noqa: E402

from opdviz import checkpoint, demo, pairing  # noqa: E402
from opdviz.linalg import rank_of_share  # noqa: E402
from tests import oracle  # noqa: E402

MASKS = [(0.01, None), (0.05, None), (0.1, None), (0.2, None), (0.3, 64), (0.5, 64)]
PROBES = (("absolute", 0.0), ("absolute", 1e-5), ("relative", 1e-3))


def plain() -> float:
    """Seconds of the oracle over every pair: coordinates twice, spectra and geometry, masks with
    two sampled nulls.
    """
    start = time.perf_counter()
    for pair in pairing.match(*(checkpoint.open(side) for side in demo.pair())).pairs:
        w, t = pair.base, pair.tuned
        views = [
            (w, t, "float32"),
            (oracle.rounded(w, "bfloat16"), oracle.rounded(t, "bfloat16"), "bfloat16"),
        ]
        with np.errstate(all="ignore"):
            for a, b, _ in views:
                oracle.coordinates(a, b)
        if pair.is_matrix and np.any(w != t):
            oracle.spectra(w, t)
            for a, b, grid in views:
                plain_masks(w, a, b, grid)
    return time.perf_counter() - start


def plain_masks(w: np.ndarray, a: np.ndarray, b: np.ndarray, grid: str) -> None:
    """Coverage of every mask by every probe, and the same for one draw of each null."""
    d = b.astype(np.float64) - a
    sides = [b, oracle.permuted(a, d, grid, 0), oracle.gaussian(a, float(np.std(d)), grid, 0)]
    # One SVD for all masks: the oracle is plain, not silly.
    u, s, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    for share, rank in MASKS:
        rank = min(rank or rank_of_share(share, min(w.shape)), min(w.shape))
        principal = oracle.mask_weights(np.abs((u[:, :rank] * s[:rank]) @ vt[:rank]), share)
        low = oracle.mask_weights(-np.abs(a.astype(np.float64)), share)
        for probe in PROBES:
            for side in sides:
                seen = oracle.visible(a, side, *probe)
                for weight in (principal, low, principal * (1 - low), 1 - principal * (1 - low)):
                    weight[seen].sum()


def ours(workers: int) -> tuple[float, float]:
    """Seconds of `opdviz compare` on a fresh cache, start of the interpreter included, and peak
    bytes of its processes.
    """
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable,
            "-m",
            "opdviz",
            "compare",
            *demo.pair(),
            "--cache",
            cache,
            "--workers",
            str(workers),
            "--json",
        ]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peak, ended = [0.0], threading.Event()
        watcher = threading.Thread(target=watch, args=(process.pid, peak, ended))
        watcher.start()
        assert process.wait() == 0
        taken = time.perf_counter() - start
        ended.set()
        watcher.join()
    return taken, peak[0]


def watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    """Keep the largest sum of proportional set sizes over a process and all below it: shared pages
    count once.
    """
    while not ended.is_set():
        try:
            top = psutil.Process(pid)
            processes = [top, *top.children(recursive=True)]
            peak[0] = max(peak[0], sum(p.memory_full_info().pss for p in processes))
        except psutil.Error:
            pass
        time.sleep(0.02)


def main() -> None:
    """Print one JSON object: seconds, ratios, peak memory."""
    one, two = sorted(ours(1) for _ in range(3))[1], sorted(ours(2) for _ in range(3))[1]
    slow = plain()
    found = {
        "plain_seconds": round(slow, 1),
        "one_worker_seconds": round(one[0], 1),
        "two_workers_seconds": round(two[0], 1),
        "ratio_one_worker": round(slow / one[0], 1),
        "ratio_two_workers": round(slow / two[0], 1),
        "peak_megabytes_two_workers": round(two[1] / 1e6),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
