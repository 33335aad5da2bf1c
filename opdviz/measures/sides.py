"""Both sides of a pair as they are compared: the base on the grid that the tuned is stored on.

A base stored finer than the tuned moves by storing alone, by 2^-9 / sqrt(3) = 0.17 % of a matrix
for bfloat16: several times what on-policy distillation does. So its values enter rounded to the
tuned's format, and an update is what is left. A wide file whose values all lie on the grid of a
16-bit format (an upcast) counts as that format.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from opdviz.checkpoint.formats import FORMATS, rounded
from opdviz.chunks import CHUNK, Remembering, on_grid
from opdviz.definitions import EXACT, FAST, SIXTEEN_BITS, WIDE
from opdviz.linalg import Decomposition, sketch
from opdviz.linalg.factored import Factored
from opdviz.pairing import Pair

# Different values below which all may lie on a coarse grid by accident: zeros and ones of a norm.
TELLING = 16


class Base:
    """A base tensor of several pairs: its values, and what is worked out of them alone."""

    def __init__(self):
        self.values: np.ndarray | None = None
        # By the format that they are rounded to before they are compared.
        self.worked_out: dict[str | None, Remembering] = defaultdict(Remembering)

    def of(self, pair: Pair) -> np.ndarray:
        """The values, read by the first who asks."""
        if self.values is None:
            self.values = pair.base
        return self.values


@dataclass(frozen=True)
class How:
    """Where the heavy steps run, and whether large matrices are decomposed or sketched."""

    device: str = "cpu"
    precision: str = EXACT

    def decomposition_of(self, pair: Pair) -> Callable[..., Decomposition]:
        """What makes the pair's decomposition.

        Raises
            RequestError: there is no such device.
        """
        if self.precision == FAST and pair.is_matrix and min(pair.shape) >= sketch.LEAST:
            return sketch.Sketched
        if self.device == "cpu":
            return Decomposition
        # torch, which the CPU does without
        from opdviz.linalg import accelerator
        from opdviz.measures import accelerated  # noqa: F401  its counts of coordinates

        return partial(accelerator.Accelerated, device=accelerator.device(self.device))


EXACTLY = How()


def work_of(pair: Pair, how: How = EXACTLY, base: Base | None = None) -> Decomposition:
    """The pair's two sides, read, with the base rounded to the tuned's format where it was stored
    finer; `base` is what other pairs left of the same base.
    """
    base, decomposition = base or Base(), how.decomposition_of(pair)
    if decomposition is not sketch.Sketched and pair.is_matrix and (factors := pair.factors):
        decomposition = partial(Factored, factors=factors)
    same = pair.base_dtype == pair.tuned_dtype
    if same and pair.tuned_dtype in SIXTEEN_BITS:
        sides = pair.sixteen_bits
        return decomposition(*sides, form=pair.tuned_dtype, of_base=base.worked_out[None])
    values, tuned = base.of(pair), pair.tuned
    as_stored = partial(decomposition, values, tuned, of_base=base.worked_out[None])
    if (
        pair.float8
        or FORMATS[pair.base_dtype].kind == "integer"
        or FORMATS[pair.tuned_dtype].kind == "integer"
    ):
        return as_stored(form=pair.tuned_dtype)
    form = stored_format(tuned, pair.tuned_dtype)
    if form == pair.base_dtype or on_grid(values, form):
        return as_stored(form=form)
    rest = {"form": form, "origin": values, "of_base": base.worked_out[form]}
    return decomposition(rounded(values, form), tuned, **rest)


def stored_format(values: np.ndarray, dtype: str) -> str:
    """The narrowest format that holds all values of a tensor, where they are enough to tell; its
    dtype otherwise.
    """
    if dtype not in WIDE or not telling(values):
        return dtype
    return next((form for form in SIXTEEN_BITS if on_grid(values, form)), dtype)


def telling(values: np.ndarray) -> bool:
    """Whether a tensor has enough different values for their grid to be no accident."""
    some = values.reshape(-1)[:CHUNK]
    # Nearly always the first few say it.
    return any(np.unique(part).size > TELLING for part in (some[: 64 * TELLING], some))
