"""Where several runs moved: their maps side by side, and one run against the others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from opdviz.figures import run_maps as figures
from opdviz.figures import runs as marks_of_runs
from opdviz.figures import theme
from opdviz.figures.axes import value_label
from opdviz.quantities import CHANCE_OF, QUANTITIES
from opdviz.views import filters, layers
from opdviz.views.runs import base_of, looks_of, names_of, reference_of, waiting
from opdviz.views.view import Reader, View, view
from opdviz.words import listing, number, plain

# Columns of a tensor that say where it stands.
PLACES = ("name", "layer", "expert", "block", "module")
# Runs that a sentence speaks of by themselves.
MOST_SAID = 2


def maps(readers: Sequence[Reader], state: dict) -> View:
    """Any quantity by layer and module of each run under one scale, or as ratios to one run's."""
    selected = [layers.selected_tensors(reader, state | {"over": False}) for reader in readers]
    quantity = selected[0][1]
    label, names = QUANTITIES[quantity].label, names_of(readers)
    columns = [*PLACES, quantity, *filter(None, [CHANCE_OF.get(quantity)])]
    tensors = [
        rows.loc[rows["layer"].notna(), rows.columns.intersection(columns)]
        for rows, _, _ in selected
    ]
    title = f"{label.capitalize()} by layer and module of several runs"
    if words := filters.described(state):
        title += f" ({words})"
    if any(quantity not in rows or not rows[quantity].notna().any() for rows in tensors):
        return View(title, f"Not every run has this quantity in these layers.{waiting(readers)}")
    by_run = dict(zip(names, tensors, strict=True))
    against = reference_of(readers, state)
    terms = (quantity,)
    if against is None:
        figure = figures.side_by_side(by_run, quantity, places=range(len(names)))
        reading = maps_reading(by_run, quantity)
        data = pd.concat([rows.assign(run=name) for name, rows in by_run.items()])
        columns = ["run", "name", "layer", "module", quantity]
        return view(f"{title}: {base_of(readers)}", reading, figure, data[columns], terms)
    ratios = {
        name: over(rows, tensors[against], quantity)
        for name, rows in by_run.items()
        if name != names[against]
    }
    other = plain(names[against], limit=60)
    places = [at for at in range(len(names)) if at != against]
    figure = figures.side_by_side(ratios, quantity, places=places, against=names[against])
    reading = (
        f"Each cell over that of {other}, on a scale of doublings: white is the same. "
        + ratios_reading(ratios)
    )
    data = pd.concat([rows.assign(run=name) for name, rows in ratios.items()])
    columns = ["run", "name", "layer", "module", quantity, "ratio"]
    title = f"{label.capitalize()} over that of {names[against]}"
    return view(f"{title}: {base_of(readers)}", reading, figure, data[columns], terms)


def over(rows: pd.DataFrame, reference: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The tensors of a run with `ratio`, the log2 of their quantity over that of the same tensor in
    another.
    """
    both = rows.merge(
        reference[["name", quantity]], on="name", how="left", suffixes=("", "_reference")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log2(both[quantity].astype(float) / both[f"{quantity}_reference"].astype(float))
    return both.assign(ratio=ratio.clip(-theme.FARTHEST, theme.FARTHEST))


def maps_reading(by_run: dict[str, pd.DataFrame], quantity: str) -> str:
    """The median of each run, and whether they rank the layers' tensors alike."""
    medians = {name: rows[quantity].astype(float).median() for name, rows in by_run.items()}
    words = [
        f"{plain(name, limit=40)} {value_label(middle, quantity)}"
        for name, middle in medians.items()
    ]
    text = f"Median {QUANTITIES[quantity].label}: {listing(words, most=8)}."
    if chance := CHANCE_OF.get(quantity):
        rows = next(iter(by_run.values()))
        text += f" Chance {value_label(rows[chance].astype(float).median(), quantity)}."
    values = [rows.set_index("name")[quantity].astype(float) for rows in by_run.values()]
    # Spearman's, without loading scipy for it.
    ranks = pd.concat([one.groupby(level=0).first().rank() for one in values], axis=1).dropna()
    if len(ranks) > 2 and len(values) > 1:
        pairs = ranks.corr().to_numpy()[np.triu_indices(len(values), 1)]
        if np.isfinite(pairs).all():
            what = "They rank" if len(values) > 2 else "Both rank"
            least = "at least " if len(values) > 2 else ""
            text += (
                f" {what} {len(ranks):,} tensors with a rank correlation of"
                f" {least}{number(float(pairs.min()), 2)}."
            )
    return text


def ratios_reading(by_run: dict[str, pd.DataFrame]) -> str:
    """What sets the runs that differ most from the other apart."""
    distance = {name: abs(rows["ratio"].median()) for name, rows in by_run.items()}
    order = sorted(by_run, key=lambda name: -np.nan_to_num(distance[name]))
    sentences = " ".join(ratio_reading(name, by_run[name]) for name in order[:MOST_SAID])
    return sentences + (" The others lie nearer to it." if len(order) > MOST_SAID else "")


def ratio_reading(name: str, rows: pd.DataFrame) -> str:
    """In which modules a run has less than the other, where it mostly has more; or the other way
    round.
    """
    ratios = rows.dropna(subset=["ratio"])
    if ratios.empty:
        return ""
    middle = float(2.0 ** ratios["ratio"].median())
    of_modules = ratios.groupby("module")["ratio"].median()
    more = of_modules > 0
    side = "more" if middle >= 1 else "less"
    odd = of_modules[~more] if side == "more" else of_modules[more]
    text = f"{plain(name, limit=60)} has {number(middle)} times as much in the median tensor"
    if len(odd) == 0:
        return f"{text}, {side} in every module."
    return f"{text}; not {side} in {listing([plain(module) for module in odd.index])}."


def against_one(readers: Sequence[Reader], state: dict) -> View:
    """A quantity of each tensor in one run against that in the others."""
    against = reference_of(readers, state) or 0
    selected = [layers.selected_tensors(reader, state | {"over": False}) for reader in readers]
    quantity = selected[0][1]
    names, label = names_of(readers), QUANTITIES[quantity].label
    title = f"{label.capitalize()}, tensor by tensor, against {names[against]}"
    if quantity not in selected[against][0]:
        return View(title, f"This run has no such quantity.{waiting(readers)}")
    reference = selected[against][0].dropna(subset=[quantity])[["name", "module", quantity]]
    by_run, places = {}, []
    for at, look in enumerate(looks_of(readers, state)):
        rows = selected[at][0]
        if at == against or quantity not in rows:
            continue
        both = reference.merge(rows[["name", quantity]], on="name", suffixes=("_x", "_y")).dropna()
        both = both.rename(columns={f"{quantity}_x": "x", f"{quantity}_y": "y"})
        if QUANTITIES[quantity].log:
            both = both[(both["x"] > 0) & (both["y"] > 0)]
        if len(both):
            by_run[look] = both
            places.append(at)
    if not by_run:
        return View(title, f"No tensor has this quantity in two runs.{waiting(readers)}")
    words = []
    for look, rows in by_run.items():
        more = int((rows["y"] > rows["x"]).sum())
        words.append(f"{plain(look.name, limit=60)} in {more:,} of {len(rows):,}")
    reading = f"Higher than in {plain(names[against], limit=60)}: {listing(words, most=7)} tensors."
    data = pd.concat([rows.assign(run=look.name) for look, rows in by_run.items()])
    figure = marks_of_runs.against_one(by_run, quantity, names[against], places=places)
    return view(f"{title}: {base_of(readers)}", reading, figure, data, (quantity,))
