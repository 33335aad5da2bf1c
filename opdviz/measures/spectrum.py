"""How many directions the update uses (definitions, 4): singular values, ranks and energies beside
a Gaussian's.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import blas

from opdviz.checkpoint.formats import FORMATS, rounded
from opdviz.definitions import (
    ENOUGH_MOVED,
    LEADING,
    LEAST_ROOM,
    NEAR_ROUNDING,
    RANK_TOLERANCES,
    SHARES,
    TOP_K,
    TOP_SHARES,
)
from opdviz.linalg import Decomposition, gaussian_spectrum, rank_of_share
from opdviz.linalg.gram import FLOOR, mirrored, spectrum_of_gram
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.pairing import Pair

NAME = "spectrum"
VERSION = 2
NEEDS = "finite matrix"
TABLES = {
    "spectrum": {"name": str, "matrix": str, "index": int, "sigma": float, "energy": float},
    "spectrum_summary": {
        "name": str,
        "matrix": str,
        "spectral_norm": float,
        "stable_rank": float,
        "entropy_rank": float,
        "energy_entropy_rank": float,
        "rank_50": int,
        "rank_90": int,
        "rank_99": int,
        "norm": float,
        "method": str,
        "error_bound": float,
    },
    "rank": {"name": str, "matrix": str, "tolerance": float, "rank": int, "share": float},
    "top_energy": {
        "name": str,
        "matrix": str,
        "k": int,
        "share": float,
        "energy": float,
        "chance": float,
    },
    "tail": {"name": str, "position": float, "moved_share": float, "verdict": str, "reason": str},
    "skipped": SKIPPED,
}
MOST_POINTS = 300  # singular values stored of one matrix
ALWAYS = 64  # of them the leading ones, whatever the size
CANDIDATES = 1_000  # log-spaced indices from which the rest is taken
NULL_TRIES = 24
NULL_PRECISION = 1e-3  # of the norm: far below what the verdict on a tail can tell
LEAST_POWER = 0.05  # of the scale, in the norm: below, the norm stands on a step
MOST_GROWTH = 8.0  # of the scale from one try to the next
BLOCK = 1 << 15  # elements that stay in a core's cache from one operation to the next
GRAM_ROWS = 1024  # rows that are in float64 at a time
LARGEST_SCALE = 1e6  # of the rank-16 part: one that must grow further cannot reach the norm
LIKE, OPEN, SPREAD = "like rounding", "open", "spread"


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of the spectral tables; a matrix that did not move has rank 0 and missing values."""
    spectra = {
        "base": work.base_spectrum.s,
        "tuned": work.tuned_spectrum.s,
        "delta": work.delta_spectrum.s,
    }
    size = math.sqrt(work.delta_energy)
    tables: dict[str, list[dict]] = {table: [] for table in TABLES}
    reason = "nothing moved"
    if size:
        # The same for every matrix of a shape and norm, so that nothing is drawn.
        spectra["gaussian"] = size * gaussian_spectrum(work.m, work.n)
        # Last, as it needs a second decomposition; without it the other spectra still stand.
        null, reason = rounding_null(work)
        if null is not None:
            spectra["rounding_null"] = null
        if reason:
            tables["skipped"].append(skipped(pair, NAME, f"rounding null: {reason}"))
    tables["tail"].append({"name": pair.name} | tail(spectra, work.moved / work.base.size, reason))
    for matrix, s in spectra.items():
        where = {"name": pair.name, "matrix": matrix}
        tables["spectrum"] += [where | row for row in kept_values(s)]
        tables["spectrum_summary"].append(where | summary(s, matrix))
        tolerances = sorted({*RANK_TOLERANCES, machine_tolerance(work.m, work.n)})
        tables["rank"] += [where | {"tolerance": t} | rank_at(s, t) for t in tolerances]
        tables["top_energy"] += [where | row for row in top_energies(s, work)]
    return tables


def kept_indices(r: int) -> np.ndarray:
    """Which singular values are stored, from 1: all up to 300, else about 300 log-spaced with 1 to
    64 and every k.
    """
    if r <= MOST_POINTS:
        return np.arange(1, r + 1)
    # Every k that another table names, so that spectra and energies can be read side by side.
    needed = (
        {rank_of_share(share, r) for share in (*SHARES, *TOP_SHARES)}
        | set(range(1, ALWAYS + 1))
        | {r}
    )
    spaced = np.unique(np.geomspace(1, r, CANDIDATES).astype(int))
    extra = np.setdiff1d(spaced, sorted(needed))
    room = MOST_POINTS - len(needed)
    extra = (
        extra[np.unique(np.linspace(0, len(extra) - 1, room).astype(int))]
        if len(extra) > room
        else extra
    )
    return np.array(sorted(needed | set(extra.tolist())))


