"""Public pairs with published numbers, and a comparison's own numbers beside them.

Two papers that counted the same files differ by up to 0.9 points (Polaris-4B: 2606.07082 and
2511.08567): shares are held to that, everything else to the digits that were printed.
"""

import csv
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from opdviz.errors import RequestError, one_line
from opdviz.store.store import Stored
from opdviz.tables import by_tensor, protocols, published, stored

POINTS = 0.9  # of shares in percent
OF_VALUE = 0.2  # at most this part of a small share
DIGITS = 0.02  # of norms, ranks and singular values, which are printed to two or three digits
EXACTLY = 1e-3  # of what a script wrote in full, in float32
SCRIPTS = ("rlvr-geometry",)
PROTOCOL_OF = {paper: protocol for protocol, paper in published.PAPERS.items()}
OF_MATRIX = re.compile(r"(?P<pair>.+) layer (?P<layer>\d+) (?P<module>\w+)")
SIGMA = re.compile(r"sigma_(?P<index>\d+)_(?P<matrix>base|tuned)")
MISSING = "nothing stored says it"


class PublicPair(NamedTuple):
    """A pair of models on a hub: what to call it, where its sides are, how the papers call it."""

    name: str
    base: str
    tuned: str
    recipe: str
    parameters: str
    pair: str

    @property
    def numbers(self) -> list[dict]:
        """Its published numbers."""
        return [row for row in published.numbers() if matrix_of(row)[0] == self.pair]


@lru_cache(maxsize=1)
def pairs() -> dict[str, PublicPair]:
    """All of them, by name."""
    with open(Path(__file__).with_name("public_pairs.csv"), newline="") as file:
        return {row["name"]: PublicPair(**row) for row in csv.DictReader(file)}


def pair_of(name: str) -> PublicPair:
    """The pair of a name.

    Raises
        RequestError: there is none.
    """
    if name not in pairs():
        raise RequestError(
            f"reproduce: no pair {one_line(name, limit=40)!r}; there are: {', '.join(pairs())}."
        )
    return pairs()[name]


def matrix_of(row: dict) -> tuple[str, str | None]:
    """The pair that a published row is of, and the end of the tensor's name where it is of one."""
    if match := OF_MATRIX.fullmatch(row["pair"]):
        return match["pair"], f"layers.{match['layer']}.{part_of(match['module'])}.weight"
    return row["pair"], None


def part_of(module: str) -> str:
    """A projection with the module that holds it."""
    block = "mlp" if module in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return f"{block}.{module}"


def tolerance(row: dict) -> float:
    """How far from a published number one of the same files may be, in its unit.

    >>> tolerance({"paper": "2511.08567", "quantity": "sparsity_relative_1e-3", "value": 53.8,
    ...     "unit": "%"})
    0.9
    """
    value = abs(row["value"])
    if row["paper"] in SCRIPTS:
        return EXACTLY * value
    if row["unit"] == "%" and row["quantity"] != "relative_norm":
        return min(POINTS, OF_VALUE * value)
    return DIGITS * value


def beside(comparison: Stored, pair: PublicPair) -> list[dict]:
    """Every published number of a pair with the comparison's own: paper, quantity, tensor, theirs,
    ours, unit, difference, tolerance, within.

    Missing where nothing that is stored says it; `within` is then missing as well.
    """
    return [
        {
            "paper": row["paper"],
            "quantity": row["quantity"],
            "tensor": matrix_of(row)[1],
            "theirs": row["value"],
            "ours": (ours := own(comparison, row)),
            "unit": row["unit"],
            "difference": None if ours is None else ours - row["value"],
            "tolerance": tolerance(row),
            "within": None if ours is None else abs(ours - row["value"]) <= tolerance(row),
        }
        for row in pair.numbers
    ]


def own(comparison: Stored, row: dict) -> float | None:
    """The comparison's own number for a published one, in its unit."""
    _, tensor = matrix_of(row)
    if tensor is not None:
        return of_matrix(comparison, tensor, row["quantity"])
    if row["quantity"] == "moved_bf16":
        tensors = by_tensor.counted(by_tensor.quantities_by_tensor(comparison))
        unchanged = by_tensor.share_unchanged(tensors, "exact")
        return None if unchanged is None else 100 * (1 - unchanged)
    if (protocol := PROTOCOL_OF.get(row["paper"])) is None:
        return None
    values = {one["quantity"]: one["value"] for one in protocols.headline(comparison, protocol)}
    values |= {theirs: values[ours] for ours, theirs in published.ALIASES.items() if ours in values}
    return values.get(row["quantity"])


def of_matrix(comparison: Stored, tensor: str, quantity: str) -> float | None:
    """A quantity of the one matrix whose name ends so."""
    tensors = stored.tensors(comparison)
    rows = tensors[tensors["name"].str.endswith(tensor)] if len(tensors) else tensors
    if len(rows) != 1:
        return None
    if match := SIGMA.fullmatch(quantity):
        spectrum = stored.read(comparison, "spectrum")
        if spectrum.empty:
            return None
        at = (spectrum["name"] == rows["name"].iloc[0]) & (spectrum["matrix"] == match["matrix"])
        values = spectrum.loc[at & (spectrum["index"] == int(match["index"])), "sigma"]
        return float(values.iloc[0]) if len(values) else None
    return float(rows[quantity].iloc[0]) if quantity in rows else None
