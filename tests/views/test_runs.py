"""Views of several runs: each draws, reads itself and hands out its data, by itself and beside one
run; seeds have a mean, and what is not measured yet is said.
"""

from dataclasses import replace

import pandas as pd
import pytest

from opdviz import views
from opdviz.figures import theme
from opdviz.quantities import QUANTITIES
from opdviz.views import Several
from opdviz.views import runs as of_runs
from opdviz.views.run_curves import CURVES
from tests.conftest import GOLDEN, compared_here, reader_of

TENSOR = "model.layers.1.self_attn.o_proj.weight"

OF_EACH = [name for name, drawing in views.RUN_VIEWS.items() if drawing.page == "side_by_side"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[views.Reader]:
    """Both golden updates of one base."""
    cache = tmp_path_factory.mktemp("runs")
    sides = ((GOLDEN / f"tuned_{name}", f"run {name}") for name in "ab")
    return [reader_of(compared_here(cache, GOLDEN / "base", *side)) for side in sides]


def labelled(reader: views.Reader, **facts) -> views.Reader:
    """A run with other facts in its manifest."""
    return replace(reader, manifest=replace(reader.manifest, **facts))


@pytest.mark.parametrize("against", [None, 1])
@pytest.mark.parametrize("name", OF_EACH)
def test_every_view_says_what_it_shows_reads_itself_and_hands_out_its_data(pair, name, against):
    view = views.draw_runs(name, Several(pair), {"tensor": TENSOR, "against": against})
    assert "run a" in view.reading and "run b" in view.reading
    assert any(c.isdigit() for c in view.reading)
    assert theme.alt(view.figure).endswith(".")
    told = view.figure.layout.title.text
    assert theme.literal(pair[0].manifest.base.label) in told
    assert (TENSOR in told) == (name == "run_curves")
    assert set(view.data["run"]) <= {"run a", "run b"} and len(view.data)
    assert view.terms and set(view.terms) <= set(QUANTITIES)


@pytest.mark.parametrize("curve", CURVES)
def test_a_tensor_s_curves_have_a_line_a_run_and_a_level_beside_them(pair, curve):
    view = views.draw_runs("run_curves", Several(pair), {"tensor": TENSOR, "curve": curve})
    names = theme.legend_names(view.figure)
    assert {"run a", "run b"} <= set(names) and len(names) == 3


def test_two_runs_of_one_name_are_told_apart_by_their_keys(pair):
    same = [labelled(reader, name="x") for reader in pair]
    first, second = of_runs.names_of(same)
    assert first == f"x ({pair[0].manifest.key[:6]})" != second


def test_runs_of_one_recipe_are_its_seeds_and_have_one_colour(pair):
    seeds = [labelled(reader, labels={"recipe": "opd"}) for reader in pair]
    view = views.draw_runs("run_headlines", Several(seeds), {})
    assert "All of them are seeds of opd" in view.reading
    assert "opd, 2 seeds" in theme.legend_names(view.figure)
    looks = of_runs.looks_of(seeds, {"colour": "recipe"})
    assert looks[0].colour == looks[1].colour and looks[0].dash != looks[1].dash
    alone = labelled(pair[1], labels={"recipe": "sft"}, name="c", key="cccccccc")
    view = views.draw_runs("run_headlines", Several([*seeds, alone]), {})
    assert "Seeds: opd 2. The gap between opd and sft" in view.reading
    steps = [
        labelled(
            reader,
            labels={"recipe": "opd"},
            tuned=replace(reader.manifest.tuned, path=f"/runs/checkpoint-{at}"),
        )
        for at, reader in enumerate(pair)
    ]
    assert "Steps of one training" in views.draw_runs("run_headlines", Several(steps), {}).reading
    assert "One run each" in views.draw_runs("run_headlines", Several(pair), {}).reading


def test_a_map_beside_a_run_has_its_ratios_as_doublings(pair):
    view = views.draw_runs("run_maps", Several(pair), {"against": 0})
    rows = view.data.set_index("name")
    base = pair[0].summary("by_tensor").set_index("name")["relative_norm"]
    name = rows.index[0]
    expected = rows.at[name, "relative_norm"] / base[name]
    assert 2.0 ** rows.at[name, "ratio"] == pytest.approx(expected)
    assert set(rows["run"]) == {"run b"}
    (heatmap,) = view.figure.select_traces("heatmap")
    assert heatmap.zmin == -heatmap.zmax
    places = [data[-1] for trace in view.figure.select_traces("scatter") if trace.customdata is not None for data in trace.customdata]  # fmt: skip
    assert set(places) == {1}, "a click opens the run that the map is of"


def test_a_mark_beside_a_run_opens_the_run_that_it_is_of(pair):
    view = views.draw_runs("run_against", Several(pair), {"against": 0})
    (trace,) = (trace for trace in view.figure.data if trace.customdata is not None)
    assert {data[-1] for data in trace.customdata} == {1}
    assert trace.customdata[0][0] in set(view.data["name"])


def test_what_is_not_measured_to_the_end_is_said(pair):
    going = replace(pair[1], complete=False)
    view = views.draw_runs("run_headlines", Several([pair[0], going]), {})
    assert view.reading.endswith("Still being measured: run b.")
    nothing = replace(going, summary=lambda name: pd.DataFrame())
    view = views.draw_runs("run_maps", Several([pair[0], nothing]), {})
    assert view.figure is None and "Still being measured: run b" in view.reading
    neither = [replace(reader, complete=False) for reader in pair]
    assert views.draw_runs("run_headlines", Several(neither), {}).figure is None
    assert views.draw_runs("run_sizes", Several(neither), {}).figure is None
    assert views.draw_runs("run_curves", Several(pair), {}).figure is None
    assert views.draw_runs("run_curves", Several(pair), {"tensor": "gone"}).figure is None
