"""Groups of tensors: blocks, layers, modules, each with its sums, shares and medians."""

import pandas as pd

from opdviz.store.store import Stored
from opdviz.tables.by_tensor import counted, quantities_by_tensor, share_unchanged
from opdviz.tables.headlines import MEDIANS

GROUPS = {
    "blocks": ["tower", "block"],
    "layers": ["tower", "layer"],
    "modules": ["tower", "block", "module"],
}


def grouped(comparison: Stored, name: str) -> pd.DataFrame:
    """One row a group of tensors: sizes summed, shares of energy and parameters, medians over its
    moved matrices.

    Tensors with NaN or Inf are left out of every sum and counted in `left_out`.
    """
    tensors_ = quantities_by_tensor(comparison)
    if tensors_.empty:
        return pd.DataFrame()
    clean = counted(tensors_)
    total, parameters = float((clean["delta_norm"] ** 2).sum()), int(clean["numel"].sum())
    by = GROUPS[name]
    rows = [
        dict(zip(by, group, strict=True)) | group_row(part, total, parameters)
        for group, part in tensors_.groupby(by, dropna=False, sort=True)
    ]
    result = pd.DataFrame(rows)
    return result.astype({"layer": "Int64"}) if "layer" in by else result


def group_row(part: pd.DataFrame, total: float, parameters: int) -> dict:
    """The summary of one group's tensors."""
    clean = counted(part)
    delta, base = float((clean["delta_norm"] ** 2).sum()), float((clean["base_norm"] ** 2).sum())
    numel = int(clean["numel"].sum())
    energy, parameter = (
        (delta / total if total else None),
        (numel / parameters if parameters else None),
    )
    row = {
        "tensors": len(part),
        "tensors_moved": int((part["moved"] > 0).sum()),
        "left_out": len(part) - len(clean),
        "numel": numel,
        "moved": int(clean["moved"].sum()),
        "relative_norm": (delta / base) ** 0.5 if base else None,
        "energy_share": energy,
        "parameter_share": parameter,
        "enrichment": energy / parameter if energy is not None and parameter else None,
    }
    for probe in ("absolute", "relative"):
        row[f"sparsity_{probe}"] = share_unchanged(clean, probe)
    moved = clean[clean["moved"] > 0]
    for headline in MEDIANS:
        value = moved[headline.column].median() if headline.column in moved else None
        row[headline.group] = None if value is None or pd.isna(value) else float(value)
    return row
