"""Every chance level, spread, band and hull against draws of blind updates: within sampling error,
hulls always.

Seven distributions, tall, wide and square, four formats, densities from 0.001 to 0.8; seeded.
"""

import itertools
import math

import numpy as np
import pytest

from opdviz.checkpoint.formats import rounded
from opdviz.definitions import FEWEST_MOVES, PROBES
from opdviz.linalg.gaussian import gaussian_spectrum
from opdviz.measures import blind, coverage, geometry, spectrum
from opdviz.measures.hull import hull_at
from opdviz.measures.nulls import Deltas, Sizes
from opdviz.measures.visibility import ramps
from tests import oracle
from tests.measures.blind_updates import BLIND, FORMATS, scale_for, work_on

SHAPES = ((160, 120), (96, 200), (130, 130))
DENSITIES = (0.006, 0.02, 0.2, 0.8)


def base_of(rng: np.random.Generator, shape: tuple[int, int], grid: str) -> np.ndarray:
    """Weights of unequal size, on a grid, or a little off it as training in float32 from a bf16
    checkpoint leaves them.
    """
    weights = 0.02 * rng.standard_normal(shape) * np.exp(0.3 * rng.standard_normal((shape[0], 1)))
    if grid == "near":
        return rounded(weights, "bfloat16") * (1 + 1e-3 * rng.random(shape))
    return rounded(weights, grid)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", BLIND)
def test_a_blind_update_lies_in_the_hull_of_all_blind_updates(name, form):
    """Every mask, share, probe and precision; the two typical updates promise less, and for
    Gaussian noise keep it.
    """
    dtype, base_dtype, grid = FORMATS[form]
    checked = typical = 0
    for at, (density, shape) in enumerate(zip(DENSITIES, itertools.cycle(SHAPES), strict=False)):
        rng = np.random.default_rng([at, len(name), len(form)])
        base = base_of(rng, shape, grid)
        update = BLIND[name](rng, shape)
        tuned = (
            base
            + scale_for(density, base, update, "bfloat16" if dtype == "float32" else dtype) * update
        )
        pair, work = work_on(base, tuned, dtype, base_dtype=base_dtype)
        for row in coverage.rows(pair, work)["coverage"]:
            if row["coverage"] is None or row["visible"] < FEWEST_MOVES:
                continue
            checked += 1
            inside = row["blind_low"] - 1e-9 <= row["coverage"] <= row["blind_high"] + 1e-9
            assert inside, row
            assert (
                row["blind_low"] <= row["null_high"] + 1e-9
                and row["null_low"] <= row["blind_high"] + 1e-9
            ), row
            typical += row["null_low"] - 1e-9 <= row["coverage"] <= row["null_high"] + 1e-9
    assert checked > 100
    if name == "gaussian":
        assert typical / checked > 0.98


AIMS = {
    "large weights, bf16": ("bfloat16", True, "low_magnitude", "blind_low"),
    "large weights, principal mask": ("bfloat16", True, "principal", "blind_high"),
    "small weights, fp32": ("float32", False, "low_magnitude", "blind_high"),
}


@pytest.mark.parametrize("aim", AIMS)
def test_an_aimed_update_leaves_the_hull(aim):
    """A hull that holds everything would prove nothing. In bf16 nothing aimed at small weights can
    leave it upwards: an update of one small size shows there alone.
    """
    dtype, large, mask, side = AIMS[aim]
    rng = np.random.default_rng(5)
    base = base_of(rng, (300, 240), dtype)
    aimed = (np.abs(base) > np.quantile(np.abs(base), 0.5)) == large
    pair, work = work_on(
        base, base + np.where(aimed, 3e-4, 0.0) * rng.standard_normal(base.shape), dtype
    )
    row = next(r for r in coverage.rows(pair, work)["coverage"]
               if (r["precision"], r["mask"], r["share"], r["threshold"]) == ("stored", mask, 0.1, 1e-5))  # fmt: skip
    beyond = row["coverage"] - row[side] if side == "blind_high" else row[side] - row["coverage"]
    assert beyond > 0.02, row