def kept_values(s: np.ndarray) -> list[dict]:
    """Singular values at the kept indices, and the energy of the leading ones up to each; missing
    for a zero matrix.
    """
    held, total = np.cumsum(s**2), float(np.sum(s**2))
    return [
        {
            "index": int(i),
            "sigma": float(s[i - 1]),
            "energy": min(float(held[i - 1]) / total, 1.0) if total else None,
        }
        for i in kept_indices(len(s))
    ]


def summary(s: np.ndarray, matrix: str) -> dict:
    """The scalars of one spectrum. Missing where it is zero."""
    energy = s**2
    total, top = float(energy.sum()), float(s[0])
    # the Gram matrix's rounding grows with the root of its size: 1.6 times the floor at r = 500
    bound = (
        FLOOR * top * math.sqrt(max(2.0, len(s) / 32))
        if matrix in ("base", "tuned", "delta")
        else None
    )
    method = {"gaussian": "Marchenko-Pastur quantiles", "rounding_null": "exact (seedless)"}.get(
        matrix, "exact"
    )
    row = {"spectral_norm": top, "norm": math.sqrt(total), "method": method, "error_bound": bound}
    if not total:
        names = (
            "stable_rank",
            "entropy_rank",
            "energy_entropy_rank",
            "rank_50",
            "rank_90",
            "rank_99",
        )
        return row | dict.fromkeys(names)
    held = np.cumsum(energy) / total
    # 1e-12: a cumulated share that should be exactly 0.9 may come out just below, and give one rank
    # more.
    ranks = {f"rank_{p}": int(np.searchsorted(held, p / 100 - 1e-12) + 1) for p in (50, 90, 99)}
    return (
        row
        | ranks
        | {
            "stable_rank": total / top**2,
            "entropy_rank": entropy_rank(s / s.sum()),
            "energy_entropy_rank": entropy_rank(energy / total),
        }
    )


def entropy_rank(p: np.ndarray) -> float:
    """exp of the entropy of a distribution; zeros add nothing.

    >>> round(entropy_rank(np.full(8, 1 / 8)), 9)
    8.0
    """
    p = p[p > 0]  # p log p has the limit 0
    return math.exp(-float(np.sum(p * np.log(p))))


def machine_tolerance(m: int, n: int) -> float:
    """max(m, n) * 2^-23: what a float32 rank routine takes by default (arXiv 2505.11711).

    2^-23 is the distance of 1 to the next float32, as in numpy.linalg.matrix_rank.
    """
    return max(m, n) * 2.0**-23


def rank_at(s: np.ndarray, tolerance: float) -> dict:
    """The number of singular values above tolerance * sigma_1, and its share of r."""
    rank = int(np.count_nonzero(s > tolerance * s[0])) if s[0] > 0 else 0
    return {"rank": rank, "share": rank / len(s)}


def top_energies(s: np.ndarray, work: Decomposition) -> list[dict]:
    """Energy of the leading k directions beside that of a Gaussian matrix of the shape."""
    r, total = work.r, float(np.sum(s**2))
    # The null has the norm 1: its energies are shares already.
    chance = np.cumsum(gaussian_spectrum(work.m, work.n) ** 2)
    held = np.cumsum(s**2)
    ks = sorted({k for k in TOP_K if k <= r} | {rank_of_share(share, r) for share in TOP_SHARES})
    return [
        {
            "k": k,
            "share": k / r,
            "energy": float(held[k - 1]) / total if total else None,
            "chance": float(chance[k - 1]),
        }
        for k in ks
    ]


def tail(spectra: dict[str, np.ndarray], moved: float, reason: str | None) -> dict:
    """Where the tail of the update's spectrum stands between rounding and noise, and what can be
    said of it.

    position = (E32(null) - E32(D)) / (E32(null) - E32(gaussian)), E32 the energy of the 32 leading
    directions: 0 for what storing a rank-16 update of this norm leaves, 1 for noise. A ratio of
    tails cannot decide: with equal norms it is bounded, and a Gaussian update of full rank passes.
    `reason` says why there is no rounding null.
    """
    if "rounding_null" not in spectra:
        return {"position": None, "moved_share": moved, "verdict": None, "reason": reason}
    null, delta, noise = (
        leading_energy(spectra[matrix]) for matrix in ("rounding_null", "delta", "gaussian")
    )
    if null - noise < LEAST_ROOM:
        words = f"the {LEADING} leading directions hold nearly all of any update of this shape"
        return {"position": None, "moved_share": moved, "verdict": OPEN, "reason": words}
    row = {"position": (null - delta) / (null - noise), "moved_share": moved}
    if moved < ENOUGH_MOVED:
        words = (
            f"fewer than {ENOUGH_MOVED:.0%} of the coordinates moved: rounding leaves no tail to"
            " compare with"
        )
        return row | {"verdict": OPEN, "reason": words}
    if row["position"] < NEAR_ROUNDING:
        return row | {
            "verdict": LIKE,
            "reason": (
                f"position below {NEAR_ROUNDING:g}: as a rank-16 update and rounding would leave it"
            ),
        }
    return row | {
        "verdict": SPREAD,
        "reason": f"position from {NEAR_ROUNDING:g} on: wider than rounding alone",
    }


