"""The rules by which a claim is judged: each looks at every seed that has what it asks for."""

from collections.abc import Callable

import pandas as pd

from opdviz.definitions import ERRORS, NO_POWER
from opdviz.lab.judging import (
    NOT_JUDGED,
    NOT_SEEN,
    OPPOSITE,
    SEEN,
    UNKNOWN,
    Judgement,
    Runs,
    gap,
    judged,
    points,
    several,
)
from opdviz.words import number, percent

SHARE_MARGIN = 0.01  # of all coordinates: their number makes sampling errors vanish
# Of full training's gain: "nearly everything", as the paper says of its subnetworks.
RECOVERS = 0.9
# Margins that full training must have gained for a share of its gain to mean anything.
ENOUGH_GAIN = 5.0
HEAVY = 0.2  # enrichment beyond one
CONCENTRATED = 0.5  # energy of the top 16 beyond a Gaussian's, as a share of it
# Of r: a rank from here on is full.
FULL = 0.95
# Of overlap beyond what sizes and rows explain: less is within what they leave out.
SHARED = 0.05


def all_there(runs: Runs, *wanted: tuple[str, str]) -> bool:
    """Whether every column of every recipe is known."""
    return all(len(runs.column(*one)) for one in (("base", "test"), *wanted))


def sparse(runs: Runs) -> Judgement:
    """OPD leaves more unchanged than supervised training on the teacher's samples."""
    column = "unchanged_absolute"
    if not all_there(runs, ("opd", column), ("offline_distillation", column)):
        return Judgement(UNKNOWN)
    opd, offline = runs.of("opd", column), runs.of("offline_distillation", column)
    text = (
        f"OPD moves {several(opd)} of the coordinates by no more than 1e-5, offline distillation"
        f" {several(offline)}, at one rate and length. How sparse it is follows from the learning"
        " rate: see the map."
    )
    return judged((opd - offline).dropna(), SHARE_MARGIN, text)


def spread(runs: Runs) -> Judgement:
    """Every layer holds between half and twice its share of the visible coordinates, and FFN 1.2
    times its share of energy.
    """
    layers, ffn = runs.tables["layers"], runs.of("opd", "energy_share_ffn")
    if layers.empty or ffn.empty:
        return Judgement(UNKNOWN)
    enrichment = ffn / runs.of("opd", "energy_share_ffn_chance")
    opd_layers = layers[layers["recipe"] == "opd"]
    ratio = opd_layers["visible_share"] / opd_layers["parameter_share"]
    text = (
        f"Layers hold {number(ratio.min(), 2)} to {number(ratio.max(), 2)} times their share of the"
        f" visible coordinates; FFN holds {several(ffn)} of the energy,"
        f" {several(enrichment, number)} times its share of the parameters."
    )
    heavy = judged((enrichment - 1).dropna(), HEAVY, text)
    return heavy if ratio.between(0.5, 2).all() else Judgement(NOT_SEEN, text, heavy.seeds)


def concentrated(runs: Runs) -> Judgement:
    """More energy in the top 16 than a Gaussian update has, and a rank by count that is not the
    storage's doing.
    """
    if not all_there(runs, ("opd", "top16_energy"), ("opd", "rank_share"), ("opd", "tail_like")):
        return Judgement(UNKNOWN)
    energy, chance, rank, like = (
        runs.of("opd", c)
        for c in ("top16_energy", "top16_energy_chance", "rank_share", "tail_like")
    )
    text = (
        f"The top 16 directions hold {several(energy)} of the median matrix's energy, a Gaussian's"
        f" {percent(chance.iloc[0])}. In {several(like)} of the matrices the tail cannot be told"
        " from a rank-16 update and rounding (median position"
        f" {several(runs.of('opd', 'tail_position'), number)})"
    )
    storage = (like >= 0.5).any()
    text += (
        ": their rank by count is the storage's doing."
        if storage
        else f"; rank by count {several(rank)}."
    )
    excess = (energy / chance - 1)[like.index].dropna()
    verdict = judged(excess, CONCENTRATED, text)
    whole = (rank[like.index] > FULL).all() and not storage
    return verdict if whole or verdict.verdict != SEEN else Judgement(NOT_SEEN, text, verdict.seeds)


