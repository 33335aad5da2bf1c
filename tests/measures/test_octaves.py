"""The precision fingerprint on planted runs: a master copy cast at the end leaves a ratio of 1 in
every octave, 16-bit weights a cliff where a single step no longer shows.
"""

import numpy as np
import pytest

from opdviz import views
from opdviz.checkpoint.formats import FORMATS, rounded
from opdviz.cli import main
from opdviz.measures import magnitude, octaves
from opdviz.quantities import QUANTITIES
from opdviz.store.store import Store
from opdviz.tables import precision, table
from tests.conftest import measured_arrays, reader_of, write_checkpoint

SHAPE, STEPS, LARGEST_STEP = (512, 640), 40, 2e-5
NAMES = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(3)]


def trained(
    seed: int, form: str, how: str, *, scale: float = 0.03, shape: tuple[int, int] = SHAPE
) -> tuple[np.ndarray, np.ndarray]:
    """A matrix whose rows differ in scale, before and after steps as Adam takes them: each at most
    as large as the rate, whatever the weight, with a drift.
    """
    rng = np.random.default_rng(seed)
    rows = np.exp(rng.normal(scale=0.5, size=(shape[0], 1)))
    base = rounded((scale * rows * rng.standard_normal(shape)).astype(np.float32), form)
    master, stored = base.copy(), base.copy()
    for _ in range(STEPS):
        step = rng.uniform(0.2, 1.0, size=shape) * np.where(rng.random(shape) < 0.65, 1, -1)
        step = (LARGEST_STEP * step).astype(np.float32)
        master += step
        if how == "stochastic":
            # Up or down with the chance that makes it right on average.
            wanted = stored + step
            low = np.minimum(rounded(wanted, form), wanted)
            grid = 2.0 ** (np.frexp(np.abs(wanted))[1] - 1 - FORMATS[form].mantissa)
            low = (np.floor(wanted / grid) * grid).astype(np.float32)
            stored = low + grid * (rng.random(shape) < (wanted - low) / grid)
            stored = stored.astype(np.float32)
        else:
            stored = rounded(stored + step, form)
    return base, rounded(master, form) if how == "master" else stored


def compared(folder, form: str, how: str, *, stored: str | None = None, **more):
    """The comparison of a planted model of three layers, stored in another format or its own."""
    sides = zip(*(trained(seed, form, how, **more) for seed in range(len(NAMES))), strict=True)
    paths = [
        str(write_checkpoint(folder / side, dict(zip(NAMES, tensors, strict=True)), stored or form))
        for side, tensors in zip(("base", "tuned"), sides, strict=True)
    ]
    where = ["--cache", str(folder / "cache"), "--workers", "1"]
    assert main(["compare", *paths, "--measures", "octaves", *where]) == 0
    return Store(folder / "cache").all()[0]


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_a_master_copy_cast_at_the_end_is_one_displacement(tmp_path, form):
    comparison = compared(tmp_path, form, "master")
    rows = precision.with_power(table(comparison, "fingerprint"))
    off = (rows["ratio"] - 1).abs()
    assert len(rows) >= 5 and (off <= np.maximum(0.05, 3 * rows["error"])).all(), rows
    assert (off[rows["error"] < 0.01] < 0.01).sum() >= 5
    (verdict,) = table(comparison, "fingerprint_summary").to_dict("records")
    assert verdict["verdict"] == precision.ONE_DISPLACEMENT
    assert "nothing says that steps were rounded away" in precision.sentence(
        table(comparison, "fingerprint_summary")
    )


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_weights_of_16_bits_have_a_cliff_where_the_largest_step_is_half_a_grid_step(tmp_path, form):
    comparison = compared(tmp_path, form, "pure")
    (verdict,) = table(comparison, "fingerprint_summary").to_dict("records")
    assert verdict["verdict"] == precision.CUT_OFF, verdict
    # Half of the grid's step in octave e is 2^(e - mantissa - 1).
    edge = int(np.floor(np.log2(LARGEST_STEP))) + FORMATS[form].mantissa + 1
    assert verdict["octave"] == edge
    assert verdict["step_low"] <= LARGEST_STEP < verdict["step_high"] == 2 * verdict["step_low"]
    rows = table(comparison, "fingerprint").set_index("octave")
    assert rows.loc[edge + 1, "ratio"] < 0.01 and rows.loc[edge + 1, "predicted"] > 0.5
    assert rows.loc[: edge - 1, "ratio"].between(0.95, 1.05).all() and edge - 1 in rows.index
    assert "**Steps were rounded away in 1 of 1 modules" in precision.sentence(
        table(comparison, "fingerprint_summary")
    )


