"""What stands out: planted tensors and blocks are named, noise is not, however many numbers it has."""

import numpy as np
import pandas as pd
import pytest

from opdviz.doctor import outstanding
from opdviz.doctor.finding import ERROR, NOTE, Finding

MODULES = ("q_proj", "k_proj", "up_proj", "down_proj")
NO_BLOCKS = pd.DataFrame(columns=["enrichment"])


def tensors(seed: int, layers: int = 24) -> pd.DataFrame:
    """Matrices whose quantities differ by module and by layer, and by noise."""
    rng = np.random.default_rng(seed)
    of_module, of_layer = rng.normal(size=len(MODULES)), rng.normal(scale=0.5, size=layers)
    rows = pd.DataFrame(
        {
            "name": f"model.layers.{layer}.{module}",
            "tower": "language",
            "layer": layer,
            "module": module,
            "expert": None,
        }
        for module in MODULES
        for layer in range(layers)
    )
    place = np.repeat(of_module, layers) + np.tile(of_layer, len(MODULES))
    for quantity in outstanding.ASKED:
        rows[quantity] = np.exp(place + 0.3 * rng.normal(size=len(rows)))
        if chance := outstanding.CHANCE_OF.get(quantity):
            rows[chance] = 1.0
    return rows


def said(rows: pd.DataFrame, blocks=NO_BLOCKS, findings=()) -> list[outstanding.Outstanding]:
    """The sentences."""
    return outstanding.outstanding(rows.drop(columns="projection_joint"), blocks, findings)[0]


def test_noise_stands_out_in_few_of_many_runs():
    """768 numbers a run: the largest of them is always far off."""
    alarms = sum(bool(said(tensors(seed))) for seed in range(100))
    assert alarms <= 3, alarms


@pytest.mark.parametrize("times", [30.0, 1 / 30.0])
def test_a_tensor_unlike_its_module_and_its_layer_is_named(times):
    rows = tensors(1000)
    rows.loc[30, "relative_norm"] *= times
    (only,) = said(rows)
    assert only.page == "tensor" and only.state == {"tensor": rows.loc[30, "name"]}
    assert "relative norm" in only.sentence and "times what k_proj has elsewhere" in only.sentence


def test_a_layer_in_which_all_moved_more_names_no_tensor():
    rows = tensors(1001)
    rows.loc[rows["layer"] == 5, "relative_norm"] *= 8.0
    assert not said(rows)


def test_blocks_beside_their_share():
    blocks = pd.DataFrame(
        [
            {"block": "ffn", "energy_share": 0.3, "parameter_share": 0.6},
            {"block": "attention", "energy_share": 0.69, "parameter_share": 0.39},
            {"block": "norm", "energy_share": 0.01, "parameter_share": 0.0001},
        ]
    ).assign(tower="language")
    blocks["enrichment"] = blocks["energy_share"] / blocks["parameter_share"]
    sentences = said(tensors(1), blocks)
    assert [one.state["block"] for one in sentences] == ["ffn", "attention"]
    assert "30 % of the update's energy and 60 % of the parameters" in sentences[0].sentence


def test_findings_come_first_and_notes_do_not():
    findings = [
        Finding(rule, severity, rule, ("a.weight",))
        for rule, severity in (("bad", ERROR), ("worse", ERROR), ("third", ERROR), ("router", NOTE))
    ]
    assert [one.sentence for one in said(tensors(2), findings=findings)] == ["bad", "worse"]


def test_projections_beyond_three_spreads_and_how_many_numbers_there_were():
    rows = tensors(3)
    rows["projection_joint"], rows["projection_joint_chance"] = 0.05, 0.01
    for spread, told in ((0.001, True), (0.05, False)):
        rows["projection_joint_sd"] = spread
        sentences, looked_at = outstanding.outstanding(rows, NO_BLOCKS, ())
        assert bool(sentences) == told
        assert looked_at == len(outstanding.ASKED) * len(rows) + len(rows)
    assert outstanding.outstanding(pd.DataFrame(), NO_BLOCKS, ()) == ([], 0)


def test_while_a_run_is_computed_a_quantity_waits_for_its_chance():
    rows = tensors(0)
    whole = outstanding.deviations(rows)
    part = outstanding.deviations(rows.drop(columns="stable_rank_chance"))
    assert set(whole["quantity"]) - set(part["quantity"]) == {"stable_rank"}