def banded(mask: str, *, above: bool) -> Callable[[Runs], Judgement]:
    """Coverage of a mask beyond any blind update's, on the side that the paper says."""

    def rule(runs: Runs) -> Judgement:
        name = f"coverage_{mask}"
        if not all_there(runs, ("opd", name), ("opd", f"{name}_blind_low")):
            return Judgement(UNKNOWN)
        low, high = (runs.of("opd", f"{name}_blind_{end}") for end in ("low", "high"))
        value = runs.of("opd", name)[low.index]
        least, most = (runs.of("opd", f"{name}_null_{end}")[low.index] for end in ("low", "high"))
        text = (
            f"{several(value)} of the visible coordinates lie there in the median matrix; typical"
            f" blind updates of the same weights {percent(least.min())} to {percent(most.max())},"
            f" all of them {percent(low.min())} to {percent(high.max())}."
        )
        if (high - low > NO_POWER).any():
            return Judgement(
                NOT_JUDGED,
                text + " Blind updates could give almost any share: this cannot be told here.",
                len(value),
            )
        beyond, beside = (value - high, low - value) if above else (low - value, value - high)
        verdict = SEEN if (beyond > 0).all() else OPPOSITE if (beside > 0).all() else NOT_SEEN
        return Judgement(verdict, text, len(value))

    return rule


def off_principal(runs: Runs) -> Judgement:
    """Less of the update's energy inside the base's leading directions than a blind update puts
    there, beyond its spread.
    """
    if not all_there(runs, ("opd", "projection_ratio"), ("opd", "projection_ratio_sd")):
        return Judgement(UNKNOWN)
    ratio, sd = (runs.of("opd", c) for c in ("projection_ratio", "projection_ratio_sd"))
    profile = runs.of("opd", "projection_profile_ratio")
    text = (
        f"The leading 10 % of both sides hold {several(ratio, number)} times what a blind update"
        f" puts there (spread of the median {several(sd, number)}), {several(profile, number)}"
        " times what the same row and column energies would."
    )
    return judged(1 - ratio, ERRORS * sd, text)


def recovery(runs: Runs, recipe: str, more: str = "") -> Judgement:
    """Whether a run brings nine tenths of what full training gained; not judged where that was
    little.
    """
    if not all_there(runs, ("opd", "test"), (recipe, "test")):
        return Judgement(UNKNOWN)
    full, part = gap(runs, "opd", "base"), gap(runs, recipe, "base")
    both = full.differences.index.intersection(part.differences.index)
    gain, margin = full.differences[both], full.margins[both]
    text = f"Full training gained {points(gain)}, this {points(part.differences[both])}{more}."
    if len(both) and not (gain > ENOUGH_GAIN * margin).all():
        reason = (
            f" A share of a gain is judged from five margins on ({points(ENOUGH_GAIN * margin)})."
        )
        return Judgement(NOT_JUDGED, text + reason, len(both))
    share = part.differences[both] / gain
    if share.empty:
        return judged(share, 0.0, text)
    verdict = SEEN if (share >= RECOVERS).all() else OPPOSITE if (share <= 0).all() else NOT_SEEN
    return Judgement(verdict, f"{text} That is {several(share)}.", len(both))


def recovers(runs: Runs) -> Judgement:
    """Training the subnetwork alone brings nine tenths of the gain."""
    return recovery(runs, "opd_subnetwork")


def beats_random(runs: Runs) -> Judgement:
    """The OPD mask trains better than as many random coordinates."""
    return against_random(runs, "opd_subnetwork", "opd_random_mask", "OPD")


def against_random(runs: Runs, recipe: str, random: str, whose: str) -> Judgement:
    """Whether a mask trains better than a random one of its own density."""
    if not all_there(runs, (recipe, "test"), (random, "test")):
        return Judgement(UNKNOWN)
    difference = gap(runs, recipe, random)
    won = f"{int((difference.differences > 0).sum())} of {difference.seeds} seeds"
    text = (
        f"The {whose} mask beats random in {won}: {several(runs.of(recipe, 'test'))} against"
        f" {several(runs.of(random, 'test'))} (margin {points(difference.margins)})."
    )
    return judged(difference.differences, difference.margins, text)


def other_mask(runs: Runs) -> Judgement:
    """Training on the mask of a reinforcement learning run brings as much, and more than a random
    mask of its density.
    """
    density = runs.of("grpo_subnetwork", "mask_density")
    whole = recovery(runs, "grpo_subnetwork", f", with {several(density)} of the coordinates")
    if whole.verdict != SEEN:
        return whole
    control = against_random(runs, "grpo_subnetwork", "grpo_random_mask", "RL")
    if control.verdict == UNKNOWN:
        return Judgement(
            NOT_JUDGED,
            f"{whole.text} No run has a random mask of its density to compare with.",
            whole.seeds,
        )
    verdict = SEEN if control.verdict == SEEN else NOT_SEEN
    return Judgement(verdict, f"{whole.text} {control.text}", min(whole.seeds, control.seeds))


