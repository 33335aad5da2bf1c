"""Views of how runs lie to each other: each relation draws, reads itself beside its chance, and
hands out its data.
"""

import numpy as np
import pandas as pd
import pytest

from opdviz.figures import theme
from opdviz.quantities import QUANTITIES
from opdviz.runs import overlap, relations
from opdviz.runs.masks import matching_of
from opdviz.store.relations import TABLES
from opdviz.views import run_overlap
from tests.conftest import write_checkpoint

NAMES = ("first", "again", "apart")
LAYERS = [
    f"model.layers.{layer}.mlp.{name}_proj.weight" for layer in (0, 1) for name in ("up", "down")
]


@pytest.fixture(scope="module")
def related(tmp_path_factory) -> run_overlap.Related:
    """Three runs: two of one update but for its last layer, and one that is its own."""
    folder, rng = tmp_path_factory.mktemp("related"), np.random.default_rng(0)
    base = {name: rng.choice([-1.0, 1.0], (60, 50)) for name in LAYERS}
    base["model.norm.weight"] = np.ones(60)

    def update() -> dict:
        return {
            name: (rng.random(w.shape) < 0.3) * rng.choice([-1.0, 1.0], w.shape) / 64
            for name, w in base.items()
        }

    first, other = update(), update()
    again = {name: other[name] if "layers.1" in name else first[name] for name in base}
    updates = dict(zip(NAMES, (first, again, update()), strict=True))
    start = write_checkpoint(folder / "base", base, "bfloat16")
    runs = [
        write_checkpoint(folder / name, {n: w + change[n] for n, w in base.items()}, "bfloat16")
        for name, change in updates.items()
    ]
    rows: dict[str, list[dict]] = {name: [] for name in TABLES}
    for tensor in relations.shared([matching_of(start, run) for run in runs]):
        for table, more in relations.of_tensor(tensor, NAMES).items():
            rows[table] += more
    norms = {
        name: pd.Series({n: float(np.linalg.norm(change[n])) for n in base})
        for name, change in updates.items()
    }
    frames = [pd.DataFrame(rows[name]) for name in ("overlap", "relation", "consensus")]
    return run_overlap.Related(NAMES, "base", *frames, norms)


@pytest.mark.parametrize("relation", run_overlap.RELATIONS)
@pytest.mark.parametrize("name", run_overlap.OVERLAP_VIEWS)
def test_every_view_draws_reads_itself_and_hands_out_its_data(related, name, relation):
    view = run_overlap.OVERLAP_VIEWS[name](related, {"relation": relation, "pair": (0, 1)})
    assert view.figure is not None and len(view.data)
    assert theme.alt(view.figure).endswith(".")
    assert set(view.terms) <= set(QUANTITIES)
    assert any(c.isdigit() for c in view.reading) or name == "overlap_map"
    assert not {"colour", "words", "hover"} & set(view.data)


def test_the_nearest_two_and_the_farthest_are_named_beside_their_chance(related):
    same = run_overlap.matrix(related, {"relation": run_overlap.SAME}).reading
    assert same.startswith("**first and again:") and "apart: 1.0" in same.split("**; ")[-1]
    opposite = run_overlap.matrix(related, {"relation": run_overlap.OPPOSITE}).reading
    assert "as by chance" in opposite.split("**; ")[-1]
    cosine = run_overlap.matrix(related, {"relation": run_overlap.COSINE}).reading
    assert "first and again: cosine 0.49" in cosine and "as by chance" in cosine


def test_a_cosine_of_a_model_is_that_of_all_its_coordinates_as_one_vector(related):
    rows = overlap.related(related.relation, related.norms, "model").set_index(overlap.PAIR)
    halves = overlap.related(related.relation, related.norms, "layer")
    first = halves[(halves["run_b"] == "again")].set_index("layer")["cosine"]
    assert first[0] == pytest.approx(1.0) and abs(first[1]) < 0.1
    norms = {name: (norm**2).sum() ** 0.5 for name, norm in related.norms.items()}
    of_norm = related.norms["first"]["model.norm.weight"] ** 2
    in_layer = sum(related.norms["first"][name] ** 2 for name in LAYERS[:2])
    expected = (in_layer + of_norm) / norms["first"] / norms["again"]
    assert rows.at[("first", "again"), "cosine"] == pytest.approx(expected, abs=0.03)


def test_the_map_of_a_pair_shows_where_they_part(related):
    view = run_overlap.pair_map(related, {"relation": run_overlap.COSINE, "pair": (1, 0)})
    heatmap = next(view.figure.select_traces("heatmap"))
    left, right = np.asarray(heatmap.z, dtype=float).T
    assert (left > 0.99).all() and (np.abs(right) < 0.1).all()
    assert "first and again" in view.title


def test_leading_directions_stand_beside_chance_and_turned_updates(related):
    pairs = (("first", "again", 0.9), ("first", "apart", 0.11), ("again", "apart", 0.09))
    table = pd.DataFrame(
        [
            {"name": f"m{at}", "run_a": a, "run_b": b, "side": side, "k": k}
            | {"similarity": value, "chance": 0.1, "null_low": 0.05, "null_high": 0.2}
            for a, b, value in pairs
            for side in ("left", "right")
            for k in (16, 30)
            for at in range(3)
        ]
    )
    view = run_overlap.directions(related, table, {})
    assert view.reading.startswith("**first and again share 90 % of 16 left directions")
    assert "6 of 18 of all pairs' matrices" in view.reading
    assert set(theme.legend_names(view.figure)) == {
        "turned at random",
        "chance",
        "similarity, median",
    }
    assert run_overlap.directions(related, table.iloc[:0], {}).figure is None


def test_a_coordinate_is_counted_by_how_many_runs_moved_it(related):
    view = run_overlap.agreement(related, {})
    assert view.data["count"].sum() == 4 * 60 * 50 + 60
    assert "All 3 runs moved" in view.reading
    nothing = run_overlap.Related(
        NAMES, "base", related.overlap, related.relation, related.consensus.iloc[:0], {}
    )
    assert run_overlap.agreement(nothing, {}).figure is None
