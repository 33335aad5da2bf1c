"""Where the moves of an update turned at random fall (definitions, 6): one of the same singular
values in random directions, added to the base and stored again.

Typical blind updates (coverage.py) move each coordinate by itself. One of low rank does not: a few
rows and columns carry it, they lie somewhere, and that somewhere decides its coverage. Draws say
how far this carries it. The leading directions are drawn as they are, the others as a Gaussian of
their energy, of a sample of the matrix in which every row and every column stands once.
"""

import math
import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from opdviz.checkpoint.formats import rounded
from opdviz.definitions import HEADLINE_SHARE, NULL_RANK, SIXTEEN_BITS, VISIBLE
from opdviz.linalg import Decomposition
from opdviz.linalg.rounding import matching_scale
from opdviz.measures.masks import ALL_SHARES, NAMES, mask_ranks
from opdviz.measures.skipping import SKIPPED, skipped
from opdviz.measures.visibility import NO_NULLS
from opdviz.order import places_of
from opdviz.pairing import Pair

NAME = "turned"
VERSION = 1
NEEDS = "finite matrix"
TABLES = {
    "turned": {
        "name": str,
        "mask": str,
        "share": float,
        "probe": str,
        "threshold": float,
        "precision": str,
        "density": float,
        "turned": float,
        "turned_sd": float,
        "turned_error": float,
        "draws": int,
    },
    "skipped": SKIPPED,
}
DRAWS = 8
SAMPLE = 1 << 16  # coordinates of a draw, whose share is then known to about a part in a hundred
PRINCIPAL = np.uint8(1 << ALL_SHARES.index(HEADLINE_SHARE))
Sample = tuple[np.ndarray, np.ndarray]  # rows (groups, a, 1) and columns (groups, 1, b)


class Draw(NamedTuple):
    """Of one turned update: the coordinates of its sample, how many of them show, and how many of
    those each mask holds.
    """

    size: int
    visible: int
    held: np.ndarray


def rows(pair: Pair, work: Decomposition) -> dict[str, list[dict]]:
    """Rows of `turned`: four masks at the headline's share, probe and precision; none where nothing
    moved.
    """
    tables: dict[str, list[dict]] = {"turned": [], "skipped": []}
    if not pair.float8 and not (work.delta_energy and work.base_spectrum.s[0]):
        return tables
    turning = None if pair.float8 else Turning(work, zlib.crc32(pair.name.encode()))
    if turning is None or turning.scale is None:
        reason = "stored again it does not get its norm back, whatever its scale"
        reason = f"turned at random: {NO_NULLS if pair.float8 else reason}"
        tables["skipped"].append(skipped(pair, NAME, reason))
        return tables
    precision = pair.precisions[-1]
    where = {"name": pair.name, "share": HEADLINE_SHARE, "probe": "absolute"}
    where |= {"threshold": VISIBLE, "precision": precision}
    draws = [turning.draw(precision) for _ in range(DRAWS)]
    tables["turned"] = [where | row for row in summary(draws, work.base.size)]
    return tables


def summary(draws: list[Draw], numel: int) -> list[dict]:
    """Of each mask the mean coverage, its error, and the spread of one such update of all `numel`
    coordinates; missing where no draw shows anything.
    """
    density = sum(draw.visible for draw in draws) / sum(draw.size for draw in draws)
    telling = [draw for draw in draws if draw.visible]
    table = []
    for at, mask in enumerate(NAMES):
        row = {"mask": mask, "density": density, "draws": len(telling)}
        row |= dict.fromkeys(("turned", "turned_sd", "turned_error"))
        if len(telling) > 1:
            coverages = np.array([draw.held[at] / draw.visible for draw in telling])
            mean, variance = float(coverages.mean()), float(coverages.var(ddof=1))
            # A share of so many visible coordinates, of a sample and of all: what the first adds
            # is known and no spread of updates; the second every update has.
            of_one = mean * (1 - mean)
            sampling = of_one * float(np.mean([1 / draw.visible for draw in telling]))
            least = of_one / max(1.0, density * numel)
            row["turned"], row["turned_error"] = mean, math.sqrt(variance / len(telling))
            row["turned_sd"] = math.sqrt(max(least, variance - sampling + least))
        table.append(row)
    return table


