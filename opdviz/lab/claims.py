"""What the papers claim, and whether the lab's runs show it: each claim a question with a written rule.

A rule looks at every seed. `seen here` and `opposite here` need all seeds on one side; anything between is `not seen here`.
Differences of accuracy count from `MARGIN` on, twice the standard error of the difference of two runs graded on the same
2,000 problems where one in twenty answers differs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from opdviz import published
from opdviz.words import number, percent

SEEN, NOT_SEEN, OPPOSITE, UNKNOWN = "seen here", "not seen here", "opposite here", "not measured yet"
MARGIN = 0.01
RECOVERS = 0.9
RANDOM = "random mask same density"


@dataclass(frozen=True)
class Runs:
    """The lab's tables, and the columns of the runs by recipe."""

    tables: dict[str, pd.DataFrame]

    def of(self, recipe: str, column: str) -> pd.Series:
        """A column of a recipe's runs by seed; empty where there is none."""
        runs = self.tables["runs"]
        if runs.empty or column not in runs:
            return pd.Series(dtype=float)
        return runs[runs["recipe"] == recipe].set_index("seed")[column].dropna().astype(float).sort_index()

    @property
    def before(self) -> float | None:
        """The base's accuracy on the test problems; `None` where it is not known."""
        known = self.of("base", "test")
        return float(known.iloc[0]) if len(known) else None


@dataclass(frozen=True)
class Claim:
    """A claim: its words, where the paper's numbers stand, and the rule, which gives a verdict and one sentence."""

    says: str
    numbers: Callable[[], str]
    rule: Callable[[Runs], tuple[str, str]]


def decide(differences: pd.Series, margin: float = 0.0) -> str:
    """Seen where every seed's difference is above the margin, opposite where every one is below its negative."""
    if differences.empty or differences.isna().any():
        return UNKNOWN
    if (differences > margin).all():
        return SEEN
    return OPPOSITE if (differences < -margin).all() else NOT_SEEN


def several(values: pd.Series, form: Callable[[float], str] = percent) -> str:
    """Values of the seeds as text; once where they read alike.

    >>> several(pd.Series([0.5, 0.25])), several(pd.Series([0.5, 0.5]))
    ('50 % and 25 %', '50 %')
    """
    told = [form(v) for v in values]
    return told[0] if len(set(told)) == 1 else ", ".join(told[:-1]) + " and " + told[-1]


def all_there(runs: Runs, *wanted: tuple[str, str]) -> bool:
    """Whether every column of every recipe is known."""
    return all(len(runs.of(*one)) for one in (("base", "test"), *wanted))


def sparse(runs: Runs) -> tuple[str, str]:
    """OPD leaves more unchanged than supervised training on the teacher's samples."""
    column = "unchanged_absolute"
    if not all_there(runs, ("opd", column), ("offline_distillation", column)):
        return UNKNOWN, ""
    opd, offline = runs.of("opd", column), runs.of("offline_distillation", column)
    told = f"OPD leaves {several(opd)} unchanged, offline distillation {several(offline)}, at one rate and length."
    return decide(
        (opd - offline).dropna(), MARGIN
    ), told + " How sparse it is follows from the learning rate: see the map."


def spread(runs: Runs) -> tuple[str, str]:
    """Every layer holds between half and twice its share of the visible coordinates, and FFN more energy than its share."""
    layers, ffn = runs.tables["layers"], runs.of("opd", "energy_share_ffn")
    chance = runs.of("opd", "energy_share_ffn_chance")
    if layers.empty or ffn.empty:
        return UNKNOWN, ""
    mine = layers[layers["recipe"] == "opd"]
    ratio = mine["visible_share"] / mine["parameter_share"]
    told = (
        f"Layers hold {number(ratio.min(), 2)} to {number(ratio.max(), 2)} times their share of the visible coordinates; "
        f"FFN holds {several(ffn)} of the energy with {percent(chance.iloc[0])} of the parameters."
    )
    even = ratio.between(0.5, 2).all()
    verdict = decide(ffn - chance, MARGIN)
    return (verdict if even else NOT_SEEN), told


def concentrated(runs: Runs) -> tuple[str, str]:
    """Full rank at float32's tolerance, and more energy in the top 16 than a Gaussian update has."""
    if not all_there(runs, ("opd", "top16_energy"), ("opd", "rank_share")):
        return UNKNOWN, ""
    energy, chance, rank = (runs.of("opd", c) for c in ("top16_energy", "top16_energy_chance", "rank_share"))
    told = (
        f"Rank {several(rank)} of full; the top 16 directions hold {several(energy)} of the energy in the median matrix, "
        f"a Gaussian's {percent(chance.iloc[0])}."
    )
    tail = runs.of("opd", "tail_like_rounding")
    if len(tail):
        told += f" In {several(tail)} of the matrices the tail cannot be told from a rank-16 update stored as bf16."
    full = (rank > 0.95).all()
    verdict = decide(energy / chance - 1, 0.5)
    return (verdict if full else NOT_SEEN), told


