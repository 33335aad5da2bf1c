"""Every reading sentence at its edges: what cannot be said of the numbers is not said, and what is
said is true of them.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opdviz.quantities import QUANTITIES
from opdviz.tables import published
from opdviz.views import coordinates, directions, layers, overview, tensor
from opdviz.words import percent

PAPER = tuple(row for row in published.numbers() if row["paper"] == published.PAPERS["A"])


def headline(**values) -> list[dict]:
    """Protocol A's rows of some quantities, each a value or (value, chance)."""
    rows = []
    for quantity, value in values.items():
        value, chance = value if isinstance(value, tuple) else (value, None)
        rows.append({"quantity": quantity.replace("1e5", "1e-5"), "value": value, "chance": chance})
    return rows


def tensors(dtype: str = "bfloat16", *, delta: float = 0.1) -> pd.DataFrame:
    """One tensor counted in a format."""
    return pd.DataFrame({"counted_as": [dtype], "delta_norm": [delta], "base_norm": [10.0]})


def bins(moved, null, count=None) -> pd.DataFrame:
    """Bins of rising size."""
    count = [1_000] * len(moved) if count is None else count
    low = 2.0 ** np.arange(-len(moved), 0)
    return pd.DataFrame(
        {"low": low, "high": 2 * low, "count": count, "moved": moved, "null_moved": null}
    )


def test_published_pairs_are_named_with_their_values_never_as_membership():
    text = overview.overview_reading(
        headline(relative_norm=0.193, sparsity_absolute_1e5=91.5), PAPER, tensors(), 0.877
    )
    assert "Relative norm 0.193 %." in text
    assert (
        "OPD 0.045 to 0.142, RL + OPD 0.069, self-distillation 0.036, RLVR 0.073 and 0.497, offline"
        " distillation 11.9" in text
    )
    assert "It follows from learning rate and steps before it follows from the recipe." in text
    assert "among" not in text and "times the" not in text


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("bfloat16", "As bf16"), ("float16", "As fp16"), ("float8_e4m3", "As fp8 e4m3")],
)
def test_what_did_not_change_names_its_precision_and_is_not_what_moved_little(dtype, words):
    text = overview.overview_reading(
        headline(relative_norm=0.03, sparsity_absolute_1e5=91.5), PAPER, tensors(dtype), 0.877
    )
    assert (
        f"{words}, 87.7 % of the coordinates did not change and 91.5 % moved by no more than 1e-5."
        in text
    )


def test_nothing_moved_is_all_that_is_said_of_it():
    rows = headline(relative_norm=0.0, sparsity_absolute_1e5=100.0, top16_energy=None)
    assert (
        overview.overview_reading(rows, PAPER, tensors(delta=0.0), 1.0)
        == "Nothing moved between these checkpoints."
    )
    assert (
        overview.overview_reading([], PAPER, tensors(), None)
        == "The relative norm is not measured yet."
    )
    small = overview.overview_reading(rows, PAPER, tensors(delta=1e-6), 1.0)
    assert small == "As bf16 nothing moved; as stored the relative norm is 1e-05 %."


def test_without_a_chance_none_is_claimed():
    text = overview.overview_reading(
        headline(relative_norm=0.1, top16_energy=(50.0, None)), PAPER, tensors(), None
    )
    assert "16 directions" not in text and "%" in text


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1))
def test_a_percentage_is_0_or_100_only_where_it_is_so(share):
    text = percent(share)
    assert (text == "100 %") == (share == 1.0), share
    assert (text == "0 %") == (share == 0.0), share


def test_the_null_says_the_same_by_total_variation_not_by_the_share_of_all():
    """At a density of 1e-4 hardly anything moves; all of it on the largest weights is as far from
    the null as can be.
    """
    far = bins([0, 0, 0, 4_000], [4_000, 0, 0, 0], [10_000_000] * 4)
    assert coordinates.coordinates_reading(far, "bf16").startswith(
        "**100 % of the moves stand elsewhere than those of a random update stored in bf16,"
    )
    near = bins([1_000, 2_010, 3_000, 3_990], [1_005, 2_000, 3_005, 3_990], [10_000_000] * 4)
    assert coordinates.coordinates_reading(near, "bf16").startswith(
        "**The weights that moved are those that a random update stored in bf16, seen in as many"
        " weights, would move.**"
    )


