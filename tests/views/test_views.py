"""Every view, drawn from a real comparison: a title of its own, a sentence with numbers, its data;
any state, no failure.
"""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opdviz import views
from opdviz.figures import theme
from opdviz.quantities import CHANCE_OF, MAPPED, QUANTITIES
from opdviz.words import plain as plain_text
from tests.conftest import reader_of

TENSOR = "model.layers.1.self_attn.o_proj.weight"
BLOCK = "model.layers.1.mlp.up_proj.weight"
EMPTY = {"pixels": "not read yet"}


@pytest.fixture(scope="module")
def run(golden_store) -> views.Reader:
    """The golden pair b, as the pages see it."""
    (comparison,) = golden_store.all()
    heads = {"query": 8, "key_value": 4, "size": 16}
    return replace(
        reader_of(comparison),
        manifest=replace(comparison.manifest, heads=heads),
        noted=frozenset([TENSOR]),
    )


@pytest.mark.parametrize("name", views.VIEWS)
def test_every_view_says_what_it_shows_reads_itself_and_hands_out_its_data(run, name):
    tensor = "model.embed_tokens.weight" if name == "vocabulary" else TENSOR
    view = views.draw(name, run, {"tensor": tensor})
    if name in EMPTY:
        assert view.figure is None and EMPTY[name] in view.reading
        return
    told = view.figure.layout.title.text
    assert theme.literal(view.title.split(": ", 1)[0]) in told
    assert (tensor if views.VIEWS[name][1] == "tensor" else run.name) in told
    assert any(c.isdigit() for c in view.reading), view.reading
    assert "click" not in f"{view.reading} {view.figure.to_json()}".lower().replace(
        "clickmode", ""
    ), "pins take no clicks"
    assert theme.alt(view.figure).endswith(".")
    assert len(view.data)
    assert view.terms and set(view.terms) <= set(QUANTITIES)
    axes = [a.title.text for a in (*view.figure.select_xaxes(), *view.figure.select_yaxes())]
    # Its six strips have theirs at the side.
    assert any(axes) or name == "headline", "no axis has a title"


def test_labels_of_quantities_make_readable_links():
    labels = [QUANTITIES[q].label for q in MAPPED]
    assert len(set(labels)) == len(labels)
    for label in labels:
        assert all(c.isalnum() or c in " -." for c in label), label
    assert set(CHANCE_OF) <= set(MAPPED)


@pytest.mark.parametrize("quantity", MAPPED)
def test_any_quantity_can_stand_on_the_map(run, quantity):
    for state in (
        {"quantity": quantity},
        {"quantity": quantity, "over": True, "kinds": "all kinds"},
    ):
        view = views.draw("layers", run, state)
        assert view.figure is not None
        assert QUANTITIES[quantity].label[1:] in view.title
        assert quantity in view.data


def test_fixed_limits_are_the_given_ones(run):
    view = views.draw(
        "layers", run, {"quantity": "cosine", "limits": "fixed", "low": 0.5, "high": 0.75}
    )
    assert (view.figure.data[0].zmin, view.figure.data[0].zmax) == (0.5, 0.75)


def test_a_tensor_that_is_not_there_is_said(run):
    for name in ("energy", "pixels", "heads"):
        for state in ({}, {"tensor": "../etc"}, {"tensor": "<script>"}):
            view = views.draw(name, run, state)
            assert view.figure is None and "not in this comparison" in view.reading
    assert views.draw("no such view", run, {}).figure is None


def test_partial_results_have_no_headline_wherever_it_is_drawn(run):
    partial = replace(run, complete=False)
    view = views.draw("headline", partial, {})
    assert view.figure is None and "waits until every tensor" in view.reading


@pytest.mark.parametrize("name", views.VIEWS)
def test_where_nothing_is_measured_every_view_says_so(run, name):
    bare = replace(run, summary=lambda _: run.summary("by_tensor").iloc[:0])
    assert views.draw(name, bare, {"tensor": TENSOR}).figure is None


