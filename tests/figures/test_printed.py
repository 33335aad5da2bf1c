"""Figures for paper: as wide as they say, type of 7 to 9 points, light, nothing on top of another."""

import json
from dataclasses import replace

import pytest

from opdviz import views
from opdviz.figures import printed, theme
from opdviz.tables import summaries
from tests.conftest import reader_of

POINTS = printed.PIXEL * 72  # of one pixel
SMALL = 0.85  # the second line of a title, of its first


@pytest.fixture(scope="module")
def figures(golden_store) -> dict:
    """Every view of the golden pair that has a figure."""
    (comparison,) = golden_store.all()
    reader = reader_of(comparison)
    matrix = summaries.summary(comparison, "by_tensor")["name"].iloc[0]
    state = {"tensor": matrix}
    drawn = {view: views.draw(view, reader, state).figure for view in views.VIEWS}
    twice = [reader, replace(reader, manifest=replace(reader.manifest, name="again"))]
    drawn |= {
        view: views.draw_runs(view, views.Several(twice), state).figure for view in views.RUN_VIEWS
    }
    return {view: figure for view, figure in drawn.items() if figure is not None}


@pytest.mark.parametrize("width", printed.WIDTHS)
def test_type_is_7_to_9_points_at_the_width_that_is_named(figures, width):
    assert len(figures) > 12
    for view, figure in figures.items():
        before = json.loads(figure.to_json())
        paper = printed.printed(figure, width)
        assert json.loads(figure.to_json()) == before, "what the page shows was changed"
        assert paper.layout.width * printed.PIXEL == pytest.approx(printed.WIDTHS[width], abs=0.008)
        points = [font.size * POINTS for font in theme.fonts(paper) if font.size]
        points.append(paper.layout.title.font.size * POINTS * SMALL)
        points += [bar.colorbar.tickfont.size * POINTS for bar in paper.select_traces("heatmap")]
        assert min(points) >= 7 and max(points) <= 9.001, (view, points)


def test_it_is_light_and_its_ground_is_left_to_whoever_saves_it(figures):
    for figure in figures.values():
        layout = printed.printed(figure, "column").layout
        assert layout.paper_bgcolor == "rgba(0,0,0,0)"
        assert layout.xaxis.tickfont.color == layout.legend.font.color == theme.INK["light"]


def test_labels_and_numbers_that_have_no_room_are_left_out(figures):
    axis = {"tickvals": list(range(30)), "ticktext": [str(layer) for layer in range(30)]}
    wide = theme.figure(height=300, alt="x.", margin={"l": 200, "r": 10, "t": 0, "b": 0})
    wide.update_xaxes(**axis)
    labels = printed.printed(wide, "column").layout.xaxis.ticktext
    assert 2 < len(labels) < 20 and list(labels) == axis["ticktext"][:: int(labels[1])]
    cells = figures["layers"]
    shown = {
        width: printed.printed(cells, width).select_traces(selector={"name": "numbers"})
        for width in printed.WIDTHS
    }
    assert next(shown["full"]).visible
    for trace in (crowded := theme.figure(*cells.data, height=300, alt="x.")).data:
        if trace.name == "numbers":
            trace.x, trace.text = [*range(16)], ["0.0302 %"] * 16
    (numbers,) = printed.printed(crowded, "column").select_traces(selector={"name": "numbers"})
    assert numbers.visible is False


def test_a_long_title_breaks_and_a_legend_that_wraps_gets_room(figures):
    long = printed.printed(figures["coverage"], "column").layout
    short = printed.printed(figures["coverage"], "full").layout
    lines = long.title.text.split("</b>")[0].split("<br>")
    assert len(lines) == 2 and max(map(len, lines)) < 50
    assert long.margin.t > short.margin.t and long.height > short.height
