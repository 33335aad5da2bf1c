"""How the update lies to the base's own directions (QUANTITIES 5), each figure beside what a blind update would give."""

import math

import numpy as np

from opdviz.linalg import FIXED_K, LONG_R, SHARES, Work, rank_of_share
from opdviz.pairing import Pair

NAME = "geometry"
VERSION = 1
TABLES = {
    "projection": ("name", "side", "share", "k", "energy", "chance", "energy_without_shrink"),
    "rotation": ("name", "side", "share", "k", "mean_sine", "rms_sine", "chance", "max_degrees", "gap"),
    "angle": ("name", "side", "k", "index", "degrees"),
    "drift": ("name", "drift", "nss", "chance", "drift_per_delta"),
    "basis_energy": ("name", "row_bin", "column_bin", "energy", "chance"),
    "skipped": ("name", "measure", "reason"),
}
BIN_SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 1.0)
BIN_NAMES = ("0-1", "1-5", "5-10", "10-20", "20-100", "outside")
FIRST_ORDER = 0.3


def rows(pair: Pair, work: Work) -> dict[str, list[dict]]:
    """Rows of the geometric tables; missing values where the matrix did not move or the base is zero."""
    where = {"name": pair.name}
    found: dict[str, list[dict]] = {table: [] for table in TABLES}
    if not work.base_spectrum.s[0]:
        found["skipped"].append(
            {"name": pair.name, "measure": NAME, "reason": "the base is zero: it has no directions"}
        )
        return found
    found["projection"] = [where | row for row in projections(work)]
    found["rotation"] = [where | row for row in rotations(work)]
    found["angle"] = [where | row for row in angles(work)]
    found["drift"] = [where | drift(work)]
    found["basis_energy"] = [where | row for row in basis_energies(work)]
    return found


def projections(work: Work) -> list[dict]:
    """Share of ||D||^2 inside the leading subspaces of the base: joint, left, right; and the same without shrink."""
    found = []
    shrink = shrink_of(work)
    for share in SHARES:
        k = rank_of_share(share, work.r)
        chance = {"joint": k * k / (work.m * work.n), "left": k / work.m, "right": k / work.n}
        for side in ("joint", "left", "right"):
            found.append(
                {"side": side, "share": share, "k": k}
                | {"energy": energy_share(work, side, k, 0.0), "chance": chance[side]}
                | {"energy_without_shrink": energy_share(work, side, k, shrink)}
            )
    return found


def shrink_of(work: Work) -> float:
    """<D, W> / ||W||^2."""
    aa, ad, _ = work.products
    return float(np.trace(ad) / np.trace(aa))


def energy_share(work: Work, side: str, k: int, shrink: float) -> float | None:
    """Share of ||D - shrink W||^2 on one side's leading k directions of the base.

    In the base's bases W is diagonal: U'(D - cW)V = U'DV - c S, so nothing has to be projected twice.
    """
    s = work.base_spectrum.s
    total = work.delta_energy - shrink**2 * float(np.sum(s**2))
    if total <= 1e-12 * work.delta_energy or not work.delta_energy:
        return None
    turned = work.far_rows
    if side == "joint":
        part = turned[:k, :k] - shrink * np.diag(s[:k])
        return float(np.sum(part**2)) / total
    if side == work.far:
        part = turned[:k].copy()
        part[np.arange(k), np.arange(k)] -= shrink * s[:k]
        return float(np.sum(part**2)) / total
    inner = s[:k] * np.diag(turned)[:k]  # <D v, W v> = s_i (U'DV)_ii
    return float(np.sum(work.short_energy[:k] - 2 * shrink * inner + (shrink * s[:k]) ** 2)) / total


