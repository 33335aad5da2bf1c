"""A first look at large matrices: leading values beside an SVD's, within the bound that is said, and
nothing that needs the rest.
"""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from opdviz.cli import main
from opdviz.linalg import Decomposition, sketch
from opdviz.linalg.sketch import Sketched
from opdviz.measures import spectrum
from opdviz.store import reading, status
from opdviz.store.store import Store
from opdviz.ui import listing
from tests.conftest import write_checkpoint
from tests.measures.blind_updates import pair_of

# Where a matrix counts as large is lowered here, which workers would not see.
NAME = "model.layers.0.mlp.up_proj.weight"


@contextmanager
def in_this_process(count: int):
    """An executor without processes."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def with_values(s: np.ndarray, m: int, n: int, seed: int) -> np.ndarray:
    """A matrix of some singular values."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, len(s))))[0] for size in (m, n))
    return left * s @ right.T


def pair(kind: str, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A base of flat values, and an update that is flat, falls fast, or has low rank."""
    r = min(m, n)
    values = {
        "flat": np.linspace(1.0, 0.3, r),
        "falling": 0.9 ** np.arange(r),
        "low rank": np.linspace(1.0, 0.5, 5),
    }[kind]
    base = with_values(np.linspace(10.0, 3.0, r), m, n, 0)
    return base, base + 0.01 * with_values(values, m, n, 1)


@pytest.mark.parametrize("shape", [(700, 400), (400, 700)])
@pytest.mark.parametrize("kind", ["flat", "falling", "low rank"])
def test_each_value_is_within_its_bound_of_the_matrix_s_own(kind, shape):
    base, tuned = pair(kind, *shape)
    work = Sketched(base, tuned)
    exact = {"base": base, "tuned": tuned, "delta": tuned - base}
    for matrix, leading in work.leading.items():
        s = np.linalg.svd(exact[matrix], compute_uv=False)
        assert leading.energy == pytest.approx(float(np.sum(s**2)), rel=1e-12)
        apart = np.abs(leading.s[:, None] - s).min(axis=1)
        rounding = 1e-7 * s[0]  # of values squared, as of any Gram matrix
        assert (apart <= leading.bound + rounding).all()
        assert (leading.s <= s[: sketch.K] + rounding).all(), "Ritz values lie below"
    s = np.linalg.svd(tuned - base, compute_uv=False)
    if kind != "flat":  # nothing else tells the directions of a flat one apart
        np.testing.assert_allclose(work.leading["delta"].s, s[: sketch.K], rtol=1e-6, atol=1e-9)


def test_the_same_bits_again():
    base, tuned = pair("falling", 300, 200)
    first, second = (Sketched(base, tuned).leading["delta"].s for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_rows_say_what_leading_values_say_and_no_more():
    base, tuned = pair("falling", 500, 300)
    exact, work = Decomposition(base, tuned), Sketched(base, tuned)
    named = pair_of(base, tuned, "float64")
    tables, expected = spectrum.rows(named, work), spectrum.rows(named, exact)
    ours, theirs = (
        {row["matrix"]: row for row in rows["spectrum_summary"]} for rows in (tables, expected)
    )
    for column in ("spectral_norm", "norm", "stable_rank", "rank_50"):
        assert ours["delta"][column] == pytest.approx(theirs["delta"][column], rel=1e-6), column
    assert ours["delta"]["rank_99"] is None and ours["delta"]["entropy_rank"] is None
    assert ours["delta"]["method"].startswith("randomised (160 directions")
    assert 0 < ours["base"]["error_bound"] < ours["base"]["spectral_norm"]
    assert ours["gaussian"].keys() == theirs["gaussian"].keys()
    for column, value in theirs["gaussian"].items():
        rel = {"rel": 1e-12} if isinstance(value, float) else {}
        assert ours["gaussian"][column] == pytest.approx(value, **rel), column
    energies = {row["k"]: row["energy"] for row in tables["top_energy"] if row["matrix"] == "delta"}
    assert max(energies) == sketch.K
    for row in expected["top_energy"]:
        if row["matrix"] == "delta" and row["k"] in energies:
            assert energies[row["k"]] == pytest.approx(row["energy"], rel=1e-6)
    assert {row["matrix"] for row in tables["rank"]} == {"gaussian"}
    (tail,) = tables["tail"]
    assert tail["verdict"] is None and tail["reason"].startswith("precision fast")


def test_what_did_not_move_has_values_of_zero():
    base = pair("flat", 300, 200)[0]
    row = spectrum.rows(pair_of(base, base, "float64"), Sketched(base, base))["spectrum_summary"][2]
    assert row["matrix"] == "delta" and row["spectral_norm"] == 0 and row["stable_rank"] is None


def test_fast_is_another_comparison_and_small_matrices_in_it_are_exact(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sketch, "LEAST", 200)
    base, tuned = pair("falling", 260, 220)
    small = NAME.replace("up", "down")
    sides = [
        write_checkpoint(tmp_path / side, {NAME: x, small: x[:90, :80]})
        for side, x in (("base", base), ("tuned", tuned))
    ]
    where = ["--cache", str(tmp_path / "cache"), "--workers", "1", "--json"]
    monkeypatch.setattr("opdviz.engine.workers.pool", in_this_process)
    keys = []
    for precision in ("float64", "fast"):
        assert main(["compare", *map(str, sides), "--precision", precision, *where]) == 0
        facts = json.loads(capsys.readouterr().out)
        keys.append(facts["key"])
        assert math.isfinite(facts["stable_rank"])
    assert len(set(keys)) == 2
    run = Store(tmp_path / "cache").open(keys[1])
    assert run.name.endswith("(fast)") and run.manifest.precision == "fast"
    assert main(["list", "--cache", str(tmp_path / "cache")]) == 0
    assert [line.endswith("(fast)") for line in capsys.readouterr().out.splitlines()] == [
        True,
        False,
    ]
    states = [listing.state_of(row) for row in status.listing(Store(tmp_path / "cache"))]
    assert states == ["done, fast", "done"]
    methods = {
        row["name"]: row["method"]
        for row in reading.read(run, "spectrum_summary").to_pylist()
        if row["matrix"] == "delta"
    }
    assert methods[small] == "exact" and methods[NAME].startswith("randomised")
    skipped = reading.read(run, "skipped").to_pylist()
    assert {row["measure"] for row in skipped if "precision fast: of 220" in row["reason"]} == {
        "geometry",
        "coverage",
        "turned",
        "intruders",
    }


def test_fast_and_a_gpu_are_refused_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("opdviz.engine.devices.chosen", lambda device: (device, ""))
    command = ["compare", "a", "b", "--precision", "fast", "--device", "cuda"]
    assert main([*command, "--cache", str(tmp_path)]) == 2
    assert "a sketch is made on the CPU" in capsys.readouterr().err
