"""What is taken from leading vectors and from moved coordinates alone is what all of them give."""

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

from opdviz import chunks
from opdviz.checkpoint.formats import Promoted, promote
from opdviz.linalg import Decomposition
from opdviz.linalg import gram as grams
from opdviz.linalg.gram import SQUARE, Spectrum, Tridiagonal, mirrored, spectrum_of_gram
from opdviz.measures import FIRST_PASS, geometry, measure
from tests.conftest import GOLDEN, measured
from tests.measures.blind_updates import SOURCES, MemoryPair

SHAPES = [(300, 120), (120, 300), (160, 160)]


def pair_of(m: int, n: int, condition: float) -> Decomposition:
    """A base of a condition and an update of 1 %, in float64."""
    rng = np.random.default_rng(m + n)
    left, right = (
        linalg.qr(rng.standard_normal((size, min(m, n))), mode="economic")[0] for size in (m, n)
    )
    base = left * np.geomspace(1.0, 1 / condition, min(m, n)) @ right.T
    delta = rng.standard_normal((m, n))
    return Decomposition(base, base + 0.01 * delta / np.linalg.norm(delta), form="float64")


@pytest.mark.parametrize("r, k", [(200, 40), (200, 1), (64, 32), (3, 1)])
def test_leading_vectors_are_those_of_the_whole_decomposition(r, k):
    x = np.random.default_rng(r).standard_normal((2 * r, r))
    spectrum = Tridiagonal(x.T @ x).spectrum(k)
    _, s, rows = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(spectrum.s, s, rtol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(spectrum.v * rows[:k].T, axis=0)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(spectrum.v.T @ spectrum.v, np.eye(k), atol=1e-12)


def test_repeated_values_have_orthonormal_vectors():
    values = np.repeat([4.0, 4.0, 1.0, 0.0], 25)
    turn = linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    for gram in (np.eye(100), np.zeros((100, 100)), turn * values @ turn.T):
        spectrum = spectrum_of_gram(gram, 30)
        np.testing.assert_allclose(spectrum.v.T @ spectrum.v, np.eye(30), atol=1e-12)
        rayleigh = np.einsum("ij,ij->j", spectrum.v, gram @ spectrum.v)
        np.testing.assert_allclose(rayleigh, spectrum.s[:30] ** 2, atol=1e-12)


def test_a_form_that_does_not_converge_falls_back(monkeypatch):
    def diverge(*_):
        raise linalg.LinAlgError

    x = np.random.default_rng(0).standard_normal((90, 60))
    expected = spectrum_of_gram(x.T @ x, 10)
    monkeypatch.setattr(grams, "Tridiagonal", diverge)
    np.testing.assert_allclose(spectrum_of_gram(x.T @ x, 10).s, expected.s, rtol=1e-12)


@pytest.mark.parametrize("m, n", SHAPES)
def test_energies_of_bins_from_leading_directions_are_those_from_all(m, n):
    tables = []
    for every in (False, True):
        work = pair_of(m, n, 100.0)
        if every:
            gram = work.products.aa
            values, vectors = linalg.eigh(gram)
            work.base_spectrum = Spectrum(np.sqrt(values[::-1]), vectors[:, ::-1].copy())
        assert (work.base_spectrum.v.shape[1] == work.r) == every
        energies = pd.DataFrame(geometry.basis_energies(work))
        shares = pd.DataFrame(geometry.projections(work))
        tables.append((energies, shares))
    for leading, everything in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(leading, everything, rtol=1e-9, atol=1e-13)
    assert tables[0][0].energy.sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("size", [1, SQUARE, SQUARE + 1, 2 * SQUARE + 17])
def test_an_upper_triangle_is_mirrored_to_the_bit(size):
    upper = np.asfortranarray(np.triu(np.random.default_rng(0).standard_normal((size, size))))
    expected = upper + upper.T - np.diag(np.diag(upper))
    assert (mirrored(upper) == expected).all()


def test_an_ill_conditioned_base_has_all_its_directions():
    assert pair_of(300, 120, 1e3).base_spectrum.v.shape[1] < 120
    assert pair_of(300, 120, 1e5).base_spectrum.v.shape[1] == 120


def test_chunks_that_are_not_kept_give_the_same_tables(monkeypatch):
    kept = measured(GOLDEN / "base", GOLDEN / "tuned_b")
    for module in ("linalg", "linalg.reconstruction"):
        monkeypatch.setattr(f"opdviz.{module}.KEPT", 0)
    monkeypatch.setattr(chunks, "CHUNK", 1000)
    anew = measured(GOLDEN / "base", GOLDEN / "tuned_b")
    assert kept.keys() == anew.keys()
    for table, rows in kept.items():
        pd.testing.assert_frame_equal(rows, anew[table], rtol=1e-9)


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_sixteen_bits_are_promoted_where_they_are_asked_for(form):
    bits = np.random.default_rng(0).integers(0, 0x7C00, (6, 4), dtype=np.uint16)
    raw = bits if form == "bfloat16" else bits.view(np.float16)
    whole, tensor = promote(raw, form), Promoted(raw, form)
    assert tensor.shape == whole.shape and tensor.size == 24 and tensor.ndim == 2
    for part, expected in (
        (tensor[1:3], whole[1:3]),
        (tensor.T[2:], whole.T[2:]),
        (tensor.reshape(-1)[5:9], whole.reshape(-1)[5:9]),
        (tensor[:, 1], whole[:, 1]),
        (np.asarray(tensor), whole),
    ):
        np.testing.assert_array_equal(part, expected)
        assert part.dtype == np.float32


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "shape, different", [((300, 260), 60), ((300, 260), 1 << 16), ((7, 5), 60), ((4,), 60)]
)
def test_codes_are_counted_as_numbers_are(form, shape, different):
    """With zeros of both signs, the least and the largest numbers and such as are none; where pairs
    of values are few, and where nearly each is one of its own.
    """
    rng = np.random.default_rng(3)
    codes = rng.choice(np.linspace(0, (1 << 16) - 1, different).astype(np.uint16), (2, *shape))
    codes[1] = np.where(rng.random(shape) < 0.6, codes[0], codes[1])
    codes[..., 1] = 0x8000
    codes[0, ..., 0], codes[1, ..., 0] = 0, 0x8000  # 0 became -0: nothing moved
    finite = np.where(Promoted.of_codes(codes, form).is_finite.all(axis=0), codes, 1)
    for both in (codes, finite):
        coded = Decomposition(*(Promoted.of_codes(side, form) for side in both), form=form)
        plain = Decomposition(*(np.asarray(x) for x in (coded.base, coded.tuned)), form=form)
        assert all(isinstance(chunk, chunks.Coded) for chunk in coded.chunks("stored"))
        is_counted = different == 60 and coded.base.size > 60**2
        assert (coded.by_value.held is not None) == is_counted
        assert (coded.nonfinite, coded.moved) == (plain.nonfinite, plain.moved)
        pair = MemoryPair("w", "w", *SOURCES, shape, "matrix", form, form)
        for module in FIRST_PASS:
            ours, theirs = (measure(pair, work, module) for work in (coded, plain))
            assert ours.keys() == theirs.keys()
            for table, rows in theirs.items():
                pd.testing.assert_frame_equal(
                    pd.DataFrame(ours[table]), pd.DataFrame(rows), rtol=1e-12
                )
