"""How long this machine takes beside an estimate, measured before it has run anything: both sides
of one small matrix, compared by as many workers as are asked for.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from opdviz import checkpoint, files, pairing
from opdviz.engine import workers
from opdviz.engine.estimate import cost
from opdviz.engine.measuring import work_on
from opdviz.engine.pace import path_of
from opdviz.measures import MEASURES

SHAPE = (1536, 512)  # about a fifth of a second of work
NAME = "model.layers.0.mlp.up_proj.weight"
MOST = 4  # workers at once: more would take longer to start than to measure


def probe(root: Path, count: int) -> None:
    """Measure this machine's pace, about two seconds, and have a store remember it.

    Raises
        MachineError: it cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        pair, names = written(Path(folder)), [module.NAME for module in MEASURES]
        count = min(count, MOST)
        with workers.pool(count) as executor:
            # Twice each: the first makes the tables of a format, as every run does once.
            for _ in range(2):
                started = time.perf_counter()
                ended = [executor.submit(work_on, pair, names) for _ in range(2 * count)]
                for future in ended:
                    future.result()
            seconds = (time.perf_counter() - started) / 2
    files.write(path_of(root), json.dumps([round(seconds / cost(pair, MEASURES), 3)]).encode())


def written(folder: Path) -> pairing.Pair:
    """A matched pair of one matrix in float32."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(SHAPE, dtype=np.float32)
    sides = {"base": base, "tuned": base + 1e-3 * rng.standard_normal(SHAPE, dtype=np.float32)}
    for side, values in sides.items():
        (folder / side).mkdir()
        save_file({NAME: values}, folder / side / "model.safetensors")
    return pairing.match(*(checkpoint.open(folder / side) for side in sides)).pairs[0]
