"""Speed and memory of the engine, as ratios in one run.

python -m tests.bench.engine                      the pair of the demonstration, and 40 million
                                                  parameters in bf16, shaped like Qwen3-0.6B
python -m tests.bench.engine --against COMMIT     beside another commit of this repository
python -m tests.bench.engine --embedding          an embedding of 151,936 x 1,024 too: its memory
python -m tests.bench.engine --cluster            two workers of a Dask scheduler too
python -m tests.bench.engine --family             four runs on one base: as one job, and apart

Beside ours stand what no method can do without (reading both files; the products and the
eigenvalues by LAPACK alone) and the tests' oracle: the same definitions by dense SVDs and
whole-array passes, on one pair of matrices. All of one thread; ours with one worker and with two.
Whole commands are timed, the start of the interpreter included, in turns; medians of three.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from scipy import linalg  # noqa: E402
from scipy.linalg import blas  # noqa: E402

from opdviz import checkpoint, demo, pairing  # noqa: E402
from opdviz.engine.measuring import work_on  # noqa: E402
from opdviz.linalg import rank_of_share  # noqa: E402
from opdviz.measures import FIRST_PASS, MEASURES, SECOND_PASS, measure  # noqa: E402
from opdviz.measures.sides import work_of  # noqa: E402
from opdviz.pairing import Pair  # noqa: E402
from tests import oracle  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 3
MASKS = [(0.01, None), (0.05, None), (0.1, None), (0.2, None), (0.3, 64), (0.5, 64)]
PROBES = (("absolute", 0.0), ("absolute", 1e-5), ("relative", 1e-3))
# What the measures of the second pass share, in the order in which one needs another.
SHARED = ("products", "base_spectrum", "tuned_spectrum", "delta_spectrum", "long_side")
HIDDEN, LAYERS, TOKENS = 1024, 2, 8000
SHAPES = {
    "self_attn.q_proj": (2048, HIDDEN),
    "self_attn.k_proj": (1024, HIDDEN),
    "self_attn.v_proj": (1024, HIDDEN),
    "self_attn.o_proj": (HIDDEN, 2048),
    "mlp.gate_proj": (3072, HIDDEN),
    "mlp.up_proj": (3072, HIDDEN),
    "mlp.down_proj": (HIDDEN, 3072),
}
Sides = tuple[str, ...]  # the base, and what training made of it


def forty_million(folder: Path) -> Sides:
    """A bf16 pair of two layers and a small vocabulary."""
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN)} | {
        f"model.layers.{layer}.{module}.weight": shape
        for layer in range(LAYERS)
        for module, shape in SHAPES.items()
    }
    return drawn(folder / "forty", shapes)


def embedding(folder: Path) -> Sides:
    """A bf16 pair of one large embedding."""
    return drawn(folder / "embedding", {"model.embed_tokens.weight": (151_936, HIDDEN)})


def drawn(folder: Path, shapes: dict[str, tuple[int, int]]) -> Sides:
    """A Gaussian base, and an update of a thousandth of its norm: four directions and noise."""
    torch.manual_seed(0)
    sides: dict[str, dict] = {"base": {}, "tuned": {}}
    for name, (m, n) in shapes.items():
        base = (0.03 * torch.randn(m, n)).bfloat16()
        delta = torch.randn(m, n) + 30 * torch.randn(m, 4) @ torch.randn(4, n)
        delta *= 1e-3 * base.float().norm() / delta.norm()
        sides["base"][name], sides["tuned"][name] = base, (base.float() + delta).bfloat16()
    for side, tensors in sides.items():
        (folder / side).mkdir(parents=True)
        save_file(tensors, folder / side / "model.safetensors")
    return str(folder / "base"), str(folder / "tuned")


def pairs_of(sides: Sides) -> list[Pair]:
    """The matched pairs of two checkpoints."""
    return pairing.match(*(checkpoint.open(side) for side in sides)).pairs


def plain(pair: Pair) -> None:
    """The oracle on one pair: coordinates, spectra and geometry, masks with two sampled nulls."""
    w, t = pair.base, pair.tuned
    views = [(w, t, pair.base_dtype)]
    if len(pair.precisions) > 1:
        views.append((oracle.rounded(w, "bfloat16"), oracle.rounded(t, "bfloat16"), "bfloat16"))
    with np.errstate(all="ignore"):
        for a, b, _ in views:
            oracle.coordinates(a, b)
    oracle.spectra(w, t)
    for a, b, grid in views:
        plain_masks(w, a, b, grid)


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


def bare(pairs: list[Pair]) -> None:
    """The three products and the three sets of eigenvalues that every method needs, and no more."""
    for pair in pairs:
        if not pair.is_matrix:
            continue
        w, t = (np.array(side, dtype=np.float64, order="F") for side in (pair.base, pair.tuned))
        w, t = (w, t) if w.shape[0] >= w.shape[1] else (w.T.copy("F"), t.T.copy("F"))
        t -= w
        aa, dd = (blas.dsyrk(1.0, x, trans=True) for x in (w, t))
        ad = blas.dgemm(1.0, w, t, trans_a=True)
        both = aa + dd + np.triu(ad + ad.T)
        for gram in (aa, dd, both):
            linalg.eigh(gram, lower=False, eigvals_only=True, check_finite=False)


def read(pairs: list[Pair]) -> None:
    """Read both sides of every pair."""
    for pair in pairs:
        assert pair.base.shape == pair.tuned.shape


def compare(sides: Sides, *options: str, root: Path = ROOT) -> float:
    """Seconds of `opdviz compare` on a fresh cache, start of the interpreter included."""
    with tempfile.TemporaryDirectory() as cache:
        return seconds(started(sides, cache, *options, root=root).wait)


def peak(sides: Sides, *options: str, root: Path = ROOT) -> int:
    """Peak megabytes of its processes, shared pages counted once; looking slows them down."""
    with tempfile.TemporaryDirectory() as cache:
        process = started(sides, cache, *options, root=root)
        largest, top = 0.0, psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = [top, *top.children(recursive=True)]
                largest = max(largest, sum(p.memory_full_info().pss for p in family))
            time.sleep(0.05)
    return round(largest / 1e6)


def started(sides: Sides, cache: str, *options: str, root: Path) -> subprocess.Popen:
    """The process that compares two checkpoints into a cache."""
    command = [sys.executable, "-m", "opdviz", "compare", *sides, "--cache", cache, "--json"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, cwd=root, env=environment
    )


def seconds(work: Callable[[], object]) -> float:
    """Seconds of a call in this process."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Medians of the seconds of some ways, one after the other in each round."""
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: round(median(turn[name] for turn in rounds), 2) for name in ways}