def banded(mask: str, *, above: bool) -> Callable[[Runs], tuple[str, str]]:
    """Coverage of a mask beyond the band of blind updates, on the side that the paper says."""

    def rule(runs: Runs) -> tuple[str, str]:
        name = f"coverage_{mask}"
        if not all_there(runs, ("opd", name)):
            return UNKNOWN, ""
        value, low, high = (runs.of("opd", c) for c in (name, f"{name}_null_low", f"{name}_null_high"))
        told = (
            f"{several(value)} of the visible coordinates lie there in the median matrix; chance 10 %, "
            f"blind updates of the same weights {percent(low.min())} to {percent(high.max())}."
        )
        beyond, beside = (value - high, low - value) if above else (low - value, value - high)
        return (SEEN if (beyond > 0).all() else OPPOSITE if (beside > 0).all() else NOT_SEEN), told

    return rule


def off_principal(runs: Runs) -> tuple[str, str]:
    """Less of the update's energy inside the base's leading directions than a blind update puts there."""
    if not all_there(runs, ("opd", "projection_joint")):
        return UNKNOWN, ""
    ratio = runs.of("opd", "projection_joint") / runs.of("opd", "projection_joint_chance")
    told = f"The leading 10 % of both sides hold {several(ratio, number)} times what a blind update puts there."
    return decide(1 - ratio), told


def recovers(runs: Runs) -> tuple[str, str]:
    """Training the subnetwork alone brings nine tenths of the gain."""
    if not all_there(runs, ("opd", "test"), ("opd_subnetwork", "test")):
        return UNKNOWN, ""
    share = ((runs.of("opd_subnetwork", "test") - runs.before) / (runs.of("opd", "test") - runs.before)).dropna()
    told = f"{several(share)} of the gain of full training."
    return (SEEN if (share >= RECOVERS).all() else OPPOSITE if (share <= 0).all() else NOT_SEEN), told


def beats_random(runs: Runs) -> tuple[str, str]:
    """The OPD mask trains better than as many random coordinates."""
    if not all_there(runs, ("opd_subnetwork", "test"), ("opd_random_mask", "test")):
        return UNKNOWN, ""
    mine, random = runs.of("opd_subnetwork", "test"), runs.of("opd_random_mask", "test")
    difference = (mine - random).dropna()
    won = f"{int((difference > 0).sum())} of {len(difference)} seeds"
    told = f"The OPD mask beats random in {won}: {several(mine)} against {several(random)}."
    return decide(difference, MARGIN), told


def other_mask(runs: Runs) -> tuple[str, str]:
    """Training on the mask of a reinforcement learning run brings nine tenths of the gain too."""
    if not all_there(runs, ("opd", "test"), ("grpo_subnetwork", "test")):
        return UNKNOWN, ""
    share = ((runs.of("grpo_subnetwork", "test") - runs.before) / (runs.of("opd", "test") - runs.before)).dropna()
    density = runs.of("grpo_subnetwork", "mask_density")
    told = f"{several(share)} of the gain of full training, with {several(density)} of the coordinates."
    return (SEEN if (share >= RECOVERS).all() else OPPOSITE if (share <= 0).all() else NOT_SEEN), told


def behind(runs: Runs) -> tuple[str, str]:
    """SGD at its best learning rate ends below AdamW at its best."""
    sgd, adamw = (tuned(runs, optimizer) for optimizer in ("SGD", "AdamW"))
    if sgd is None or adamw is None:
        return UNKNOWN, ""
    both = (adamw["test"] - sgd["test"]).dropna()
    told = (
        f"At their best learning rates, AdamW {adamw['learning_rate'].iloc[0]:g} and SGD {sgd['learning_rate'].iloc[0]:g}: "
        f"{several(adamw['test'])} against {several(sgd['test'])} after as many steps."
    )
    for share, words in ((0.75, "three quarters"), (0.5, "half")):
        best = [sparsest(runs.tables["curve"], optimizer, share) for optimizer in ("AdamW", "SGD")]
        if None not in best:
            told += f" While {words} of the coordinates are unchanged, at best {several(pd.Series(best))} (validation)."
    return decide(both, MARGIN), told


def sparsest(curve: pd.DataFrame, optimizer: str, share: float) -> float | None:
    """The best validation accuracy that an optimizer's grid meets while a share of the bf16 coordinates is unchanged."""
    if curve.empty:
        return None
    rows = curve[(curve["optimizer"] == optimizer) & curve["groups"].str.contains("ablation")]
    rows = rows[(rows["seed"] == rows["seed"].min()) & (rows["unchanged_exact"] >= share)]
    return None if rows.empty else float(rows["accuracy"].max())


def best_rate(runs: pd.DataFrame, optimizer: str) -> float | None:
    """The learning rate of an optimizer's grid that did best on validation in the first seed; no grid below five rates."""
    if runs.empty:
        return None
    rows = runs[(runs["optimizer"] == optimizer) & runs["groups"].str.contains("ablation")]
    first = rows[rows["seed"] == rows["seed"].min()]
    return None if len(first) < 5 else float(first.loc[first["validation"].idxmax(), "learning_rate"])


