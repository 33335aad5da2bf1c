"""One contract for all measures: every kind of tensor gives rows of known columns, within the
bounds of `quantities`.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from opdviz.linalg import Decomposition
from opdviz.measures import MEASURES
from opdviz.measures.visibility import NO_NULLS
from opdviz.quantities import QUANTITIES
from opdviz.store.columns import BY_TABLE
from tests.conftest import measured, measured_arrays

RNG = np.random.default_rng(3)
NAME = "model.layers.0.mlp.up_proj.weight"


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


KINDS = {
    "zero base": (np.zeros((8, 6)), array(8, 6)),
    "zero both": (np.zeros((8, 6)), np.zeros((8, 6))),
    "did not move": (array(8, 6), None),
    "one element": (array(1), array(1)),
    "one by one": (array(1, 1), array(1, 1)),
    "one row": (array(1, 9), array(1, 9)),
    "one column": (array(9, 1), array(9, 1)),
    "two by two": (array(2, 2), array(2, 2)),
    "scalar": (np.float32(1.5), np.float32(1.25)),
    "vector": (array(33), array(33)),
    "empty": (array(0, 4), array(0, 4)),
    "rank one base": (np.outer(array(20), array(12)), array(20, 12)),
    "nan": (array(8, 6), np.where(array(8, 6) > 0, np.nan, 1.0)),
    "infinite": (array(8, 6), np.full((8, 6), np.inf)),
    "huge": (array(8, 6) * 1e30, array(8, 6) * 1e30),
    "tiny": (array(8, 6) * 1e-38, array(8, 6) * 1e-38),
    "tall": (array(300, 3), array(300, 3)),
    "wide": (array(3, 300), array(3, 300)),
    "convolution": (array(4, 3, 2, 2), array(4, 3, 2, 2)),
}


def check(tables) -> int:
    """Assert that every value of every row is of a known column and inside its bounds; the number
    of values seen.
    """
    seen = 0
    columns = {table: set() for table in tables}
    for measure in MEASURES:
        for table, names in measure.TABLES.items():
            columns.setdefault(table, set()).update(names)
    for table, frame in tables.items():
        for row in frame.astype(object).to_dict("records"):
            for column, value in row.items():
                assert column in columns[table], (table, column)
                quantity = QUANTITIES[column]
                if value is None or (isinstance(value, float) and math.isnan(value)):
                    continue
                if isinstance(value, str):
                    assert BY_TABLE[table][column] is str, (table, column)
                    continue
                assert float(value).is_integer() or BY_TABLE[table][column] is float, (
                    table,
                    column,
                )
                seen += 1
                room = 1e-9 * max(1.0, abs(value))
                assert quantity.low is None or value >= quantity.low - room, (table, row)
                assert quantity.high is None or value <= quantity.high + room, (table, row)
    return seen


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tensor_gives_sound_rows(tmp_path, kind, dtype):
    base, tuned = KINDS[kind]
    tables, w, t = measured_arrays(tmp_path, base, base if tuned is None else tuned, dtype)
    assert len(tables["tensors"]) == 1
    assert check(tables) > 5
    row = tables["tensors"].iloc[0]
    finite = np.isfinite(w) & np.isfinite(t)
    assert row["moved"] == np.count_nonzero(w[finite] != t[finite])
    assert row["nonfinite"] == np.count_nonzero(~finite)
    skipped = set(tables["skipped"].get("measure", []))
    assert not any(set("{}") & set(reason) for reason in tables["skipped"].get("reason", []))
    spectral = {"spectrum", "geometry", "coverage"}
    matrix = min(w.shape[0], w.size // max(1, w.shape[0])) > 1 and np.ndim(base) >= 2
    assert (spectral <= skipped) == (not matrix or not finite.all() or not w.size)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_is_counted_but_has_no_null(tmp_path, dtype):
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        codes = torch.tensor(array(40, 36)).to(dtype)
        save_file(
            {NAME: codes, NAME + "_scale": torch.tensor(0.5)}, tmp_path / side / "model.safetensors"
        )
    tables = measured(tmp_path / "base", tmp_path / "tuned")
    assert check(tables) > 100
    assert len(tables["sparsity"]) > 0
    reasons = set(zip(tables["skipped"]["measure"], tables["skipped"]["reason"], strict=True))
    assert reasons == {
        ("sparsity", "grid steps: float8 steps differ by scale block"),
        ("coordinates", f"stored histogram: {NO_NULLS}"),
        ("spectrum", f"rounding null: stored as {'float8_e4m3' if dtype == torch.float8_e4m3fn else 'float8_e5m2'}: "
                     "drawn for formats up to bf16 and fp16"),
        ("coverage", f"coverage: {NO_NULLS}"),
        ("turned", f"turned at random: {NO_NULLS}"),
        ("signs", f"chance: {NO_NULLS}"),
        ("octaves", "the steps of float8 differ by scale block"),
    }  # fmt: skip


def test_a_base_stored_finer_than_the_tuned_is_compared_on_its_grid(tmp_path):
    """The same weights saved as float32 and as bfloat16: storing moved every value, and training
    none.
    """
    x = array(40, 36)
    for side, dtype in (("base", torch.float32), ("tuned", torch.bfloat16)):
        (tmp_path / side).mkdir()
        save_file({NAME: torch.tensor(x).to(dtype)}, tmp_path / side / "model.safetensors")
    tables = measured(tmp_path / "base", tmp_path / "tuned")
    row = tables["tensors"].iloc[0]
    assert (row["moved"], row["delta_norm"], row["delta_norm_bfloat16"]) == (0, 0, 0)
    assert row["off_grid"] > 0.9 * x.size
    assert tables["sparsity"].query("probe == 'exact'")["share"].eq(1.0).all()
    assert check(tables) > 100


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(12, 7), (7, 12), (9, 9)]))
def test_swapping_and_permuting_change_only_what_they_should(tmp_path_factory, seed, shape):
    """Swapping base and tuned keeps delta's spectrum; permuting rows keeps all singular values;
    shares sum to 1.
    """
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(shape)
    tuned = base + 0.1 * rng.standard_normal(shape)
    order = rng.permutation(shape[0])
    work, back, mixed = (
        Decomposition(base, tuned),
        Decomposition(tuned, base),
        Decomposition(base[order], tuned[order]),
    )
    np.testing.assert_allclose(work.delta_spectrum.s, back.delta_spectrum.s, rtol=1e-9)
    np.testing.assert_allclose(work.tuned_spectrum.s, back.base_spectrum.s, rtol=1e-7)
    for attribute in ("base_spectrum", "tuned_spectrum", "delta_spectrum"):
        np.testing.assert_allclose(
            getattr(work, attribute).s, getattr(mixed, attribute).s, rtol=1e-7
        )
    tables, _, _ = measured_arrays(tmp_path_factory.mktemp("swap"), base, tuned, "float64")
    assert tables["basis_energy"]["energy"].sum() == pytest.approx(1.0, abs=1e-9)
    assert tables["angle"]["degrees"].between(0, 90).all()
    for _, rows in tables["steps"].groupby("precision"):
        assert rows["share"].sum() == pytest.approx(1.0)
        assert rows["count"].sum() == base.size
    for _, rows in tables["histogram"].groupby(["of", "precision", "threshold"]):
        assert rows["count"].sum() == base.size
