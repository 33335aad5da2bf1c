"""Copies, rearranged values and new zeros, held against looking at the arrays."""

import numpy as np
import pytest

from opdviz.checkpoint.formats import Promoted
from opdviz.linalg import Decomposition
from opdviz.measures import identity, magnitude
from tests.conftest import measured_arrays

RNG = np.random.default_rng(15)
ONLY = (magnitude, identity)


def row_of(folder, base, tuned, dtype="float32"):
    """The one row, and both sides as stored."""
    tables, w, t = measured_arrays(folder, base, tuned, dtype, ONLY)
    return tables["identity"].iloc[0], w, t


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (1100, 900)])  # the last in four chunks
def test_values_at_other_places_are_found(tmp_path, dtype, shape):
    base = RNG.normal(size=shape)
    mixed = RNG.permutation(base.reshape(-1)).reshape(shape)
    ways = {"same": (base, None), "mixed": (mixed, "permuted"), "rows": (base[::-1], "permuted")}
    if shape[0] == shape[1]:
        ways["turned"] = (base.T.copy(), "transposed")
    for name, (tuned, how) in ways.items():
        row, _, _ = row_of(tmp_path / name, base, np.ascontiguousarray(tuned), dtype)
        assert row["rearranged"] == how or (how is None and row["rearranged"] is None), name
        assert (row["base_digest"] == row["tuned_digest"]) == (name == "same")


def test_equal_sums_of_other_values_are_no_permutation(tmp_path):
    """One value a step up and another a step down: the bits sum to the same."""
    base = RNG.normal(size=(16, 16)).astype(np.float32)
    bits = base.view(np.uint32).copy()
    bits[0, 0] += 1
    bits[3, 5] -= 1
    row, _, _ = row_of(tmp_path, base, bits.view(np.float32))
    assert row["rearranged"] is None


def test_new_zeros_and_zeroed_rows_are_counted(tmp_path):
    base = RNG.normal(size=(20, 10))
    base[4] = base[0, :3] = 0.0
    tuned = base + 0.1 * RNG.normal(size=base.shape)
    tuned[4] = tuned[7] = tuned[9, 2:5] = tuned[0, :3] = 0.0
    row, w, t = row_of(tmp_path, base, tuned)
    assert (row["new_zeros"], row["zeroed_rows"]) == (np.count_nonzero((w != 0) & (t == 0)), 1)
    assert row["new_zeros"] == 13


def test_digests_are_of_the_values_and_not_of_the_name(tmp_path):
    base, tuned = RNG.normal(size=(2, 12, 12))
    forth, _, _ = row_of(tmp_path / "forth", base, tuned)
    back, _, _ = row_of(tmp_path / "back", tuned, base)
    assert forth["base_digest"] == back["tuned_digest"]
    assert forth["tuned_digest"] == back["base_digest"] != forth["base_digest"]


def test_large_tensors_of_16_bits_stay_so():
    """A transposed matrix whose sides are numbers of 16 bits is seen through them."""
    codes = RNG.integers(0x3C00, 0x3D00, size=(32, 32), dtype=np.uint16)
    sides = (Promoted(side, "bfloat16") for side in (codes, np.ascontiguousarray(codes.T)))
    assert identity.transposed(Decomposition(*sides, form="bfloat16"))
