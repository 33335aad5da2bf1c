"""The precision fingerprint on real runs: three seeds of two recipes, trained with a copy of float32
and in bf16 itself, are told apart by their files alone.
"""

import pytest

from opdviz.cli import main
from opdviz.lab import results
from opdviz.lab.places import Places
from opdviz.lab.recipes import IN_16_BITS, RECIPES
from opdviz.store.store import Store
from opdviz.tables import precision, table

SEEDS = (0, 1, 2)
RATE = RECIPES["opd"].learning_rate


@pytest.fixture(scope="module")
def summaries(tmp_path_factory, shipped_runs) -> dict[str, list]:
    """The verdicts by module of every run, by recipe: as one family, and no further than it takes."""
    folder = tmp_path_factory.mktemp("precision")
    recipes = [name for recipe in IN_16_BITS for name in (recipe.name, results.like(recipe.name))]
    runs = [(name, Places(shipped_runs, seed).of(name)) for name in recipes for seed in SEEDS]
    where = ["--cache", str(folder / "cache"), "--workers", "1"]
    base = str(shipped_runs / "base")
    tuned = [str(path) for _, path in runs]
    assert main(["compare", base, *tuned, "--measures", "octaves", *where]) == 0
    by_path = {c.manifest.tuned.path: c for c in Store(folder / "cache").all()}
    verdicts: dict[str, list] = {name: [] for name in recipes}
    for name, path in runs:
        verdicts[name].append(table(by_path[str(path)], "fingerprint_summary"))
    return verdicts


@pytest.mark.parametrize("recipe", ["opd", "sft"])
def test_a_copy_of_float32_is_one_displacement_in_every_module_of_every_seed(summaries, recipe):
    assert len(summaries[recipe]) == len(SEEDS)
    for summary in summaries[recipe]:
        assert set(summary["verdict"]) == {precision.ONE_DISPLACEMENT}, summary
        assert len(summary) == 7


@pytest.mark.parametrize("recipe", [recipe.name for recipe in IN_16_BITS])
def test_weights_of_16_bits_are_cut_off_where_the_rate_no_longer_shows(summaries, recipe):
    assert len(summaries[recipe]) == len(SEEDS)
    for summary in summaries[recipe]:
        cut = summary[summary["verdict"] == precision.CUT_OFF]
        assert set(cut["block"]) == {"ffn"} and len(cut) == 3, summary
        assert ((cut["step_low"] <= RATE) & (cut["step_high"] > RATE)).all()
        rest = summary.drop(cut.index)
        assert set(rest["verdict"]) == {precision.CANNOT_TELL}, "too few small weights"
        assert rest["reason"].str.contains("an edge, if there is one, lies below").all()


def test_the_lab_s_page_says_what_its_tables_hold(tmp_path):
    runs = results.in_16_bits(results.read(tmp_path))
    assert len(runs) == 4 * len(SEEDS)
    text = results.precision_reading(runs)
    assert "rounded away in all 6 runs of weights kept in bf16, and in none of 6" in text
    # It costs nearly all that training gained.
    base = results.of_group(results.read(tmp_path), "runs", "base").set_index("recipe")["test"]
    gains = runs.groupby("recipe")["test"].mean() - base["base"]
    for recipe in IN_16_BITS:
        assert gains[recipe.name] < 0.1 * gains[results.like(recipe.name)]