def test_few_moves_cannot_be_told_from_chance_and_that_is_said():
    text = coordinates.coordinates_reading(bins([3, 1, 2, 2], [2.0, 2.0, 2.0, 2.0]), "bf16")
    assert "would move, as far as so few moves can tell (to " in text


def test_a_bin_across_the_middle_counts_in_both_halves():
    rows = bins([100, 200, 50], [100, 200, 50], [1_000, 2_000, 1_000])
    small, large = coordinates.halves(rows)
    assert small == pytest.approx((100 + 100) / 2_000)
    assert large == pytest.approx((100 + 50) / 2_000)


@pytest.mark.parametrize("rows", [bins([488], [488]), bins([96, 0], [96, 0], [96, 4_000])])
def test_weights_of_one_or_two_sizes_have_no_halves(rows):
    text = coordinates.coordinates_reading(rows, "bf16")
    assert "half" not in text and "too few sizes" in text


def test_the_smallest_weights_are_said_where_they_moved_otherwise():
    counts, null = [1_000, 9_000, 40_000, 50_000], [900.0, 5_400.0, 16_000.0, 10_000.0]
    alike = coordinates.coordinates_reading(bins(null, null, counts), "bf16")
    assert "tenth" not in alike
    moved = [100, 900, *null[2:]]
    apart = coordinates.coordinates_reading(bins(moved, null, counts), "bf16")
    assert apart.endswith("Of the smallest tenth 10 % moved; of that update 63 % would.")
    few = coordinates.coordinates_reading(bins([2, 5, 5], [3.0, 5.0, 5.0], [5, 20, 30]), "bf16")
    assert "tenth" not in few, "one of five is no finding"


def test_no_move_and_only_zeros_are_said():
    assert (
        coordinates.coordinates_reading(bins([0, 0, 0], [0, 0, 0]), "bf16")
        == "No coordinate moved."
    )
    zeros = pd.DataFrame(
        {"low": [0.0], "high": [0.0], "count": [5], "moved": [5], "null_moved": [5.0]}
    )
    assert coordinates.coordinates_reading(zeros, "bf16") == "No coordinate moved."


def tails(*verdicts, reason: str | None = None) -> pd.DataFrame:
    """The table of tails with some verdicts."""
    position = [None if v is None else 0.1 for v in verdicts]
    return pd.DataFrame(
        {"name": range(len(verdicts)), "position": position, "verdict": verdicts, "reason": reason}
    )


def test_the_reason_that_applies_is_the_one_that_is_said():
    small = directions.rounding_reading(tails(None, None, reason="r = 24 is at most 32"))
    assert small == "The tails are not held against rounding: r = 24 is at most 32 (2 matrices)."
    wide = directions.rounding_reading(
        tails(None, reason="stored as float32: drawn for formats up to bf16 and fp16")
    )
    assert "stored as float32" in wide and "far below" not in wide
    assert "as soon as" in directions.rounding_reading(pd.DataFrame())


def test_verdicts_on_tails_are_counted_each():
    text = directions.rounding_reading(tails("like rounding", "like rounding", "open", "spread"))
    assert text.startswith("**No more than rank 16 can be told in 2 of 4 matrices**")
    assert "**More than rank 16 in 1 of 4 matrices**" in text
    assert "In 1 of 4 it stays open" in text
    assert "full rank" not in text


def mapped(values, layers=None, module="q_proj") -> pd.DataFrame:
    """Tensors with a value each."""
    layers = range(len(values)) if layers is None else layers
    return pd.DataFrame(
        {
            "module": module,
            "layer": list(layers),
            "expert": None,
            "relative_norm": values,
            "stable_rank": values,
            "numel": values,
        }
    )


