"""Work out how runs on one base lie to each other, tensor by tensor over a pool of processes, and
keep it: what is stopped goes on from its finished tensors.
"""

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor
from functools import partial

import pandas as pd

from opdviz import files
from opdviz.engine import workers
from opdviz.engine.progress import Listener, Progress
from opdviz.errors import MachineError, RequestError, one_line
from opdviz.runs import payload, relations, subspaces, trajectory
from opdviz.runs.masks import matching_of_comparison
from opdviz.runs.relations import Shared
from opdviz.store import relations as stored_relations
from opdviz.store.relations import BASE, COORDINATES, DIRECTIONS, GROUPS, PAYLOAD
from opdviz.store.store import Store, Stored

# How many runs a group takes: all pairs of them are counted at once, and each two decomposed
# updates are held against their rotations; a payload goes from step to step alone.
LEAST = {COORDINATES: 2, DIRECTIONS: 2, PAYLOAD: 1}
MOST = {COORDINATES: 64, DIRECTIONS: 16, PAYLOAD: 256}
SWAPPED = {"run_a": "run_b", "a": "b", "a_in_b": "b_in_a"}
SWAPPED |= {other: one for one, other in SWAPPED.items()}


def checked(runs: Sequence[Stored], group: str = COORDINATES) -> None:
    """Refuse runs that do not belong together.

    Raises
        RequestError: too few or too many, one twice, not on one base, or one still being compared.
    """
    what, least, most = command_of(group), LEAST[group], MOST[group]
    names = [f"{one_line(run.name, limit=60)} ({run.key})" for run in runs]
    if not least <= len(runs) <= most:
        raise RequestError(
            f"{what}: found {len(runs)} runs; expected {least} to {most} on one base."
        )
    if len({run.key for run in runs}) < len(runs):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(
            f"{what}: {twice} is named twice; name each run once, by its key where two have one"
            " name."
        )
    for run, name in zip(runs, names, strict=True):
        if run.manifest.base.fingerprints != runs[0].manifest.base.fingerprints:
            raise RequestError(
                f"{what}: {names[0]} and {name} are not on one base; expected runs from the same"
                " checkpoint."
            )
        if run.running:
            raise RequestError(f"{what}: {name} is still being compared; wait for it.")


def relate(
    store: Store,
    runs: Sequence[Stored],
    executor: Executor,
    listener: Listener,
    *,
    group: str = COORDINATES,
) -> None:
    """Work out every table of some runs of a group that is not there yet.

    Raises
        RequestError: they do not belong together, share no weights, or a checkpoint changed.
        MachineError: a worker was lost, or the disk is full; finished tensors are kept.
    """
    checked(runs, group)
    ordered = sorted(runs, key=lambda run: run.key)
    names = [run.key for run in ordered]
    folder = stored_relations.folder_of(store.root, names)
    with files.lock(folder):
        if stored_relations.complete(folder, group):
            return
        files.sweep(folder)
        tensors = shared_tensors(ordered, group)
        stored_relations.begin(folder, names)
        missing = [one for one in tensors if not stored_relations.part(folder, one.name, group)]
        progress = Progress(
            "reading the runs",
            sum(map(work_of, tensors)),
            parts=len(tensors),
            parts_done=len(tensors) - len(missing),
            pairs=len(missing),
        )
        progress.done = progress.total - sum(map(work_of, missing))
        listener(progress)
        room = 2 * workers.count(executor)
        measure = {
            COORDINATES: relations.of_tensor,
            DIRECTIONS: subspaces.of_tensor,
            PAYLOAD: partial(payload.of_tensor, steps=trajectory.next_to_each_other(runs)),
        }[group]

        def start_next(running: list) -> tuple | None:
            if not missing or len(running) >= room:
                return None
            tensor = missing.pop(0)
            return tensor, measure, tensor, names

        try:
            for ended in workers.results(executor, start_next, every=1.0):
                if ended is not None:
                    tensor, tables = ended
                    stored_relations.keep_part(folder, tensor.name, tables, group)
                    progress.advance(work_of(tensor))
                    progress.parts_done += 1
                    progress.pairs_done += 1
                    progress.current = tensor.name
                listener(progress)
        except BrokenExecutor:
            raise MachineError(
                f"{command_of(group)}: a worker process was lost (out of memory?); finished tensors"
                " are kept. Run it again, with one worker if memory is short."
            ) from None
        stored_relations.finish(folder, [one.name for one in tensors], group)


def shared_tensors(runs: Sequence[Stored], group: str) -> list[Shared]:
    """The tensors that two of some runs have: all of them, or for directions the matrices.

    Raises
        RequestError: there is none.
    """
    matchings = [matching_of_comparison(run) for run in runs]
    tensors = relations.shared(matchings, by=LEAST[group])
    if group == DIRECTIONS:
        tensors = [one for one in tensors if len(one.shape) == 2 and min(one.shape) > 1]
    if not tensors:
        what = "matrices" if group == DIRECTIONS else "weights"
        raise RequestError(
            f"{command_of(group)}: found no {what} that {LEAST[group]} of the runs have; expected"
            " tensors of floats in common."
        )
    return tensors


def command_of(group: str) -> str:
    """The command that works out a group."""
    return "payload" if group == PAYLOAD else "overlap"


def group_of(table_name: str) -> str:
    """The group that a table belongs to."""
    return next(group for group, names in GROUPS.items() if table_name in names)


def is_there(store: Store, runs: Sequence[Stored], group: str = COORDINATES) -> bool:
    """Whether the tables of a group of some runs are worked out."""
    folder = stored_relations.folder_of(store.root, [run.key for run in runs])
    return stored_relations.complete(folder, group)


def work_of(tensor: Shared) -> float:
    """Coordinates that are read of a tensor."""
    return float(tensor.numel * (1 + len(tensor.tuned)))


def table(store: Store, runs: Sequence[Stored], name: str) -> pd.DataFrame | None:
    """A table of some runs that was worked out, its pairs in the runs' order; `None` while it is
    not there.
    """
    folder = stored_relations.folder_of(store.root, [run.key for run in runs])
    rows = stored_relations.table(folder, name)
    return None if rows is None else oriented(rows.to_pandas(), [run.key for run in runs])


def oriented(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Rows whose first run is the one that stands first among the keys (the base before all),
    pairs in their order.
    """
    if "run_a" not in rows:
        return rows
    place = {BASE: -1} | {key: at for at, key in enumerate(keys)}
    first, second = rows["run_a"].map(place), rows["run_b"].map(place)
    swap = first > second
    in_order = rows.assign(
        **{
            column: rows[column].where(~swap, rows[other])
            for column, other in SWAPPED.items()
            if column in rows
        }
    )
    order = pd.DataFrame({"a": in_order["run_a"].map(place), "b": in_order["run_b"].map(place)})
    return in_order.loc[order.sort_values(["a", "b"], kind="stable").index].reset_index(drop=True)
