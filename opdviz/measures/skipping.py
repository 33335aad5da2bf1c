"""Why a tensor has no rows of a measure: the table `skipped`, which every measure may write."""

from opdviz.pairing import Pair

SKIPPED = {"name": str, "measure": str, "reason": str}


def skipped(pair: Pair, measure: str, reason: str) -> dict[str, str]:
    """A row that says why a measure has nothing, or less, to say of a pair."""
    return {"name": pair.name, "measure": measure, "reason": reason}
