"""Overlap of two runs on one base: the paper's own counts, the three expectations, and what is
refused.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from opdviz import files
from opdviz.checkpoint.formats import round_bfloat16
from opdviz.cli import main
from opdviz.errors import MachineError
from opdviz.quantities import QUANTITIES
from opdviz.runs import overlap, relate, relations
from opdviz.runs.masks import matching_of
from opdviz.store.relations import TABLES
from opdviz.store.store import Store
from tests.conftest import GOLDEN, compared_here, write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The golden family's table `overlap`."""
    runs = [matching_of(GOLDEN / "base", GOLDEN / f"tuned_{run}") for run in "ab"]
    return pd.DataFrame(overlap.rows(*runs, "a", "b"), columns=list(overlap.COLUMNS))


def test_counts_are_those_of_the_paper_s_script(table):
    paper = pd.read_csv(GOLDEN / "paper_overlap" / "tensor_overlap.csv").set_index("name")
    ours = table[table["threshold"] == 1e-5].set_index("tensor").loc[paper.index]
    assert len(ours) == 30
    assert (ours["numel"] == paper["numel"]).all()
    for mine, theirs in (("a", "a_nonzero"), ("b", "b_nonzero"), ("both", "both_nonzero")):
        assert (ours[mine] - paper[theirs]).abs().max() <= 3  # their threshold is bf16(1e-5)
    moved = ours[ours["a"] > 0]
    theirs = paper.loc[moved.index]
    assert ((moved["jaccard"] - theirs["nonzero_jaccard"]).abs() <= 4 / moved["a"]).all()
    assert ((moved["a_in_b"] - theirs["a_nonzero_covered_by_b"]).abs() <= 4 / moved["a"]).all()


def test_the_whole_is_the_paper_s_whole(table):
    paper = pd.read_csv(GOLDEN / "paper_overlap" / "one_sided_overlap_global.csv").iloc[0]
    row = next(r for r in overlap.whole(table) if r["threshold"] == 1e-5)
    assert row["numel"] == paper["numel"]
    assert row["jaccard"] == pytest.approx(paper["nonzero_jaccard"], abs=1e-4)
    assert row["a_in_b"] == pytest.approx(paper["a_nonzero_covered_by_b"], abs=1e-4)
    # the script takes one density for the whole model; ours sums each tensor's chance
    assert row["chance_both"] == pytest.approx(
        (table.query("threshold == 1e-5").eval("a * b / numel")).sum()
    )


def test_columns_stand_in_the_dictionary_within_its_bounds(table):
    assert tuple(table.columns) == overlap.COLUMNS
    for column in table:
        q = QUANTITIES[column]
        assert q.low is None or not (table[column] < q.low).any()
        assert q.high is None or not (table[column] > q.high).any()


def blind(tmp_path, seeds=(1, 2), size=(256, 256), scale=2e-4):
    """Two blind updates of one bf16 base, as tables see them."""
    w = np.random.default_rng(0).normal(scale=0.02, size=size)
    base = write_checkpoint(tmp_path / "base", {NAME: w}, "bfloat16")
    stored = round_bfloat16(w.astype(np.float32))
    made = []
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(scale=scale, size=size)
        made.append(write_checkpoint(tmp_path / f"run{seed}", {NAME: stored + noise}, "bfloat16"))
    return base, made


def test_blind_updates_overlap_more_than_chance_but_as_sizes_explain(tmp_path):
    base, made = blind(tmp_path, scale=2e-5)
    table = pd.DataFrame(overlap.rows(*(matching_of(base, run) for run in made), "1", "2"))
    row = table[table["probe"] == "exact"].iloc[0]
    assert row["both"] > 1.5 * row["chance_both"]
    assert row["both"] == pytest.approx(row["expected_both"], rel=0.03)


def test_expected_both_is_its_definition(tmp_path):
    base, made = blind(tmp_path)
    sides = [matching_of(base, run) for run in made]
    row = next(r for r in overlap.rows(*sides, "1", "2") if r["probe"] == "absolute")
    w = sides[0].base.read(NAME).ravel().astype(np.float64)
    bins = np.where(w == 0, -10_000, np.floor(4 * np.log2(np.abs(np.where(w == 0, 1, w)))))
    a, b = (np.abs(side.tuned.read(NAME).ravel().astype(np.float64) - w) > 1e-5 for side in sides)
    expected = sum(
        a[bins == v].sum() * b[bins == v].sum() / (bins == v).sum() for v in np.unique(bins)
    )
    assert row["expected_both"] == pytest.approx(expected, rel=1e-12)
    p, q = a.mean(), b.mean()
    assert row["jaccard_chance"] == pytest.approx(p * q / (p + q - p * q))


