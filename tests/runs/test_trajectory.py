"""Trajectories: steps found by their folders' names, and planted ones: one that grows along a line,
one that turns.
"""

import json

import numpy as np
import pandas as pd
import pytest

from opdviz.cli import main
from opdviz.errors import RequestError
from opdviz.runs import overlap, relations, subspaces, trajectory
from opdviz.runs.masks import matching_of
from opdviz.store.relations import TABLES
from opdviz.store.store import Store
from opdviz.views import run_overlap, run_trajectory
from tests.conftest import reader_of, write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"
STEPS = (10, 20, 30, 40)


def written(folder, updates, inner: str = "", named: str = "global_step_{}"):
    """A base and the steps of a training from it."""
    base = np.random.default_rng(0).normal(scale=0.02, size=(40, 30))
    write_checkpoint(folder / "base", {NAME: base})
    root = folder / "run"
    for step, update in zip(STEPS, updates, strict=True):
        write_checkpoint(root / named.format(step) / inner, {NAME: base + update})
    return folder / "base", root


def growing() -> list[np.ndarray]:
    """Updates that go on along one direction, as far as the steps."""
    direction = np.random.default_rng(1).standard_normal((40, 30))
    return [1e-5 * step * direction for step in STEPS]


def turning() -> list[np.ndarray]:
    """Updates of one size, each in a direction of its own."""
    rng = np.random.default_rng(1)
    return [1e-3 * rng.standard_normal((40, 30)) for _ in STEPS]


@pytest.mark.parametrize(
    ("named", "inner"),
    [
        ("global_step_{}", "actor/huggingface"),
        ("checkpoint-{}", ""),
        ("step_{}", ""),
        ("iter-{}", "hf"),
    ],
)
def test_steps_are_found_as_trainers_name_them_in_their_order(tmp_path, named, inner):
    _, root = written(tmp_path, growing(), inner, named)
    (root / "logs").mkdir()
    found = trajectory.steps_below(root)
    assert [trajectory.place_of(path).step for path in found] == list(STEPS)
    assert {trajectory.place_of(path).root for path in found} == {str(root)}
    assert trajectory.steps_below(found[0]) == [], "a checkpoint is no training"
    assert trajectory.steps_below(tmp_path / "nothing") == []


