"""Families: runs by base and by recipe, what is unlike in them, the gap between recipes beside the
spread of seeds, and the headline of all in one table.
"""

from dataclasses import replace

import pytest

from opdviz.runs import family, headlines, seeds
from opdviz.store.manifest import Manifest, Side
from opdviz.store.store import Stored

MANIFEST = Manifest(
    key="k",
    name="n",
    base=Side("/b", "base", ("aa",)),
    tuned=Side("/t", "tuned", ("bb",)),
    pairs=1,
    parameters=1,
    measures=1,
    dtypes=("bfloat16",),
)


def run(tmp_path, name: str, base: str = "aa", **labels: str) -> Stored:
    """A comparison of a name on a base."""
    side = Side(f"/{base}", f"base {base}", (base,))
    return Stored(tmp_path / name, replace(MANIFEST, name=name, base=side, labels=labels))


def test_runs_are_gathered_by_the_contents_of_their_base(tmp_path):
    runs = [
        run(tmp_path, "sft", recipe="sft"),
        run(tmp_path, "other", "cc"),
        run(tmp_path, "opd 1", recipe="opd"),
        run(tmp_path, "opd 0", recipe="opd"),
    ]
    first, second = family.by_base(runs)
    assert first.keys == ["opd 0", "opd 1", "sft"], "seeds beside each other"
    assert second.keys == ["other"] and second.base.label == "base cc"
    assert family.of("opd 1", runs) == first and family.of("gone", runs) is None


def test_what_is_unlike_is_one_sentence_and_what_is_alike_none():
    adamw = replace(MANIFEST, labels={"optimizer": "adamw"})
    sgd = replace(MANIFEST, labels={"optimizer": "sgd"}, dtypes=("float32",))
    sketch = replace(MANIFEST, settings={"precision": "fast"})
    assert family.unlike([adamw, MANIFEST, adamw]) == "", "a label that nobody gave is no other"
    sentence = family.unlike([adamw, sgd, sketch])
    assert "optimizers (adamw and sgd)" in sentence and sentence.count(".") == 1
    assert "formats (bf16 and fp32)" in sentence and "precisions (exact and fast" in sentence


def test_a_gap_is_held_against_the_widest_range_of_seeds():
    apart = seeds.gap({"a": [1.0, 1.5], "b": [4.0, 4.1, 4.2], "c": [2.0]})
    assert (apart.between, apart.spread) == pytest.approx((4.1 - 1.25, 0.5))
    assert apart.ratio == pytest.approx(5.7)
    assert seeds.gap({"a": [1.0], "b": [2.0]}) is None, "no spread"
    assert seeds.gap({"a": [1.0, 2.0], "b": []}) is None, "no other recipe"
    assert seeds.gap({"a": [1.0, 1.0], "b": [2.0]}).ratio == float("inf")


def test_steps_of_one_training_are_no_seeds_of_its_recipe():
    def at(path: str) -> Manifest:
        return replace(MANIFEST, labels={"recipe": "opd"}, tuned=Side(path, "t", ("bb",)))

    steps = [at(f"/runs/opd/checkpoint-{step}") for step in (10, 20)]
    assert [labels.get("recipe") for labels in family.grouping_labels(steps)] == [None, None]
    seeds_ = [at(f"/runs/seed{seed}/checkpoint-20") for seed in (0, 1)]
    assert [labels.get("recipe") for labels in family.grouping_labels(seeds_)] == ["opd", "opd"]


def row(quantity: str, value: float | None, chance: float | None = None) -> dict:
    """A row of a headline."""
    return {"quantity": quantity, "value": value, "chance": chance}


def test_the_table_of_headlines_has_runs_seeds_and_published_pairs():
    opd = replace(MANIFEST, labels={"recipe": "opd"})
    runs = [
        headlines.Measured("a", opd, [row("relative_norm", 1.0), row("stable_rank", 4.0, 80.0)]),
        headlines.Measured("b", opd, [row("relative_norm", 3.0), row("stable_rank", None, 80.0)]),
        headlines.Measured("c", MANIFEST, [row("relative_norm", 9.0)]),
    ]  # fmt: skip
    table = headlines.table(runs, "A").set_index("what", drop=False)
    assert list(table)[:4] == ["run", "recipe", "optimizer", "what"]
    assert list(table)[4:] == ["relative_norm", "stable_rank", "stable_rank by chance"]
    assert table.loc[["run"], "relative_norm"].tolist() == [1.0, 3.0, 9.0]
    assert table.at["mean of 2 seeds", "relative_norm"] == 2.0
    assert table.at["range of 2 seeds", "relative_norm"] == 2.0
    published = table.loc[["published"]]
    assert len(published) >= 8 and published["relative_norm"].notna().all()
    assert headlines.table([], "A").empty
