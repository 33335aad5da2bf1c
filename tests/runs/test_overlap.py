"""Overlap of two runs on one base: the paper's own counts, the three expectations, and what is
refused.
"""

import json

import numpy as np
import pandas as pd
import pytest

from opdviz.checkpoint.formats import round_bfloat16
from opdviz.cli import main
from opdviz.measures.visibility import codes, quarters
from opdviz.quantities import QUANTITIES
from opdviz.runs import overlap
from opdviz.runs.masks import matching_of
from tests.conftest import GOLDEN, write_checkpoint

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
    sides = [
        write_checkpoint(tmp_path / n, {"e.weight": np.zeros((0, 4))}, "bfloat16") for n in "xy"
    ]
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["compare", *map(str, sides), "--name", "none", "--workers", "1", *cache]) == 0
    capsys.readouterr()
    assert main(["overlap", "none", "none", *cache]) == 2
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
    assert [tuple(row) for row in rows] == [overlap.COLUMNS] * 2
    assert main(["overlap", "base..run1", "base..run2", *cache]) == 0
    assert "of what the sizes of the weights explain" in capsys.readouterr().out


def test_runs_on_two_bases_are_refused(tmp_path, capsys):
    base, (run, other) = blind(tmp_path)
    cache = ["--cache", str(tmp_path / "cache")]
    for pair in ((base, run), (other, run)):
        assert (
            main(["compare", *map(str, pair), "--workers", "1", "--measures", "sparsity", *cache])
            == 0
        )
    capsys.readouterr()
    assert main(["overlap", "base..run1", "run2..run1", *cache]) == 2
    assert "not on one base" in capsys.readouterr().err


def test_rows_of_shared_scale_overlap_by_themselves():
    """Two blind updates whose rows move unequally, and alike: sizes do not explain their overlap,
    sizes and rows do.
    """
    rng = np.random.default_rng(0)
    shape = (200, 400)
    weights = round_bfloat16((0.02 * rng.standard_normal(shape)).astype(np.float32))
    rows = np.exp(rng.standard_normal((shape[0], 1)))
    masks = [np.abs(rows * rng.standard_normal(shape)).ravel() > 1.5 for _ in range(2)]
    bins = quarters("bfloat16")[codes(weights.ravel(), "bfloat16") & 0x7FFF]
    row = overlap.counts(*masks, bins - bins.min(), shape[1])
    assert row["both"] / row["expected_both"] > 1.3
    assert row["both"] / row["expected_both_rows"] == pytest.approx(1.0, abs=0.03)


def test_cells_are_counted_alike_in_one_piece_and_in_many(monkeypatch):
    rng = np.random.default_rng(1)
    a, b, bins = rng.random(6_000) < 0.3, rng.random(6_000) < 0.4, rng.integers(0, 9, 6_000)
    whole = overlap.expected_given_rows(a, b, bins, 60)
    by_hand = 0.0
    for row in range(100):
        for kind in range(9):
            cell = (np.arange(6_000) // 60 == row) & (bins == kind)
            by_hand += a[cell].sum() * b[cell].sum() / max(1, cell.sum())
    assert whole == pytest.approx(by_hand)
    monkeypatch.setattr(overlap, "CELLS", 500)
    assert overlap.expected_given_rows(a, b, bins, 60) == pytest.approx(by_hand)
