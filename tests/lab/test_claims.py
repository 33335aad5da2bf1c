"""Verdicts on planted results: each rule can say seen, not seen and opposite, and says nothing where runs are missing."""

import pandas as pd
import pytest

from opdviz.lab import claims, results

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
    return rule(claims.Runs(found))[0]


def test_without_runs_nothing_is_measured():
    empty = {name: pd.DataFrame() for name in results.TABLES}
    assert {row["verdict"] for row in claims.verdicts(empty)} == {claims.UNKNOWN}
    assert {row["verdict"] for row in claims.verdicts(table(opd={"test": [0.7] * 3}))} == {claims.UNKNOWN}


@pytest.mark.parametrize(
    ("sub", "expected"),
    [
        ([0.70, 0.692, 0.70], claims.SEEN),  # at least nine tenths of a gain of ten points in every seed
        ([0.70, 0.68, 0.70], claims.NOT_SEEN),
        ([0.60, 0.59, 0.55], claims.OPPOSITE),
    ],
)
def test_recovery_is_a_share_of_the_gain_in_every_seed(sub, expected):
    assert verdict(claims.recovers, table(opd={"test": [0.7] * 3}, opd_subnetwork={"test": sub})) == expected


@pytest.mark.parametrize(
    ("random", "expected"),
    [([0.65] * 3, claims.SEEN), ([0.695, 0.65, 0.65], claims.NOT_SEEN), ([0.75] * 3, claims.OPPOSITE)],
)
def test_random_masks_lose_by_more_than_the_margin(random, expected):
    found = table(opd_subnetwork={"test": [0.7] * 3}, opd_random_mask={"test": random})
    assert verdict(claims.beats_random, found) == expected


@pytest.mark.parametrize(
    ("offline", "expected"),
    [([0.3] * 3, claims.SEEN), ([0.595] * 3, claims.NOT_SEEN), ([0.9] * 3, claims.OPPOSITE)],
)
def test_sparsity_is_beside_offline_distillation(offline, expected):
    found = table(opd={"unchanged_absolute": [0.6] * 3}, offline_distillation={"unchanged_absolute": offline})
    assert verdict(claims.sparse, found) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [([0.3] * 3, claims.SEEN), ([0.3, 0.2, 0.3], claims.NOT_SEEN), ([0.1] * 3, claims.OPPOSITE)],
)
def test_coverage_is_judged_by_the_null_band_not_by_the_density(value, expected):
    name = "coverage_low_magnitude"
    found = table(opd={name: value, f"{name}_null_low": [0.15] * 3, f"{name}_null_high": [0.22] * 3})
    assert verdict(claims.banded("low_magnitude", above=True), found) == expected
    flipped = {claims.SEEN: claims.OPPOSITE, claims.OPPOSITE: claims.SEEN}
    found = {k: v.rename(columns=lambda c: c.replace("low_magnitude", "principal")) for k, v in found.items()}
    assert verdict(claims.banded("principal", above=False), found) == flipped.get(expected, expected)


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, claims.SEEN), (1.0, claims.NOT_SEEN), (8.0, claims.OPPOSITE)])
def test_projection_is_a_ratio_to_chance(ratio, expected):
    found = table(opd={"projection_joint": [0.01 * ratio] * 3, "projection_joint_chance": [0.01] * 3})
    assert verdict(claims.off_principal, found) == expected


@pytest.mark.parametrize(("rank", "energy", "expected"), [
    (0.99, 0.6, claims.SEEN), (0.5, 0.6, claims.NOT_SEEN), (0.99, 0.22, claims.NOT_SEEN), (0.99, 0.05, claims.OPPOSITE),
])  # fmt: skip
def test_concentration_needs_full_rank_and_energy_beyond_a_gaussian_s(rank, energy, expected):
    found = table(opd={"rank_share": [rank] * 3, "top16_energy": [energy] * 3, "top16_energy_chance": [0.2] * 3})
    assert verdict(claims.concentrated, found) == expected


def grids(adamw: float, sgd: float) -> dict[str, pd.DataFrame]:
    """Two grids of five rates whose third is best on validation, and ends on test as given."""
    found = table(opd={"test": [0.7] * 3})
    rows = []
    for optimizer, best in (("AdamW", adamw), ("SGD", sgd)):
        for at in range(5):
            for seed in SEEDS if at == 2 else (0,):
                score = {"validation": 0.9, "test": best} if at == 2 else {"validation": 0.5, "test": 0.99}
                row = {"recipe": f"{optimizer}{at}", "seed": seed, "optimizer": optimizer, "learning_rate": 10.0**at}
                rows.append(row | score | {"groups": "ablation"})
    found["runs"] = pd.concat([found["runs"], pd.DataFrame(rows)])
    return found


@pytest.mark.parametrize(("sgd", "expected"), [(0.7, claims.SEEN), (0.795, claims.NOT_SEEN), (0.9, claims.OPPOSITE)])
def test_optimizers_are_compared_at_the_rates_that_validation_chose(sgd, expected):
    found = grids(0.8, sgd)
    assert verdict(claims.behind, found) == expected
    assert claims.tuned(claims.Runs(found), "AdamW")["learning_rate"].unique().tolist() == [100.0]


def test_an_ablation_of_fewer_than_five_rates_is_no_verdict():
    found = grids(0.8, 0.7)
    found["runs"] = found["runs"][found["runs"]["recipe"] != "SGD0"]
    assert verdict(claims.behind, found) == claims.UNKNOWN


def test_published_numbers_are_quoted_from_the_table():
    told = {row["claim"]: row["published"] for row in claims.verdicts(table())}
    assert told["SGD falls behind AdamW."] == "AdamW 1e-6 43.02 %, SGD 1e-2 39.06 %"
    assert told["OPD and RL move the same coordinates."] == "67.2 % of the OPD mask, chance 22.11 %"
    assert told["OPD changes fewer coordinates than offline distillation."].startswith("70.4 to 82.6 %")
