"""Every figure by name, drawn from what is stored and from the plain values that a link carries.

Pages, the board, reports and commands draw the same views: `draw("layers", reader, {"quantity":
"stable_rank"})` of one comparison, `draw_runs("run_maps", several, {...})` of several on one base.
"""

from opdviz.views import (
    coordinates,
    directions,
    filters,
    layers,
    overview,
    runs,
    subnetwork,
    tensor,
)
from opdviz.views.several import RUN_VIEWS, draw_runs
from opdviz.views.state import KEYS, clean, parsed
from opdviz.views.view import Drawing, Reader, Several, View

SELECTION = ("quantity", *filters.KEYS)
ONE_TENSOR = ("tensor",)
VIEWS = {
    "headline": Drawing(overview.headline, "overview"),
    "layers": Drawing(
        layers.layers, "layers", (*SELECTION, "over", "cells", "limits", "low", "high")
    ),
    "strip": Drawing(layers.strip, "layers", (*SELECTION, "over")),
    "scatter": Drawing(layers.scatter, "layers", ("x", "y", *SELECTION, "over")),
    "stable_rank": Drawing(directions.stable_rank, "directions"),
    "tails": Drawing(directions.tails, "directions"),
    "projection": Drawing(directions.projection, "directions"),
    "rotation": Drawing(directions.rotation, "directions"),
    "moved_given_size": Drawing(coordinates.moved_given_size, "coordinates", ("above",)),
    "coverage": Drawing(coordinates.coverage, "coordinates"),
    "sparsity": Drawing(coordinates.sparsity, "coordinates"),
    "steps": Drawing(coordinates.steps, "coordinates"),
    "sparse_or_small": Drawing(runs.sparse_or_small_alone, "coordinates", ("colour",)),
    "fingerprint": Drawing(coordinates.fingerprint, "coordinates"),
    "densities": Drawing(subnetwork.densities, "subnetwork", ("above", "by")),
    "energy": Drawing(tensor.energy, "tensor", ONE_TENSOR),
    "moved": Drawing(tensor.moved, "tensor", ONE_TENSOR),
    "angles": Drawing(tensor.angles, "tensor", ONE_TENSOR),
    "spectra": Drawing(tensor.spectra, "tensor", ONE_TENSOR),
    "ranks": Drawing(tensor.ranks, "tensor", ONE_TENSOR),
    "magnitudes": Drawing(tensor.magnitudes, "tensor", ONE_TENSOR),
    "intruders": Drawing(tensor.intruders, "tensor", ONE_TENSOR),
    "heads": Drawing(tensor.heads, "tensor", ONE_TENSOR),
    "bands": Drawing(tensor.bands, "tensor", (*ONE_TENSOR, "profile")),
    "vocabulary": Drawing(tensor.vocabulary, "tensor", ONE_TENSOR),
    "pixels": Drawing(tensor.pixels, "part", (*ONE_TENSOR, "row", "column", "size")),
}


def state_of(name: str, state: dict) -> dict:
    """What of a page's state a view speaks of: the others change and it stays."""
    drawing = VIEWS.get(name) or RUN_VIEWS[name]
    return {key: state[key] for key in drawing.keys if state.get(key) is not None}


def draw(name: str, reader: Reader, state: dict) -> View:
    """One view of a comparison in one state; keys of the state that the view does not know are left
    alone.

    A view that is not there, or of a tensor that is not there, says so.
    """
    if name not in VIEWS:
        return View("This figure", "This version of opdviz does not draw it.")
    make, page, _ = VIEWS[name]
    if reader.summary("by_tensor").empty:
        return View("This figure", "No tensor is measured yet. It appears here as soon as one is.")
    if page in ("tensor", "part") and tensor.facts(reader, state) is None:
        return View("This figure", "Its tensor is not in this comparison, or not measured yet.")
    return make(reader, state)


def page_of(name: str) -> str | None:
    """The page on which a view stands."""
    if name not in VIEWS:
        return None
    page = VIEWS[name].page
    return f"pages/{'runs' if page == 'subnetwork' else 'run'}/{page}.py"


__all__ = [
    "KEYS",
    "RUN_VIEWS",
    "VIEWS",
    "Drawing",
    "Reader",
    "Several",
    "View",
    "clean",
    "draw",
    "draw_runs",
    "page_of",
    "parsed",
    "state_of",
]
