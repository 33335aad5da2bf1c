"""Verdicts on planted results: each rule can say seen, not seen and opposite, and says nothing
where runs are missing.
"""

import math

import numpy as np
import pandas as pd
import pytest

from opdviz.lab import claims, judging, results, rules

SEEDS = (0, 1, 2)


def table(**by_recipe: dict) -> dict[str, pd.DataFrame]:
    """Results in which every recipe has a few columns, each a list of one value a seed."""
    rows = [
        {
            "recipe": "base",
            "seed": 0,
            "test": 0.6,
            "optimizer": "AdamW",
            "groups": "base",
            "learning_rate": 1e-3,
            "validation": 0.6,
        }
    ]
    for recipe, columns in by_recipe.items():
        for seed in SEEDS:
            rows.append({"recipe": recipe, "seed": seed, "optimizer": "AdamW", "groups": "main", "learning_rate": 2e-6}
                        | {"validation": 0.6} | {c: values[seed] for c, values in columns.items()})  # fmt: skip
    return {name: pd.DataFrame(rows if name == "runs" else []) for name in results.TABLES}


def verdict(rule, found: dict[str, pd.DataFrame]) -> str:
    return rule(judging.Runs(found)).verdict


def test_without_runs_nothing_is_measured():
    empty = {name: pd.DataFrame() for name in results.TABLES}
    assert {row["verdict"] for row in claims.verdicts(empty)} == {judging.UNKNOWN}
    assert {row["verdict"] for row in claims.verdicts(table(opd={"test": [0.7] * 3}))} == {
        judging.UNKNOWN
    }


def bits(right: int, total: int = 2_000) -> str:
    """Answers of which the first `right` are right, as they are kept: two runs differ on as many as
    their counts do.
    """
    return np.packbits(np.arange(total) < right).tobytes().hex()


def accuracies(**by_recipe: list[float]) -> dict[str, pd.DataFrame]:
    """Results of some recipes by accuracy; each right answer is one that the better runs have too."""
    columns = {recipe: {"test": values, "answers": [bits(round(2_000 * v)) for v in values]}
               for recipe, values in by_recipe.items()}  # fmt: skip
    found = table(**columns)
    found["runs"].loc[found["runs"]["recipe"] == "base", "answers"] = bits(1_200)
    return found


@pytest.mark.parametrize(
    ("sub", "expected"),
    [
        # At least nine tenths of a gain of thirty points in every seed.
        ([0.90, 0.88, 0.90], judging.SEEN),
        ([0.90, 0.85, 0.90], judging.NOT_SEEN),
        ([0.60, 0.59, 0.55], judging.OPPOSITE),
    ],
)
def test_recovery_is_a_share_of_the_gain_in_every_seed(sub, expected):
    assert verdict(rules.recovers, accuracies(opd=[0.9] * 3, opd_subnetwork=sub)) == expected


@pytest.mark.parametrize("full", [0.60, 0.58, 0.602, 0.64])
def test_a_share_of_no_gain_is_not_judged(full):
    """Full training gained nothing, lost, gained less than its own error, or less than five of
    them.
    """
    found = accuracies(opd=[full] * 3, opd_subnetwork=[0.5] * 3, grpo_subnetwork=[0.65] * 3)
    for rule in (rules.recovers, rules.other_mask):
        judgement = rule(judging.Runs(found))
        assert judgement.verdict == judging.NOT_JUDGED, judgement
        assert "five margins" in judgement.text and "inf" not in judgement.text


def test_without_a_common_seed_nothing_is_judged():
    found = accuracies(opd=[0.9] * 3, opd_subnetwork=[0.9] * 3, opd_random_mask=[0.7] * 3)
    runs = found["runs"]
    runs.loc[runs["recipe"] != "opd_subnetwork", "seed"] += 10
    runs.loc[runs["recipe"] == "base", "seed"] = 0
    assert verdict(rules.recovers, found) == judging.NOT_JUDGED
    assert verdict(rules.beats_random, found) == judging.NOT_JUDGED


@pytest.mark.parametrize(
    ("random", "expected"),
    [
        ([0.65] * 3, judging.SEEN),
        ([0.6995, 0.65, 0.65], judging.NOT_SEEN),
        ([0.75] * 3, judging.OPPOSITE),
    ],
)
def test_random_masks_lose_by_more_than_the_margin(random, expected):
    assert (
        verdict(rules.beats_random, accuracies(opd_subnetwork=[0.7] * 3, opd_random_mask=random))
        == expected
    )


