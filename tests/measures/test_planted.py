"""What is planted is found: rank, rotation, scaling, a sparse mask; a blind update meets every
chance level.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from opdviz import chunks
from opdviz.definitions import PROBES
from opdviz.linalg import Decomposition, rank_of_share
from opdviz.linalg.gaussian import gaussian_spectrum
from opdviz.measures import concentration, geometry
from tests import oracle
from tests.conftest import measured_arrays

SHAPES = [(96, 64), (64, 96), (80, 80)]


def random_base(shape, seed=0, scale=0.05):
    return np.random.default_rng(seed).standard_normal(shape) * scale


def spread_base(shape, seed=0):
    """A base with well separated singular values, whose subspaces are stable."""
    m, n = shape
    u, _, vt = np.linalg.svd(random_base(shape, seed), full_matrices=False)
    return (u * np.geomspace(1, 0.05, min(m, n))) @ vt


def one(table: pd.DataFrame, **where):
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    assert len(table) == 1, where
    return table.iloc[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_plain_definition_is_met(tmp_path, shape, dtype):
    """All measures of a low-rank plus noise update against the oracle."""
    rng = np.random.default_rng(5)
    base = random_base(shape)
    delta = 1e-3 * rng.standard_normal((shape[0], 3)) @ rng.standard_normal((3, shape[1]))
    tables, w, t = measured_arrays(
        tmp_path, base, base + delta + 1e-4 * rng.standard_normal(shape), dtype
    )
    want = oracle.coordinates(w, t)
    row = one(tables["tensors"])
    for column in ("base_norm", "tuned_norm", "delta_norm", "cosine", "shrink"):
        assert row[column] == pytest.approx(want[column], rel=1e-6)
    stored = tables["sparsity"].query("precision == 'stored'")
    assert one(stored, probe="exact")["share"] == want["exact"]
    assert one(stored, probe="relative")["share"] == pytest.approx(want["relative"], abs=1e-12)
    for threshold in oracle.THRESHOLDS:
        assert (
            one(stored, probe="absolute", threshold=threshold)["share"]
            == want[f"absolute_{threshold}"]
        )
    for tau in (1e-4, 1e-3, 1e-2):
        assert one(stored, probe="base_rms", threshold=tau)["share"] == pytest.approx(
            want[f"base_rms_{tau}"], abs=1e-12
        )
    for share in (0.001, 0.01, 0.05):
        got = one(tables["concentration"], top_share=share)["energy_share"]
        assert got == pytest.approx(want[f"top_{share}"], rel=1e-6)
    want = oracle.spectra(w, t)
    for column in ("stable_rank", "entropy_rank", "energy_entropy_rank"):
        assert one(tables["spectrum_summary"], matrix="delta")[column] == pytest.approx(
            want[column], rel=1e-8
        )
    for column in ("drift", "nss"):
        assert one(tables["drift"])[column] == pytest.approx(want[column], rel=1e-8)
    for share in oracle.SHARES:
        for side in ("joint", "left", "right"):
            got = one(tables["projection"], side=side, share=share)
            assert got["energy"] == pytest.approx(want[f"{side}_{share}"], rel=1e-7)
            assert got["energy_without_shrink"] == pytest.approx(
                want[f"without_{side}_{share}"], rel=1e-6
            )
        for side in ("left", "right"):
            got = one(tables["rotation"], side=side, share=share)
            for column in ("mean_sine", "rms_sine", "max_degrees"):
                assert got[column] == pytest.approx(want[f"{column}_{side}_{share}"], rel=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_mask_and_probe_equals_the_plain_count(tmp_path, dtype):
    rng = np.random.default_rng(1)
    base = random_base((90, 70), 3, 0.02)
    base[:10] = 0.0
    tuned = np.where(
        rng.random(base.shape) < 0.5, base, base + 4e-5 * rng.standard_normal(base.shape)
    )
    tables, w, t = measured_arrays(tmp_path, base, tuned, dtype)
    views = {"stored": (w, t)}
    if dtype == "float32":
        views["bfloat16"] = tuple(oracle.rounded(x, "bfloat16") for x in (w, t))
    assert set(tables["coverage"]["precision"]) == set(views)
    checked = 0
    for share, rank in [(s, rank_of_share(s, 70)) for s in oracle.SHARES] + [(0.3, 64), (0.5, 64)]:
        for precision, (a, b) in views.items():
            for mask, weight in oracle.masks(a, w, share, rank).items():
                for probe, threshold in PROBES:
                    seen = oracle.visible(a, b, probe, threshold)
                    rows = tables["coverage"].query("share == @share and precision == @precision")
                    row = one(rows, mask=mask, probe=probe, threshold=threshold)
                    assert row["visible"] == seen.sum()
                    assert row["chance"] == pytest.approx(weight.mean(), abs=1e-12)
                    assert row["coverage"] == pytest.approx(
                        weight[seen].sum() / seen.sum(), abs=1e-9
                    )
                    assert row["lowest"] - 1e-9 <= row["coverage"] <= row["highest"] + 1e-9
                    checked += 1
    assert checked == 6 * 4 * 3 * len(views)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_planted_rank_is_found(tmp_path, rank):
    rng = np.random.default_rng(rank)
    delta = rng.standard_normal((96, rank)) @ rng.standard_normal((rank, 64))
    tables, _, _ = measured_arrays(
        tmp_path, random_base((96, 64)), random_base((96, 64)) + delta, "float64"
    )
    assert tables["rank"].query("matrix == 'delta'")["rank"].eq(rank).all()
    assert one(tables["spectrum_summary"], matrix="delta")["rank_99"] <= rank
    assert one(tables["top_energy"], matrix="delta", k=8)["energy"] == pytest.approx(1.0)


@pytest.mark.parametrize("degrees", [1e-3, 0.5, 30.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_planted_rotation_is_found_on_both_sides(tmp_path, degrees, shape):
    """Turn the k-th leading direction into the first one outside: one principal angle, all others
    zero.
    """
    u, s, vt = np.linalg.svd(spread_base(shape), full_matrices=False)
    k = rank_of_share(0.1, len(s))
    c, d = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(len(s))
    turn[np.ix_([k - 1, k], [k - 1, k])] = [[c, -d], [d, c]]
    tables, _, _ = measured_arrays(
        tmp_path, (u * s) @ vt, (u @ turn * s) @ (turn.T @ vt), "float64"
    )
    for side in ("left", "right"):
        angles = tables["angle"].query("side == @side").sort_values("index")["degrees"].to_numpy()
        assert len(angles) == k
        assert angles[-1] == pytest.approx(degrees, rel=1e-4)
        assert np.all(angles[:-1] < 1e-3 * degrees + 1e-6)
        assert one(tables["rotation"], side=side, share=0.1)["mean_sine"] == pytest.approx(
            d / k, rel=1e-3
        )


def test_scaling_alone_turns_nothing_and_is_all_shrink(tmp_path):
    base = spread_base((96, 64))
    tables, _, _ = measured_arrays(tmp_path, base, 0.99 * base, "float64")
    row = one(tables["tensors"])
    assert row["shrink"] == pytest.approx(-0.01, rel=1e-12)
    assert row["cosine"] == pytest.approx(1.0, abs=1e-15)
    assert tables["angle"]["degrees"].max() < 1e-6
    assert one(tables["drift"])["drift_per_delta"] == pytest.approx(1.0)
    assert tables["projection"]["energy_without_shrink"].isna().all()


def test_a_sparse_mask_is_counted_to_the_coordinate(tmp_path):
    base = random_base((128, 64))
    mask = np.zeros(base.shape, dtype=bool)
    mask[16:32, 8:24] = True
    tables, w, t = measured_arrays(tmp_path, base, np.where(mask, base * 1.5, base), "bfloat16")
    assert one(tables["tensors"])["moved"] == np.count_nonzero(w != t) == mask.sum()
    profile = tables["profile"].query("axis == 'row'")
    inside = (profile["low"] >= 16) & (profile["high"] <= 32)
    assert profile.loc[inside, "moved"].eq(16 / 64).all()
    assert profile.loc[~inside, ["moved", "energy"]].eq(0).all().all()
    assert profile["energy"].sum() == pytest.approx(1.0)
    steps = tables["steps"].set_index("steps")["count"]
    assert steps["0"] == base.size - mask.sum()
    assert steps["9+"] == mask.sum()


@pytest.mark.parametrize("shape", [(400, 300), (300, 400)])
def test_a_blind_update_meets_every_chance_level(tmp_path, shape):
    """Gaussian noise on a Gaussian base with separated values, as float32: every value over its
    chance is near 1.
    """
    m, n = shape
    u, _, vt = np.linalg.svd(random_base(shape, 1), full_matrices=False)
    base = (u * np.linspace(2.0, 0.5, min(m, n))) @ vt
    tables, _, _ = measured_arrays(
        tmp_path, base, base + 1e-5 * random_base(shape, 2, 1.0), "float64"
    )
    for share in (0.05, 0.1, 0.2):
        for side in ("joint", "left", "right"):
            row = one(tables["projection"], side=side, share=share)
            assert row["energy"] / row["chance"] == pytest.approx(
                1, abs=0.15 if side == "joint" else 0.05
            )
        for side in ("left", "right"):
            row = one(tables["rotation"], side=side, share=share)
            assert row["rms_sine"] / row["chance"] == pytest.approx(1, abs=0.5)
    drift = one(tables["drift"])
    assert drift["nss"] / drift["chance"] == pytest.approx(1, abs=0.15)
    for k in (1, 4, 16, 64):
        row = one(tables["top_energy"], matrix="delta", k=k)
        assert row["energy"] / row["chance"] == pytest.approx(1, abs=0.03)
    summary = tables["spectrum_summary"].set_index("matrix")
    for column in ("stable_rank", "entropy_rank"):
        assert summary.loc["delta", column] / summary.loc["gaussian", column] == pytest.approx(
            1, abs=0.02
        )
    energy = tables["concentration"]
    assert np.allclose(energy["energy_share"], energy["chance"], rtol=0.05)
    basis = tables["basis_energy"]
    big = basis[basis["chance"] > 0.01]
    assert len(big) >= 4
    assert np.allclose(big["energy"], big["chance"], rtol=0.1)
    assert basis["energy"].sum() == pytest.approx(1.0, abs=1e-9)
    assert basis["chance"].sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("size", [3e-6, 3e-5])
def test_a_blind_update_lies_inside_its_null_band(tmp_path, dtype, size):
    base = oracle.rounded(random_base((300, 200), 7, 0.02).astype(np.float32), dtype)
    tables, _, _ = measured_arrays(
        tmp_path, base, base + size * random_base((300, 200), 8, 1.0), dtype
    )
    rows = tables["coverage"].dropna(subset=["coverage", "null_low"])
    rows = rows[(rows["visible"] > 200) & (rows["density"] < 0.999)]
    assert len(rows) >= 24
    inside = (rows["null_low"] - 1e-9 <= rows["coverage"]) & (
        rows["coverage"] <= rows["null_high"] + 1e-9
    )
    assert inside.mean() > 0.98
    histogram = tables["histogram"].query("of == 'base' and count > 300 and threshold == 0")
    assert len(histogram) >= 10
    spread = 4 * np.sqrt(histogram["count"]) / 2 + 1
    assert ((histogram["moved"] - histogram["null_moved"]).abs() <= spread).mean() > 0.95


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_expected_nulls_are_what_sampling_them_gives(tmp_path, dtype):
    """A real (not blind) update: small weights never move. Both nulls are drawn 20 times and
    averaged.
    """
    rng = np.random.default_rng(2)
    base = oracle.rounded(random_base((120, 100), 9, 0.02), dtype)
    tuned = np.where(np.abs(base) < 0.01, base, base + 2e-4 * rng.standard_normal(base.shape))
    tables, w, t = measured_arrays(tmp_path, base, tuned, dtype)
    rows = tables["coverage"].query(
        "precision == 'stored' and probe == 'absolute' and threshold == 0 and share == 0.1"
    )
    masks = oracle.masks(w, w, 0.1, rank_of_share(0.1, 100))
    d = t.astype(np.float64) - w
    for mask, weight in masks.items():
        found = []
        for seed in range(20):
            seen = oracle.permuted(w, d, dtype, seed) != w
            found.append(weight[seen].sum() / seen.sum())
        row = one(rows, mask=mask)
        error = np.std(found)
        assert row["null_low"] - error <= np.mean(found) <= row["null_high"] + error
        assert row["null_high"] - row["null_low"] < 0.2
    low = one(rows, mask="low_magnitude")
    assert low["coverage"] == 0.0
    assert low["null_low"] > 0.05


def test_the_gaussian_curve_is_that_of_a_gaussian_matrix():
    for m, n in ((400, 100), (200, 200), (90, 270)):
        drawn = [
            np.linalg.svd(np.random.default_rng(i).standard_normal((m, n)), compute_uv=False)
            for i in range(5)
        ]
        mean = np.mean([s / np.linalg.norm(s) for s in drawn], axis=0)
        ours = gaussian_spectrum(m, n)
        assert np.linalg.norm(ours) == pytest.approx(1.0)
        assert np.allclose(ours[: len(ours) // 2], mean[: len(ours) // 2], rtol=0.02)


def test_the_rounding_null_of_a_low_rank_update_is_the_update_itself(tmp_path):
    """A rank-8 update seen through bf16 looks full rank; its rounding null says that it cannot be
    told apart.
    """
    rng = np.random.default_rng(0)
    base = oracle.rounded(random_base((256, 256), 4, 0.03), "bfloat16")
    delta = rng.standard_normal((256, 8)) @ rng.standard_normal((8, 256))
    delta *= 1e-3 * np.linalg.norm(base) / np.linalg.norm(delta)
    tables, _, _ = measured_arrays(tmp_path, base, base + delta, "bfloat16")
    curves = tables["spectrum"].pivot(index="index", columns="matrix", values="sigma")
    assert one(tables["rank"], matrix="delta", tolerance=1e-4)["rank"] >= 250
    tails = (curves.loc[33:, ["delta", "rounding_null"]] ** 2).sum() ** 0.5
    assert tails["delta"] / tails["rounding_null"] == pytest.approx(1.0, abs=0.5)
    full = (
        random_base((256, 256), 5)
        * 1e-3
        * np.linalg.norm(base)
        / np.linalg.norm(random_base((256, 256), 5))
    )
    tables, _, _ = measured_arrays(tmp_path / "full", base, base + full, "bfloat16")
    curves = tables["spectrum"].pivot(index="index", columns="matrix", values="sigma")
    tails = (curves.loc[33:, ["delta", "rounding_null"]] ** 2).sum() ** 0.5
    assert tails["delta"] / tails["rounding_null"] > 1.1
    norms = tables["spectrum_summary"].set_index("matrix")["norm"]
    assert norms["rounding_null"] == pytest.approx(norms["delta"], rel=2e-3)


def test_no_angle_stands_twice_where_ten_percent_of_r_is_the_fixed_k(monkeypatch):
    """r = 5120 to 5129 at a tenth of the size: both ks are the same."""
    monkeypatch.setattr(geometry, "LONG_R", 100)
    monkeypatch.setattr(geometry, "FIXED_K", 12)
    base = random_base((125, 124))
    work = Decomposition(base, base + 1e-3 * random_base((125, 124), 1))
    rows = geometry.angles(work)
    assert len({(row["side"], row["k"], row["index"]) for row in rows}) == len(rows) == 24


def test_a_long_flat_base_has_orthonormal_long_vectors():
    base = random_base((500, 40))
    base[:, 20:] *= 1e-7
    work = Decomposition(base, base + 1e-9 * random_base((500, 40), 1))
    side, one = work.long_side, np.eye(work.k)
    assert np.allclose(side.vectors.T @ side.vectors, one, atol=1e-8)
    # What the tuned's have inside the base's span and outside of it is together U'_k' U'_k.
    assert np.allclose(side.residual + side.cosines.T @ side.cosines, one, atol=1e-8)


def test_a_size_beyond_float32_is_kept_whatever_comes_after_it(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 8)
    base = np.ones((4, 8), dtype=np.float32)
    tuned = base * np.float32(2)
    base[0, 0], tuned[0, 0] = 3e38, -3e38
    work = Decomposition(base, tuned)
    size, *others = np.concatenate([sizes for sizes, _ in concentration.moved_sizes(work)])
    assert size == pytest.approx(6e38) and others == [1.0] * 31
    blocks = partial(concentration.moved_sizes, work)
    energies = concentration.top_energy(blocks, moved=work.moved, numel=32)
    assert energies == [1.0] * len(energies)