def bench(sides: Sides, other: Path | None) -> dict:
    """What the engine takes on one pair of checkpoints, beside everything else."""
    pairs = pairs_of(sides)
    one, two = ("--workers", "1"), ("--workers", "2")
    ways = {
        "two workers": lambda: compare(sides, *two),
        "one worker": lambda: compare(sides, *one),
        "first pass, two workers": lambda: compare(sides, *two, "--first-pass"),
        "reading": lambda: seconds(lambda: read(pairs)),
        "bare LAPACK": lambda: seconds(lambda: bare(pairs)),
    }
    if other:
        ways["other commit, two workers"] = lambda: compare(sides, *two, root=other)
        ways["other commit, one worker"] = lambda: compare(sides, *one, root=other)
    taken = in_turns(ways)
    ratios = {
        f"{slow} / {fast}": round(taken[slow] / taken[fast], 2)
        for slow, fast in (
            ("one worker", "two workers"),
            ("one worker", "bare LAPACK"),
            ("first pass, two workers", "reading"),
            ("other commit, two workers", "two workers"),
            ("other commit, one worker", "one worker"),
        )
        if slow in taken
    }
    memory = {"two workers": peak(sides, *two), "one worker": peak(sides, *one)}
    if other:
        memory["other commit, two workers"] = peak(sides, *two, root=other)
    return {"seconds": taken, "ratios": ratios, "peak megabytes": memory}