def test_another_s_mask_must_beat_a_random_one_of_its_own_density():
    runs = {"opd": [0.9] * 3, "grpo_subnetwork": [0.89] * 3}
    alone = rules.other_mask(judging.Runs(accuracies(**runs)))
    assert alone.verdict == judging.NOT_JUDGED and "random mask of its density" in alone.text
    assert verdict(rules.other_mask, accuracies(**runs, grpo_random_mask=[0.7] * 3)) == judging.SEEN
    assert (
        verdict(rules.other_mask, accuracies(**runs, grpo_random_mask=[0.889] * 3))
        == judging.NOT_SEEN
    )


def test_the_margin_of_an_accuracy_is_that_of_the_problems_on_which_two_runs_differ():
    found = accuracies(opd=[0.7] * 3)
    runs = found["runs"]
    known = judging.gap(judging.Runs(found), "opd", "base")
    assert known.margins.tolist() == pytest.approx([2 * math.sqrt(200) / 2_000] * 3)
    runs.loc[(runs["recipe"] == "opd") & (runs["seed"] > 0), "answers"] = None
    assert judging.gap(judging.Runs(found), "opd", "base").margins.tolist() == pytest.approx(
        known.margins.tolist()
    )
    runs["answers"] = None
    unpaired = 2 * math.sqrt((0.7 * 0.3 + 0.6 * 0.4) / 2_000)
    assert judging.gap(judging.Runs(found), "opd", "base").margins.tolist() == pytest.approx(
        [unpaired] * 3
    )


@pytest.mark.parametrize(
    ("offline", "expected"),
    [([0.3] * 3, judging.SEEN), ([0.595] * 3, judging.NOT_SEEN), ([0.9] * 3, judging.OPPOSITE)],
)
def test_sparsity_is_beside_offline_distillation(offline, expected):
    found = table(
        opd={"unchanged_absolute": [0.6] * 3}, offline_distillation={"unchanged_absolute": offline}
    )
    assert verdict(rules.sparse, found) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0.3] * 3, judging.SEEN),
        ([0.3, 0.23, 0.3], judging.NOT_SEEN),
        ([0.1] * 3, judging.OPPOSITE),
    ],
)
def test_coverage_is_judged_by_all_blind_updates_not_by_typical_ones_or_the_density(
    value, expected
):
    name = "coverage_low_magnitude"
    ends = {
        f"{name}_null_low": 0.15,
        f"{name}_null_high": 0.22,
        f"{name}_blind_low": 0.12,
        f"{name}_blind_high": 0.25,
    }
    found = table(opd={name: value} | {column: [end] * 3 for column, end in ends.items()})
    found["runs"]["test"] = 0.6
    assert verdict(rules.banded("low_magnitude", above=True), found) == expected
    flipped = {judging.SEEN: judging.OPPOSITE, judging.OPPOSITE: judging.SEEN}
    other = {
        k: v.rename(columns=lambda c: c.replace("low_magnitude", "principal"))
        for k, v in found.items()
    }
    assert verdict(rules.banded("principal", above=False), other) == flipped.get(expected, expected)
    found["runs"][f"{name}_blind_high"] = 0.9
    assert verdict(rules.banded("low_magnitude", above=True), found) == judging.NOT_JUDGED, (
        "no power"
    )


@pytest.mark.parametrize(
    ("ratio", "sd", "expected"),
    [
        (0.5, 0.1, judging.SEEN),
        (0.999, 1e-2, judging.NOT_SEEN),
        (0.5, 0.3, judging.NOT_SEEN),
        (8.0, 0.1, judging.OPPOSITE),
    ],
)
def test_projection_is_judged_by_its_own_spread(ratio, sd, expected):
    columns = {
        "projection_ratio": ratio,
        "projection_ratio_sd": sd,
        "projection_profile_ratio": ratio,
    }
    found = table(opd={column: [value] * 3 for column, value in columns.items()})
    assert verdict(rules.off_principal, found) == expected


