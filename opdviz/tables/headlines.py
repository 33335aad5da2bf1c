"""The headline quantities, each once: what it is called in a protocol, by tensor, in groups and in
the lab, and how it is drawn.

Protocols, tables of groups, the overview's strips, the map behind a click on them, and the lab's
results all read this table.
"""

from dataclasses import dataclass

from opdviz.quantities import CHANCE_OF


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One headline quantity.

    `column` is its column by tensor, which a map can show; beside it stands its chance and, for
    some, the `band` of typical blind updates (columns `<band>_low` and `<band>_high`). `protocol`
    is its name among a protocol's rows and the published numbers, `group` its column in tables of
    groups, `lab` that in the lab's results; each is `None` where it has no place.
    """

    column: str
    unit: str = "%"
    protocol: str | None = None
    group: str | None = None
    lab: str | None = None
    band: str | None = None
    median: bool = False  # over moved matrices; otherwise over all coordinates at once
    counted: bool = False  # of coordinates as they are counted; otherwise of the stored values
    strip: str | None = None  # the words beside its strip on the overview
    log: bool = False  # whether that strip is logarithmic

    @property
    def chance(self) -> str | None:
        """The column by tensor of its chance level."""
        return CHANCE_OF.get(self.column)


HEADLINES = (
    Headline(
        column="relative_norm",
        protocol="relative_norm",
        lab="relative_norm",
        strip="relative norm of the update",
        log=True,
    ),
    Headline(
        column="sparsity_absolute",
        protocol="sparsity_absolute_1e-5",
        lab="unchanged_absolute",
        counted=True,
        strip="coordinates unchanged, |D| ≤ 1e-5",
    ),
    Headline(
        column="sparsity_exact", protocol="sparsity_exact", lab="unchanged_exact", counted=True
    ),
    Headline(
        column="top16_energy",
        protocol="top16_energy",
        group="top16_energy",
        lab="top16_energy",
        median=True,
        strip="energy of the top 16 directions",
    ),
    Headline(
        column="stable_rank",
        unit="1",
        protocol="stable_rank",
        group="stable_rank",
        lab="stable_rank",
        median=True,
        strip="stable rank",
        log=True,
    ),
    Headline(column="entropy_rank", unit="1", group="entropy_rank", median=True),
    Headline(
        column="principal_coverage",
        protocol="coverage_principal_10pct",
        group="coverage_principal",
        lab="coverage_principal",
        band="principal_null",
        median=True,
        counted=True,
        strip="moves on principal weights",
    ),
    Headline(
        column="low_magnitude_coverage",
        protocol="coverage_low_magnitude_10pct",
        group="coverage_low_magnitude",
        lab="coverage_low_magnitude",
        band="low_magnitude_null",
        median=True,
        counted=True,
        strip="moves on near-zero weights",
    ),
    Headline(
        column="projection_joint",
        protocol="projection_joint_10pct",
        group="projection_joint",
        lab="projection_joint",
        median=True,
    ),
)
MEDIANS = tuple(headline for headline in HEADLINES if headline.median)
STRIPS = tuple(headline for headline in HEADLINES if headline.strip)
LAB = {headline.protocol: headline.lab for headline in HEADLINES if headline.lab}
# Of one block, and of protocol D.
LAB |= {"energy_share_ffn": "energy_share_ffn", "rank_share": "rank_share"}