def test_a_float16_base_is_binned_as_it_is(tmp_path):
    draw = np.random.default_rng(0)
    w = draw.normal(scale=0.02, size=(64, 64)).astype(np.float16)
    base = write_checkpoint(tmp_path / "base", {NAME: w}, "float16")
    made = [
        write_checkpoint(tmp_path / f"r{i}", {NAME: w + (draw.random(w.shape) < 0.3)}, "float16")
        for i in range(2)
    ]
    row = next(overlap.rows(*(matching_of(base, run) for run in made), "1", "2"))
    a, b = ((matching_of(base, run).tuned.read(NAME) != w).ravel() for run in made)
    bins = np.floor(4 * np.log2(np.abs(w.astype(np.float64)).ravel() + (w.ravel() == 0) * 1e-300))
    expected = sum(
        a[bins == v].sum() * b[bins == v].sum() / (bins == v).sum() for v in np.unique(bins)
    )
    assert row["expected_both"] == pytest.approx(expected, rel=1e-12)


def test_checkpoints_without_a_coordinate_are_refused(tmp_path, capsys):
    empty = {"e.weight": np.zeros((0, 4))}
    base = write_checkpoint(tmp_path / "base", empty, "bfloat16")
    more = {"one": {}, "two": {"only.here": np.zeros(3)}}
    runs = [write_checkpoint(tmp_path / n, empty | m, "bfloat16") for n, m in more.items()]
    cache = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    named = ["--name", "one", "--name", "two"]
    assert main(["compare", str(base), *map(str, runs), *named, *cache]) == 0
    capsys.readouterr()
    assert main(["overlap", "one", "two", *cache]) == 2
    assert "found no weights" in capsys.readouterr().err


def test_a_run_that_moved_nothing_has_missing_shares(tmp_path):
    base, (run,) = blind(tmp_path, seeds=(1,))
    row = next(overlap.rows(matching_of(base, run), matching_of(base, base), "1", "base"))
    assert row["b"] == 0 and row["b_in_a"] is None and row["jaccard"] == 0


