"""The steps of a device beside the CPU's: the same tables, whatever the shape, the format and the
base; a step that finds no room, or does not converge, is done by the CPU and said.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from opdviz.checkpoint.formats import rounded
from opdviz.linalg import Decomposition, accelerator
from opdviz.linalg.accelerator import Accelerated, Device
from opdviz.measures import (
    MEASURES,
    SECOND_PASS,
    accelerated,
    coordinates,
    coverage,
    sides,
    signs,
)
from opdviz.measures.nulls import census
from tests.conftest import GOLDEN, measured, measured_arrays

# Rows at a time so that no matrix here is one block.
FEW = 5_000


@pytest.fixture
def there(monkeypatch):
    """Everything that is measured from here on runs through torch, on the CPU; the device."""

    def start(block: int = FEW) -> Device:
        device = Device("cpu")
        device.block = block
        there = partial(Accelerated, device=device)
        monkeypatch.setattr(sides.How, "decomposition_of", lambda how, pair: there)
        return device

    return start


def base_of(kind: str, m: int, n: int) -> np.ndarray:
    """A base: well-conditioned, of falling values down to 1e-6, of rank 20, or zero."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((m, min(m, n))))
    right, _ = np.linalg.qr(rng.standard_normal((n, min(m, n))))
    s = {
        "well": np.geomspace(1, 1e-2, min(m, n)),
        "ill": np.geomspace(1, 1e-6, min(m, n)),
        "low": np.r_[np.geomspace(1, 0.1, 20), np.zeros(min(m, n) - 20)],
        "zero": np.zeros(min(m, n)),
    }[kind]
    return left * s @ right.T


def update_of(m: int, n: int) -> np.ndarray:
    """A small update of rank 4 and noise."""
    rng = np.random.default_rng(1)
    low_rank = rng.standard_normal((m, 4)) @ rng.standard_normal((4, n))
    return 1e-4 * low_rank + 2e-5 * rng.standard_normal((m, n))


def assert_alike(
    ours: dict[str, pd.DataFrame], theirs: dict[str, pd.DataFrame], rtol: float = 1e-8
) -> None:
    """Two sets of tables say the same; how it was computed may differ."""
    assert ours.keys() == theirs.keys()
    for table, rows in theirs.items():
        pd.testing.assert_frame_equal(
            ours[table].drop(columns="method", errors="ignore"),
            rows.drop(columns="method", errors="ignore"),
            rtol=rtol,
            atol=1e-9,
        )


@pytest.mark.parametrize("shape", [(160, 90), (90, 160), (100, 100)])
@pytest.mark.parametrize(
    ("kind", "rtol"),
    # What a direction at 1e-6 of the largest has is known to eps / 1e-6^2, on any device.
    [("well", 1e-8), ("ill", 2e-4), ("low", 1e-8), ("zero", 1e-8)],
)
def test_the_tables_of_a_matrix_are_the_cpu_s(tmp_path, there, kind, rtol, shape):
    base = base_of(kind, *shape)
    tuned = base + update_of(*shape)
    expected, _, _ = measured_arrays(tmp_path, base, tuned, "float32", SECOND_PASS)
    there()
    tables, _, _ = measured_arrays(tmp_path, base, tuned, "float32", SECOND_PASS)
    assert_alike(tables, expected, rtol)
    methods = tables["spectrum_summary"].query("matrix == 'delta'")["method"]
    assert methods.tolist() == ["exact (cpu)"] * len(methods) and len(methods)


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(160, 90), (90, 160)])
def test_sixteen_bits_go_there_as_they_are_stored(tmp_path, there, form, shape):
    base = base_of("well", *shape)
    arrays = (tmp_path, base, base + update_of(*shape), form, SECOND_PASS)
    expected, _, _ = measured_arrays(*arrays)
    there()
    assert_alike(measured_arrays(*arrays)[0], expected)


def test_a_family_stored_in_two_formats(there):
    """Golden pairs: many shapes and dtypes, and a base stored finer than the tuned."""
    pair = (GOLDEN / "base", GOLDEN / "tuned_b", SECOND_PASS)
    expected = measured(*pair)
    there()
    assert_alike(measured(*pair), expected)


