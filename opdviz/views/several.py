"""Every figure of several runs on one base by name, each drawn from what it needs: what the runs
have of their own, how they lie to each other, or the steps of one training that they are.
"""

from collections.abc import Callable

from opdviz.store.relations import PAYLOAD
from opdviz.views import (
    filters,
    run_curves,
    run_maps,
    run_overlap,
    run_payload,
    run_trajectory,
    runs,
)
from opdviz.views.view import Drawing, Several, View


def of_readers(make: Callable) -> Callable[[Several, dict], View]:
    """A view of what each run has of its own."""
    return lambda several, state: make(several.readers, state)


def of_related(make: Callable) -> Callable[[Several, dict], View]:
    """A view of how runs lie to each other."""

    def drawn(several: Several, state: dict) -> View:
        related = run_overlap.related(several)
        return make(related, state) if related else not_worked_out("opdviz overlap KEY KEY")

    return drawn


def overlap_directions(several: Several, state: dict) -> View:
    """The leading directions that each two runs share."""
    related, rows = run_overlap.related(several), run_overlap.similarities(several)
    if related is None or rows is None:
        return not_worked_out(f"opdviz overlap KEY KEY --table {run_overlap.SIMILARITY}")
    return run_overlap.directions(related, rows, state)


def steps_angles(several: Several, state: dict) -> View:
    """The angles between the updates of a training."""
    related = run_overlap.related(several, by_key=True)
    if related is None:
        return not_worked_out("opdviz overlap KEY KEY")
    return run_trajectory.angles(several.training, several.steps, several.keys, related)


def steps_growth(several: Several, state: dict) -> View:
    """How the mask of a training grows."""
    related = run_overlap.related(several, by_key=True)
    if related is None:
        return not_worked_out("opdviz overlap KEY KEY")
    return run_trajectory.growth(several.training, several.steps, several.keys, related, state)


def of_table(make: Callable, table: str, command: str) -> Callable[[Several, dict], View]:
    """A view of a training that is drawn from one table of its steps."""

    def drawn(several: Several, state: dict) -> View:
        rows = several.relation(table)
        if rows is None:
            return not_worked_out(command)
        return make(several.training, several.steps, several.keys, rows, state)

    return drawn


def steps_lines(several: Several, state: dict) -> View:
    """Any quantity over the steps of a training."""
    return run_trajectory.lines(several.training, several.steps, several.readers, state)


def not_worked_out(command: str) -> View:
    """What a view says that waits for a command."""
    return View("This figure", f"It is not worked out of these runs yet: `{command}` does it.")


RELATION = ("relation", "probe")
# Of several runs on one base.
RUN_VIEWS = {
    "run_headlines": Drawing(of_readers(runs.headlines), "side_by_side", ("colour",)),
    "run_maps": Drawing(
        of_readers(run_maps.maps), "side_by_side", ("quantity", "against", *filters.KEYS)
    ),
    "run_against": Drawing(
        of_readers(run_maps.against_one),
        "side_by_side",
        ("quantity", "against", "colour", *filters.KEYS),
    ),
    "run_curves": Drawing(
        of_readers(run_curves.curves), "side_by_side", ("tensor", "curve", "colour")
    ),
    "run_sizes": Drawing(of_readers(runs.sparse_or_small), "side_by_side", ("colour",)),
    "overlap_matrix": Drawing(of_related(run_overlap.matrix), "overlap", RELATION),
    "overlap_map": Drawing(of_related(run_overlap.pair_map), "overlap", (*RELATION, "pair")),
    "overlap_agreement": Drawing(of_related(run_overlap.agreement), "overlap", RELATION),
    "overlap_directions": Drawing(overlap_directions, "overlap"),
    "steps_lines": Drawing(steps_lines, "trajectory", ("quantity", "by")),
    "steps_angles": Drawing(steps_angles, "trajectory"),
    "steps_growth": Drawing(steps_growth, "trajectory", ("probe",)),
    "steps_settling": Drawing(
        of_table(
            run_trajectory.settling,
            run_overlap.SIMILARITY,
            f"opdviz overlap KEY KEY --table {run_overlap.SIMILARITY}",
        ),
        "trajectory",
        ("by", "to"),
    ),
    "steps_payload": Drawing(
        of_table(run_payload.by_step, PAYLOAD, "opdviz payload KEY KEY"), "trajectory", ("since",)
    ),
}


def draw_runs(name: str, several: Several, state: dict) -> View:
    """One view of several runs on one base in one state; what it cannot draw it says."""
    make, page, _ = RUN_VIEWS[name]
    if any(reader.summary("by_tensor").empty for reader in several.readers):
        return View(
            "This figure",
            f"It waits for a first tensor of each run.{runs.waiting(several.readers)}",
        )
    if name == "run_curves" and not state.get("tensor"):
        return View("This figure", "The runs share no tensor.")
    if page == "trajectory" and not several.steps:
        return View("This figure", "These runs are no steps of one training.")
    return make(several, state)