class Turning:
    """Updates with the singular values of a pair's own, in random directions.

    `scale` is what they are multiplied with before they are stored, so that what is stored has the
    norm of the update; `None` where nothing gives that.
    """

    def __init__(self, work: Decomposition, seed: int):
        self.work = work
        self.rng = np.random.default_rng(seed)
        members, _ = work.largest_of_base(mask_ranks(work.r))
        # Without the tie at the cut, which is one coordinate.
        self.members = members.reshape(work.base.shape)
        s = work.delta_spectrum.s
        self.leading = s[:NULL_RANK].astype(np.float32)
        tail = float(np.sum(s[NULL_RANK:] ** 2))
        self.noise = np.float32(math.sqrt(tail / work.base.size))
        self.groups = min(max(1, work.base.size // SAMPLE), work.r)
        self.scale: float | None = 1.0
        if work.form in SIXTEEN_BITS:
            self.scale = self.norm_keeping()

    def sample(self) -> Sample:
        """Places of a sample: the rows and the columns are dealt to groups, and a group's rows meet
        its columns.

        So a sample has every row and every column, and no row or column decides it.
        """
        m, n = self.work.base.shape
        a, b = m // self.groups, n // self.groups
        rows_ = self.rng.permutation(m)[: self.groups * a].reshape(self.groups, a, 1)
        return rows_, self.rng.permutation(n)[: self.groups * b].reshape(self.groups, 1, b)

    def update(self, sample: Sample) -> Float[np.ndarray, "groups a b"]:
        """A turned update at the places of a sample."""
        left, right = (
            np.linalg.qr(self.rng.standard_normal((size, self.leading.size), dtype=np.float32))[0]
            for size in self.work.base.shape
        )
        rows_, columns = sample
        update = (left[rows_[:, :, 0]] * self.leading) @ right[columns[:, 0]].transpose(0, 2, 1)
        if self.noise:
            update += self.noise * self.rng.standard_normal(update.shape, dtype=np.float32)
        return update

    def norm_keeping(self) -> float | None:
        """The scale at which a draw, once stored, has the norm of the update."""
        sample = self.sample()
        base, origin, update = self.work.base[sample], self.work.origin[sample], self.update(sample)

        def norm_at(scale: float) -> float:
            change = rounded(origin + np.float32(scale) * update, self.work.form) - base
            return math.sqrt(float(np.sum(change**2)) * self.work.base.size / change.size)

        return matching_scale(norm_at, math.sqrt(self.work.delta_energy))

    def draw(self, precision: str) -> Draw:
        """One turned update, stored, in a sample of its own."""
        sample = self.sample()
        base = self.work.base[sample]
        update = np.float32(self.scale) * self.update(sample)
        tuned = rounded(self.work.origin[sample] + update, self.work.form)
        if precision == "bfloat16":
            base, tuned = rounded(base, precision), rounded(tuned, precision)
        visible = np.abs(tuned - base) > VISIBLE
        principal = self.members[sample] & PRINCIPAL != 0
        low = smallest(np.abs(base))
        in_low, in_both = float(low[visible].sum()), float(low[visible & principal].sum())
        count = int(np.count_nonzero(visible))
        not_low = int(np.count_nonzero(visible & principal)) - in_both
        held = np.array([not_low + in_both, in_low, not_low, count - not_low])
        return Draw(visible.size, count, held)


def smallest(sizes: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The weight of each element in the mask of the smallest: 1, 0, or a tie's part."""
    places = places_of(HEADLINE_SHARE, sizes.size)
    cut = np.partition(sizes.reshape(-1), places - 1)[places - 1]
    weights, tied = (sizes < cut).astype(np.float64), sizes == cut
    weights[tied] = (places - weights.sum()) / np.count_nonzero(tied)
    return weights
