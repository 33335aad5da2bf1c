"""The measures: families of statistics of one pair. Each has NAME, VERSION, NEEDS, TABLES and
rows(pair, work).

`TABLES` gives the columns of its tables with their types; a new `VERSION` computes them again.
`NEEDS` says of which pairs it can speak: "anything", "floats" (tensors with elements) or a "finite
matrix" (two axes, every value finite).

The first pass needs no decomposition and runs at the speed of reading; the second shares one
decomposition a matrix.
"""

from types import ModuleType

import numpy as np
from numpy.linalg import LinAlgError

from opdviz.checkpoint.formats import FORMATS
from opdviz.errors import one_line
from opdviz.linalg import Decomposition
from opdviz.measures import (
    channels,
    concentration,
    coordinates,
    coverage,
    geometry,
    identity,
    intruders,
    magnitude,
    octaves,
    signs,
    sparsity,
    spectrum,
    turned,
)
from opdviz.measures.skipping import skipped
from opdviz.pairing import Pair

FIRST_PASS: tuple[ModuleType, ...] = (
    magnitude,
    sparsity,
    identity,
    concentration,
    coordinates,
    channels,
    signs,
    octaves,
)
SECOND_PASS: tuple[ModuleType, ...] = (spectrum, geometry, coverage, turned, intruders)
LARGEST = 1e150
MEASURES = (*FIRST_PASS, *SECOND_PASS)


def measure_id(module: ModuleType) -> str:
    """A measure with its version, as the manifest names it."""
    return f"{module.NAME}@{module.VERSION}"


def measure(pair: Pair, work: Decomposition, module: ModuleType) -> dict[str, list[dict]]:
    """One measure's rows of one pair, or the reason why it has none."""
    reason = refusal(pair, work, module)
    if reason is None:
        try:
            # sums beyond float64 become missing values, and are left out
            with np.errstate(over="ignore", invalid="ignore"):
                return module.rows(pair, work)
        except MemoryError:  # of the machine, not of the tensor
            raise
        except ArithmeticError:
            reason = "values too large or too small to square in float64"
        except LinAlgError:
            reason = "the decomposition did not converge"
        # Whatever one tensor does must not end a run of thousands, and is said.
        except Exception as error:
            reason = f"not computed ({type(error).__name__}: {one_line(error, limit=120)})"
    return {"skipped": [skipped(pair, module.NAME, reason)]}


def refusal(pair: Pair, work: Decomposition, module: ModuleType) -> str | None:
    """Why a measure does not apply to a pair; `None` where it does."""
    if module.NEEDS == "anything":
        return None
    if "integer" in (FORMATS[pair.base_dtype].kind, FORMATS[pair.tuned_dtype].kind):
        return "integers are compared for equality only"
    if not pair.numel:
        return "no elements"
    if module.NEEDS == "finite matrix":
        if work.sketched and module is not spectrum:
            return f"precision fast: of {work.r:,} directions only leading singular values"
        if not pair.is_matrix:
            return "not a matrix"
        if work.nonfinite:
            return f"{work.nonfinite:,} coordinates are NaN or infinite"
        if (
            work.base.dtype == np.float64
            and max(np.abs(work.base).max(), np.abs(work.tuned).max()) > LARGEST
        ):
            return f"values beyond {LARGEST:.0e}: their squares do not fit float64"
    return None