def leading_energy(s: np.ndarray) -> float:
    """Share of the energy in the 32 leading directions, of the whole spectrum."""
    energy = s**2
    return float(energy[:LEADING].sum() / energy.sum())


def rounding_null(work: Decomposition) -> tuple[np.ndarray | None, str | None]:
    """Singular values of what is left of a rank-16 update after storing, and the reason where there
    are none.

    The rank-16 part of D is scaled so that, added to W and rounded to the stored format, its stored
    norm is ||D||.
    """
    if work.r <= LEADING:
        return None, f"r = {work.r} is at most {LEADING}"
    if (
        FORMATS[work.form].kind == "float8"
        or FORMATS[work.form].mantissa > FORMATS["float16"].mantissa
    ):
        return None, f"stored as {work.form}: drawn for formats up to bf16 and fp16"
    update = StoredUpdate(work)
    scale = matching_scale(update.norm_at, math.sqrt(work.delta_energy))
    if scale is None:
        return None, "no scale of the rank-16 part gives the stored norm"
    # Values alone, from the Gram matrix: what a tail of rounding has in each direction is of the
    # order of its whole, far above what the Gram matrix resolves.
    return spectrum_of_gram(update.gram(), 0).s, None


class StoredUpdate:
    """What storing leaves of the rank-16 part of D, times a scale: the change of the stored values.

    In float32, which holds the values of every format that this is drawn for; a sum that it rounds
    onto a tie of such a format is rare, and either neighbour is right. Never whole: a block at a
    time, as large as a cache.
    """

    def __init__(self, work: Decomposition):
        # D V V' is the best approximation of its rank (Eckart and Young 1936), without the long
        # side's vectors.
        v = work.delta_spectrum.v
        along = np.empty((work.long, v.shape[1]), dtype=np.float32)
        for rows_, _, d in work.row_blocks():
            along[rows_] = d @ v
        across = v.astype(np.float32)
        self.is_tall = work.m >= work.n
        self.left, self.right = (along, across) if self.is_tall else (across, along)
        # Added to the base as it was before any rounding, as training would have done.
        self.base, self.origin, self.form = work.base, work.origin, work.form
        self.scale = 1.0

    def change(self, rows_: slice, columns: slice) -> np.ndarray:
        """The change in some rows and columns, at the scale."""
        part = self.left[rows_] * np.float32(self.scale) @ self.right[columns].T
        part += self.origin[rows_, columns]
        part = rounded(part, self.form)
        part -= self.base[rows_, columns]
        return part

    def norm_at(self, scale: float) -> float:
        """The norm of the change at a scale, which is kept."""
        self.scale, energy = scale, 0.0
        (m, n), everywhere = self.base.shape, slice(None)
        for rows_ in slices(m, BLOCK // n):
            flat = self.change(rows_, everywhere).reshape(-1)
            energy += float(flat @ flat)
        return math.sqrt(energy)

    def gram(self) -> np.ndarray:
        """The Gram matrix of the tall change, in float64: in float32 the smallest values are
        noise.
        """
        (m, n), everywhere = self.base.shape, slice(None)
        total = np.zeros((min(m, n), min(m, n)), order="F")
        for part in slices(max(m, n), GRAM_ROWS):
            where = (part, everywhere) if self.is_tall else (everywhere, part)
            block = self.change(*where).astype(np.float64)
            total = blas.dsyrk(
                1.0, block.T if self.is_tall else block, beta=1.0, c=total, overwrite_c=True
            )
        return mirrored(total)


def slices(length: int, size: int) -> Iterator[slice]:
    """An axis in pieces of at least one."""
    size = max(1, size)
    return (slice(first, first + size) for first in range(0, length, size))


def matching_scale(norm_at: Callable[[float], float], wanted: float) -> float | None:
    """The scale c with norm_at(c) = wanted to a part in a thousand; `None` where there is none.

    The stored norm does not fall as the scale rises, but by steps, and over a step its slope is
    zero: the secant of the last two tries, in logarithms, counts only inside the bracket.
    """
    low, high = 0.0, math.inf
    scale, power, before = 1.0, 1.0, None
    for _ in range(NULL_TRIES):
        norm = norm_at(scale)
        if abs(norm / wanted - 1) < NULL_PRECISION:
            return scale
        low, high = (scale, high) if norm < wanted else (low, scale)
        if before and 0 < before[1] != norm > 0:
            power = math.log(norm / before[1]) / math.log(scale / before[0])
        before = scale, norm
        secant = scale * (wanted / norm) ** (1 / power) if norm > 0 and power > LEAST_POWER else 0.0
        middle = (low + high) / 2 if high < math.inf else 2 * low
        scale = secant if low < secant < min(high, MOST_GROWTH * scale) else middle
        if scale > LARGEST_SCALE:
            return None
    return None
