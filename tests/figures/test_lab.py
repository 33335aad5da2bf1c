"""The lab's figures show every run once, where its numbers say."""

import pandas as pd
import pytest

from opdviz.figures import lab, theme
from opdviz.lab import results


def runs() -> pd.DataFrame:
    """Two recipes, two seeds."""
    rows = [
        ("opd", "distillation", 0, 0.70),
        ("opd", "distillation", 1, 0.74),
        ("sft", "sft", 0, 0.66),
        ("sft", "sft", 1, 0.68),
    ]
    found = pd.DataFrame(rows, columns=["recipe", "loop", "seed", "test"])
    return found.assign(learning_rate=2e-6, optimizer="AdamW")


def curve() -> pd.DataFrame:
    """Two optimizers at two rates, two steps each, at two widths."""
    rows = []
    for optimizer, rates in (("AdamW", (1e-6, 1e-5)), ("SGD", (1e-2, 1e-1))):
        for rate in rates:
            for step in (100, 200):
                moved = 0.2 if step == 100 else 0.4
                rows.append(
                    {"recipe": f"{optimizer}@{rate:g}", "seed": 0, "optimizer": optimizer, "learning_rate": rate, "step": step,
                     "steps": 200, "accuracy": 0.6 + moved / 4, "gain": moved / 4, "unchanged_exact": 1 - moved, "hidden": 256}
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_every_seed_is_a_dot_and_the_best_recipe_stands_on_top():
    figure = lab.accuracy(runs(), results.mean_accuracy(runs()), 0.6)
    dots = [trace for trace in figure.data if trace.marker.symbol != "line-ns"]
    assert sorted(x for trace in dots for x in trace.x) == sorted(runs()["test"])
    means = {trace.y[0]: trace.x[0] for trace in figure.data if trace.marker.symbol == "line-ns"}
    assert means == {"opd": pytest.approx(0.72), "sft": pytest.approx(0.67)}
    assert list(figure.layout.yaxis.categoryarray) == ["sft", "opd"]
    assert figure.layout.shapes[0].x0 == 0.6 and figure.layout.shapes[0].line.dash == "dash"


def test_the_sweep_draws_a_line_a_run_and_marks_the_chosen_one():
    made = lab.sweep(curve(), chosen="AdamW@1e-06")
    assert len(made.data) == 4
    chosen = [trace for trace in made.data if "chosen" in trace.name]
    assert len(chosen) == 1 and chosen[0].line.color == theme.DELTA
    assert list(chosen[0].x) == [0.8, 0.6] and list(chosen[0].y) == pytest.approx([0.05, 0.1])
    assert tuple(made.layout.xaxis.range) == (1.0, 0.0)


def test_the_ablation_shows_all_rates_against_rate_steps_and_sparsity():
    made = lab.ablation(curve(), results.at_the_end(curve()))
    by_rate = [trace for trace in made.data if trace.showlegend is None]
    assert {trace.name: list(trace.x) for trace in by_rate} == {
        "AdamW": [1e-6, 1e-5],
        "SGD": [1e-2, 1e-1],
    }
    assert all(list(trace.y) == pytest.approx([0.7, 0.7]) for trace in by_rate)
    assert len(made.data) == 2 + 2 * 4
    assert made.layout.xaxis.type == "log"


def test_moments_average_over_seeds():
    rows = pd.DataFrame(
        {"optimizer": ["AdamW"] * 4, "seed": [0, 1] * 2, "step": [1, 1, 25, 25], "cv_sqrt_v": [1.0, 3.0, 2.0, 2.0],
         "cosine": [None, None, 0.2, 0.4]}
    )  # fmt: skip
    made = lab.moments(results.moments_over_seeds(rows))
    assert list(made.data[0].y) == [2.0, 2.0]
    assert made.data[1].y[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "made",
    [
        lab.accuracy(runs(), results.mean_accuracy(runs()), 0.6),
        lab.sweep(curve()),
        lab.ablation(curve(), results.at_the_end(curve())),
    ],
)
def test_every_figure_has_titles_and_a_sentence_for_those_who_cannot_see_it(made):
    assert len(theme.alt(made)) > 30
    assert made.layout.xaxis.title.text
    assert made.layout.template.layout.font.family == theme.FONT
