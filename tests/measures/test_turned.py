"""Coverage beside the update turned at random: planted updates of low rank, draws against exact
rotations and against the closed form of blind updates.
"""

import numpy as np
import pytest
from scipy.stats import ortho_group

from opdviz.checkpoint.formats import rounded
from opdviz.definitions import HEADLINE_SHARE, VISIBLE
from opdviz.linalg import Decomposition
from opdviz.measures import coverage, masks, turned
from opdviz.tables.by_tensor import coverage_columns
from tests.conftest import measured_arrays

M, N = 64, 768
MEASURES = (coverage, turned)


LARGE_ROWS = np.arange(M) < 6


def base_of_few_rows(rng: np.random.Generator) -> np.ndarray:
    """A base whose large weights, and so its principal ones, stand in few rows."""
    return np.where(LARGE_ROWS, 0.06, 0.02)[:, None] * rng.standard_normal((M, N))


def covered(folder, base, tuned, dtype="float32") -> dict[str, float]:
    """One matrix's coverage of principal weights, with what stands beside it."""
    tables, _, _ = measured_arrays(folder, base, tuned, dtype, MEASURES)
    rows = tables["coverage"]
    rows = rows[(rows["share"] == HEADLINE_SHARE) & (rows["threshold"] == VISIBLE)]
    rows = rows[(rows["probe"] == "absolute") & (rows["precision"] == rows["precision"].iloc[-1])]
    columns = coverage_columns(rows, tables["turned"])["principal"]
    return columns.iloc[0].to_dict()


def where(row: dict, ends: str) -> int:
    """-1, 0 or 1: below, inside or above a range."""
    value, low, high = (
        row[f"principal_{end}"] for end in ("coverage", f"{ends}_low", f"{ends}_high")
    )
    return int(value > high) - int(value < low)


def test_an_update_of_low_rank_without_aim_is_turned_and_no_isotropic_one(tmp_path):
    rows = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        base = base_of_few_rows(rng)
        update = 1.5e-4 * np.outer(rng.standard_normal(M), rng.standard_normal(N))
        rows.append(covered(tmp_path / str(seed), base, base + update))
    assert [where(row, "turned") for row in rows] == [0] * len(rows)
    assert sum(where(row, "null") != 0 for row in rows) >= 6


def test_an_update_on_the_base_s_leading_rows_is_neither(tmp_path):
    rng = np.random.default_rng(5)
    base = base_of_few_rows(rng)
    update = 1.5e-4 * np.outer(np.where(LARGE_ROWS, 3.2, 0.3), rng.standard_normal(N))
    row = covered(tmp_path, base, base + update)
    assert (where(row, "turned"), where(row, "null"), where(row, "blind")) == (1, 1, 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_of_many_directions_it_is_the_closed_form_of_blind_updates(tmp_path, dtype):
    rng = np.random.default_rng(6)
    base = base_of_few_rows(rng)
    tables, _, _ = measured_arrays(
        tmp_path, base, base + 5e-5 * rng.standard_normal((M, N)), dtype, MEASURES
    )
    rows = tables["coverage"]
    rows = rows[(rows["share"] == HEADLINE_SHARE) & (rows["threshold"] == VISIBLE)]
    rows = rows[rows["precision"] == tables["turned"]["precision"].iloc[0]]
    both = rows.merge(tables["turned"], on="mask")
    assert len(both) == len(masks.NAMES)
    reach = 3 * both["turned_error"]
    assert (both["turned"] + reach > both["null_low"]).all(), both
    assert (both["turned"] - reach < both["null_high"]).all(), both
    assert (both["turned_sd"] < 0.02).all()


def turned_exactly(s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An update of some singular values between random rotations."""
    right = np.linalg.qr(rng.standard_normal((N, M)))[0]
    return (ortho_group.rvs(M, random_state=rng) * s) @ right.T


@pytest.mark.parametrize("sample", [1 << 12, 1 << 16])
def test_draws_are_those_of_exact_rotations_whatever_the_sample(monkeypatch, sample):
    monkeypatch.setattr(turned, "SAMPLE", sample)
    rng = np.random.default_rng(7)
    base = rounded(base_of_few_rows(rng), "bfloat16")
    s = 2e-3 * 0.6 ** np.arange(M)
    update = turned_exactly(s, rng)
    turning = turned.Turning(Decomposition(base, base + update, form="float64"), 0)
    # The largest weights themselves instead of principal ones: they need no decomposition.
    large = np.abs(base) > np.quantile(np.abs(base), 1 - HEADLINE_SHARE)
    turning.members = large * turned.PRINCIPAL
    ours = turned.summary([turning.draw("stored") for _ in range(100)], base.size)[0]
    visible = [np.abs(turned_exactly(s, rng)) > VISIBLE for _ in range(100)]
    density = np.array([mask.mean() for mask in visible])
    exact = np.array([mask[large].sum() / mask.sum() for mask in visible])
    error = np.hypot(ours["turned_error"], exact.std(ddof=1) / 10)
    assert abs(ours["turned"] - exact.mean()) < 3 * error
    assert ours["density"] == pytest.approx(density.mean(), rel=0.03)
    assert 0.7 < ours["turned_sd"] / exact.std(ddof=1) < 1.4


def test_what_cannot_be_turned_says_why_or_has_no_rows(tmp_path):
    rng = np.random.default_rng(8)
    base = base_of_few_rows(rng)
    still, _, _ = measured_arrays(tmp_path / "still", base, base, measures=MEASURES)
    assert still["turned"].empty and still.get("skipped", still["turned"]).empty
    faint, _, _ = measured_arrays(
        tmp_path / "faint", base, base + 1e-11 * rng.standard_normal((M, N)), measures=MEASURES
    )
    assert set(faint["turned"]["draws"]) == {0} and faint["turned"]["turned"].isna().all()