def test_heads_hold_together_what_the_tensor_holds(run):
    view = views.draw("heads", run, {"tensor": TENSOR})
    assert len(view.data) == 8
    assert view.data["energy"].sum() == pytest.approx(1.0)
    bars, even = view.figure.data
    assert even.y == (0.125, 0.125)
    assert [c[0] for c in bars.customdata] == [f"head {i}" for i in range(8)]


def test_pixels_are_read_beside_an_even_spread(run, golden_store):
    import numpy as np
    import pandas as pd

    row = run.summary("by_tensor").set_index("name").loc[BLOCK]
    shape = (int(row["rows"]), int(row["columns"]))
    at = np.indices(shape)
    step = row["delta_norm"] / np.sqrt(shape[0] * shape[1])
    block = pd.DataFrame(
        {"row": at[0].ravel(), "column": at[1].ravel(), "base": 0.0, "tuned": step}
    )
    seen = replace(run, block=lambda *_: block)
    view = views.draw("pixels", seen, {"tensor": BLOCK})
    told = f"{row['delta_norm']:.3g}"
    assert view.reading.count(told) == 2 and view.reading.startswith("100 %")


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=2),
)
keys = st.sampled_from([*views.KEYS, "other"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(st.sampled_from(sorted(views.VIEWS)), st.dictionaries(keys, plain, max_size=6))
def test_no_state_that_somebody_wrote_by_hand_makes_a_view_fail(run, name, state):
    kept = views.clean(state)
    json.dumps(kept, allow_nan=False)
    assert views.draw(name, run, {"tensor": TENSOR} | kept).reading


def test_a_state_survives_its_cleaning(run):
    state = {
        "quantity": "cosine",
        "limits": "fixed",
        "low": 0.1,
        "high": 2.0,
        "layers": "0-1",
        "over": True,
        "row": 3,
        "above": "1e-5",
    }
    assert views.clean(json.loads(json.dumps(state))) == state
    assert views.clean({"quantity": "nonsense", "x": "block", "y": "", "profile": "all"}) == {}
    assert (
        views.clean(
            {
                "layers": "x",
                "row": -1,
                "above": "2",
                "low": float("nan"),
                "over": "true",
                "size": 1e3,
            }
        )
        == {}
    )


@pytest.mark.parametrize(
    "text",
    [
        "![x](http://invalid/x)",
        ":red[x]",
        "`code`",
        "[link](http://invalid/)",
        "$x^2$",
        "<img src=x>",
    ],
)
def test_names_from_data_are_text_in_every_sentence(run, text):
    rows = run.summary("by_tensor")
    nasty = rows.assign(module=text, name=rows["name"] + text)
    seen = replace(run, summary=lambda name: nasty if name == "by_tensor" else run.summary(name))
    for name in ("layers", "strip", "projection"):
        reading = views.draw(name, seen, {}).reading
        assert plain_text(text) in reading and text not in reading


def test_a_tensor_that_did_not_move_says_so_where_angles_would_stand(run):
    still = replace(
        run,
        summary=lambda name: run.summary(name).assign(moved=0),
        rows=lambda table, tensor: run.rows(table, tensor).iloc[:0],
    )
    view = views.draw("angles", still, {"tensor": TENSOR})
    assert view.figure is None and "did not move" in view.reading
    unfinished = replace(still, complete=False)
    assert "Not computed yet" in views.draw("angles", unfinished, {"tensor": TENSOR}).reading


def test_a_figure_of_a_sketch_is_called_one(run):
    manifest = replace(run.manifest, settings={"precision": "fast"})
    title = views.draw("stable_rank", replace(run, manifest=manifest), {}).title
    assert title.endswith(f"{run.name} (fast)")
    named = replace(run, manifest=replace(manifest, name="base..tuned (fast)"))
    assert named.name == "base..tuned (fast)"