def test_one_step_twice_is_refused(tmp_path, capsys):
    base, root = written(tmp_path, growing())
    write_checkpoint(root / "checkpoint-20", {NAME: np.zeros((40, 30))})
    with pytest.raises(RequestError, match="step 20 twice"):
        trajectory.steps_below(root)
    assert main(["compare", str(base), str(root), "--cache", str(tmp_path / "c")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "step 20 twice" in line


def test_the_command_compares_all_steps_of_a_folder_and_they_are_one_training(tmp_path, capsys):
    base, root = written(tmp_path, growing())
    assert main(["check", str(base), str(root), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(STEPS)
    cache = tmp_path / "cache"
    where = ["--cache", str(cache), "--workers", "1"]
    assert main(["compare", str(base), str(root), "--recipe", "opd", *where]) == 0
    runs = Store(cache).all()
    assert {run.name for run in runs} == {f"base..run/global_step_{step}" for step in STEPS}
    (training,) = trajectory.trajectories(runs)
    assert training.steps == STEPS and training.root.endswith("/run")
    readers = [reader_of(run) for run in training.runs]
    view = run_trajectory.lines("run", training.steps, readers, {})
    assert "to the power 1;" in view.reading
    assert view.data["value"].is_monotonic_increasing and len(view.data) == len(STEPS)
    by_layer = run_trajectory.lines("run", training.steps, readers, {"by": "layer"})
    assert "layer 0" in [trace.name for trace in by_layer.figure.data]


def test_trainings_are_called_by_as_much_of_their_folder_as_tells_them_apart():
    roots = ("/a/seed0/opd/steps", "/a/seed1/opd/steps", "/b/grpo")
    trainings = [trajectory.Trajectory(root, STEPS, ()) for root in roots]
    assert list(trajectory.named(trainings)) == ["seed0/opd/steps", "seed1/opd/steps", "/b/grpo"]
    assert list(trajectory.named(trainings[:1])) == ["opd/steps"]
    assert trajectory.named([]) == {}


def test_steps_in_folders_of_their_own_are_one_training_by_their_recipe(tmp_path):
    base, root = written(tmp_path, growing())
    paths = []
    for step in STEPS[:3]:
        paths.append(tmp_path / f"machine{step}" / f"step_{step}")
        paths[-1].parent.mkdir()
        (root / f"global_step_{step}").rename(paths[-1])
    where = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    assert main(["compare", str(base), *map(str, paths), *where]) == 0
    store = Store(tmp_path / "cache")
    assert trajectory.trajectories(store.all()) == [], "nothing says that they belong together"
    keys = [run.key for run in store.all()]
    assert main(["label", *keys, "--recipe", "opd", *where[:2]]) == 0
    (training,) = trajectory.trajectories(store.all())
    assert (training.root, training.steps) == (str(tmp_path), STEPS[:3])
    write_checkpoint(tmp_path / "other" / "step_20", {NAME: np.ones((40, 30))})
    twice = ["compare", str(base), str(tmp_path / "other" / "step_20"), "--recipe", "opd", *where]
    assert main(twice) == 0
    assert trajectory.trajectories(store.all()) == [], "step 20 is there twice"


def similar(folder, updates) -> pd.DataFrame:
    """The similarity of the steps' leading directions."""
    base, root = written(folder, updates)
    matchings = [matching_of(base, path) for path in trajectory.steps_below(root)]
    keys = [f"key{at}" for at in range(len(matchings))]
    (tensor,) = relations.shared(matchings)
    return pd.DataFrame(subspaces.of_tensor(tensor, keys)["subspace_similarity"])


def settling(table: pd.DataFrame, **state):
    """The view of a table of these steps."""
    return run_trajectory.settling("run", STEPS, [f"key{at}" for at in range(4)], table, state)


def test_a_fixed_subspace_is_there_from_the_first_step_and_one_that_turns_only_at_the_last(
    tmp_path,
):
    rng = np.random.default_rng(3)
    direction = rng.standard_normal((40, 16)) @ rng.standard_normal((16, 30))
    fixed = settling(similar(tmp_path / "a", [1e-4 * step * direction for step in STEPS]))
    assert fixed.reading.startswith("**The final subspace is there from step 10**")
    assert fixed.data["similarity"].min() > 0.999 and set(fixed.data["reached"]) == {10}
    assert (fixed.data["chance"] == 16 / 30).all() and list(fixed.data["step"]) == [10, 20, 30]
    table = similar(tmp_path / "b", turning())
    turned = settling(table, by="layer")
    assert turned.reading.startswith("**In no layer is the final subspace there before the last")
    assert turned.data["reached"].isna().all()
    before = settling(table, to=run_trajectory.BEFORE)
    assert list(before.data["step"]) == [20, 30, 40] and "Step 20 shares" in before.reading
    assert before.data["similarity"].max() < run_trajectory.REACHED


def test_a_subspace_is_reached_where_it_stays():
    values = pd.DataFrame({"step": [10, 20, 30, 40], "value": [0.9, 0.5, 0.8, 0.85]})
    assert run_trajectory.reached(values) == 30
    assert run_trajectory.reached(values.iloc[1:2]) is None


def related(folder, updates) -> tuple[run_overlap.Related, list[str]]:
    """How the steps lie to each other."""
    base, root = written(folder, updates)
    paths = trajectory.steps_below(root)
    keys = [f"key{at}" for at in range(len(paths))]
    matchings = [matching_of(base, path) for path in paths]
    rows = relations.of_tensor(*relations.shared(matchings), keys)
    norms = {
        key: pd.Series({NAME: float(np.linalg.norm(m.tuned.read(NAME) - m.base.read(NAME)))})
        for key, m in zip(keys, matchings, strict=True)
    }
    frames = [pd.DataFrame(rows[name]) for name in ("overlap", "relation", "consensus")]
    assert set(rows) < set(TABLES)
    return run_overlap.Related(tuple(keys), "base", *frames, norms), keys


def test_a_training_along_one_direction_lies_on_a_line_from_its_first_step(tmp_path):
    run, keys = related(tmp_path, growing())
    view = run_trajectory.angles("run", STEPS, keys, run)
    assert view.reading.startswith("**over 99.99 % of the updates' energy lies in one direction**")
    assert "R² = 1." in view.reading and "From step 10 on" in view.reading
    assert view.data["cosine"].min() > 0.9999
    mask = run_trajectory.growth("run", STEPS, keys, run, {})
    assert mask.data["moved"].is_monotonic_increasing
    assert np.nanmax(mask.data["back"]) < 0.01, "nothing turns round"


def test_a_training_that_turns_lies_on_no_line(tmp_path):
    run, keys = related(tmp_path, turning())
    rows = overlap.related(run.relation, run.norms, "model")
    norms = [float(run.norms[key].iloc[0]) for key in keys]
    line = trajectory.line_of(trajectory.gram(rows, norms, keys), STEPS)
    assert line.rank_one_share == pytest.approx(1 / len(STEPS), abs=0.1)
    view = run_trajectory.angles("run", STEPS, keys, run)
    assert "No step before it points where the last one ends" in view.reading
    assert view.data["cosine"].abs().max() < 0.15


def test_what_is_taken_back_is_counted(tmp_path):
    there = 1e-2 * np.random.default_rng(1).standard_normal((40, 30))
    half = there * (np.arange(40)[:, None] < 20)
    run, keys = related(tmp_path, [there, half, half, there])
    mask = run_trajectory.growth("run", STEPS, keys, run, {})
    assert mask.data["back"].iloc[1:].tolist() == pytest.approx([0.5, 0.0, 0.0], abs=0.02)
    assert "up to 5" in mask.reading