def at_best_rates(found: dict[str, pd.DataFrame], table: str) -> pd.DataFrame:
    """The rows of a table from the ablation's runs at the learning rate that was best for their optimizer."""
    rows = found[table]
    if rows.empty:
        return rows
    best = {optimizer: best_rate(found["runs"], optimizer) for optimizer in rows["optimizer"].unique()}
    return rows[rows["groups"].str.contains("ablation") & (rows["learning_rate"] == rows["optimizer"].map(best))]


def tuned(runs: Runs, optimizer: str) -> pd.DataFrame | None:
    """OPD with an optimizer at its best learning rate, by seed; `None` where it was not tuned."""
    if not all_there(runs, ("opd", "test")) or best_rate(runs.tables["runs"], optimizer) is None:
        return None
    rows = at_best_rates(runs.tables, "runs")
    return rows[rows["optimizer"] == optimizer].set_index("seed").sort_index()


def shared(runs: Runs) -> tuple[str, str]:
    """OPD and GRPO move the same coordinates more than the sizes of the weights explain."""
    table = runs.tables["overlap"]
    rows = table[(table["run_a"] == "opd") & (table["run_b"] == "grpo")] if len(table) else table
    if rows.empty:
        return UNKNOWN, ""
    by_seed = rows.set_index("seed_a")
    chance, given = by_seed["both"] / by_seed["chance_both"], by_seed["both"] / by_seed["expected_both"]
    told = f"{several(chance, number)} times chance, {several(given, number)} times what the sizes of weights explain."
    return decide(given - 1, 0.05), told


def quoted(quantity: str, recipe: str = "OPD", unit: str = "%") -> Callable[[], str]:
    """The range of a paper's numbers for a recipe."""

    def text() -> str:
        rows = [r for r in published.rows(quantity, protocol="A") if r["recipe"] == recipe]
        values = sorted(r["value"] for r in rows)
        return f"{number(values[0])} to {number(values[-1])} {unit} ({len(rows)} pairs)" if values else ""

    return text


def scores(*recipes: str) -> Callable[[], str]:
    """The paper's scores of some ways to train."""

    def text() -> str:
        rows = [r for r in published.rows("score_peak_aime_mean16") if r["recipe"] in recipes]
        return ", ".join(f"{r['recipe']} {r['value']:g} %" for r in rows)

    return text


def covered() -> str:
    """The paper's overlap of OPD and RLVR masks."""
    rows = {(r["pair"], r["quantity"]): r["value"] for r in published.numbers() if r["recipe"] == "overlap"}
    pair = "DS-Qwen OPD in DeepScaleR RLVR"
    return f"{rows[pair, 'a_in_b']:g} % of the OPD mask, chance {rows[pair, 'a_in_b_chance']:g} %"


PRINCIPAL, SMALL = (f"coverage_{mask}_10pct" for mask in ("principal", "low_magnitude"))
CLAIMS = (
    Claim("OPD changes fewer coordinates than offline distillation.", quoted("sparsity_absolute_1e-5"), sparse),
    Claim("Changes are spread over the layers and heavy in FFN.", quoted("energy_share_ffn"), spread),
    Claim("Updates are full-rank by count, yet concentrated.", quoted("top16_energy"), concentrated),
    Claim("Updates lie off the base's leading directions.", lambda: "below 1 % at 10 % (chance: 1 %)", off_principal),
    Claim("Few moved coordinates are principal weights.", quoted(PRINCIPAL), banded("principal", above=False)),
    Claim("Moved coordinates are weights near zero.", quoted(SMALL), banded("low_magnitude", above=True)),
    Claim("The subnetwork alone recovers nearly everything.", scores("full training", "OPD mask only"), recovers),
    Claim("A random mask of its density does worse.", scores("OPD mask only", RANDOM), beats_random),
    Claim("The mask of RL serves as well.", scores("full training", "RLVR mask only"), other_mask),
    Claim("OPD and RL move the same coordinates.", covered, shared),
    Claim("SGD falls behind AdamW.", scores("AdamW 1e-6", "SGD 1e-2"), behind),
)


def verdicts(tables: dict[str, pd.DataFrame]) -> list[dict]:
    """Every claim: what the paper says and gives, what the runs here give, and the verdict."""
    runs, rows = Runs(tables), []
    for claim in CLAIMS:
        verdict, told = claim.rule(runs)
        rows.append({"claim": claim.says, "published": claim.numbers(), "here": told, "verdict": verdict})
    return rows


def tally(rows: list[dict]) -> str:
    """How many verdicts there are of each kind.

    >>> tally([{"verdict": SEEN}, {"verdict": SEEN}, {"verdict": UNKNOWN}])
    '2 seen here, 0 not seen here, 0 opposite here, 1 not measured yet'
    """
    counts = {kind: sum(row["verdict"] == kind for row in rows) for kind in (SEEN, NOT_SEEN, OPPOSITE, UNKNOWN)}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count or kind != UNKNOWN)
