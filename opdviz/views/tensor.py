"""Views of one tensor: energy, moves, angles, spectra, sizes, heads, bands, rows of a vocabulary, and the values."""

import numpy as np
import pandas as pd

from opdviz import parts, sentences, tables
from opdviz.figures import coordinates
from opdviz.figures import parts as part_figures
from opdviz.figures import tensor as figures
from opdviz.views.view import Run, View, view
from opdviz.words import number, percent, plain

MOST_ROWS = 30


def facts(run: Run, state: dict) -> pd.Series | None:
    """The tensor's row of the summary, if the state names one that is there."""
    rows = run.summary("by_tensor")
    rows = rows[rows["name"] == state.get("tensor")] if len(rows) else rows
    return rows.iloc[0] if len(rows) else None


def gone(what: str, run: Run, state: dict, table: str) -> View:
    """Why a view has nothing to draw."""
    skipped = run.of("skipped", state["tensor"])
    reasons = sorted(set(skipped["reason"])) if len(skipped) else []
    return View(f"{what}: {state['tensor']}", "; ".join(map(plain, reasons)) or "Not computed yet.")


def energy(run: Run, state: dict) -> View:
    """Cumulative energy of the leading directions."""
    rows = run.of("spectrum", state["tensor"])
    if rows.empty:
        return gone("Energy of the leading directions", run, state, "spectrum")
    r = int(rows["index"].max())
    shown = rows[rows["matrix"].isin(["delta", "gaussian", "rounding_null"])].dropna(subset=["energy"])
    title = f"Energy of the leading directions of the update: {state['tensor']}"
    return view(
        title, sentences.tensor(shown, r), figures.cumulative_energy(shown, r), shown, ("top16_energy", "energy")
    )


def moved(run: Run, state: dict) -> View:
    """Which weights moved, given their size."""
    bins = run.of("moved_given_size", state["tensor"])
    if bins.empty:
        return gone("Share that moved by size of the weight", run, state, "histogram")
    title = f"Share that moved by size of the weight: {state['tensor']}"
    figure = coordinates.moved_given_size(bins, height=figures.HEIGHT)
    return view(title, sentences.coordinates(bins), figure, bins, ("moved", "null_moved"))


def angles(run: Run, state: dict) -> View:
    """Principal angles of the leading subspaces."""
    rows = run.of("angle", state["tensor"])
    title = f"Principal angles between base and tuned: {state['tensor']}"
    if rows.empty:
        return gone("Principal angles between base and tuned", run, state, "angle")
    r = int(run.of("spectrum", state["tensor"])["index"].max())
    turned = run.of("rotation", state["tensor"])
    turned = turned[turned["share"] == tables.HEADLINE_SHARE].set_index("side")
    told = [
        f"{side} {number(row['rms_sine'])}"
        + (f" (chance {number(row['chance'])})" if row["chance"] == row["chance"] else "")
        for side, row in turned.iterrows()
    ]
    reading = (
        f"Rms sine of the leading {int(rows['k'].max())} of {r:,} directions: {', '.join(told)}."
        if told
        else "Angles by position."
    )
    return view(title, reading, figures.angles(rows, r, turned), rows, ("degrees", "rms_sine", "gap"))


def spectra(run: Run, state: dict) -> View:
    """Singular values of base, tuned and update."""
    rows = run.of("spectrum", state["tensor"])
    if rows.empty:
        return gone("Singular values", run, state, "spectrum")
    row = facts(run, state)
    reading = (
        f"The update's stable rank is {number(row['stable_rank'])}; a random update's would be "
        f"{number(row.get('stable_rank_chance'))}."
    )
    title = f"Singular values of base, tuned and update: {state['tensor']}"
    return view(
        title, reading, figures.spectra(rows, int(rows["index"].max())), rows, ("sigma", "stable_rank", "entropy_rank")
    )


def magnitudes(run: Run, state: dict) -> View:
    """How large weights and changes are."""
    rows = run.of("histogram", state["tensor"])
    if rows.empty:
        return gone("Sizes of weights and changes", run, state, "histogram")
    rows = tables.at_headline_precision(rows)
    rows = rows[rows["threshold"] == 0.0]
    row = facts(run, state)
    sizes = {"base": float(row["base_rms"]), "delta": float(row["delta_rms"])}
    told = figures.beside_gaussian(rows, "delta", sizes["delta"])
    reading = f"Root mean square weight {number(sizes['base'])}, change {number(sizes['delta'])}."
    large = told[told["low"] >= 3 * sizes["delta"]]
    if len(large):
        reading += (
            f" {percent(large['share'].sum())} of the changes are larger than {number(float(large['low'].min()))}; of a Gaussian "
            f"of the same norm {percent(figures.gaussian_above(float(large['low'].min()), sizes['delta']))} would be."
        )
    title = f"Sizes of weights and changes: {state['tensor']}"
    return view(title, reading, figures.magnitudes(rows, sizes), rows, ("of", "count", "chance"))