def behind(runs: Runs) -> Judgement:
    """SGD at its best learning rate ends below AdamW at its best."""
    sgd, adamw = (tuned(runs, optimizer) for optimizer in ("SGD", "AdamW"))
    if sgd is None or adamw is None:
        return Judgement(UNKNOWN)
    names = [rows["recipe"].iloc[0] for rows in (adamw, sgd)]
    difference = gap(runs, *names)
    text = (
        f"At their best learning rates, AdamW {adamw['learning_rate'].iloc[0]:g} and SGD"
        f" {sgd['learning_rate'].iloc[0]:g}: {several(adamw['test'])} against"
        f" {several(sgd['test'])} after as many steps."
    )
    for share, words in ((0.75, "three quarters"), (0.5, "half")):
        best = [sparsest(runs.tables["curve"], optimizer, share) for optimizer in ("AdamW", "SGD")]
        if None not in best:
            text += (
                f" While {words} of the coordinates are unchanged, at best"
                f" {several(pd.Series(best))} (validation)."
            )
    edges = [optimizer for optimizer in ("AdamW", "SGD") if at_edge(runs.tables["runs"], optimizer)]
    if edges:
        reason = (
            f" The best rate of {' and '.join(edges)} is at the end of its grid: it may do better"
            " beyond."
        )
        return Judgement(NOT_JUDGED, text + reason, difference.seeds)
    return judged(difference.differences, difference.margins, text)


def at_edge(runs: pd.DataFrame, optimizer: str) -> bool:
    """Whether an optimizer's best learning rate is the first or the last of its grid."""
    rows = runs[(runs["optimizer"] == optimizer) & runs["groups"].str.contains("ablation")]
    return best_rate(runs, optimizer) in (rows["learning_rate"].min(), rows["learning_rate"].max())


def sparsest(curve: pd.DataFrame, optimizer: str, share: float) -> float | None:
    """The best validation accuracy that an optimizer's grid meets while a share of the bf16
    coordinates is unchanged.
    """
    if curve.empty:
        return None
    rows = curve[(curve["optimizer"] == optimizer) & curve["groups"].str.contains("ablation")]
    rows = rows[(rows["seed"] == rows["seed"].min()) & (rows["unchanged_exact"] >= share)]
    return None if rows.empty else float(rows["accuracy"].max())


def best_rate(runs: pd.DataFrame, optimizer: str) -> float | None:
    """The learning rate of an optimizer's grid that did best on validation in the first seed; no
    grid below five rates.
    """
    if runs.empty:
        return None
    rows = runs[(runs["optimizer"] == optimizer) & runs["groups"].str.contains("ablation")]
    first = rows[rows["seed"] == rows["seed"].min()]
    return (
        None if len(first) < 5 else float(first.loc[first["validation"].idxmax(), "learning_rate"])
    )


def at_best_rates(found: dict[str, pd.DataFrame], table: str) -> pd.DataFrame:
    """The rows of a table from the ablation's runs at the learning rate that was best for their
    optimizer.
    """
    rows = found[table]
    if rows.empty:
        return rows
    best = {
        optimizer: best_rate(found["runs"], optimizer) for optimizer in rows["optimizer"].unique()
    }
    return rows[
        rows["groups"].str.contains("ablation")
        & (rows["learning_rate"] == rows["optimizer"].map(best))
    ]


def tuned(runs: Runs, optimizer: str) -> pd.DataFrame | None:
    """OPD with an optimizer at its best learning rate, by seed; `None` where it was not tuned."""
    if not all_there(runs, ("opd", "test")) or best_rate(runs.tables["runs"], optimizer) is None:
        return None
    rows = at_best_rates(runs.tables, "runs")
    return rows[rows["optimizer"] == optimizer].set_index("seed").sort_index()


def shared(runs: Runs) -> Judgement:
    """OPD and GRPO move the same coordinates more than the sizes of the weights and their rows
    explain.
    """
    table = runs.tables["overlap"]
    rows = table[(table["run_a"] == "opd") & (table["run_b"] == "grpo")] if len(table) else table
    rows = (
        rows.dropna(subset=["expected_both_rows"])
        if "expected_both_rows" in rows
        else rows.iloc[:0]
    )
    if rows.empty:
        return Judgement(UNKNOWN)
    by_seed = rows.set_index("seed_a")
    columns = ("chance_both", "expected_both", "expected_both_rows")
    chance, by_size, by_row = (by_seed["both"] / by_seed[column] for column in columns)
    text = (
        f"{several(chance, number)} times chance, {several(by_size, number)} times what sizes of"
        f" weights explain, {several(by_row, number)} times what sizes and rows explain."
    )
    return judged(by_row - 1, SHARED, text)
