"""How the update lies to the base's own directions (definitions, 5), each figure beside what a
blind update would give.
"""

import math
from itertools import pairwise

import numpy as np

from opdviz.definitions import FIXED_K, HEADLINE_SHARE, LONG_R, SHARES
from opdviz.linalg import Decomposition, rank_of_share
from opdviz.measures import blind
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.pairing import Pair

NAME = "geometry"
VERSION = 2
NEEDS = "finite matrix"
TABLES = {
    "projection": {
        "name": str,
        "side": str,
        "share": float,
        "k": int,
        "energy": float,
        "chance": float,
        "chance_sd": float,
        "chance_profile": float,
        "energy_without_shrink": float,
    },
    "rotation": {
        "name": str,
        "side": str,
        "share": float,
        "k": int,
        "mean_sine": float,
        "rms_sine": float,
        "chance": float,
        "max_degrees": float,
        "gap": float,
        "pairs": float,
    },
    "angle": {"name": str, "side": str, "k": int, "index": int, "degrees": float},
    "drift": {"name": str, "drift": float, "nss": float, "chance": float, "drift_per_delta": float},
    "basis_energy": {
        "name": str,
        "row_bin": str,
        "column_bin": str,
        "energy": float,
        "chance": float,
    },
    "skipped": SKIPPED,
}
BIN_SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 1.0)
BIN_NAMES = ("0-1", "1-5", "5-10", "10-20", "20-100", "outside")
# Of ||D||^2: below it what is left without shrink is the rounding of the products.
LEAST_REMAINDER = 1e-9


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of the geometric tables; missing values, and no angles, where the matrix did not move.

    A base without directions has a row of `skipped` alone.
    """
    where = {"name": pair.name}
    tables: dict[str, list[dict]] = {table: [] for table in TABLES}
    if not work.base_spectrum.s[0]:
        zero = (
            "the base is zero"
            if not np.any(work.base)
            else "the base's squares are below what float64 holds"
        )
        tables["skipped"].append(skipped(pair, NAME, f"{zero}: it has no directions"))
        return tables
    if work.usable < work.r:
        reason = (
            f"directions beyond {work.usable} of {work.r}: the base's singular values there are"
            " rounding"
        )
        tables["skipped"].append(skipped(pair, NAME, reason))
    tables["projection"] = [where | row for row in projections(work)]
    tables["rotation"] = [where | row for row in rotations(work)]
    tables["angle"] = [where | row for row in angles(work)]
    tables["drift"] = [where | drift(work)]
    tables["basis_energy"] = [where | row for row in basis_energies(work)]
    return tables


def projections(work: Decomposition) -> list[dict]:
    """Share of ||D||^2 inside the leading subspaces of the base: joint, left, right; and the same
    without shrink.

    Missing at a k beyond the base's own rank: there are no such directions.
    """
    shrink = shrink_of(work)
    participation = blind.participation(work.delta_spectrum.s)
    table = []
    for share in SHARES:
        k = rank_of_share(share, work.r)
        # Of a base of lower rank there is no k-th direction: what a decomposition calls one is
        # chosen by rounding.
        defined = k <= work.usable
        chances = blind.projection_chances(k, work.m, work.n)
        spreads = blind.projection_spreads(k, work.m, work.n, participation)
        profile = profile_chances(work, k) if defined and work.delta_energy else {}
        for side in ("joint", "left", "right"):
            row = {
                "side": side,
                "share": share,
                "k": k,
                "chance": chances[side],
                "chance_sd": spreads.get(side),
            }
            row["chance_profile"] = profile.get(side)
            row["energy"] = energy_share(work, side, k, 0.0) if defined else None
            row["energy_without_shrink"] = energy_share(work, side, k, shrink) if defined else None
            table.append(row)
    return table


def profile_chances(work: Decomposition, k: int) -> dict[str, float]:
    """The same for an update that keeps its own rows' and columns' energies, and nothing else.

    An isotropic rotation forgets that rows and columns differ; where a few rows carry much of both
    the update and the base's leading directions, an update without any aim lands there too.
    """
    left, right = (
        float(work.leverages(side, k) @ work.energy_profile(side)) for side in ("left", "right")
    )
    return {"joint": left * right, "left": left, "right": right}


def shrink_of(work: Decomposition) -> float:
    """<D, W> / ||W||^2."""
    return float(np.trace(work.products.ad) / np.trace(work.products.aa))


def energy_share(work: Decomposition, side: str, k: int, shrink: float) -> float | None:
    """Share of ||D - shrink W||^2 on one side's leading k directions of the base.

    In the base's bases W is diagonal: U'(D - cW)V = U'DV - c S, so nothing has to be projected
    twice.
    """
    s = work.base_spectrum.s
    # ||D - cW||^2 = ||D||^2 - c^2 ||W||^2, as c W is the projection of D on W.
    total = work.delta_energy - shrink**2 * float(np.sum(s**2))
    if total <= LEAST_REMAINDER * work.delta_energy or not work.delta_energy:
        return None
    rotated = work.delta_in_base_bases
    if side == "joint":
        part = rotated[:k, :k] - shrink * np.diag(s[:k])
        return float(np.sum(part**2)) / total
    if side == work.far:
        # Whole rows of U'D, of which W has s_i v_i'.
        leading = work.base_spectrum.v[:, :k]
        part = work.delta_in_long_base[:k] - shrink * s[:k, None] * leading.T
        return float(np.sum(part**2)) / total
    # ||(D - cW) v||^2 multiplied out: D V itself is not kept, only its energies and its products
    # with W V.
    inner = s[:k] * np.diag(rotated)[:k]  # <D v, W v> = s_i (U'DV)_ii
    return float(np.sum(work.short_energy[:k] - 2 * shrink * inner + (shrink * s[:k]) ** 2)) / total


def rotations(work: Decomposition) -> list[dict]:
    """Sines of the principal angles between the leading subspaces of base and tuned, and their
    first-order chance.
    """
    s = work.base_spectrum.s
    table = []
    for share in SHARES:
        k = rank_of_share(share, work.r)
        for side in ("left", "right"):
            row = {
                "side": side,
                "share": share,
                "k": k,
                "gap": float(s[k - 1] - s[k]) if k < work.r else None,
            }
            # Beyond the base's own rank its directions are chosen by rounding.
            sines = work.sines(side, k) if work.delta_energy and k <= work.usable else None
            row |= {
                "mean_sine": float(sines.mean()) if sines is not None else None,
                "rms_sine": math.sqrt(float(np.mean(sines**2))) if sines is not None else None,
                "max_degrees": (
                    float(np.degrees(np.arcsin(sines[0]))) if sines is not None else None
                ),
            }
            size = work.m if side == "left" else work.n
            table.append(row | blind.rotation_chance(s, k, size, tau(work)))
    return table


def tau(work: Decomposition) -> float:
    """The rms of D: the standard deviation of a blind update's entries."""
    return math.sqrt(work.delta_energy / (work.m * work.n))