def test_no_winner_where_nothing_moved_or_all_are_equal_or_there_is_one():
    assert (
        layers.layers_reading(mapped([0.0, 0.0]), "relative norm", "relative_norm")
        == "Nothing of it moved."
    )
    assert (
        layers.layers_reading(mapped([0.0]), "relative norm", "relative_norm")
        == "Nothing of it moved."
    )
    equal = layers.layers_reading(mapped([0.2, 0.2, 0.2]), "relative norm", "relative_norm")
    assert equal == "Relative norm is the same in all 3 tensors."
    assert (
        layers.layers_reading(mapped([0.2]), "relative norm", "relative_norm")
        == "One tensor: q\\_proj of layer 0."
    )
    assert (
        layers.layers_reading(mapped([]), "relative norm", "relative_norm")
        == "Nothing to compare yet."
    )
    assert (
        layers.layers_reading(mapped([np.nan]), "relative norm", "relative_norm")
        == "Nothing to compare yet."
    )


def test_a_range_of_layers_has_no_holes():
    values = np.ones(40)
    values[[0, 39]] = 9.0
    assert "layers 0 and 39." in layers.layers_reading(
        mapped(values), "relative norm", "relative_norm"
    )
    values = np.ones(60)
    values[20:23] = 9.0
    assert "layers 20 to 22." in layers.layers_reading(
        mapped(values), "relative norm", "relative_norm"
    )


def test_movement_is_not_importance_is_said_where_it_is_defined_and_in_no_sentence():
    assert "Movement is not importance" in QUANTITIES["relative_norm"].pitfall
    text = layers.layers_reading(mapped([1.0, 2.0, 3.0]), "relative norm", "relative_norm")
    assert text.startswith("Relative norm is largest in") and "importance" not in text


def test_the_experts_of_one_layer_are_named():
    rows = mapped(np.arange(40.0), layers=[3] * 40, module="up").assign(expert=range(40))
    text = layers.layers_reading(rows, "relative norm", "relative_norm")
    assert text == "Relative norm is largest in up of experts 38 and 39, layer 3."


def test_over_chance_is_said_and_small_ranks_are_the_news():
    rows = mapped([5.0, 1.0, 4.0]).assign(over_chance=[-1.0, -3.0, -2.0])
    text = layers.layers_reading(rows, "stable rank", "stable_rank", "over_chance")
    assert text == "Stable rank over chance is smallest in q\\_proj of layer 1."


def test_blocks_name_their_tower_where_there_is_more_than_one():
    rows = pd.DataFrame({"tower": ["language", "visual"], "block": ["ffn", "ffn"], "energy_share": [0.4, 0.6], "tensors_moved": 1,
                         "parameter_share": [0.5, 0.5], "enrichment": [0.8, 1.2]})  # fmt: skip
    assert overview.blocks_reading(rows).startswith("**visual ffn holds 60 %")
    assert overview.blocks_reading(rows[rows["tower"] == "visual"]).startswith("**ffn holds 60 %")
    assert overview.blocks_reading(rows.assign(energy_share=np.nan)) == "Nothing moved."


def covered(value, low, high, n=4, visible=5_000) -> pd.DataFrame:
    """Matrices with the same coverage and hull for both masks."""
    ends = {"coverage": value, "blind_low": low, "blind_high": high, "visible": visible}
    return pd.DataFrame(
        {f"{m}_{e}": [v] * n for m in ("principal", "low_magnitude") for e, v in ends.items()}
    )


def test_a_coverage_is_a_finding_only_beyond_all_blind_updates():
    beyond = coordinates.coverage_reading(covered(0.5, 0.1, 0.4))
    assert beyond.startswith("**On principal weights: more of the moves than any random update")
    assert "in all 4 matrices, fewer in none.**" in beyond
    inside = coordinates.coverage_reading(covered(0.3, 0.1, 0.4))
    assert inside.count("as many of the moves as a random update could put there.") == 2
    for blunt in (covered(0.95, 0.0, 0.9), covered(0.5, 0.1, 0.4, visible=60)):
        text = coordinates.coverage_reading(blunt)
        assert (
            text.startswith("On principal weights nothing can be told in 4 matrices: too few")
            and "**" not in text
        )
    typical = covered(0.5, 0.1, 0.4).assign(principal_null_low=0.2, principal_null_high=0.25)
    assert (
        "The median matrix has 50 % of its moves there, typical random ones 20 % to 25 %."
        in coordinates.coverage_reading(typical)
    )
    ends = {"principal_turned_low": 0.2, "principal_turned_high": [0.6, 0.6, 0.6, 0.45]}
    withheld = coordinates.coverage_reading(covered(0.5, 0.1, 0.4).assign(**ends))
    assert (
        "**On principal weights: more of the moves than any random update could put there in 1 of 4"
        in withheld
    )
    assert "3 more lie beyond random updates, but not beyond their own singular values" in withheld
    assert (
        coordinates.coverage_reading(covered(np.nan, np.nan, np.nan))
        == "No matrix moved so far that it could be asked."
    )