def test_the_command_prints_the_table(tmp_path, capsys):
    base, made = blind(tmp_path)
    cache = ["--cache", str(tmp_path / "cache")]
    for run in made:
        assert (
            main(
                ["compare", str(base), str(run), "--workers", "1", "--measures", "sparsity", *cache]
            )
            == 0
        )
    capsys.readouterr()
    assert main(["overlap", "base..run1", "base..run2", "--json", *cache]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [tuple(row) for row in rows] == [overlap.COLUMNS] * 3
    assert main(["overlap", "base..run1", "base..run2", *cache]) == 0
    assert "of what the sizes of the weights explain" in capsys.readouterr().out


def test_runs_that_do_not_belong_together_are_one_line(tmp_path, capsys):
    base, made = blind(tmp_path, size=(16, 16))
    cache = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    few = ["--measures", "sparsity", *cache]
    assert main(["compare", str(base), *map(str, made), *few]) == 0
    assert main(["compare", str(made[0]), str(base), "--name", "back", *few]) == 0
    keys = {run.name: run.key for run in Store(tmp_path / "cache").all()}
    capsys.readouterr()
    for words, runs in (
        ("not on one base", ("base..run1", "back")),
        ("is named twice", ("base..run1", keys["base..run1"])),
        ("found 1 runs", ("base..run1",)),
        ("no comparison in the cache", ("base..run1", "nothing")),
    ):
        assert main(["overlap", *runs, *cache]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert main(["overlap", "base..run1", "back", *cache]) == 2
    line = capsys.readouterr().err
    assert keys["base..run1"] in line and keys["back"] in line, "both keys are shown"
    with files.lock(tmp_path / "cache" / "comparisons" / keys["base..run2"]):
        assert main(["overlap", "base..run1", "base..run2", *cache]) == 2
    assert "still being compared" in capsys.readouterr().err


def test_what_is_worked_out_stays_and_says_each_run_first_that_was_named_first(
    tmp_path, capsys, monkeypatch
):
    base, made = blind(tmp_path, seeds=(1, 2, 3), size=(64, 64))
    cache = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    assert main(["compare", str(base), *map(str, made), "--measures", "sparsity", *cache]) == 0
    names = [f"base..run{seed}" for seed in (1, 2, 3)]
    capsys.readouterr()

    def printed(*runs: str, table: str = "overlap") -> list[dict]:
        assert main(["overlap", *runs, "--table", table, "--json", *cache]) == 0
        return json.loads(capsys.readouterr().out)

    rows = printed(*names)
    pairs = [(row["run_a"], row["run_b"]) for row in rows[::3]]
    assert pairs == [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    monkeypatch.setattr(relations, "of_tensor", None)  # nothing is read again
    turned = printed(*reversed(names))
    assert turned[0]["run_a"] == names[2] and turned[0]["run_b"] == names[1]
    by_pair = {(row["run_a"], row["run_b"], row["probe"]): row for row in rows}
    for row in turned:
        other = by_pair[row["run_b"], row["run_a"], row["probe"]]
        assert (row["a"], row["b_in_a"], row["both"]) == (
            other["b"],
            other["a_in_b"],
            other["both"],
        )
    assert {row["moved_by"] for row in printed(*names, table="consensus")} == {0, 1, 2, 3}
    assert len(printed(*names, table="relation")) == 3
    assert main(["overlap", *names, *cache]) == 0
    out = capsys.readouterr().out
    assert out.count("opposite signs") == 3 and out.count("cosine of the updates") == 3
    monkeypatch.undo()
    similar = printed(*names, table="subspace_similarity")
    assert len(similar) == 3 * 2 * 2 and {row["k"] for row in similar} == {6, 16}
    assert list(similar[0]) == list(TABLES["subspace_similarity"])
    assert main(["overlap", *names, "--table", "subspace_similarity", *cache]) == 0
    assert capsys.readouterr().out.count("rotated") == 3 * 2 * 2
    assert main(["verify", "--cache", str(tmp_path / "cache")]) == 0
    (table,) = (tmp_path / "cache" / "relations").glob("*/relation.*.parquet")
    table.write_bytes(table.read_bytes()[:-1])
    assert main(["verify", "--cache", str(tmp_path / "cache")]) == 1
    assert "is damaged" in capsys.readouterr().out
    assert len(printed(*names, table="relation")) == 3, "what is damaged is worked out again"
    assert main(["forget", names[0], "--cache", str(tmp_path / "cache")]) == 0
    assert not list((tmp_path / "cache" / "relations").iterdir())


def test_a_run_that_is_stopped_goes_on_from_its_finished_tensors(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    tensors = {f"model.layers.{at}.mlp.up_proj.weight": draw.normal(size=(8, 8)) for at in range(4)}
    base = write_checkpoint(tmp_path / "base", tensors)
    runs = []
    for at in range(2):
        tuned = {name: w + 0.1 * draw.normal(size=w.shape) for name, w in tensors.items()}
        run = write_checkpoint(tmp_path / f"run{at}", tuned)
        runs.append(compared_here(tmp_path / "cache", base, run))
    store, calls, real = Store(tmp_path / "cache"), [], relations.of_tensor

    def failing(tensor, names):
        calls.append(tensor.name)
        if len(calls) == 3:
            raise MachineError("the disk is full")
        return real(tensor, names)

    monkeypatch.setattr(relations, "of_tensor", failing)
    for _ in range(2):
        with ThreadPoolExecutor(1) as executor, suppress(MachineError):
            relate.relate(store, runs, executor, lambda progress: None)
    assert relate.is_there(store, runs)
    assert sorted(set(calls)) == sorted(tensors)
    assert len(calls) <= len(tensors) + 2, "only what failed, or ran then, was read again"


def test_rows_of_shared_scale_overlap_by_themselves():
    """Two blind updates whose rows move unequally, and alike: sizes do not explain their overlap,
    sizes and rows do.
    """
    rng = np.random.default_rng(0)
    shape = (200, 400)
    weights = round_bfloat16((0.02 * rng.standard_normal(shape)).astype(np.float32))
    rows = np.exp(rng.standard_normal((shape[0], 1)))
    changes = [(np.abs(rows * rng.standard_normal(shape)).ravel() > 1.5) * 1.0 for _ in range(2)]
    tally = relations.Tally(2, shape)
    tally.add(weights, relations.sizes_of(weights, "bfloat16"), changes, changes, 0)
    row = tally.overlap(0, 0, 1)
    assert row["both"] / row["expected_both"] > 1.3
    assert row["both"] / row["expected_both_rows"] == pytest.approx(1.0, abs=0.03)


def test_blocks_are_counted_alike_in_one_piece_and_in_many(tmp_path, monkeypatch):
    base, made = blind(tmp_path, size=(100, 60))
    sides = [matching_of(base, run) for run in made]
    (tensor,) = relations.shared(sides)
    whole = relations.of_tensor(tensor, "ab")
    w = sides[0].base.read(NAME)
    a, b = (side.tuned.read(NAME) != w for side in sides)
    quarter = np.floor(4 * np.log2(np.abs(w.astype(np.float64))))
    by_hand = sum(
        a[row][cell].sum() * b[row][cell].sum() / cell.sum()
        for row in range(100)
        for cell in (quarter[row] == kind for kind in np.unique(quarter[row]))
    )
    assert whole["overlap"][0]["expected_both_rows"] == pytest.approx(by_hand)
    monkeypatch.setattr(relations, "BLOCK", 500)
    parts = relations.of_tensor(tensor, "ab")
    for table, rows in whole.items():
        for expected, row in zip(rows, parts[table], strict=True):
            assert row == pytest.approx(expected), table
