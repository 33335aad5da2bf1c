"""What is written in a figure can be read on the page's ground, light and dark."""

import json
import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from plotly.colors import sample_colorscale

from opdviz import views
from opdviz.figures import theme
from opdviz.tables import summaries
from tests.conftest import reader_of

CONFIG = tomllib.loads(
    (Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text("utf-8")
)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, between 0 and 1. Source: WCAG 2.2."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast of two colours, from 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axes_annotations_and_hovers_have_contrast_in_every_view(golden_store, scheme):
    ground = CONFIG["theme"][scheme]["backgroundColor"]
    assert theme.GROUND[scheme] == ground
    (comparison,) = golden_store.all()
    names = summaries.summary(comparison, "by_tensor")["name"].tolist()
    reader = reader_of(comparison)
    drawn = 0
    for view in views.VIEWS:
        plain = views.draw(view, reader, {"tensor": names[0]}).figure
        if plain is None:
            continue
        before = json.loads(plain.to_json())
        figure = theme.inked(plain, scheme)
        assert json.loads(plain.to_json()) == before, "what other visitors see was changed"
        layout = figure.layout
        colours = [layout.legend.font.color, layout.hoverlabel.font.color]
        for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
            colours += [axis.tickfont.color, axis.title.font.color]
        colours += [note.font.color for note in layout.annotations]
        colours += [trace.colorbar.tickfont.color for trace in figure.select_traces("heatmap")]
        words = [trace for trace in figure.data if theme.has_words(trace)]
        # Numbers in cells have the cells behind them: the next test.
        colours += [trace.textfont.color for trace in words if trace.name != "numbers"]
        for colour in colours:
            assert contrast(colour, ground) >= 4.5, (view, colour)
        assert contrast(layout.hoverlabel.font.color, layout.hoverlabel.bgcolor) >= 4.5
        drawn += 1
    assert drawn > 12


@pytest.mark.parametrize("scale", [theme.MAGNITUDES, theme.SIGNED])
def test_a_number_in_a_cell_has_contrast_whatever_the_cell_s_colour(scale):
    named = {"black": "#000000", "white": "#ffffff"}
    for share in np.linspace(0, 1, 201):
        (cell,) = sample_colorscale(scale, [float(share)], colortype="tuple")
        ground = "#" + "".join(f"{round(255 * part):02x}" for part in cell)
        assert contrast(named[theme.ink_on(scale, share)], ground) >= 4.5


# Linear RGB as a deuteranope sees it. Source: Machado et al. 2009, severity 1.
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


def lab(colour: str, seen_by: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a colour, after a matrix on linear RGB. Source: CIE 1976, white D65."""
    srgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(seen_by @ linear, 0, 1) / to_xyz.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_recipes_that_a_deuteranope_sees_in_one_colour_differ_in_shape():
    assert set(theme.SHAPES) == set(theme.RECIPES)
    alike = []
    for first, second in combinations(theme.RECIPES, 2):
        distance = np.linalg.norm(
            lab(theme.RECIPES[first], DEUTERANOPIA) - lab(theme.RECIPES[second], DEUTERANOPIA)
        )
        if distance < 20:
            alike.append((first, second))
            assert theme.SHAPES[first] != theme.SHAPES[second], (first, second, distance)
    # Colour alone would not do.
    assert alike