def test_the_hull_is_that_of_all_pairs_of_points():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = np.sort(rng.random(9)) * 10
        y = rng.random(9)
        at = float(rng.uniform(x[0], x[-1]))
        lines = [
            y[i] + (y[j] - y[i]) * (at - x[i]) / (x[j] - x[i])
            for i in range(9)
            for j in range(9)
            if x[i] <= at <= x[j] and i != j
        ]
        assert hull_at(x[None], y[None], at)[0] == pytest.approx(max(lines), rel=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_counting_deltas_by_size_is_exact_for_sixteen_bit_formats(dtype):
    """The permuted null of a tensor beyond a million: no draw, and the same shares as from every
    delta itself.
    """
    rng = np.random.default_rng(1)
    base = base_of(rng, (600, 500), dtype)
    d = (
        (rounded(base + 3e-5 * rng.standard_t(3, base.shape), dtype) - base)
        .astype(np.float32)
        .reshape(-1)
    )
    ordered = np.sort(d)
    sides = (Sizes.each(ordered[ordered > 0]), Sizes.each(-ordered[ordered < 0][::-1]))
    one_by_one, counted = Deltas(d.size, sides), Deltas.counted(np.array_split(d, 7), d.size)
    assert len(counted.sides[0].values) < len(sides[0].values) / 10
    for probe in PROBES:
        edges = ramps(dtype, *probe)
        np.testing.assert_allclose(
            counted.visible_share(edges), one_by_one.visible_share(edges), atol=1e-12
        )


def test_counting_deltas_by_size_is_close_for_wide_formats():
    rng = np.random.default_rng(2)
    d = (1e-4 * rng.standard_normal(300_000)).astype(np.float32)
    ordered = np.sort(d)
    sides = (Sizes.each(ordered[ordered > 0]), Sizes.each(-ordered[ordered < 0][::-1]))
    one_by_one, counted = Deltas(d.size, sides), Deltas.counted([d], d.size)
    for probe in PROBES:
        edges = ramps("bfloat16 between", *probe)
        np.testing.assert_allclose(
            counted.visible_share(edges), one_by_one.visible_share(edges), atol=2e-4
        )


def turned(rng: np.random.Generator, s: np.ndarray, m: int, n: int) -> np.ndarray:
    """A matrix of given singular values in isotropic directions."""
    left, right = (np.linalg.qr(rng.standard_normal((size, len(s))))[0] for size in (m, n))
    return (left * s) @ right.T


SPECTRA = {
    "rank 1": [1.0],
    "rank 4": [4.0, 2.0, 1.0, 1.0],
    "decaying": 0.8 ** np.arange(24),
    "flat": np.ones(24),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("m", "n", "k"), [(40, 24, 3), (24, 40, 6), (30, 30, 3)])
def test_projection_of_a_turned_update_has_its_mean_and_spread(name, m, n, k):
    """600 draws: the mean is that of any spectrum, the spread that of this one."""
    rng = np.random.default_rng([m, n, len(name)])
    s = np.asarray(SPECTRA[name])
    drawn: dict[str, list[float]] = {"joint": [], "left": [], "right": []}
    for _ in range(600):
        d = turned(rng, s, m, n)
        total = np.sum(d**2)
        for side, part in (("joint", d[:k, :k]), ("left", d[:k]), ("right", d[:, :k])):
            drawn[side].append(np.sum(part**2) / total)
    chances = blind.projection_chances(k, m, n)
    spreads = blind.projection_spreads(k, m, n, blind.participation(s))
    for side, values in drawn.items():
        assert np.mean(values) == pytest.approx(
            chances[side], abs=4 * np.std(values) / math.sqrt(600) + 1e-12
        )
        assert spreads[side] == pytest.approx(np.std(values), rel=0.2, abs=1e-9)


def test_profiles_explain_what_unequal_rows_and_columns_alone_put_there():
    rng = np.random.default_rng(3)
    m, n = 120, 80
    rows, columns = np.exp(rng.standard_normal(m)), np.exp(0.5 * rng.standard_normal(n))
    base = rows[:, None] * rng.standard_normal((m, n)) * columns
    seen = {"joint": [], "left": [], "right": []}
    for _ in range(12):
        update = 1e-3 * rows[:, None] * rng.standard_normal((m, n)) * columns
        _, work = work_on(base, base + update, "float64")
        for row in geometry.projections(work):
            if row["share"] == 0.1:
                seen[row["side"]].append(
                    (row["energy"], row["chance_profile"], row["chance"], row["chance_sd"])
                )
    for side, values in seen.items():
        energy, profile, chance, _ = np.mean(values, axis=0)
        assert energy / profile == pytest.approx(1.0, abs=0.15), side
        assert energy / chance > 1.5, side


BASES = {
    "gaussian": lambda rng, m, n: rng.standard_normal((m, n)),
    "power law": lambda rng, m, n: turned(rng, 1 / np.sqrt(np.arange(1, min(m, n) + 1)), m, n),
    "steep": lambda rng, m, n: turned(rng, 1.0 / np.arange(1, min(m, n) + 1), m, n),
    "linear": lambda rng, m, n: turned(rng, np.linspace(2, 0.5, min(m, n)), m, n),
}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(("m", "n"), [(200, 90), (60, 240), (100, 100)])
@pytest.mark.parametrize("size", [1e-4, 1e-2, 1e-1])
def test_drift_of_a_blind_update_is_what_is_said(name, m, n, size):
    """Normalised spectral shift, from a relative norm of 1e-4 to 10 %: the chance is right, or is
    missing.
    """
    rng = np.random.default_rng([m, n, len(name)])
    base = BASES[name](rng, m, n)
    ratios = []
    for _ in range(3):
        update = rng.standard_normal((m, n))
        update *= size * np.linalg.norm(base) / np.linalg.norm(update)
        row = geometry.drift(work_on(base, base + update, "float64")[1])
        if row["chance"] is None:
            assert size > 1e-3
            continue
        ratios.append(row["nss"] / row["chance"])
    if ratios:
        assert (0.7 if size > 0.05 else 0.85) < np.mean(ratios) < 1.3, ratios


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(("m", "n"), [(200, 90), (60, 240), (100, 100)])
def test_rotation_of_a_blind_update_is_what_is_said(name, m, n):
    rng = np.random.default_rng([m, n, len(name), 1])
    base = BASES[name](rng, m, n)
    by_share: dict[tuple, list[tuple[float, float, float]]] = {}
    for _ in range(6):
        update = rng.standard_normal((m, n))
        update *= 1e-4 * np.linalg.norm(base) / np.linalg.norm(update)
        for row in geometry.rotations(work_on(base, base + update, "float64")[1]):
            if row["chance"] is not None:
                key = row["side"], row["share"]
                by_share.setdefault(key, []).append((row["rms_sine"], row["chance"], row["pairs"]))
    assert by_share
    for key, values in by_share.items():
        sine, chance, pairs = (np.array(x) for x in zip(*values, strict=True))
        mean = math.sqrt(np.mean(sine**2))
        # what pairs carry is a chi-square of as many degrees: its spread is sqrt(2 / (pairs *
        # draws)) of the square
        spread = 4 * math.sqrt(2 / (pairs.mean() * len(values))) / 2
        assert abs(mean / chance.mean() - 1) < 0.15 + spread, (
            key,
            mean,
            chance.mean(),
            pairs.mean(),
        )


@pytest.mark.parametrize("gap", [1500.0, 1.0, 0.24, 0.05])
def test_one_near_tie_does_not_carry_the_chance_beyond_what_it_can_turn(gap):
    """s_k - s_{k+1} = gap tau: to first order this pair alone would turn the subspace many times
    further than it can.
    """
    rng = np.random.default_rng(4)
    m, n, k, size = 150, 100, 10, 1e-4
    s = np.linspace(2.0, 0.5, n)
    tau = size * np.linalg.norm(s) / math.sqrt(m * n)
    s[k] = s[k - 1] - gap * tau
    base = turned(rng, s, m, n)
    seen = []
    for _ in range(12):
        _, work = work_on(base, base + tau * rng.standard_normal((m, n)), "float64")
        seen.append(np.mean(work.sines("left", k) ** 2))
    chance = blind.rotation_chance(np.sort(s)[::-1], k, m, tau)
    assert chance["chance"] / math.sqrt(np.mean(seen)) == pytest.approx(1.0, abs=0.3)
    assert (chance["pairs"] < 5) == (gap < 1500), (
        "the subspace is not defined by the data, and that is said"
    )


@pytest.mark.parametrize("numel", [5, 16, 64, 128, 384, 2_000])
def test_energy_of_the_largest_coordinates_of_noise(numel):
    rng = np.random.default_rng(numel)
    squares = np.sort(rng.standard_normal((200_000 // numel + 400, numel)) ** 2, axis=1)
    for share in (0.001, 0.01, 0.05):
        count = math.ceil(share * numel)
        drawn = (squares[:, numel - count :].sum(axis=1) / squares.sum(axis=1)).mean()
        assert blind.concentration(count, numel) == pytest.approx(drawn, rel=0.04)
    assert blind.concentration(1, 1) == 1.0
    assert blind.concentration(1, 3) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectrum_of_noise_is_its_curve(shape):
    rng = np.random.default_rng(7)
    for name in ("gaussian", "laplace", "uniform", "constant size"):
        s = np.linalg.svd(BLIND[name](rng, shape), compute_uv=False)
        energy, chance = s**2 / np.sum(s**2), gaussian_spectrum(*shape) ** 2
        assert np.allclose(np.cumsum(energy), np.cumsum(chance), atol=0.015)
        assert spectrum.summary(s)["stable_rank"] == pytest.approx(1 / chance[0], rel=0.06)


@pytest.mark.parametrize("form", FORMATS)
def test_both_typical_nulls_are_what_sampling_them_gives(form):
    """Twelve draws of each null of a t-distributed update: permuted deltas, and noise with as many
    visible moves.
    """
    dtype, base_dtype, grid = FORMATS[form]
    rng = np.random.default_rng(8)
    base = base_of(rng, (150, 120), grid)
    pair, work = work_on(
        base, base + 2e-5 * rng.standard_t(3, base.shape), dtype, base_dtype=base_dtype
    )
    precision = pair.precisions[-1]
    seen_through = work.grid(precision)
    rows = [r for r in coverage.rows(pair, work)["coverage"]
            if (r["precision"], r["threshold"], r["share"], r["mask"]) == (precision, 0.0, 0.1, "low_magnitude")]  # fmt: skip
    base, own, tuned = (np.asarray(x, np.float64) for x in (work.base, work.origin, work.tuned))
    w, d = rounded(base, seen_through), tuned - base
    mask = oracle.mask_weights(-np.abs(w), 0.1)
    coverages = []
    for seed in range(12):
        visible = oracle.permuted(own, d, seen_through, seed) != w
        coverages.append(mask[visible].sum() / visible.sum())
    assert (
        rows[0]["null_low"] - np.std(coverages)
        <= np.mean(coverages)
        <= rows[0]["null_high"] + np.std(coverages)
    )
