"""Blind updates to draw from, and pairs in memory: what the sampling suite and the planted truths
are made of.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from opdviz.checkpoint.formats import Promoted, codes_in, rounded
from opdviz.checkpoint.records import Source
from opdviz.linalg import Decomposition
from opdviz.measures.sides import work_of
from opdviz.pairing import Pair

NAME = "model.layers.0.mlp.up_proj.weight"
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def signs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Fair signs."""
    return rng.choice([-1.0, 1.0], size=shape)


def spikes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """One coordinate in a hundred twenty times as large as the rest."""
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.01, 20.0, 1.0)


def row_scaled(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Rows of sizes that differ by a factor of a few."""
    return rng.standard_normal(shape) * np.exp(0.7 * rng.standard_normal((shape[0], 1)))


BLIND: dict[str, Draw] = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "constant size": signs,
    "row-scaled": row_scaled,
    "spikes": spikes,
}
# how the tuned and the base are stored, and the grid that the base's values lie on
FORMATS = {
    "bf16": ("bfloat16", "bfloat16", "bfloat16"),
    "fp16": ("float16", "float16", "float16"),
    "fp32 on the bf16 grid": ("float32", "float32", "bfloat16"),
    "fp32": ("float32", "float32", "float32"),
    "fp32 near the bf16 grid": ("float32", "float32", "near"),
    "fp32 near it, saved as bf16": ("bfloat16", "float32", "near"),
}


SOURCES = (Source(Path()), Source(Path()))
SIDES: dict[str, np.ndarray] = {}  # of the pairs in memory, by name and side


class MemoryPair(Pair):
    """A pair whose two sides are arrays."""

    @property
    def base(self) -> np.ndarray:
        """The base."""
        return SIDES[f"{self.name} base"]

    @property
    def tuned(self) -> np.ndarray:
        """The tuned."""
        return SIDES[f"{self.name} tuned"]

    @property
    def sixteen_bits(self) -> tuple[Promoted, Promoted]:
        """Both, as they are stored."""
        form = self.tuned_dtype
        codes = (codes_in(form, side, "float32") for side in (self.base, self.tuned))
        base, tuned = (Promoted.of_codes(bits, form) for bits in codes)
        return base, tuned

    @property
    def factors(self) -> None:
        """No adapter's."""
        return None


def pair_of(
    base: np.ndarray,
    tuned: np.ndarray,
    dtype: str,
    *,
    base_dtype: str | None = None,
    name: str = NAME,
) -> Pair:
    """A matrix pair of two arrays, each rounded to the format it is stored in."""
    base_dtype = base_dtype or dtype
    for side, values, stored in (("base", base, base_dtype), ("tuned", tuned, dtype)):
        kind = np.float64 if stored == "float64" else np.float32
        SIDES[f"{name} {side}"] = rounded(values.astype(np.float64), stored).astype(kind)
    return MemoryPair(name, name, *SOURCES, base.shape, "matrix", base_dtype, dtype)


def work_on(base: np.ndarray, tuned: np.ndarray, dtype: str, **more) -> tuple[Pair, Decomposition]:
    """A pair and its work."""
    pair = pair_of(base, tuned, dtype, **more)
    return pair, work_of(pair)


def scale_for(density: float, base: np.ndarray, update: np.ndarray, grid: str) -> float:
    """The scale at which about a share `density` of the coordinates changes after rounding to a
    grid.
    """
    low, high = 1e-12, 1e3
    for _ in range(40):
        middle = np.sqrt(low * high)
        seen = np.mean(rounded(base + middle * update, grid) != rounded(base, grid))
        low, high = (middle, high) if seen < density else (low, middle)
    return float(np.sqrt(low * high))