def by_step(pairs: list[Pair]) -> dict[str, float]:
    """Seconds of all pairs in this process, by what is worked out once and by measure."""
    spent: dict[str, float] = defaultdict(float)
    for pair in pairs:
        work = work_of(pair)
        steps = {module.NAME: partial(measure, pair, work, module) for module in FIRST_PASS}
        if pair.is_matrix:
            steps |= {name: partial(getattr, work, name) for name in SHARED}
        steps |= {module.NAME: partial(measure, pair, work, module) for module in SECOND_PASS}
        for name, step in steps.items():
            spent[name] += seconds(step)
    return {name: round(value, 2) for name, value in spent.items()}


def by_pair(pair: Pair) -> dict:
    """One pair of matrices in this process: the oracle beside ours, and a coordinate's share."""
    names = [module.NAME for module in FIRST_PASS]
    work_on(pair, names)  # tables of formats and their ramps are made once
    first = median(seconds(lambda: work_on(pair, names)) for _ in range(ROUNDS))
    every = [module.NAME for module in MEASURES]
    ours = median(seconds(lambda: work_on(pair, every)) for _ in range(ROUNDS))
    return {
        "shape": list(pair.shape),
        "nanoseconds a coordinate, first pass": round(1e9 * first / pair.numel, 1),
        "plain / ours": round(seconds(lambda: plain(pair)) / ours, 1),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--family", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, other = Path(name), None
        forty = forty_million(folder)
        if options.against:
            other = folder / "other"
            command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(other)]
            subprocess.run([*command, options.against], check=True, capture_output=True)
        try:
            figures = {
                "demo": bench(demo.pair(), other),
                "40 M, bf16": bench(forty, other),
                "40 M, seconds by step": by_step(pairs_of(forty)),
                "one matrix, bf16": by_pair(matrix(forty, "mlp.up_proj")),
                "one matrix, float32": by_pair(matrix(demo.pair(), "intermediate.dense")),
            }
        finally:
            if other:
                command = ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(other)]
                subprocess.run(command, check=True)
        if options.cluster:
            figures["cluster / two workers, 40 M"] = cluster_ratio(forty)
        if options.family:
            figures["four runs on one base, 40 M"] = family_ratios(forty, folder)
        if options.embedding:
            large = embedding(folder)
            figures["embedding, one worker"] = {
                "seconds": round(compare(large, "--workers", "1"), 1),
                "peak megabytes": peak(large, "--workers", "1"),
            }
    print(json.dumps(figures, indent=1))


def cluster_ratio(sides: Sides) -> float:
    """Two Dask workers over two processes, in turns; the cluster stands already."""
    from distributed import LocalCluster

    where = {"host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, **where) as local:
        address = local.scheduler_address
        taken = in_turns(
            {
                "cluster": lambda: compare(sides, "--cluster", address),
                "pool": lambda: compare(sides, "--workers", "2"),
            }
        )
    return round(taken["cluster"] / taken["pool"], 2)


def family_ratios(sides: Sides, folder: Path) -> dict:
    """Four runs on one base by one command, over one run and over four commands, in turns."""
    base, *runs = four_runs(sides, folder)
    taken = in_turns(
        {
            "one run": lambda: compare((base, runs[0])),
            "four runs": lambda: compare((base, *runs)),
            "four commands": lambda: sum(compare((base, run)) for run in runs),
        }
    )
    return {
        "seconds": taken,
        "four runs / one run": round(taken["four runs"] / taken["one run"], 2),
        "four commands / four runs": round(taken["four commands"] / taken["four runs"], 2),
        "peak megabytes, four runs": peak((base, *runs)),
    }


def four_runs(sides: Sides, folder: Path) -> Sides:
    """A base and four runs on it: the one that is there, and its update moved along by rows."""
    base, tuned = (load_file(f"{side}/model.safetensors") for side in sides)
    runs = [sides[1]]
    for number in range(1, 4):
        moved = {
            name: (w.float() + (tuned[name].float() - w.float()).roll(number, 0)).bfloat16()
            for name, w in base.items()
        }
        run = folder / f"run {number}"
        run.mkdir()
        save_file(moved, run / "model.safetensors")
        runs.append(str(run))
    return sides[0], *runs


def matrix(sides: Sides, module: str) -> Pair:
    """The first matrix of a module."""
    return next(p for p in pairs_of(sides) if module in p.name and p.is_matrix)


if __name__ == "__main__":
    main()