def test_no_rank_is_claimed_that_storing_alone_would_give():
    counted = pd.DataFrame(
        {"rank_99": [245, 214, 225], "rank": [256, 256, 256]},
        index=["gaussian", "rounding_null", "delta"],
    )
    text = tensor.ranks_reading(counted, 256, None)
    assert text.startswith(
        "**99 % of the energy takes 225 of 256 directions**; a random update's takes 245."
    )
    assert "Storing an update of rank 16 takes 214, and 256 lie above" in text
    wide = tensor.ranks_reading(counted.drop("rounding_null"), 256, "stored as float32")
    assert wide.endswith("No rounding null: stored as float32.") and "finding" not in wide


def test_projections_are_claimed_beyond_three_spreads():
    rows = pd.DataFrame({"module": list("qkv"), "projection_joint": [0.02, 0.012, 0.001], "projection_joint_chance": 0.01, "projection_joint_sd": 0.002,
                         "projection_joint_profile": 0.02})  # fmt: skip
    text = directions.projection_reading(rows)
    assert "would put there in 1 of 3 matrices, less in 1** (beyond three spreads)." in text
    assert "1.2 times chance in the median, most in q (2)." in text
    assert "It is 0.6 times that of an update which spreads over rows and columns" in text
    assert (
        directions.projection_reading(rows.assign(projection_joint_sd=np.nan)) == "No matrix moved."
    )


def test_subspaces_that_the_data_do_not_define_are_in_no_median():
    rows = pd.DataFrame({f"rotation_{side}{end}": values for side in ("left", "right") for end, values in
                         (("", [0.1, 0.9]), ("_chance", [0.1, 0.1]), ("_pairs", [50.0, 1.5]))})  # fmt: skip
    text = directions.rotation_reading(rows)
    assert text.startswith("**The base's leading directions turned 1 times as far as a random")
    assert "in the median of 2 subspaces." in text and "2 marks in grey" in text
    alone = directions.rotation_reading(rows[rows["rotation_left_pairs"] < 5])
    assert alone.startswith("None of the 2 subspaces is defined by its data.")


def test_the_angles_sentence_speaks_of_the_k_that_has_the_chance():
    turned = pd.DataFrame({"side": ["left", "right"], "k": [15, 15], "rms_sine": [0.022, 0.03], "chance": [0.0276, np.nan],
                           "pairs": [40.0, 40.0]}).set_index("side")  # fmt: skip
    text = tensor.angles_reading(turned, 150)
    assert (
        text
        == "Rms sine of the leading 15 of 150 directions: left 0.022 (chance 0.0276), right 0.03"
        " (no chance level: not first order)."
    )
    near = tensor.angles_reading(turned.assign(pairs=2.0), 150)
    assert near.endswith(
        "The values 15 and 16 of the base are nearly equal: its data do not define this subspace."
    )


def test_a_stable_rank_is_said_beside_that_of_a_random_update():
    rows = pd.DataFrame({"stable_rank": [1.0, 2.0, 11.0], "stable_rank_chance": 10.0})
    assert directions.directions_reading(rows) == (
        "**The update is concentrated in fewer directions than a random one in 2 of 3 matrices**:"
        " its stable rank is 0.2 of a random update's in the median."
    )
    assert directions.directions_reading(rows.assign(stable_rank=np.nan)) == "No matrix moved."