def test_float32_files_of_16_bit_values_have_the_grid_of_these(tmp_path):
    verdicts = [
        table(compared(tmp_path / name, "bfloat16", "pure", stored=name), "fingerprint_summary")
        for name in ("bfloat16", "float32")
    ]
    assert verdicts[0].equals(verdicts[1]) and set(verdicts[0]["verdict"]) == {precision.CUT_OFF}


@pytest.mark.parametrize("how", ["master", "pure"])
def test_the_view_draws_what_the_verdict_says(tmp_path, how):
    comparison = compared(tmp_path, "bfloat16", how)
    view = views.draw("fingerprint", reader_of(comparison), {})
    (trace,) = view.figure.data
    assert (min(trace.y) < 0.01) == (how == "pure") and max(trace.y) < 1.05
    assert ("Steps were rounded away" in view.reading) == (how == "pure")
    assert set(view.terms) <= set(QUANTITIES) and len(view.data) == len(trace.x)


def test_stochastic_rounding_and_scaling_leave_no_cliff(tmp_path):
    comparison = compared(tmp_path, "bfloat16", "stochastic")
    (verdict,) = table(comparison, "fingerprint_summary").to_dict("records")
    assert verdict["verdict"] == precision.CANNOT_TELL and "a drift" in verdict["reason"]
    ratios = precision.with_power(table(comparison, "fingerprint"))["ratio"]
    assert ratios.max() > 1.25, "large weights move more often than their displacement would show"


def test_too_few_small_weights_cannot_tell(tmp_path):
    base = 0.03 * np.random.default_rng(4).standard_normal((4, 5))
    tables, _, _ = measured_arrays(tmp_path, base, base * 1.02, "bfloat16", (magnitude, octaves))
    assert "octaves" not in tables
    assert "no octave has 25 weights of a stratum" in tables["skipped"].iloc[0]["reason"]
    for name, unlike, why in (
        ("small", {"shape": (40, 64)}, "2 octaves, ratio 0 to 0: an edge, if there is one, lies"),
        ("still", {"scale": 3e3}, "no octave of |W| with small weights enough"),
    ):
        comparison = compared(tmp_path / name, "bfloat16", "pure", **unlike)
        summary = table(comparison, "fingerprint_summary")
        assert set(summary["verdict"]) == {precision.CANNOT_TELL}
        assert summary["reason"].iloc[0].startswith(why)
        assert precision.sentence(summary).endswith("cannot be told.")


@pytest.mark.parametrize(
    ("dtypes", "words"),
    [
        (("float32", "float32"), "no step is rounded away"),
        (("float32", "bfloat16"), "the base is stored finer than the tuned"),
    ],
)
def test_where_nothing_can_be_said_the_reason_stands(tmp_path, dtypes, words):
    rng = np.random.default_rng(5)
    base = 0.03 * rng.standard_normal((64, 64))
    paths = [
        str(write_checkpoint(tmp_path / side, {NAMES[0]: tensor}, dtype))
        for side, tensor, dtype in zip(("base", "tuned"), (base, base * 1.01), dtypes, strict=True)
    ]
    where = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    assert main(["compare", *paths, "--measures", "octaves", *where]) == 0
    (comparison,) = Store(tmp_path / "cache").all()
    assert words in table(comparison, "skipped")["reason"].iloc[0]
    assert table(comparison, "fingerprint").empty
    assert table(comparison, "fingerprint_summary").empty