def heads_of(run: Run, state: dict) -> list[parts.Part]:
    """The attention heads of the state's tensor."""
    row = facts(run, state)
    if row is None or row["block"] != "attention" or row["tower"] != "language" or pd.isna(row["rows"]):
        return []
    return parts.heads(row["module"], (int(row["rows"]), int(row["columns"])), run.manifest.get("heads") or {})


def heads(run: Run, state: dict) -> View:
    """What each attention head holds of the update, beside an even spread."""
    title = f"The update by attention head: {state['tensor']}"
    rows = (
        parts.by_head(run.of("profile", state["tensor"]), heads_of(run, state))
        if heads_of(run, state)
        else pd.DataFrame()
    )
    if rows.empty or rows["energy"].isna().any():
        return View(title, "This tensor has no attention heads that its configuration tells, or it did not move.")
    top = rows.loc[rows["energy"].idxmax()]
    reading = f"{top['part'].capitalize()} holds {percent(top['energy'])} of the update; an even spread {percent(top['even'])}."
    return view(title, reading, part_figures.bars(rows), rows, ("energy_share", "moved"))


def bands(run: Run, state: dict) -> View:
    """What bands of rows and of columns hold of the update, or how much of them moved."""
    quantity = "moved" if state.get("profile") == "moved" else "energy"
    rows = run.of("profile", state["tensor"])
    title = f"{'Share that moved' if quantity == 'moved' else 'Energy'} by rows and columns: {state['tensor']}"
    if rows.empty or (quantity == "energy" and rows["energy"].isna().all()):
        return gone("Energy by rows and columns", run, state, "profile")
    wide = bool(rows["moved_bfloat16"].notna().any())
    column = {"energy": "energy", "moved": "moved_bfloat16" if wide else "moved"}[quantity]
    top = rows.loc[rows[column].idxmax()]
    where = parts.band(top["axis"], int(top["low"]), int(top["high"]))
    alike = part_figures.even(rows[rows["axis"] == top["axis"]], column)[top.name]
    reading = f"Most in {where}: {percent(top[column])}; an even spread {percent(alike)}."
    return view(title, reading, part_figures.profile(rows, column), rows, (quantity, "axis"))


def vocabulary(run: Run, state: dict) -> View:
    """The rows of an embedding or a head that moved most, with their tokens."""
    rows = (
        run.of("rows", state["tensor"]).sort_values("relative_norm", ascending=False)
        if len(run.of("rows", state["tensor"]))
        else None
    )
    title = f"The most moved rows: {state['tensor']}"
    if rows is None:
        return View(title, "Rows are kept for embeddings and heads alone.")
    row = facts(run, state)
    reading = (
        f"{int(row['untouched_rows']):,} of {int(row['rows']):,} rows are unchanged as stored, "
        f"{int(row['decayed_rows']):,} only shrank. "
        f"Dashed: the whole tensor."
    )
    figure = part_figures.vocabulary(rows.head(MOST_ROWS), float(row["relative_norm"]))
    return view(title, reading, figure, rows, ("relative_norm", "shrink", "token"))


def parts_of(run: Run, state: dict) -> pd.DataFrame:
    """Every named part of a tensor: heads, rows of a vocabulary, bands. Columns: part, and what is known of it."""
    profile, rows = run.of("profile", state["tensor"]), run.of("rows", state["tensor"])
    found = [parts.by_head(profile, heads_of(run, state))]
    if len(rows):
        found.append(rows.assign(part=[parts.band("row", int(r), int(r) + 1) for r in rows["row"]]))
    if len(profile):
        names = [
            parts.band(a, int(low), int(high)) for a, low, high in zip(profile["axis"], profile["low"], profile["high"])
        ]
        length = profile.groupby("axis")["high"].transform("max")
        found.append(profile.assign(part=names, even=(profile["high"] - profile["low"]) / length))
    found = [rows for rows in found if len(rows)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def pixels(run: Run, state: dict) -> View:
    """The values themselves."""
    at = [int(state.get(key) or default) for key, default in (("row", 0), ("column", 0), ("size", 128))]
    title = f"Update, base and tuned from row {at[0]}, column {at[1]}: {state['tensor']}"
    block = run.block(state["tensor"], *at)
    if block is None:
        return View(title, "These values were not read yet.")
    delta = block["tuned"] - block["base"]
    energy_ = float(np.sqrt((delta.astype(float) ** 2).sum()))
    row = facts(run, state)
    even = float(np.sqrt(len(block) / int(row["numel"]))) * float(row["delta_norm"])
    reading = (
        f"{percent(float((delta != 0).mean()))} of these {len(block):,} values moved as stored; the norm of their update is "
        f"{number(energy_)}, an even spread of the tensor's {number(even)}."
    )
    return view(title, reading, figures.pixels(block), block, ("delta_max", "delta_rms"))