def angles(work: Decomposition) -> list[dict]:
    """Principal angles in degrees at k = 10 % of r and, where r > 1024, at k = 512; once where both
    are the same.
    """
    if not work.delta_energy:
        return []
    ks = dict.fromkeys(
        [rank_of_share(HEADLINE_SHARE, work.r), *([FIXED_K] if work.r > LONG_R else [])]
    )
    return [
        {"side": side, "k": k, "index": i, "degrees": float(degrees)}
        for k in ks
        if k <= work.usable
        for side in ("left", "right")
        # Falling sines turned round: angles are stored smallest first.
        for i, degrees in enumerate(np.degrees(np.arcsin(work.sines(side, k)[::-1])), start=1)
    ]


def drift(work: Decomposition) -> dict:
    """Change of the singular values: ||s(T) - s(W)||, over ||s(W)||, over ||D||."""
    s, size = work.base_spectrum.s, math.sqrt(work.delta_energy)
    # No matrix drifts further than it moved: ||s(T) - s(W)|| <= ||D|| (Mirsky 1960).
    norm = float(np.linalg.norm(s))
    change = float(np.linalg.norm(work.tuned_spectrum.s - s)) if size else 0.0
    return {
        "drift": change,
        "nss": change / norm,
        "chance": blind.nss_chance(s, work.long, tau(work)),
        "drift_per_delta": change / size if size else None,
    }


