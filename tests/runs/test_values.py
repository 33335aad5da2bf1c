"""Blocks of values: what the files hold, in bounds, and only while the files are those that were
compared.
"""

import shutil

import numpy as np
import pandas as pd
import pytest

from opdviz import checkpoint
from opdviz.errors import RequestError
from opdviz.runs import values
from opdviz.store.store import Store, Stored
from tests.commands import opdviz
from tests.conftest import write_checkpoint

RNG = np.random.default_rng(0)
TENSORS = {
    "model.layers.0.mlp.up_proj.weight": (40, 30),
    "model.layers.0.mlp.experts.gate_up_proj": (2, 12, 10),
    "visual.patch_embed.proj.weight": (6, 3, 2, 2),
    "model.norm.weight": (7,),
}


@pytest.fixture
def compared(tmp_path) -> Stored:
    """A comparison of a matrix, a stack, a convolution and a vector, with its checkpoints beside
    the cache.
    """
    for side in ("base", "tuned"):
        write_checkpoint(tmp_path / side, {n: RNG.standard_normal(s) for n, s in TENSORS.items()})
    assert (
        opdviz(
            "compare",
            tmp_path / "base",
            tmp_path / "tuned",
            "--name",
            "x",
            cache=tmp_path / "cache",
        ).returncode
        == 0
    )
    return Store(tmp_path / "cache").find("x")


@pytest.mark.parametrize(
    ("name", "take"),
    [
        ("model.layers.0.mlp.up_proj.weight", lambda x: x),
        ("model.layers.0.mlp.experts.gate_up_proj[1]", lambda x: x[1]),
        ("visual.patch_embed.proj.weight", lambda x: x.reshape(6, 12)),
        ("model.norm.weight", lambda x: x.reshape(1, 7)),
    ],
)
def test_a_block_holds_the_values_of_the_files(compared, tmp_path, name, take):
    row = 0 if "norm" in name else 3
    frame = pd.read_parquet(values.keep_block(compared, name, row, 4, 8))
    for side in ("base", "tuned"):
        whole = take(checkpoint.open(tmp_path / side).read(name.split("[")[0]))
        wanted = whole[row : row + 8, 4:12]
        found = frame.pivot(index="row", columns="column", values=side)
        np.testing.assert_array_equal(found.to_numpy(), wanted)
        assert (found.index[0], found.columns[0]) == (row, 4)


def test_wrong_blocks_and_checkpoints_that_are_gone_or_changed_are_refused(compared, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    for row, column, size in ((40, 0, 8), (0, 30, 8), (-1, 0, 8), (0, 0, 0), (0, 0, 513)):
        with pytest.raises(RequestError, match="expected a start inside 40 x 30"):
            values.keep_block(compared, name, row, column, size)
    with pytest.raises(RequestError, match="no such tensor"):
        values.keep_block(compared, "nobody", 0, 0, 8)
    write_checkpoint(tmp_path / "tuned", {n: RNG.standard_normal(s) for n, s in TENSORS.items()})
    with pytest.raises(RequestError, match="tuned checkpoint changed"):
        values.keep_block(compared, name, 0, 0, 8)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(RequestError, match="base checkpoint is not on this machine"):
        values.keep_block(compared, name, 0, 0, 8)
