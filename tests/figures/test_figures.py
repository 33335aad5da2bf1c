"""Figures are pure functions of tables: what they draw stands in their data and layout."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from opdviz.figures import coordinates, directions, layers, overview, scatter, slices, tensor, theme
from opdviz.quantities import MAPPED
from opdviz.tables import published
from opdviz.tables.by_tensor import COVERAGE_ENDS
from opdviz.tables.sizes import beside_gaussian
from opdviz.views.coordinates import coverage_by_module
from opdviz.views.tensor import even_spread


@pytest.fixture
def tensors() -> pd.DataFrame:
    """Four matrices of two layers and a head, one of which did not move."""
    return pd.DataFrame(
        {
            "name": ["l0.q", "l0.down", "l1.q", "l1.down", "lm_head.weight"],
            "layer": pd.array([0, 0, 1, 1, None], dtype="Int64"),
            "module": ["q_proj", "down_proj", "q_proj", "down_proj", "lm_head"],
            "block": ["attention", "ffn", "attention", "ffn", "head"],
            "tower": "language",
            "expert": pd.array([None] * 5, dtype="Int64"),
            "relative_norm": [0.01, 0.02, 0.0, 0.04, 0.5],
            "stable_rank": [2.0, 4.0, np.nan, 8.0, 16.0],
            "stable_rank_chance": [20.0, 20.0, np.nan, 20.0, 20.0],
            **{
                f"projection_{s}": [0.01, 0.02, np.nan, 0.8, 0.001]
                for s in ("joint", "left", "right")
            },
            **{
                f"projection_{s}_{c}": [0.01] * 5
                for s in ("joint", "left", "right")
                for c in ("chance", "sd", "profile")
            },
            **{f"rotation_{s}_pairs": [9.0, 2.0, np.nan, 50.0, 50.0] for s in ("left", "right")},
            **{f"rotation_{s}": [0.1, 0.2, np.nan, 0.1, 0.2] for s in ("left", "right")},
            **{f"rotation_{s}_chance": [0.1, 0.1, np.nan, np.nan, 0.1] for s in ("left", "right")},
            **{
                f"{m}_{c}": [0.1, 0.2, np.nan, 0.1, 0.2]
                for m in ("principal", "low_magnitude")
                for c in COVERAGE_ENDS
            },
        }
    )


def traces(figure, name):
    return [t for t in figure.data if t.name == name]


def test_the_strips_show_the_run_beside_published_pairs_and_chance():
    rows = [
        {"quantity": "relative_norm", "value": 1.0, "chance": None},
        {"quantity": "top16_energy", "value": 50.0, "chance": 14.6},
    ]
    figure = overview.strips(rows, list(published.numbers()))
    assert [t.x[0] for t in traces(figure, "this run")] == [1.0, 50.0]
    assert [t.x[0] for t in traces(figure, "chance")] == [14.6]
    opd = [
        r["value"]
        for r in published.rows("relative_norm")
        if published.family(r["recipe"]) == "OPD"
    ]
    assert sorted(traces(figure, "OPD")[0].x) == sorted(opd)
    assert "chance 14.6" in " ".join(a.text for a in figure.layout.annotations)
    assert [t.customdata[0][0] for t in traces(figure, "this run")] == [
        "relative_norm",
        "top16_energy",
    ]
    assert not any(
        len(t.customdata) for t in figure.data if t.name != "this run" and t.customdata is not None
    )


def test_what_a_diamond_opens_can_be_mapped():
    assert {strip.column for strip in overview.STRIPS} <= set(MAPPED)


def test_the_heatmap_has_a_cell_a_tensor_and_a_mark_to_click(tensors):
    figure = layers.heatmap(tensors, "relative_norm")
    heat, *_, clicks = figure.data
    np.testing.assert_allclose(heat.z[0], [-2, np.nan])
    np.testing.assert_allclose(heat.z[1], np.log10([0.02, 0.04]))
    assert list(figure.layout.yaxis.ticktext) == ["q_proj", "down_proj"]
    assert [d[0] for d in clicks.customdata] == ["l0.down", "l1.down", "l0.q", "l1.q"]
    assert list(zip(clicks.x, clicks.y)) == [(0, 1), (1, 1), (0, 0), (1, 0)]
    assert clicks.customdata[3][5] == "0 %"
    assert tuple(figure.layout.xaxis.range) == (-0.5, 1.5)


def test_colour_limits_are_robust_or_given_and_clipped_cells_are_marked(tensors):
    given = layers.heatmap(tensors, "relative_norm", limits=(0.001, 0.03))
    np.testing.assert_allclose((given.data[0].zmin, given.data[0].zmax), np.log10([0.001, 0.03]))
    (mark,) = traces(given, "beyond the colour limits")
    assert (list(mark.x), list(mark.y)) == ([1.4], [0.7])
    assert layers.whole_range(tensors, "relative_norm") == (0.01, 0.04)
    assert layers.whole_range(tensors.iloc[:1], "relative_norm") is None


def test_a_cell_of_several_experts_is_their_mean_and_leads_to_them():
    many = pd.DataFrame(
        {
            "name": [f"l{i}.e{e}" for i in (0, 1) for e in range(3)],
            "layer": pd.array([0, 0, 0, 1, 1, 1], dtype="Int64"),
            "expert": pd.array([0, 1, 2] * 2, dtype="Int64"),
            "module": "experts.up_proj",
            "block": "ffn",
            "cosine": [0.1, 0.2, 0.6, 0.5, 0.5, 0.5],
        }
    )
    whole = layers.heatmap(many, "cosine")
    np.testing.assert_allclose(whole.data[0].z, [[0.3, 0.5]])
    (clicks,) = traces(whole, "cells")
    assert clicks.customdata[0][:4] == ["", 0, "experts.up_proj", "experts.up_proj"]
    assert "mean of 3" in clicks.customdata[0][4]
    one = layers.heatmap(many[many["layer"] == 0], "cosine")
    np.testing.assert_allclose(one.data[0].z, [[0.1, 0.2, 0.6]])
    assert one.layout.xaxis.title.text == "expert"
    assert [d[0] for d in traces(one, "cells")[0].customdata] == ["l0.e0", "l0.e1", "l0.e2"]


def test_notes_are_flags_on_the_cells_of_their_tensors(tensors):
    assert not traces(layers.heatmap(tensors, "relative_norm"), "notes")
    noted = layers.heatmap(tensors, "relative_norm", noted=frozenset({"l1.down", "gone"}))
    (flags,) = traces(noted, "notes")
    assert [(round(x), round(y)) for x, y in zip(flags.x, flags.y)] == [(1, 1)]


def test_over_chance_is_signed_and_no_cell_lies_beyond_the_colours(tensors):
    rows = tensors.assign(over_chance=[-5.0, 1.0, 0.0, 9.0, 2.0])
    figure = layers.heatmap(rows, "stable_rank", over_chance=True)
    np.testing.assert_allclose(figure.data[0].z, [[-5, 0], [1, 9]])
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-9, 9)
    assert not traces(figure, "beyond the colour limits")
    assert figure.data[0].colorbar.ticktext == ("1/32", "1", "32")


def test_clipping_is_explained_where_it_happens(tensors):
    def words(**limits):
        figure = layers.heatmap(tensors, "relative_norm", **limits)
        return [note.text for note in figure.layout.annotations]

    assert not words(limits=layers.whole_range(tensors, "relative_norm"))
    assert "beyond the colour limits" in words(limits=(0.5, 0.6))[0]


def test_one_hot_expert_is_seen_where_a_mean_would_hide_it():
    expert = range(100)
    values = [1.0] * 99 + [2.0]
    rows = pd.DataFrame(
        {"name": [f"e{e}" for e in expert], "layer": 0, "module": "up", "expert": expert}
    )
    one = rows.assign(block="ffn", cosine=values)
    layered = pd.concat([one, one.assign(layer=1, cosine=1.0)], ignore_index=True)
    mean = layers.heatmap(layered, "cosine")
    extreme = layers.heatmap(layered, "cosine", shows=layers.EXTREME)
    np.testing.assert_allclose(mean.data[0].z, [[1.01, 1.0]])
    np.testing.assert_allclose(extreme.data[0].z, [[2.0, 1.0]])
    (clicks,) = traces(extreme, "cells")
    assert clicks.customdata[0][4] == "most extreme of 100 tensors"


def test_a_scatter_of_many_tensors_is_a_density_whose_lone_tensors_can_be_clicked():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "name": [f"t{i}" for i in range(20_000)],
            "block": "ffn",
            "cosine": rng.normal(0, 0.1, 20_000),
            "shrink": rng.normal(0, 1, 20_000),
        }
    )
    rows.loc[7, ["cosine", "shrink"]] = 0.9, 9.0
    figure = scatter.scatter(rows, "cosine", "shrink")
    density, marks = figure.data
    assert density.type == "heatmap" and len(marks.x) <= theme.MOST_MARKS
    assert "t7" in {d[0] for d in marks.customdata}
    assert np.nansum(density.customdata) == 20_000
    few = scatter.scatter(rows.iloc[:50], "cosine", "shrink")
    assert [len(t.x) for t in few.data] == [50]


def test_thinning_keeps_the_ends_of_every_group():
    rng = np.random.default_rng(1)
    rows = pd.DataFrame(
        {"module": np.repeat(["a", "b"], [5000, 20]), "value": rng.normal(size=5020)}
    )
    kept = theme.thinned(rows, rows["value"], "module", most=400)
    assert len(kept) <= 420
    for module, part in rows.groupby("module"):
        inside = kept[kept["module"] == module]["value"]
        assert (inside.min(), inside.max()) == (part["value"].min(), part["value"].max())
    assert (kept["module"] == "b").sum() == 20
    assert theme.thinned(rows, rows["value"], "module", most=6000) is rows


def test_a_title_is_no_markup_and_grows_the_figure():
    bare = theme.figure(height=300, alt="x.", margin=dict(t=30))
    named = theme.titled(bare, "Energy", "<img src=x>" + "a" * 200)
    assert named.layout.height == 300 + theme.TITLE
    assert named.layout.margin.t == 30 + theme.TITLE
    assert "<img" not in named.layout.title.text and "&lt;img" in named.layout.title.text
    assert len(named.layout.title.text) < 300


def test_for_a_projector_every_font_grows(tensors):
    plain = theme.titled(layers.heatmap(tensors, "relative_norm"), "Where", "here")
    sizes = (
        plain.layout.font.size,
        plain.layout.xaxis.tickfont.size,
        plain.layout.title.font.size,
        plain.data[1].textfont.size,
    )
    large = theme.enlarged(go.Figure(plain), 1.5, 700)
    assert (
        large.layout.font.size,
        large.layout.xaxis.tickfont.size,
        large.layout.title.font.size,
        large.data[1].textfont.size,
    ) == tuple(round(size * 1.5) for size in sizes)
    assert large.layout.height == 700
    assert plain.layout.font.size == sizes[0]


def test_tensors_without_a_layer_stand_in_their_own_strip(tensors):
    figure = layers.strip(tensors, "relative_norm", log=True)
    assert [d[0] for d in figure.data[0].customdata] == ["lm_head.weight"]


def test_every_projection_lies_on_its_axis_and_none_at_an_end_for_others(tensors):
    rows = tensors.assign(projection_joint=tensors["projection_joint"] * [1, 1, 1, 0, 1])
    figure = directions.projection_dots(rows)
    values = [x for t in figure.data for x in t.x]
    low, high = figure.layout.xaxis.range
    assert low < min(values) and max(values) < high and len(values) == 3 * 4
    assert min(values) == -theme.FARTHEST and figure.layout.xaxis.ticktext[0] == "≤1/1,024"


def test_a_rotation_without_a_chance_is_left_out(tensors):
    left, left_grey, right, right_grey, diagonal = directions.rotation_scatter(tensors).data
    assert len(left.x) == len(right.x) == 2
    assert len(left_grey.x) == len(right_grey.x) == 1
    assert left_grey.marker.color == right_grey.marker.color == theme.BASE, (
        "the data do not define that subspace"
    )
    assert diagonal.x == diagonal.y


def test_stable_rank_is_shown_over_chance(tensors):
    figure = directions.stable_rank_strip(tensors)
    assert sorted(x for t in figure.data for x in t.x) == [0.1, 0.2, 0.4, 0.8]


def test_moved_given_size_is_a_share_beside_its_null():
    bins = pd.DataFrame(
        {
            "low": [0, 0.5, 1],
            "high": [0, 1, 2],
            "count": [7, 100, 50],
            "moved": [0, 50, 10],
            "null_moved": [0, 40, 20.0],
        }
    )
    count, moved, null = coordinates.moved_given_size(bins).data
    assert list(moved.y) == [0.5, 0.2]
    assert list(null.y) == [0.4, 0.4]
    assert list(count.y) == [1.0, 0.5]


def test_a_coverage_with_nowhere_else_to_be_is_grey(tensors):
    wide = tensors.assign(principal_lowest=0.0, principal_highest=1.0)
    figure = coordinates.dumbbells(coverage_by_module(wide))
    principal, low = traces(figure, "coverage, median")
    assert set(principal.marker.color) == {theme.DELTA}
    assert set(low.marker.color) == {theme.BASE}


def test_zeros_have_a_bar_of_their_own():
    bins = pd.DataFrame(
        {
            "of": ["base", "base", "delta", "delta"],
            "low": [0, 1.0, 0, 1.0],
            "high": [0, 1.19, 0, 1.19],
            "count": [1, 3, 3, 1],
        }
    )
    sides = {side: beside_gaussian(bins, side, 1.0) for side in ("base", "delta")}
    figure = tensor.magnitudes(sides)
    assert [t.y[0] for t in figure.data if t.type == "bar"] == [0.25, 0.75]
    (chance,) = traces(figure, "|change|, chance")[:1]
    assert chance.y[0] == pytest.approx(0.3173 - 0.2340, abs=1e-4)  # of a standard Gaussian's table


def test_a_gaussian_s_own_sizes_lie_on_their_chance():
    values = np.abs(np.random.default_rng(0).standard_normal(200_000)) * 3e-4
    edges = 2.0 ** (np.arange(-120, 0) / 4)
    counts = np.histogram(values, edges)[0]
    bins = pd.DataFrame({"of": "delta", "low": edges[:-1], "high": edges[1:], "count": counts})
    rows = beside_gaussian(bins, "delta", 3e-4)
    assert (rows["share"] - rows["chance"]).abs().max() < 0.003
    assert rows["chance"].sum() == pytest.approx(1.0, abs=1e-3)


def test_bands_stand_beside_an_even_spread():
    bands = pd.DataFrame(
        {"axis": "row", "low": [0, 10], "high": [10, 40], "energy": [0.5, 0.5], "moved": [0.4, 0.8]}
    )
    assert even_spread(bands, "energy").tolist() == [0.25, 0.75]
    assert even_spread(bands, "moved").tolist() == pytest.approx([0.7, 0.7])
    for column in ("energy", "moved"):
        even = even_spread(bands, column)
        (line,) = traces(slices.profile(bands.assign(even=even), column), "even spread")
        assert list(line.y) == pytest.approx(even.tolist())


def test_pixels_share_one_scale_for_base_and_tuned():
    block = pd.DataFrame(
        {
            "row": [0, 0, 1, 1],
            "column": [0, 1, 0, 1],
            "base": [1.0, -2, 3, 4],
            "tuned": [1.0, -2, 3, 5],
        }
    )
    update, base, tuned = tensor.pixels(block).data
    assert update.z.tolist() == [[0, 0], [0, 1]]
    assert (base.zmin, base.zmax) == (tuned.zmin, tuned.zmax)
    assert update.zmin == -update.zmax


def test_every_figure_has_our_template_and_a_sentence_for_those_who_cannot_see_it(tensors):
    figures = [
        layers.heatmap(tensors, "relative_norm"),
        layers.strip(tensors, "relative_norm", log=True),
    ]
    figures += [
        directions.stable_rank_strip(tensors),
        directions.projection_dots(tensors),
        coordinates.dumbbells(coverage_by_module(tensors)),
    ]
    for figure in figures:
        assert theme.alt(figure).endswith(".")
        assert figure.layout.template.layout.font.family == theme.FONT
        assert figure.layout.font.size == theme.SIZE


def test_empty_tables_draw_empty_figures(tensors):
    none = tensors.iloc[:0]
    for make in (
        directions.stable_rank_strip,
        directions.projection_dots,
        directions.rotation_scatter,
        lambda rows: coordinates.dumbbells(coverage_by_module(rows)),
    ):
        assert all(len(t.x) == 0 for t in make(none).data if t.name != "as by chance")


def test_names_are_no_markup_in_figures_and_stay_themselves_where_they_are_clicked(tensors):
    nasty = tensors.assign(module=tensors["module"] + "<b>x</b>", name=tensors["name"] + "<i>y</i>")
    heat = layers.heatmap(nasty, "relative_norm")
    strip = directions.stable_rank_strip(nasty)
    coverages = coordinates.dumbbells(coverage_by_module(nasty))
    for figure in (heat, strip, directions.projection_dots(nasty), coverages):
        labels = [t for axis in figure.select_yaxes() for t in axis.ticktext or ()]
        assert labels
        assert not any("<" in label for label in labels)
    assert {d[0] for d in heat.data[-1].customdata} == {
        f"{n}<i>y</i>" for n in ("l0.q", "l0.down", "l1.q", "l1.down")
    }
    assert strip.data[0].customdata[0][0] == "l0.q<i>y</i>"
    assert "<" not in strip.data[0].customdata[0][2]
