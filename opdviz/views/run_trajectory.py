"""Views of a training over its steps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from opdviz.definitions import HEADLINE_K
from opdviz.figures import run_trajectory as figures
from opdviz.figures.axes import value_label
from opdviz.quantities import CHANCE_OF, QUANTITIES
from opdviz.runs import overlap
from opdviz.runs.trajectory import gram, line_of
from opdviz.tables.by_tensor import matrices
from opdviz.views import layers
from opdviz.views.run_overlap import PROBES, Related
from opdviz.views.view import Reader, View, view
from opdviz.words import listing, number, percent

BY = ("block", "layer")
# Of what a random walk would have come to: it goes with the square root of the steps.
WALK = "random walk to the end"
CLOSE = 0.9  # cosine from which two updates point the same way
REACHED = 0.8  # of the last step's leading directions: from there on its subspace is there
LAST, BEFORE = "the last step", "the step before"
TO = (LAST, BEFORE)


def lines(name: str, steps: Sequence[int], readers: Sequence[Reader], state: dict) -> View:
    """Any quantity by block or layer over the steps: the median of the matrices that have it."""
    by = state.get("by") if state.get("by") in BY else BY[0]
    quantity = layers.quantity_of(
        readers[-1].summary("by_tensor"), state, "quantity", "relative_norm"
    )
    frames = []
    for step, reader in zip(steps, readers, strict=True):
        rows = matrices(reader.summary("by_tensor"))
        if quantity in rows:
            frames.append(rows.assign(step=step).dropna(subset=[quantity, by]))
    label = QUANTITIES[quantity].label
    title = f"{label.capitalize()} by {by} over the steps: {name}"
    if not frames or not sum(map(len, frames)):
        return View(title, "No step has this quantity.")
    rows = pd.concat(frames)
    medians = rows.groupby([by, "step"])[quantity].median().rename("value").reset_index()
    by_group = {group: part for group, part in medians.groupby(by)}
    of_model = rows.groupby("step")[quantity].median()
    last, references = int(steps[-1]), {}
    if quantity == "relative_norm" and last:
        walk = of_model.iloc[-1] * np.sqrt(np.asarray(steps, dtype=float) / last)
        references[WALK] = pd.DataFrame({"step": list(steps), "value": walk})
    if CHANCE_OF.get(quantity) in rows:
        chance = rows.groupby("step")[CHANCE_OF[quantity]].median()
        references["chance"] = pd.DataFrame({"step": chance.index, "value": chance.values})
    first, end = float(of_model.iloc[0]), float(of_model.iloc[-1])
    reading = (
        f"From {value_label(first, quantity)} at step {steps[0]:,} to {value_label(end, quantity)}"
        f" at step {last:,} in the median matrix."
    )
    if quantity == "relative_norm" and first and steps[0]:
        power = np.log(end / first) / np.log(last / steps[0])
        reading += (
            f" It grows with the steps to the power {number(float(power), 2)}; a random walk to"
            " 0.5, a straight way to 1."
        )
    figure = figures.lines(by_group, quantity, by=by, references=references)
    return view(title, reading, figure, medians, (quantity,))


def angles(name: str, steps: Sequence[int], keys: Sequence[str], related: Related) -> View:
    """The cosines between the updates to every two steps, and how much of them lies on a line."""
    rows = overlap.related(related.relation, related.norms, "model")
    norms = [float((related.norms[key] ** 2).sum() ** 0.5) for key in keys]
    products = gram(rows, norms, keys)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = products / np.outer(norms, norms)
    line = line_of(np.nan_to_num(products), steps)
    towards_the_end = zip(steps[:-1], cosines[:-1, -1], strict=True)
    near = next((step for step, cosine in towards_the_end if cosine >= CLOSE), None)
    settled = (
        f"From step {near:,} on the update points"
        if near is not None
        else "No step before it points"
    )
    reading = (
        f"**{percent(line.rank_one_share)} of the updates' energy lies in one direction**; how far"
        f" along it grows with the steps as a straight line does to R² = {number(line.linearity)}."
        f" {settled} where the last one ends (cosine {CLOSE:g} and more)."
    )
    figure = figures.angles(steps, cosines)
    data = rows.assign(
        step_a=rows["run_a"].map(dict(zip(keys, steps, strict=True))),
        step_b=rows["run_b"].map(dict(zip(keys, steps, strict=True))),
    )[["step_a", "step_b", "cosine"]]
    title = f"Cosines between the updates to each two steps: {name}"
    return view(title, reading, figure, data, ("cosine_of_updates",))


def growth(
    name: str, steps: Sequence[int], keys: Sequence[str], related: Related, state: dict
) -> View:
    """How many coordinates have moved by each step, and what of them is taken back by the next."""
    probe = state.get("probe") if state.get("probe") in PROBES else next(iter(PROBES))
    rows = overlap.gathered(related.overlap, "model")
    rows = rows[rows["probe"] == PROBES[probe]].set_index(["run_a", "run_b"])
    moved, back = [], [np.nan]
    for at, key in enumerate(keys):
        pair = (key, keys[at + 1]) if at + 1 < len(keys) else (keys[at - 1], key)
        row = rows.loc[pair]
        moved.append(float(row["a" if pair[0] == key else "b"]) / float(row["numel"]))
        if pair[0] == key:
            back.append(1.0 - float(row["a_in_b"]) if row["a"] else np.nan)
    frame = pd.DataFrame({"step": list(steps), "moved": moved, "back": back})
    reading = (
        f"By step {steps[-1]:,} {percent(moved[-1])} of the coordinates have moved; of those that"
        f" had moved a step before up to {percent(float(np.nanmax(back)))} were back at the base's"
        " value."
    )
    title = f"How the mask grows ({probe}): {name}"
    return view(title, reading, figures.growth(frame), frame, ("moved", "a_in_b"))


def settling(
    name: str, steps: Sequence[int], keys: Sequence[str], table: pd.DataFrame, state: dict
) -> View:
    """How much of the leading directions of each step's update are those of the last step's, or of
    the step before; from which step on those of the last are there, by block or layer.

    Columns of `table`: those of `subspace_similarity`, runs by their keys in the order of steps.
    """
    by = state.get("by") if state.get("by") in BY else BY[0]
    to = state.get("to") if state.get("to") in TO else LAST
    title = f"Leading directions shared with {to}, by {by}: {name}"
    rows = towards(table, steps, keys, to).dropna(subset=[by, "similarity"])
    if rows.empty:
        return View(title, "No matrix of these steps has leading directions to share.")
    medians = rows.groupby([by, "step"])["similarity"].median().rename("value").reset_index()
    by_group = {group: part for group, part in medians.groupby(by)}
    references = {
        words: rows.groupby("step")[column].median().rename("value").reset_index()
        for words, column in (("chance", "chance"), ("turned at random", "null_high"))
    }
    if to == LAST:
        ends = [rows["step"].min(), rows["step"].max()]
        references["final subspace"] = pd.DataFrame({"step": ends, "value": [REACHED] * 2})
        from_steps = {group: reached(part) for group, part in by_group.items()}
        reading = settled_words(from_steps, by, int(steps[-1]))
        rows = rows.assign(reached=rows[by].map(from_steps))
    else:
        first, end = rows["step"].min(), rows["step"].max()
        at = rows.groupby("step")["similarity"].median()
        reading = (
            f"Step {first:,} shares {percent(at[first])} of its leading directions with the step"
            f" before, step {end:,} {percent(at[end])}, in the median matrix (chance"
            f" {percent(rows['chance'].median())})."
        )
    figure = figures.lines(by_group, "similarity", by=by, references=references)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return view(title, reading, figure, rows, ("similarity", "null_high"))


def towards(
    table: pd.DataFrame, steps: Sequence[int], keys: Sequence[str], to: str
) -> pd.DataFrame:
    """The similarity of each step's right leading directions to those of the last step or of the
    step before, a row a matrix and step; of 16 directions, or as many as small matrices have.
    """
    at = {key: place for place, key in enumerate(keys)}
    first, second = table["run_a"].map(at), table["run_b"].map(at)
    pairs = second == len(keys) - 1 if to == LAST else second == first + 1
    rows = table[pairs & (table["side"] == "right")]
    rows = rows.assign(step=[steps[at[run]] for run in rows["run_a" if to == LAST else "run_b"]])
    widest = rows["k"].where(rows["k"] <= HEADLINE_K).groupby(rows["name"]).transform("max")
    rows = rows[rows["k"] == widest].rename(columns={"name": "tensor"})
    columns = ["tensor", "layer", "block", "module", "step", "k", "similarity", "chance"]
    return overlap.placed(rows)[[*columns, "null_low", "null_high"]]


def reached(rows: pd.DataFrame) -> int | None:
    """The step from which on the final subspace is there; `None` where it comes with the last."""
    ordered = rows.sort_values("step")
    short = ordered["step"][ordered["value"] < REACHED]
    after = ordered["step"] > short.max() if len(short) else ordered["step"] > -1
    return int(ordered["step"][after].min()) if after.any() else None


def settled_words(from_steps: dict, by: str, last: int) -> str:
    """From which step on the final subspace is there, and where it comes with the last."""
    early = {group: step for group, step in from_steps.items() if step is not None}
    words = {group: f"layer {group}" if by == "layer" else str(group) for group in from_steps}
    condition = f"({percent(REACHED)} of the directions of step {last:,} and more)"
    if not early:
        return f"**In no {by} is the final subspace there before the last step** {condition}."
    first = min(early, key=early.get)
    if len(early) == len(from_steps) and len(set(early.values())) == 1:
        return f"**The final subspace is there from step {early[first]:,}** {condition}."
    text = f"**The final subspace is there first in {words[first]}, from step {early[first]:,}**"
    late = [words[group] for group in from_steps if group not in early]
    return f"{text} {condition}{'; with the last step alone in ' + listing(late) if late else ''}."
