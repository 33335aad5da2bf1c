"""Groups of tensors: blocks, layers, modules, each with its sums, shares and medians."""

import pandas as pd

from opdviz.store.store import Stored
from opdviz.tables.by_tensor import counted, quantities_by_tensor, share_unchanged

GROUPS = {
    "blocks": ["tower", "block"],
    "layers": ["tower", "layer"],
    "modules": ["tower", "block", "module"],
}


def grouped(comparison: Stored, name: str) -> pd.DataFrame:
    """One row a group of tensors: sizes summed, shares of energy and parameters, medians over its moved matrices.

    Tensors with NaN or Inf are left out of every sum and counted in `left_out`.
    """
    tensors_ = quantities_by_tensor(comparison)
    if tensors_.empty:
        return pd.DataFrame()
    clean = counted(tensors_)
    total, parameters = float((clean["delta_norm"] ** 2).sum()), int(clean["numel"].sum())
    by = GROUPS[name]
    rows = [
        dict(zip(by, group)) | group_row(part, total, parameters)
        for group, part in tensors_.groupby(by, dropna=False, sort=True)
    ]
    result = pd.DataFrame(rows)
    return result.astype({"layer": "Int64"}) if "layer" in by else result


MEDIANS = {
    "top16_energy": "top16_energy",
    "stable_rank": "stable_rank",
    "entropy_rank": "entropy_rank",
    "coverage_principal": "principal_coverage",
    "coverage_low_magnitude": "low_magnitude_coverage",
    "projection_joint": "projection_joint",
}


def group_row(part: pd.DataFrame, total: float, parameters: int) -> dict:
    """The summary of one group's tensors."""
    clean = counted(part)
    delta, base = float((clean["delta_norm"] ** 2).sum()), float((clean["base_norm"] ** 2).sum())
    numel = int(clean["numel"].sum())
    energy, parameter = (delta / total if total else None), (numel / parameters if parameters else None)
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
    for label, column in MEDIANS.items():
        value = moved[column].median() if column in moved else None
        row[label] = None if value is None or pd.isna(value) else float(value)
    return row