def basis_energies(work: Decomposition) -> list[dict]:
    """Share of ||D||^2 by bins of the base's left (row) and right (column) directions; `outside` is
    the long side's.
    """
    edges = [0, *(rank_of_share(share, work.r) for share in BIN_SHARES[1:-1]), work.r]
    # In a small matrix two shares are the same k: bins may be empty, but not reach backwards.
    edges = np.maximum.accumulate(edges)
    widths = np.diff(edges)
    # An isotropic update spreads evenly over orthonormal bases: chance is a share of directions.
    far = np.append(widths, work.long - work.r) / work.long
    near = np.append(widths, 0) / work.r
    chance = np.outer(far, near)
    # Cells are of the tall matrix, where the far side is rows; names are those of the stored one.
    cells, total = basis_cells(work, edges), work.delta_energy
    if work.far == "right":
        cells, chance = cells.T, chance.T
    return [
        {
            "row_bin": a,
            "column_bin": b,
            "energy": float(cells[i, j]) / total if total and np.isfinite(cells[i, j]) else None,
            "chance": float(chance[i, j]),
        }
        for i, a in enumerate(BIN_NAMES)
        for j, b in enumerate(BIN_NAMES)
        if chance[i, j] > 0 or cells[i, j] > LEAST_REMAINDER * total
    ]


def basis_cells(work: Decomposition, edges: np.ndarray) -> np.ndarray:
    """Energy of U'DV in bins of the far side (rows) and of the short side (columns); the last bin
    is `outside`.
    """
    every_direction = work.base_spectrum.v.shape[1] == work.r
    energies = cells_of_all(work, edges) if every_direction else cells_of_leading(work, edges)
    cells = np.zeros((len(BIN_NAMES), len(BIN_NAMES)))
    # What is left by cancellation may fall below zero by its rounding.
    cells[:, :-1] = np.maximum(energies, 0.0)
    # Bins all of whose directions are there.
    complete = int(np.searchsorted(edges, work.usable, side="right")) - 1
    if complete < len(edges) - 1 and not (work.long == work.r and complete >= len(edges) - 2):
        cells[complete:] = np.nan
    return cells


def cells_of_leading(work: Decomposition, edges: np.ndarray) -> np.ndarray:
    """Those energies from the leading directions alone, whose complements are what is left."""
    lead, last = int(edges[-2]), len(edges) - 2
    v = work.base_spectrum.v[:, :lead]
    rows_ = work.delta_in_long_base[:lead]
    leading = work.delta_in_base_bases[:lead, :lead]
    # What the rows have beyond the leading columns, taken off before squaring.
    beyond = rows_ - work.product(leading, v.T)
    cells = np.zeros((len(edges), len(edges) - 1))
    cells[:last, :last] = binned(leading**2, edges[:-1], edges[:-1])
    cells[:last, last] = binned(beyond**2, edges[:-1], np.array([0, work.r]))[:, 0]
    everything = by_column(work.short_energy[:lead], work.delta_energy, edges)
    held = everything
    if work.long > work.r:
        held = by_column(*work.energy_inside(v), edges)
    cells[last] = held - cells[:last].sum(axis=0)
    cells[-1] = everything - held
    return cells


def by_column(leading: np.ndarray, total: float, edges: np.ndarray) -> np.ndarray:
    """Energies of the leading columns in bins, and what the total has beyond them."""
    sums = [leading[a:b].sum() for a, b in pairwise(edges[:-1])]
    return np.array([*sums, total - sum(sums)])


def binned(squares: np.ndarray, row_edges: np.ndarray, column_edges: np.ndarray) -> np.ndarray:
    """Sums of a matrix over bins of its rows and columns; a bin may be empty."""
    bands = [squares[a:b] for a, b in pairwise(row_edges)]
    return np.array([[band[:, a:b].sum() for a, b in pairwise(column_edges)] for band in bands])


def cells_of_all(work: Decomposition, edges: np.ndarray) -> np.ndarray:
    """Those energies from every direction of the base.

    Beyond `usable` the base has no far-side vectors; but a square matrix has nothing outside, so
    that what is left belongs to its last bin of directions, whichever they are.
    """
    # Sums of squares of U'DV over bins; U and V are orthonormal, so energies add up.
    cells = np.zeros((len(edges), len(edges) - 1))
    cells[:-1] = binned(work.delta_in_base_bases**2, edges, edges)
    # The energy of D v_j that U does not hold lies outside the base's span: what is left, as U has
    # no more columns.
    left = [work.short_energy[a:b].sum() for a, b in pairwise(edges)] - cells.sum(axis=0)
    if work.long == work.r:
        cells[-2] += np.maximum(left, 0.0)
    else:
        cells[-1] = left
    return cells
