"""Curves of one tensor, those of several runs over each other."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from opdviz.definitions import HEADLINE_K, HEADLINE_SHARE
from opdviz.figures import runs as figures
from opdviz.figures.coordinates import FEWEST, THIN
from opdviz.figures.runs import Look
from opdviz.views.runs import base_of, looks_of, together, waiting
from opdviz.views.view import Reader, View, view
from opdviz.words import listing, number, percent, plain

CURVES = ("energy", "spectra", "angles", "moved given size")


def curves(readers: Sequence[Reader], state: dict) -> View:
    """Curves of one tensor, those of all runs over each other."""
    which = state.get("curve") or CURVES[0]
    makers = {"energy": energy, "spectra": spectra, "angles": angles, CURVES[3]: moved}
    return makers[which if which in makers else CURVES[0]](readers, state)


def titled(what: str, readers: Sequence[Reader], state: dict) -> str:
    """A title that says of which tensor a figure is, also where it stands alone."""
    return f"{what}: {state['tensor']}, {base_of(readers)}"


def spectra_of(
    readers: Sequence[Reader], state: dict, matrix: str, column: str
) -> dict[Look, pd.DataFrame]:
    """One matrix's rows of each run's spectrum of the state's tensor, where it has them."""
    by_run = {}
    for look, reader in zip(looks_of(readers, state), readers, strict=True):
        rows = reader.rows("spectrum", state["tensor"])
        rows = rows[rows["matrix"] == matrix].dropna(subset=[column]) if len(rows) else rows
        if len(rows):
            by_run[look] = rows
    return by_run


def without(title: str, readers: Sequence[Reader]) -> View:
    """What is said where no run has anything of the tensor to draw."""
    return View(title, f"No run has this of the tensor.{waiting(readers)}")


def energy(readers: Sequence[Reader], state: dict) -> View:
    """Cumulative energy of the leading directions of each run's update."""
    title = titled("Energy of the leading directions of the updates", readers, state)
    by_run = spectra_of(readers, state, "delta", "energy")
    if not by_run:
        return without(title, readers)
    r = int(max(rows["index"].max() for rows in by_run.values()))
    chance = next(iter(spectra_of(readers, state, "gaussian", "energy").values()), pd.DataFrame())
    k = HEADLINE_K if r > HEADLINE_K else max(1, r // 4)
    words = [
        f"{plain(look.name, limit=60)} {percent(float(at.iloc[0]))}"
        for look, rows in by_run.items()
        if len(at := rows.loc[rows["index"] == k, "energy"])
    ]
    reading = f"{k} of {r:,} directions hold: {listing(words, most=8)}"
    if len(chance) and len(at := chance.loc[chance["index"] == k, "energy"]):
        reading += f"; of noise {percent(float(at.iloc[0]))}"
    figure = figures.energy(by_run, chance, r)
    return view(title, f"{reading}.", figure, together(by_run), ("top16_energy", "energy"))


def spectra(readers: Sequence[Reader], state: dict) -> View:
    """Singular values of each run's update, and of the base."""
    title = titled("Singular values of the updates", readers, state)
    by_run = spectra_of(readers, state, "delta", "sigma")
    if not by_run:
        return without(title, readers)
    base = next(iter(spectra_of(readers, state, "base", "sigma").values()), pd.DataFrame())
    r = int(max(rows["index"].max() for rows in by_run.values()))
    tops = {look.name: float(rows["sigma"].max()) for look, rows in by_run.items()}
    words = [f"{plain(name, limit=60)} {number(top)}" for name, top in tops.items()]
    reading = f"Largest singular value of the update: {listing(words, most=8)}"
    if len(base):
        reading += f"; of the base {number(float(base['sigma'].max()))}"
    figure = figures.spectra(by_run, base, r)
    return view(title, f"{reading}.", figure, together(by_run), ("sigma", "stable_rank"))


def angles(readers: Sequence[Reader], state: dict) -> View:
    """Principal angles between base and each run, on the side that rotations more."""
    title = titled("Principal angles between base and each run", readers, state)
    rotations: dict[Look, pd.DataFrame] = {}
    for look, reader in zip(looks_of(readers, state), readers, strict=True):
        rows = reader.rows("rotation", state["tensor"])
        rows = rows[rows["share"] == HEADLINE_SHARE] if len(rows) else rows
        if len(rows):
            rotations[look] = rows.set_index("side")
    if not rotations:
        return without(title, readers)
    every = pd.concat(list(rotations.values()))
    side = every.groupby(level=0)["rms_sine"].median().idxmax()
    k = int(every.loc[[side], "k"].iloc[0])
    by_run, r = {}, k
    for look, reader in zip(looks_of(readers, state), readers, strict=True):
        rows = reader.rows("angle", state["tensor"])
        if look in rotations and len(rows):
            of_side = rows[(rows["side"] == side) & (rows["k"] == k)]
            by_run[look] = of_side.sort_values("index")
            r = int(reader.rows("spectrum", state["tensor"])["index"].max())
    sines = {look.name: rows.loc[side, ["rms_sine", "chance"]] for look, rows in rotations.items()}
    words = [
        f"{plain(name, limit=60)} {number(row['rms_sine'])} (chance {number(row['chance'])})"
        for name, row in sines.items()
    ]
    reading = f"Rms sine of the leading {k:,} of {r:,} {side} directions: {listing(words, most=8)}."
    middle = float(every.loc[[side], "chance"].median())
    height = float(np.degrees(np.arcsin(min(middle, 1.0)))) if np.isfinite(middle) else None
    chance = (
        pd.DataFrame() if height is None else pd.DataFrame({"index": [1, k], "degrees": height})
    )
    figure = figures.angles(by_run, chance, side, k, r)
    return view(title, reading, figure, together(by_run), ("degrees", "rms_sine", "gap"))


def moved(readers: Sequence[Reader], state: dict) -> View:
    """Which weights of one tensor moved in each run, given their size."""
    title = titled("Share that moved by size of the weight", readers, state)
    by_run = {}
    for look, reader in zip(looks_of(readers, state), readers, strict=True):
        bins = reader.moved_given_size(state["tensor"])
        if bins.empty:
            continue
        bins = bins[(bins["low"] > 0) & (bins["count"] >= max(FEWEST, THIN * bins["count"].max()))]
        share = {column: bins[column] / bins["count"] for column in ("moved", "null_moved")}
        by_run[look] = bins.assign(**share)
    if not by_run:
        return without(title, readers)
    words = []
    for look, bins in by_run.items():
        share = float((bins["moved"] * bins["count"]).sum() / bins["count"].sum())
        words.append(f"{plain(look.name, limit=60)} {percent(share)}")
    reading = f"Moved: {listing(words, most=8)}. Dotted: what a blind update of each size would."
    return view(title, reading, figures.moved(by_run), together(by_run), ("moved", "null_moved"))
