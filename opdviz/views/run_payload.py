"""Views of what an update takes to send."""

from collections.abc import Sequence

import pandas as pd

from opdviz.figures import payload as figures
from opdviz.runs.payload import ENCODINGS, whole
from opdviz.store.relations import BASE
from opdviz.views.view import View, view
from opdviz.words import percent, size

NEXT, WHOLE = "the step before", "the base"
SINCE = (NEXT, WHOLE)
TERMS = ("moved", *ENCODINGS)


def by_step(
    name: str, steps: Sequence[int], keys: Sequence[str], table: pd.DataFrame, state: dict
) -> View:
    """What a weight sync would send at each step of a training: since the step before, or since
    the base. Columns of `table`: those of `payload`, runs by their keys.
    """
    since = state.get("since") if state.get("since") in SINCE else NEXT
    title = f"What a weight sync would send since {since}: {name}"
    step_of = dict(zip(keys, steps, strict=True))
    rows = table[table["run_b"].isin(step_of)]
    rows = rows.assign(step=rows["run_b"].map(step_of))
    from_base = rows["run_a"] == BASE
    by_since = {NEXT: rows[~from_base], WHOLE: rows[from_base]}
    sums = {one: whole(part, "step").sort_values("step") for one, part in by_since.items()}
    if sums[since].empty:
        return View(title, "No tensor of these steps can be sent as a difference.")
    row = sums[since].iloc[-1]
    reading = f"At step {row['step']:,} {update_words(row)}"
    changed = {f"changed since {one}": part for one, part in sums.items()}
    figure = figures.by_step(sums[since], ENCODINGS, changed)
    return view(title, reading, figure, by_since[since], TERMS)


def of_one(name: str, table: pd.DataFrame) -> View:
    """What the update of one run takes to send from its base."""
    title = f"What the update takes to send: {name}"
    rows = table[table["run_a"] == BASE]
    sums = whole(rows)
    if sums.empty:
        return View(title, "No tensor of this run can be sent as a difference.")
    words = update_words(sums.iloc[0])
    figure = figures.of_one(sums.iloc[0], ENCODINGS)
    return view(title, words[0].upper() + words[1:], figure, rows, TERMS)


def update_words(row: pd.Series) -> str:
    """How much changed, and the smallest encoding of it beside the checkpoint."""
    least = min(ENCODINGS, key=lambda column: row[column])
    beyond = [words for column, words in ENCODINGS.items() if row[column] > row["full_bytes"]]
    text = (
        f"{percent(row['moved'] / row['numel'])} of the coordinates changed: **{ENCODINGS[least]}"
        f" sends {size(row[least])}, {percent(row[least] / row['full_bytes'])} of the"
        f" {size(row['full_bytes'])} that all weights take**"
    )
    return f"{text}; {' and '.join(beyond)} would send more than that." if beyond else f"{text}."
