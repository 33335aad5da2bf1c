"""Every figure of a comparison by name, drawn from what is stored and from the plain values that a
link carries.

Pages, the board and the presentation draw the same views: `draw("layers", reader, {"quantity":
"stable_rank"})`.
"""

from collections.abc import Sequence

from opdviz.views import (
    coordinates,
    directions,
    layers,
    overview,
    run_curves,
    run_maps,
    runs,
    subnetwork,
    tensor,
)
from opdviz.views.state import CHECKS, clean
from opdviz.views.view import Reader, View

VIEWS = {
    "headline": (overview.headline, "overview"),
    "layers": (layers.layers, "layers"),
    "strip": (layers.strip, "layers"),
    "scatter": (layers.scatter, "layers"),
    "stable_rank": (directions.stable_rank, "directions"),
    "tails": (directions.tails, "directions"),
    "projection": (directions.projection, "directions"),
    "rotation": (directions.rotation, "directions"),
    "moved_given_size": (coordinates.moved_given_size, "coordinates"),
    "coverage": (coordinates.coverage, "coordinates"),
    "sparsity": (coordinates.sparsity, "coordinates"),
    "steps": (coordinates.steps, "coordinates"),
    "sparse_or_small": (runs.sparse_or_small_alone, "coordinates"),
    "fingerprint": (coordinates.fingerprint, "coordinates"),
    "densities": (subnetwork.densities, "subnetwork"),
    "energy": (tensor.energy, "tensor"),
    "moved": (tensor.moved, "tensor"),
    "angles": (tensor.angles, "tensor"),
    "spectra": (tensor.spectra, "tensor"),
    "ranks": (tensor.ranks, "tensor"),
    "magnitudes": (tensor.magnitudes, "tensor"),
    "heads": (tensor.heads, "tensor"),
    "bands": (tensor.bands, "tensor"),
    "vocabulary": (tensor.vocabulary, "tensor"),
    "pixels": (tensor.pixels, "part"),
}


# Of several runs on one base, all on one page: what draws each, and what of a state it speaks of.
RUN_VIEWS = {
    "run_headlines": (runs.headlines, ("colour",)),
    "run_maps": (run_maps.maps, ("quantity", "against")),
    "run_against": (run_maps.against_one, ("quantity", "against", "colour")),
    "run_curves": (run_curves.curves, ("tensor", "curve", "colour")),
    "run_sizes": (runs.sparse_or_small, ("colour",)),
}


def state_of(name: str, state: dict) -> dict:
    """What of a page's state a view of several runs speaks of: the others change and it stays."""
    _, keys = RUN_VIEWS[name]
    return {key: state[key] for key in keys if state.get(key) is not None}


def draw_runs(name: str, readers: Sequence[Reader], state: dict) -> View:
    """One view of several runs on one base in one state; what it cannot draw it says."""
    if any(reader.summary("by_tensor").empty for reader in readers):
        return View(
            "This figure", f"It waits for a first tensor of each run.{runs.waiting(readers)}"
        )
    if name == "run_curves" and not state.get("tensor"):
        return View("This figure", "The runs share no tensor.")
    return RUN_VIEWS[name][0](readers, state)


def draw(name: str, reader: Reader, state: dict) -> View:
    """One view of a comparison in one state; keys of the state that the view does not know are left
    alone.

    A view that is not there, or of a tensor that is not there, says so.
    """
    if name not in VIEWS:
        return View("This figure", "This version of opdviz does not draw it.")
    make, page = VIEWS[name]
    if reader.summary("by_tensor").empty:
        return View("This figure", "No tensor is measured yet. It appears here as soon as one is.")
    if page in ("tensor", "part") and tensor.facts(reader, state) is None:
        return View("This figure", "Its tensor is not in this comparison, or not measured yet.")
    return make(reader, state)


def page_of(name: str) -> str | None:
    """The page on which a view stands."""
    if name not in VIEWS:
        return None
    page = VIEWS[name][1]
    return f"pages/{'runs' if page == 'subnetwork' else 'run'}/{page}.py"


__all__ = [
    "CHECKS",
    "RUN_VIEWS",
    "VIEWS",
    "Reader",
    "View",
    "clean",
    "draw",
    "draw_runs",
    "page_of",
    "state_of",
]