def rotations(work: Work) -> list[dict]:
    """Sines of the principal angles between the leading subspaces of base and tuned, and their first-order chance."""
    s = work.base_spectrum.s
    found = []
    for share in SHARES:
        k = rank_of_share(share, work.r)
        for side in ("left", "right"):
            row = {"side": side, "share": share, "k": k, "gap": float(s[k - 1] - s[k]) if k < work.r else None}
            sines = work.sines(side, k) if work.delta_energy else None
            row |= {
                "mean_sine": float(sines.mean()) if sines is not None else None,
                "rms_sine": math.sqrt(float(np.mean(sines**2))) if sines is not None else None,
                "max_degrees": float(np.degrees(np.arcsin(sines[0]))) if sines is not None else None,
                "chance": rotation_chance(work, side, k),
            }
            found.append(row)
    return found


def rotation_chance(work: Work, side: str, k: int) -> float | None:
    """rms sine of a blind update to first order; missing where it is above 0.3 or not defined.

    rms^2 = (1/k) sum_i [ sum_{k<j<=r} t^2 (s_i^2 + s_j^2) / (s_i^2 - s_j^2)^2 + (side - r) t^2 / s_i^2 ].
    """
    s2 = work.base_spectrum.s**2
    size = work.m if side == "left" else work.n
    tau2 = work.delta_energy / (work.m * work.n)
    lead, rest = s2[:k, None], s2[None, k:]
    if not tau2 or lead[-1, 0] <= 0 or (rest.size and lead[-1, 0] <= rest[0, 0]):
        return None
    inside = ((lead + rest) / (lead - rest) ** 2).sum() if rest.size else 0.0
    rms = math.sqrt(tau2 / k * (float(inside) + (size - work.r) * float((1 / lead).sum())))
    return rms if rms <= FIRST_ORDER else None


def angles(work: Work) -> list[dict]:
    """Principal angles in degrees at k = 10 % of r and, where r > 1024, at k = 512."""
    if not work.delta_energy:
        return []
    ks = [rank_of_share(0.1, work.r), *([FIXED_K] if work.r > LONG_R else [])]
    return [
        {"side": side, "k": k, "index": i, "degrees": float(degrees)}
        for k in ks
        for side in ("left", "right")
        for i, degrees in enumerate(np.degrees(np.arcsin(work.sines(side, k)[::-1])), start=1)
    ]


def drift(work: Work) -> dict:
    """Change of the singular values: ||s(T) - s(W)||, over ||s(W)||, over ||D||."""
    s, size = work.base_spectrum.s, math.sqrt(work.delta_energy)
    norm = float(np.linalg.norm(s))
    change = float(np.linalg.norm(work.tuned_spectrum.s - s)) if size else 0.0
    return {
        "drift": change,
        "nss": change / norm,
        "chance": size / norm / math.sqrt(work.long),
        "drift_per_delta": change / size if size else None,
    }


def basis_energies(work: Work) -> list[dict]:
    """Share of ||D||^2 by bins of the base's left (row) and right (column) directions; `outside` is the long side's."""
    edges = [0, *(rank_of_share(share, work.r) for share in BIN_SHARES[1:-1]), work.r]
    edges = np.maximum.accumulate(edges)
    squares = work.far_rows**2
    cells = np.zeros((len(BIN_NAMES), len(BIN_NAMES)))  # far side by short side
    count = len(edges) - 1
    for i in range(count):
        for j in range(count):
            cells[i, j] = squares[edges[i] : edges[i + 1], edges[j] : edges[j + 1]].sum()
    for j in range(count):
        cells[-1, j] = max(work.short_energy[edges[j] : edges[j + 1]].sum() - cells[:-1, j].sum(), 0.0)
    widths = np.diff(edges)
    far = np.append(widths, work.long - work.r) / work.long
    near = np.append(widths, 0) / work.r
    chance = np.outer(far, near)
    if work.far == "right":
        cells, chance = cells.T, chance.T
    total = work.delta_energy
    return [
        {
            "row_bin": a,
            "column_bin": b,
            "energy": float(cells[i, j]) / total if total else None,
            "chance": float(chance[i, j]),
        }
        for i, a in enumerate(BIN_NAMES)
        for j, b in enumerate(BIN_NAMES)
        if chance[i, j] > 0 or cells[i, j] > 1e-9 * total
    ]
