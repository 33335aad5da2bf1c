"""Do the updates of runs on one base have the same leading directions?

Similarity of two k-dimensional subspaces is the mean squared cosine of their principal angles,
||V_k(a)' V_k(b)||_F^2 / k; of two that are isotropic at random it is k / n. Stored updates are not:
what rounding leaves of an update has the directions in which the weights are small, and two runs
share these. So every run's update is also turned at random, with its own singular values, added to
the base and stored again in the run's own format; what such updates share is the rotation null.
"""

import zlib
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from opdviz import pairing
from opdviz.checkpoint.formats import rounded
from opdviz.definitions import HEADLINE_K, HEADLINE_SHARE, SIXTEEN_BITS
from opdviz.linalg import rank_of_share
from opdviz.linalg.gram import resolved_count, spectrum_of_gram
from opdviz.linalg.subspaces import orthonormal
from opdviz.runs.relations import Shared, difference

DRAWS = 4  # random rotations of each run: all pairs of two runs' draws make the null
SPREADS = 3.0  # standard deviations of the null's draws at either end
SIDES = ("left", "right")
Leading = dict[str, np.ndarray]  # by side: leading singular vectors as columns


def of_tensor(tensor: Shared, names: Sequence[str]) -> dict[str, list[dict]]:
    """Rows of `subspace_similarity` of one matrix; `names` are those of all runs.

    Raises
        RequestError: a checkpoint cannot be read any more.
    """
    rows, columns = tensor.shape[0], int(np.prod(tensor.shape[1:]))
    ranks = ranks_of(min(rows, columns))
    weights = pairing.opened(tensor.source).read(tensor.name)
    runs = []
    for tuned in tensor.tuned:
        side = pairing.opened(tuned.source)
        delta = difference(weights, side.read(tuned.name)).reshape(rows, columns)
        dtype = side.tensors[tuned.name].dtype
        seed = zlib.crc32(f"{tensor.name} {names[tuned.run]}".encode())
        runs.append(Run(weights.reshape(rows, columns), delta, dtype, seed, ranks[-1]))
    sizes = {"left": rows, "right": columns}
    return {
        "subspace_similarity": [
            {"name": tensor.name, "run_a": names[tensor.tuned[a].run]}
            | {"run_b": names[tensor.tuned[b].run], "side": side, "k": k}
            | {"chance": k / sizes[side]}
            | related(runs[a], runs[b], side, k)
            for a, b in combinations(range(len(runs)), 2)
            for side in SIDES
            for k in ranks
        ]
    }


def ranks_of(r: int) -> list[int]:
    """The ranks at which subspaces are compared: 16, and a tenth of the directions."""
    tenth = rank_of_share(HEADLINE_SHARE, r)
    return sorted({k for k in (HEADLINE_K, tenth) if k < r} or {1})


class Run:
    """The leading directions of one run's update, and of its random rotations."""

    def __init__(self, weights: np.ndarray, delta: np.ndarray, dtype: str, seed: int, k: int):
        self.leading: Leading | None = None
        self.resolved = 0
        self.draws: list[Leading] = []
        if not np.isfinite(delta).all() or not delta.any():
            return
        s, self.leading = leading(delta, k)
        self.resolved = resolved_count(s)
        rng = np.random.default_rng(seed)
        for _ in range(DRAWS):
            draw = rotated(s, delta.shape, k, rng)
            if dtype in SIXTEEN_BITS:
                base = weights.astype(np.float32)
                draw = difference(weights, rounded(base + draw.astype(np.float32), dtype))
                draw = draw.reshape(delta.shape)
            self.draws.append(leading(draw, k)[1] if draw.any() else None)


def leading(delta: np.ndarray, k: int) -> tuple[np.ndarray, Leading]:
    """All singular values of an update, and its leading k vectors on both sides."""
    m, n = delta.shape
    tall = delta if m >= n else delta.T
    spectrum = spectrum_of_gram(tall.T @ tall, k)
    long, _ = orthonormal(tall @ spectrum.v, spectrum.s)
    short_side, long_side = ("right", "left") if m >= n else ("left", "right")
    return spectrum.s, {short_side: spectrum.v, long_side: long}


def rotated(s: np.ndarray, shape: tuple[int, int], k: int, rng: np.random.Generator) -> np.ndarray:
    """An update of these singular values whose directions are random: the leading k as they are,
    the others as a Gaussian of their energy.
    """
    left, right = (np.linalg.qr(rng.standard_normal((size, k)))[0] for size in shape)
    tail = float((s[k:] ** 2).sum())
    noise = rng.standard_normal(shape) * (tail / (shape[0] * shape[1])) ** 0.5
    return (left * s[:k]) @ right.T + noise


def related(a: Run, b: Run, side: str, k: int) -> dict[str, float | None]:
    """Similarity of two runs' leading subspaces and the ends of the rotation null; missing where an
    update has fewer directions than are compared.
    """
    missing = dict.fromkeys(("similarity", "null_low", "null_high"))
    if a.leading is None or b.leading is None or min(a.resolved, b.resolved) < k:
        return missing
    row = missing | {"similarity": similarity(a.leading[side], b.leading[side], k)}
    null = [
        similarity(one[side], other[side], k)
        for one in a.draws
        for other in b.draws
        if one is not None and other is not None
    ]
    if len(null) > 1:
        middle, spread = float(np.mean(null)), SPREADS * float(np.std(null, ddof=1))
        row |= {"null_low": max(0.0, middle - spread), "null_high": min(1.0, middle + spread)}
    return row


def similarity(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """The mean squared cosine between the leading k columns of two bases."""
    return min(1.0, float(np.sum((x[:, :k].T @ y[:, :k]) ** 2) / k))
