"""Shared fixtures: the golden family, checkpoints written from arrays, and measures run without a
store.
"""

import gc
import os
import shutil
import signal
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from opdviz import checkpoint, pairing
from opdviz.engine import measuring, prepare, workers
from opdviz.engine.measuring import finite
from opdviz.lab import shipped
from opdviz.measures import MEASURES, measure
from opdviz.measures.sides import work_of
from opdviz.store.store import Store, Stored
from opdviz.tables import summaries
from opdviz.views.readers import reader_of  # noqa: F401  what views are drawn from in tests
from tests.commands import opdviz

# Under a shell that runs the tests in the background Ctrl-C is ignored, and what they start inherits
# it: tests of Ctrl-C would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What the tests start has one BLAS thread, pytest's own workers among it: two workers of two threads
# on two cores wait for each other.
os.environ.update(dict.fromkeys(workers.ONE_THREAD, "1"))
# Containers often forbid it: the hundreds of processes that the tests start would then compile every
# library anew, a second for pandas alone.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
GOLDEN = Path(__file__).parent / "golden"
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def write_checkpoint(folder: Path, tensors: dict[str, np.ndarray], dtype: str = "float32") -> Path:
    """A folder with `model.safetensors` of some arrays in a dtype."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: torch.tensor(np.asarray(x)).to(DTYPES[dtype]) for n, x in tensors.items()},
        folder / "model.safetensors",
    )
    return folder


def measured(base: Path, tuned: Path, measures=MEASURES) -> dict[str, pd.DataFrame]:
    """Every table of two checkpoints, computed in this process."""
    rows = defaultdict(list)
    for pair in pairing.match(checkpoint.open(base), checkpoint.open(tuned)).pairs:
        work = work_of(pair)
        for module in measures:
            for table, found in finite(measure(pair, work, module)).items():
                rows[table] += found
    pairing.opened.cache_clear()
    broken = [row for row in rows["skipped"] if row.get("reason", "").startswith("not computed (")]
    # What a measure raises costs a user's tensor its rows; here it is a defect.
    assert not broken, broken
    return {table: pd.DataFrame(found) for table, found in rows.items()}


def measured_arrays(
    folder: Path, base: np.ndarray, tuned: np.ndarray, dtype: str = "float32", measures=MEASURES
):
    """Every table of one matrix pair stored in a dtype; also the values as stored."""
    name = "model.layers.0.mlp.up_proj.weight"
    sides = [
        write_checkpoint(folder / side, {name: x}, dtype)
        for side, x in (("base", base), ("tuned", tuned))
    ]
    w, t = (checkpoint.open(side).read(name) for side in sides)
    return measured(*sides, measures), w, t


def compared_here(cache: Path, base: Path, tuned: Path, name: str | None = None) -> Stored:
    """A pair compared in this process and kept in a cache."""
    store = Store(cache)
    sides = (checkpoint.open(side) for side in (base, tuned))
    prepared = prepare.prepare(*sides, store, name, lambda progress: None)
    with ThreadPoolExecutor(1) as executor:
        comparison = measuring.compare(prepared, store, executor, listener=lambda progress: None)
    summaries.write_all(comparison)
    return comparison


@pytest.fixture(scope="session", params=["a", "b"])
def golden(request) -> tuple[str, dict[str, pd.DataFrame]]:
    """The golden family's update a or b, measured."""
    return request.param, measured(GOLDEN / "base", GOLDEN / f"tuned_{request.param}")


@pytest.fixture(scope="session")
def golden_store(tmp_path_factory) -> Store:
    """A cache with the golden update b, compared as a user would: to the bit what one thread gives.
    Nobody writes into it.
    """
    cache = tmp_path_factory.mktemp("golden")
    sides = (GOLDEN / "base", GOLDEN / "tuned_b")
    opdviz("compare", *sides, "--name", "golden", cache=cache).check_returncode()
    return Store(cache)


@pytest.fixture(scope="session")
def shipped_runs(tmp_path_factory) -> Path:
    """The lab's folder as it is shipped, expanded once. Nobody writes into it."""
    folder = tmp_path_factory.mktemp("shipped") / "lab"
    shipped.expand(folder)
    return folder


@pytest.fixture
def lab_folder(shipped_runs, tmp_path) -> Path:
    """A copy of it, below a test's own folder."""
    return shutil.copytree(shipped_runs, tmp_path / "lab")


def pytest_collection_finish(session) -> None:
    """What was collected stays to the end: the collector of cycles need not walk it over and over."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """Planted truth against what was claimed of it, as a table."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    rows = [
        value for report in reports for key, value in report.user_properties if key == "planted"
    ]
    if rows:
        columns = (
            "planted",
            "on large",
            "on small",
            "along base",
            "off base",
            "concentrated",
            "tail",
        )
        terminalreporter.section("planted truth against verdict")
        for row in (columns, *rows):
            terminalreporter.write_line("  ".join(f"{str(cell):<16}" for cell in row))
