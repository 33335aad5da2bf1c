"""The one dictionary of quantities: what every stored column and every number on a page means.

The texts stand in `quantities.toml`. Axis titles, tooltips, the methods page and the tests of
bounds all read them here.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).with_suffix(".toml")
BOUNDS = {"share": {"low": 0.0, "high": 1.0}, "count": {"low": 0.0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One column of one or more tables. `low` and `high` bound its values; `unit` is '1' for a
    plain number and empty for a word.
    """

    name: str
    label: str
    meaning: str
    unit: str = ""
    formula: str = ""
    low: float | None = None
    high: float | None = None
    chance: str = ""
    pitfall: str = ""
    source: str = ""
    log: bool = False

    @property
    def text(self) -> str:
        """All that is said of it, for a search."""
        texts = (self.name, self.label, self.meaning, self.formula, self.chance, self.pitfall)
        return " ".join((*texts, self.source))


def quantity(name: str, texts: dict) -> Quantity:
    """A quantity from its table; shares and counts have bounds of their own."""
    return Quantity(name=name, **BOUNDS.get(texts.get("unit"), {}) | texts)


QUANTITIES = {
    name: quantity(name, texts) for name, texts in tomllib.loads(TEXTS.read_text("utf-8")).items()
}
# What a map can show, the most asked for first.
MAPPED = (
    "relative_norm",
    "sparsity_absolute",
    "sparsity_relative",
    "sparsity_exact",
    "sign_flips",
    "stable_rank",
    "entropy_rank",
    "entropy_rank_relative",
    "entropy_rank_tuned",
    "top16_energy",
    "top_rows",
    "top_columns",
    "projection_joint",
    "projection_left",
    "projection_right",
    "rotation_left",
    "rotation_right",
    "intruders",
    "nss",
    "isospectral_residual",
    "principal_coverage",
    "low_magnitude_coverage",
    "cosine",
    "shrink",
    "delta_norm",
    "delta_rms",
    "delta_max",
    "delta_mean_abs",
    "base_norm",
    "base_rms",
    "numel",
)
# The column by tensor in which the chance level of another column stands.
CHANCE_OF = {
    "sign_flips": "sign_flips_chance",
    "stable_rank": "stable_rank_chance",
    "top16_energy": "top16_chance",
    "top_rows": "top_rows_chance",
    "top_columns": "top_columns_chance",
    "intruders": "intruders_chance",
    "nss": "nss_chance",
    "isospectral_residual": "isospectral_residual_chance",
    "principal_coverage": "principal_typical",
    "low_magnitude_coverage": "low_magnitude_typical",
    **{f"projection_{side}": f"projection_{side}_chance" for side in ("joint", "left", "right")},
    **{f"rotation_{side}": f"rotation_{side}_chance" for side in ("left", "right")},
}
