"""A device beside one core of the CPU: seconds of all measures of one matrix, the largest relative
difference a column, and peak memory there.

python -m tests.bench.device cuda [--largest 4096]
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from opdviz.engine.measuring import finite
from opdviz.linalg.accelerator import Accelerated, Device, device
from opdviz.measures import MEASURES, measure, sides
from opdviz.pairing import Pair
from tests.bench.changes import KEYS, changes
from tests.bench.engine import drawn, pairs_of, seconds

# Up to a matrix of Qwen3-32B, and the embedding of a large vocabulary.
SHAPES = {
    "model.layers.0.self_attn.q_proj.weight": (2048, 1024),
    "model.layers.0.mlp.up_proj.weight": (3072, 1024),
    "model.layers.1.mlp.up_proj.weight": (4096, 4096),
    "model.layers.2.mlp.up_proj.weight": (14336, 4096),
    "model.embed_tokens.weight": (151936, 1024),
}


def tables(pair: Pair) -> dict[str, pd.DataFrame]:
    """Every table of one pair."""
    work, rows = sides.work_of(pair), {}
    for module in MEASURES:
        for table, part in finite(measure(pair, work, module)).items():
            rows.setdefault(table, []).extend(part)
    return {table: pd.DataFrame(part) for table, part in rows.items() if part}


def timed(pair: Pair) -> tuple[float, dict[str, pd.DataFrame]]:
    """Seconds and tables of one pair, the second time: the first loads libraries and kernels."""
    tables(pair)
    measured = []
    return seconds(lambda: measured.append(tables(pair))), measured[0]


def differences(ours: dict[str, pd.DataFrame], theirs: dict[str, pd.DataFrame]) -> dict:
    """By column the largest relative difference, of those that are not the same."""
    return {
        f"{table}.{column}": float(f"{size:.1e}")
        for table, rows in theirs.items()
        for column, (size, _, _) in changes(
            rows, ours[table], ["name", *KEYS.get(table, [])]
        ).items()
        if column != "method"
    }


def beside_the_cpu(pair: Pair, there: Device) -> dict:
    """One matrix on both."""
    by_cpu, expected = timed(pair)
    on_cpu = sides.How.decomposition_of
    sides.How.decomposition_of = lambda how, pair: partial(Accelerated, device=there)
    try:
        if there.torch.type == "cuda":
            torch.cuda.reset_peak_memory_stats(there.torch)
        by_device, found = timed(pair)
    finally:
        sides.How.decomposition_of = on_cpu
    is_cuda = there.torch.type == "cuda"
    return {
        "shape": list(pair.shape),
        "cpu, one thread, s": round(by_cpu, 2),
        "device s": round(by_device, 2),
        "cpu / device": round(by_cpu / by_device, 1),
        "method": found["spectrum_summary"]["method"].iloc[0],
        "peak MB there": torch.cuda.max_memory_allocated(there.torch) // 10**6 if is_cuda else None,
        "largest relative difference": differences(found, expected),
    }


def main() -> None:
    """Print a line of JSON for each matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", help="cuda, or cpu: the same code without a GPU")
    parser.add_argument("--largest", type=int, default=4096, help="short side of the largest")
    options = parser.parse_args()
    there = Device("cpu") if options.device == "cpu" else device(options.device)
    torch.set_num_threads(1)
    if there.torch.type == "cuda":
        print(json.dumps({"gpu": torch.cuda.get_device_name(there.torch)}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shapes = {name: s for name, s in SHAPES.items() if min(s) <= options.largest}
        for pair in pairs_of(drawn(Path(folder), shapes)):
            print(json.dumps(beside_the_cpu(pair, there)), flush=True)


if __name__ == "__main__":
    main()
