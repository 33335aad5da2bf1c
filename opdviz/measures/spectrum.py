"""How many directions the update uses (definitions, 4): singular values, ranks and energies beside
a Gaussian's.
"""

import math

import numpy as np

from opdviz.checkpoint.formats import FORMATS
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
from opdviz.linalg import Decomposition, rank_of_share
from opdviz.linalg.gaussian import gaussian_spectrum
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.pairing import Pair

NAME = "spectrum"
VERSION = 4
NEEDS = "finite matrix"
TABLES = {
    "spectrum": {"name": str, "matrix": str, "index": int, "sigma": float, "energy": float},
    "spectrum_summary": {
        "name": str,
        "matrix": str,
        "spectral_norm": float,
        "nuclear_norm": float,
        "stable_rank": float,
        "entropy_rank": float,
        "energy_entropy_rank": float,
        "rank_50": int,
        "rank_90": int,
        "rank_95": int,
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
METHODS = {"gaussian": "Marchenko-Pastur quantiles", "rounding_null": "exact (seedless)"}
MOST_POINTS = 300  # singular values stored of one matrix
ALWAYS = 64  # of them the leading ones, whatever the size
CANDIDATES = 1_000  # log-spaced indices from which the rest is taken
LIKE, OPEN, SPREAD = "like rounding", "open", "spread"


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of the spectral tables; a matrix that did not move has rank 0 and missing values."""
    spectra = dict(work.spectra)
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
    methods = METHODS | work.methods
    for matrix, s in spectra.items():
        where = {"name": pair.name, "matrix": matrix}
        total = work.energies.get(matrix)
        tables["spectrum"] += [where | row for row in kept_values(s, total)]
        how = {"method": methods[matrix], "error_bound": work.bounds.get(matrix)}
        tables["spectrum_summary"].append(where | summary(s, total) | how)
        tables["top_energy"] += [where | row for row in top_energies(s, work, total)]
        if len(s) == work.r:  # a rank is counted over all of them
            tolerances = sorted({*RANK_TOLERANCES, machine_tolerance(work.m, work.n)})
            tables["rank"] += [where | {"tolerance": t} | rank_at(s, t) for t in tolerances]
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


def kept_values(s: np.ndarray, total: float | None = None) -> list[dict]:
    """Singular values at the kept indices, and the energy of the leading ones up to each; missing
    for a zero matrix.

    `total` is the energy of all, where `s` are the leading ones alone.
    """
    held, total = np.cumsum(s**2), energy_of(s, total)
    return [
        {
            "index": int(i),
            "sigma": float(s[i - 1]),
            "energy": min(float(held[i - 1]) / total, 1.0) if total else None,
        }
        for i in kept_indices(len(s))
    ]


def energy_of(s: np.ndarray, total: float | None) -> float:
    """The energy of all singular values, of which `s` are all where no total is given."""
    return float(np.sum(s**2)) if total is None else total


def summary(s: np.ndarray, total: float | None = None) -> dict:
    """The scalars of one spectrum; what needs all values is missing where `s` are the leading ones
    alone, of a matrix with a `total` energy, and nearly all where it is zero.
    """
    energy, complete = s**2, total is None
    total, top = energy_of(s, total), float(s[0])
    row = {"spectral_norm": top, "norm": math.sqrt(total)}
    if not total:
        names = (
            "nuclear_norm",
            "stable_rank",
            "entropy_rank",
            "energy_entropy_rank",
            "rank_50",
            "rank_90",
            "rank_95",
            "rank_99",
        )
        return row | dict.fromkeys(names)
    held = np.cumsum(energy) / total
    # 1e-12: a cumulated share that should be exactly 0.9 may come out just below, and give one rank
    # more.
    ranks = {p: int(np.searchsorted(held, p / 100 - 1e-12) + 1) for p in (50, 90, 95, 99)}
    return (
        row
        | {f"rank_{p}": rank if rank <= len(s) else None for p, rank in ranks.items()}
        | {
            "nuclear_norm": float(s.sum()) if complete else None,
            "stable_rank": total / top**2,
            "entropy_rank": entropy_rank(s / s.sum()) if complete else None,
            "energy_entropy_rank": entropy_rank(energy / total) if complete else None,
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


def top_energies(s: np.ndarray, work: Decomposition, total: float | None = None) -> list[dict]:
    """Energy of the leading k directions beside that of a Gaussian matrix of the shape, for every k
    of which `s` has all.
    """
    r, total = work.r, energy_of(s, total)
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
        if k <= len(s)
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
    if work.sketched:
        return None, "precision fast: leading directions alone"
    if work.r <= LEADING:
        return None, f"r = {work.r} is at most {LEADING}"
    if (
        FORMATS[work.form].kind == "float8"
        or FORMATS[work.form].mantissa > FORMATS["float16"].mantissa
    ):
        return None, f"stored as {work.form}: drawn for formats up to bf16 and fp16"
    gram = work.gram_of_stored()
    if gram is None:
        return None, "no scale of the rank-16 part gives the stored norm"
    # Values alone, from the Gram matrix: what a tail of rounding has in each direction is of the
    # order of its whole, far above what the Gram matrix resolves.
    return work.spectrum_of(gram, 0).s, None
