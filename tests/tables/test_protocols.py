"""Headline sets on planted stores: numerator and denominator over the same tensors, each paper's
own choices.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from opdviz import checkpoint, tables
from opdviz.engine import measuring, prepare
from opdviz.measures import MEASURES
from opdviz.store.store import Store, Stored
from opdviz.tables import by_tensor, protocols, published, stored
from tests.conftest import write_checkpoint

RNG = np.random.default_rng(0)
SHAPES = {
    "model.embed_tokens.weight": (60, 40),
    "lm_head.weight": (60, 40),
    "model.norm.weight": (40,),
    **{f"model.layers.{layer}.{module}.weight": (40, 40)
       for layer in range(2) for module in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")},
}  # fmt: skip


def compared(
    root: Path, base: dict, tuned: dict, *, dtype: str = "bfloat16", steps=((None, None),)
) -> Stored:
    """Compare two models of some arrays, in one or several steps of (measures, pattern)."""
    sides = [
        write_checkpoint(root / side, arrays, dtype)
        for side, arrays in (("base", base), ("tuned", tuned))
    ]
    store = Store(root / "cache")
    for names, pattern in steps:
        prepared = prepare.prepare(*map(checkpoint.open, sides), store, "planted", lambda p: None)
        measures = tuple(m for m in MEASURES if names is None or m.NAME in names)
        with ThreadPoolExecutor(1) as executor:
            measuring.compare(
                prepared,
                store,
                executor,
                measures=measures,
                pattern=pattern,
                listener=lambda p: None,
            )
    return store.open(prepared.key)


def model(scale: float = 0.0, base: dict | None = None) -> dict[str, np.ndarray]:
    """A small model, or one moved from it by noise of a relative size."""
    base = base or {name: 0.02 * RNG.standard_normal(shape) for name, shape in SHAPES.items()}
    return {name: x + scale * 0.02 * RNG.standard_normal(x.shape) for name, x in base.items()}


def value(rows: list[dict], quantity: str) -> dict:
    """One row of a headline."""
    return next(row for row in rows if row["quantity"] == quantity)


def test_totals_are_over_the_tensors_that_were_counted_and_say_so(tmp_path):
    """Sizes of all, counts of one layer: the share is that of the layer, and the line says of how
    many tensors.
    """
    base = model()
    tuned = model(0.01, base)
    whole = protocols.headline(compared(tmp_path / "whole", base, tuned))
    steps = ((["magnitude"], None), (["magnitude", "sparsity"], "*layers.0*"))
    comparison = compared(tmp_path / "part", base, tuned, steps=steps)
    rows = by_tensor.quantities_by_tensor(comparison)
    layer = rows[rows["layer"] == 0]
    found = value(protocols.headline(comparison), "sparsity_absolute_1e-5")
    assert found["value"] == pytest.approx(
        100 * layer["unchanged_absolute_count"].sum() / layer["numel"].sum()
    )
    assert "3 of 9 tensors" in found["aggregation"]
    assert "tensors" not in value(whole, "sparsity_absolute_1e-5")["aggregation"]
    assert "0 of 8 matrices" in value(protocols.headline(comparison), "top16_energy")["aggregation"]
    blocks = tables.table(comparison, "blocks").set_index("block")
    assert blocks.loc[["embedding", "head", "norm"], "sparsity_absolute"].isna().all(), (
        "nothing was counted there"
    )
    assert blocks.loc["ffn", "sparsity_absolute"] > 0


def test_a_is_taken_on_bf16_as_its_authors_do(tmp_path):
    base = {name: np.float32(x) for name, x in model().items()}
    comparison = compared(tmp_path, base, model(3e-3, base), dtype="float32")
    rows, tensors = protocols.headline(comparison), tables.table(comparison, "tensors")
    norm = value(rows, "relative_norm")
    stored = np.sqrt((tensors["delta_norm"] ** 2).sum() / (tensors["base_norm"] ** 2).sum())
    coarse = np.sqrt(
        (tensors["delta_norm_bfloat16"] ** 2).sum() / (tensors["base_norm_bfloat16"] ** 2).sum()
    )
    assert norm["value"] == pytest.approx(100 * coarse)
    assert abs(coarse / stored - 1) > 0.01
    assert "rounded to bf16" in norm["aggregation"]
    assert "of the stored values" in value(rows, "stable_rank")["aggregation"]
    assert "as bf16" in value(rows, "sparsity_absolute_1e-5")["aggregation"]


@pytest.mark.parametrize(
    ("dtype", "words"), [("float16", "as fp16"), ("bfloat16", "as bf16"), ("float32", "as bf16")]
)
def test_counts_name_the_precision_that_was_counted(tmp_path, dtype, words):
    base = model()
    rows = protocols.headline(compared(tmp_path, base, model(0.01, base), dtype=dtype))
    assert words in value(rows, "sparsity_absolute_1e-5")["aggregation"]


def test_a_coverage_stands_beside_typical_blind_updates_not_beside_its_mask_s_density(tmp_path):
    base = model()
    rows = protocols.headline(compared(tmp_path, base, model(0.002, base)))
    small = value(rows, "coverage_low_magnitude_10pct")
    assert small["chance_low"] < small["chance"] < small["chance_high"]
    assert small["chance"] > 11
    assert small["value"] == pytest.approx(small["chance"], rel=0.2), "this update is blind"


def test_b_and_c_average_over_moved_layer_matrices(tmp_path):
    base = model()
    tuned = model(0.01, base)
    tuned["model.layers.1.mlp.up_proj.weight"] = base["model.layers.1.mlp.up_proj.weight"]
    tuned["lm_head.weight"] = 2 * base["lm_head.weight"]
    comparison = compared(tmp_path, base, tuned)
    rows = by_tensor.quantities_by_tensor(comparison)
    inside = rows[rows["block"].isin(["attention", "ffn"]) & (rows["moved"] > 0)]
    assert len(inside) == 5
    for protocol in "BC":
        found = protocols.headline(comparison, protocol)
        assert value(found, "nss")["value"] == pytest.approx(inside["nss"].mean())
        assert "5 moved layer matrices" in value(found, "nss")["aggregation"]
        angle = tables.table(comparison, "angle")
        left = angle[angle["name"].isin(inside["name"]) & (angle["side"] == "left")]
        expected = left.groupby("name")["degrees"].mean().mean()
        assert value(found, "mean_angle_left")["value"] == pytest.approx(expected)


@pytest.mark.parametrize(("r", "ks"), [(5_125, (512,)), (6_000, (600, 512)), (900, (90,))])
def test_b_takes_angles_at_512_where_there_are_more_than_1024_directions(monkeypatch, r, ks):
    tensors = pd.DataFrame({"name": ["a"], "rows": [r], "columns": [r + 1], "moved": [5], "block": ["ffn"], "layer": [0],
                            "numel": [r * (r + 1)], "counted_as": ["bfloat16"], "unchanged_relative_count": [0]})  # fmt: skip
    angle = pd.DataFrame([{"name": "a", "side": "left", "k": k, "degrees": float(k)} for k in ks])
    monkeypatch.setattr(stored, "read", lambda comparison, name: angle)
    found = protocols.sparsity_and_geometry(None, tensors)
    assert value(found, "mean_angle_left")["value"] == (512 if r > 1024 else 90)


def test_the_head_s_energy_meets_its_published_number():
    assert [row["value"] for row in published.rows("energy_share_head", protocol="A")] == [2.46]