def pair_of(device: Device | None) -> Decomposition:
    """A pair of which the base was stored finer."""
    origin = base_of("well", 120, 80).astype(np.float32)
    base = rounded(origin, "bfloat16")
    tuned = rounded(base + update_of(120, 80).astype(np.float32), "bfloat16")
    how = {"form": "bfloat16", "origin": origin}
    return (
        Accelerated(base, tuned, device=device, **how)
        if device
        else Decomposition(base, tuned, **how)
    )


def test_what_storing_leaves_is_added_to_the_base_as_it_was():
    ours, theirs = pair_of(Device("cpu")).gram_of_stored(), pair_of(None).gram_of_stored()
    # A coordinate on a tie may go to either neighbour: of a few thousand, some.
    np.testing.assert_allclose(np.diag(ours), np.diag(theirs), rtol=2e-2)
    assert np.trace(ours) == pytest.approx(np.trace(theirs), rel=2e-3)


COUNTED = (coordinates, coverage, signs)


@pytest.mark.parametrize("form", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(160, 90), (90, 160)])
def test_coordinates_are_counted_to_the_same_numbers(tmp_path, there, form, shape):
    base = base_of("well", *shape)
    base[3:40] = 0.0  # hundreds of ties at a cut
    tuned = base + update_of(*shape)
    tuned[10:60] = base[10:60]
    arrays = (tmp_path, base, tuned, form, COUNTED)
    expected, _, _ = measured_arrays(*arrays)
    there()
    tables, _, _ = measured_arrays(*arrays)
    assert expected["histogram"]["moved"].sum() and expected["coverage"]["visible"].sum()
    for table, rows in expected.items():
        rtol = 1e-12 if table == "coverage" else 0  # masks of vectors of another solver
        pd.testing.assert_frame_equal(tables[table], rows, rtol=rtol, atol=0)


def test_of_values_that_are_none_the_rest_is_counted_there(tmp_path, there):
    base = base_of("well", 60, 40)
    tuned = base + update_of(60, 40)
    base[5, 7], tuned[8, 8], tuned[20, :3] = np.nan, np.inf, -np.inf
    expected, _, _ = measured_arrays(tmp_path, base, tuned, "bfloat16", (coordinates, signs))
    there(100)
    tables, _, _ = measured_arrays(tmp_path, base, tuned, "bfloat16", (coordinates, signs))
    for table, rows in expected.items():
        pd.testing.assert_frame_equal(tables[table], rows)


def test_a_family_is_counted_there_in_all_its_formats(there):
    pair = (GOLDEN / "base", GOLDEN / "tuned_b", MEASURES)
    expected = measured(*pair)
    there()
    assert_alike(measured(*pair), expected)


def test_counts_without_any_room_are_the_cpu_s_and_said(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(accelerated, "blocks", full)
    work = pair_of(Device("cpu"))
    ours, theirs = (census(pair, "stored") for pair in (work, pair_of(None)))
    np.testing.assert_array_equal(ours.count, theirs.count)
    np.testing.assert_array_equal(ours.visible, theirs.visible)
    assert work.method == "exact (cpu; on the CPU count classes: no room)"


class Full(Device):
    """A device that has room for so many elements at a time."""

    def __init__(self, room: int):
        super().__init__("cpu")
        self.room, self.tried = room, []

    def zeros(self, *shape: int) -> torch.Tensor:
        self.tried.append(self.block)
        if self.block > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().zeros(*shape)


def test_a_step_without_room_is_tried_with_less():
    device = Full(accelerator.BLOCK // 16)
    work = pair_of(device)
    np.testing.assert_allclose(work.products.dd, pair_of(None).products.dd, rtol=1e-12)
    assert device.tried[0] == accelerator.BLOCK and device.block == accelerator.BLOCK // 16
    assert work.method == "exact (cpu)"


def test_a_step_without_any_room_is_the_cpu_s_and_said():
    work = pair_of(Full(0))
    np.testing.assert_array_equal(work.products.dd, pair_of(None).products.dd)
    assert work.method == "exact (cpu; on the CPU summed products: no room)"


def test_a_decomposition_that_fails_there_is_the_cpu_s_and_said(monkeypatch):
    def fail(*_):
        raise torch.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    work = pair_of(Device("cpu"))
    np.testing.assert_allclose(work.base_spectrum.s, pair_of(None).base_spectrum.s, rtol=1e-9)
    assert work.method == "exact (cpu; on the CPU spectrum of: no convergence)"
