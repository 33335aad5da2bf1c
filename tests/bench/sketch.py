"""`--precision fast` beside the exact way, on one bf16 matrix of a large model: seconds of one
thread, and how far the leading values are from the exact ones beside the bound that is said.

python -m tests.bench.sketch [M N]
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from opdviz.definitions import FAST
from opdviz.engine.measuring import work_on
from opdviz.linalg.sketch import K
from opdviz.measures import MEASURES, sides
from tests.bench.engine import drawn, pairs_of, seconds


def main(m: int = 4096, n: int = 4096) -> None:
    """Print one JSON object."""
    fast, names = sides.How(precision=FAST), [module.NAME for module in MEASURES]
    with tempfile.TemporaryDirectory() as folder:
        (pair,) = pairs_of(drawn(Path(folder), {"model.layers.0.mlp.up_proj.weight": (m, n)}))
        taken = {
            name: round(seconds(partial(work_on, pair, names, how)), 2)
            for name, how in (("fast", fast), ("exact", sides.EXACTLY))
        }
        exact, sketched = sides.work_of(pair).spectra, sides.work_of(pair, fast)
        apart = {
            matrix: {
                "largest relative difference": float(f"{max(abs(s / exact[matrix][:K] - 1)):.1e}"),
                "bound over the largest value": float(f"{sketched.bounds[matrix] / s[0]:.1e}"),
            }
            for matrix, s in sketched.spectra.items()
        }
    ratio = round(taken["exact"] / taken["fast"], 1)
    print(json.dumps({"shape": [m, n], "seconds": taken, "exact / fast": ratio, "values": apart}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
