"""How dense the visible update is, beside the sizes of the weights: planted updates of which sizes
explain everything, and nothing.
"""

import numpy as np
import pytest

from opdviz import views
from opdviz.tables.density import density
from tests.conftest import compared_here, reader_of, write_checkpoint

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"
SHAPE = (300, 200)


def compared(folder, moves: dict[str, np.ndarray], scales: dict[str, float]):
    """A base of weights of two sizes in other shares, and where each tensor moves."""
    base = {name: np.full(SHAPE, 1.0) for name in moves}
    for name, share in scales.items():
        base[name][: int(share * SHAPE[0])] = 0.01
    tuned = {name: np.where(moves[name], base[name] * 1.5, base[name]) for name in moves}
    paths = [
        write_checkpoint(folder / side, w, "bfloat16") for side, w in (("b", base), ("t", tuned))
    ]
    return compared_here(folder / "cache", *paths), base


def test_a_module_of_small_weights_is_denser_by_their_size_alone(tmp_path):
    scales = {UP: 0.9, DOWN: 0.1}
    small = {
        name: np.arange(SHAPE[0])[:, None] < share * SHAPE[0] for name, share in scales.items()
    }
    moves = {name: np.broadcast_to(part, SHAPE) for name, part in small.items()}
    run, _ = compared(tmp_path, moves, scales)
    rows = density(run)
    rows = rows[rows["threshold"] == 0.0].set_index("name")
    assert rows["density"].to_dict() == pytest.approx({UP: 0.9, DOWN: 0.1})
    assert rows["density_given_sizes"].to_dict() == pytest.approx(rows["density"].to_dict())
    view = views.draw("densities", reader_of(run), {})
    assert "proj is 1.8 times as dense as the model** (50 %" in view.reading
    assert "would give 1.8 and 0.2 times" in view.reading


def test_what_sizes_do_not_explain_stands_beside_them(tmp_path):
    half = np.broadcast_to(np.arange(SHAPE[1]) < SHAPE[1] // 2, SHAPE)
    run, _ = compared(tmp_path, {UP: half, DOWN: ~half & half}, {UP: 0.5, DOWN: 0.5})
    rows = density(run)
    rows = rows[rows["threshold"] == 1e-5].set_index("name")
    assert rows["density"].to_dict() == pytest.approx({UP: 0.5, DOWN: 0.0})
    assert rows["density_given_sizes"].to_dict() == pytest.approx({UP: 0.25, DOWN: 0.25})
    assert (rows["expected"].sum(), rows["moved"].sum()) == pytest.approx((30_000, 30_000))
    view = views.draw("densities", reader_of(run), {"above": "1e-5", "by": "layer"})
    assert "Layer 0 is 2 times as dense as the model" in view.reading
    assert [trace.name for trace in view.figure.data] == [
        "whole model",
        "tensors",
        "given the sizes of the weights",
        "all of a line",
    ]
    empty = views.draw("densities", reader_of(run), {"above": "0"})
    assert set(empty.data["threshold"]) == {0.0}