@pytest.mark.parametrize(("rank", "energy", "like", "expected"), [
    (0.99, 0.6, 0.0, judging.SEEN), (0.5, 0.6, 0.0, judging.NOT_SEEN), (0.99, 0.6, 1.0, judging.NOT_SEEN),
    (0.99, 0.22, 0.0, judging.NOT_SEEN), (0.99, 0.05, 0.0, judging.OPPOSITE),
])  # fmt: skip
def test_concentration_is_not_full_rank_where_the_tail_is_like_rounding(
    rank, energy, like, expected
):
    columns = {
        "rank_share": rank,
        "top16_energy": energy,
        "top16_energy_chance": 0.2,
        "tail_like": like,
        "tail_position": 0.2,
    }
    found = table(opd={column: [value] * 3 for column, value in columns.items()})
    judgement = rules.concentrated(judging.Runs(found))
    assert judgement.verdict == expected
    assert ("the storage's doing" in judgement.text) == (like == 1.0)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.77, judging.NOT_SEEN), (0.95, judging.SEEN), (0.5, judging.OPPOSITE)]
)
def test_heavy_in_ffn_is_more_than_its_parameters(share, expected):
    found = table(opd={"energy_share_ffn": [share] * 3, "energy_share_ffn_chance": [0.747] * 3})
    found["layers"] = pd.DataFrame(
        {"recipe": ["opd"], "visible_share": [0.5], "parameter_share": [0.5]}
    )
    assert verdict(rules.spread, found) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(150.0, judging.NOT_SEEN), (100.0, judging.SEEN), (None, judging.UNKNOWN)],
)
def test_an_overlap_is_judged_given_sizes_and_rows(rows, expected):
    found = table()
    found["overlap"] = pd.DataFrame({"run_a": ["opd"], "run_b": ["grpo"], "seed_a": [0], "both": [152.0], "chance_both": [50.0],
                                     "expected_both": [100.0], "expected_both_rows": [rows]})  # fmt: skip
    assert verdict(rules.shared, found) == expected


def test_a_best_rate_at_the_end_of_its_grid_decides_nothing():
    found = grids(0.8, 0.7)
    found["runs"] = found["runs"][~found["runs"]["recipe"].isin(["SGD0", "SGD1"])]
    more = found["runs"][found["runs"]["recipe"] == "SGD4"]
    extra = [more.assign(recipe=f"SGD{at}", learning_rate=10.0**at) for at in (5, 6)]
    found["runs"] = pd.concat([found["runs"], *extra])
    judgement = rules.behind(judging.Runs(found))
    assert judgement.verdict == judging.NOT_JUDGED and "end of its grid" in judgement.text


def test_results_of_runs_that_are_not_here_stay():
    before = {name: pd.DataFrame() for name in results.TABLES} | {
        "runs": pd.DataFrame(
            {"recipe": ["opd", "opd"], "seed": [0, 1], "test": [0.1, 0.2], "gone": [1, 1]}
        )
    }
    measured = {name: pd.DataFrame() for name in results.TABLES} | {
        "runs": pd.DataFrame({"recipe": ["opd"], "seed": [0], "test": [0.5], "more": [7.0]})
    }
    rows = results.merged(before, measured)["runs"]
    assert rows["test"].tolist() == [0.5, 0.2]
    assert list(rows) == ["recipe", "seed", "test", "more"]


def grids(adamw: float, sgd: float) -> dict[str, pd.DataFrame]:
    """Two grids of five rates whose third is best on validation, and ends on test as given."""
    found = table(opd={"test": [0.7] * 3})
    rows = []
    for optimizer, best in (("AdamW", adamw), ("SGD", sgd)):
        for at in range(5):
            for seed in SEEDS if at == 2 else (0,):
                score = (
                    {"validation": 0.9, "test": best}
                    if at == 2
                    else {"validation": 0.5, "test": 0.99}
                )
                row = {
                    "recipe": f"{optimizer}{at}",
                    "seed": seed,
                    "optimizer": optimizer,
                    "learning_rate": 10.0**at,
                }
                rows.append(row | score | {"groups": "ablation"})
    found["runs"] = pd.concat([found["runs"], pd.DataFrame(rows)])
    return found


@pytest.mark.parametrize(
    ("sgd", "expected"), [(0.7, judging.SEEN), (0.795, judging.NOT_SEEN), (0.9, judging.OPPOSITE)]
)
def test_optimizers_are_compared_at_the_rates_that_validation_chose(sgd, expected):
    found = grids(0.8, sgd)
    assert verdict(rules.behind, found) == expected
    assert rules.tuned(judging.Runs(found), "AdamW")["learning_rate"].unique().tolist() == [100.0]


def test_an_ablation_of_fewer_than_five_rates_is_no_verdict():
    found = grids(0.8, 0.7)
    found["runs"] = found["runs"][found["runs"]["recipe"] != "SGD0"]
    assert verdict(rules.behind, found) == judging.UNKNOWN


def test_published_numbers_are_quoted_from_the_table():
    told = {row["claim"]: row["published"] for row in claims.verdicts(table())}
    assert told["SGD falls behind AdamW."] == "AdamW 1e-6 43.02 %, SGD 1e-2 39.06 %"
    assert told["OPD and RL move the same coordinates."] == "67.2 % of the OPD mask, chance 22.11 %"
    assert told["OPD changes fewer coordinates than offline distillation."].startswith(
        "70.4 to 82.6 %"
    )
