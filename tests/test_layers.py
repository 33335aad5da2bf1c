"""The house's borders: a module imports only from earlier steps, big dependencies stand where they belong, nothing grows."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = (
    ("errors", "quantities", "words", "files"),
    ("naming", "fingerprint", "columns", "manifests", "parquet"),
    ("checkpoint.bounded", "checkpoint.formats", "checkpoint.records", "checkpoint.beside", "checkpoint.safetensors",
     "checkpoint.torch_zip", "checkpoint.torch_file", "checkpoint"),
    ("linalg", "ties", "pairing"),
    ("measures.visibility", "measures.sides", "measures.nulls", "measures.hull", "measures.blind",
     "measures.magnitude", "measures.sparsity", "measures.concentration", "measures.coordinates",
     "measures.spectrum", "measures.geometry", "measures.coverage", "measures"),
    ("store", "values", "faults", "keeping", "sources", "masks", "overlap", "tables", "protocols", "published",
     "summaries", "board"),
    ("demo", "roots", "estimate", "workers", "analysis", "blocks", "jobs", "choosing", "parts", "lab.recipes",
     "lab.tasks", "lab.places", "lab.shipped", "lab.models", "lab.results", "lab.judging", "lab.claims",
     "lab.subnetwork", "lab.callbacks",
     "lab.train", "lab.plan", "lab.evaluate", "lab", "figures.theme", "figures.overview", "figures.layers",
     "figures.scatter", "figures.directions", "figures.coordinates", "figures.parts", "figures.tensor", "figures.lab", "figures",
     "sentences", "progress", "views.view", "views.run", "views.tensor", "views"),
    ("ui.turns", "ui.links", "ui.address", "ui.chosen", "ui.sharing", "ui.shown", "ui.boards", "ui.shell", "ui", "serve",
     "commands", "lab_commands", "cli", "__main__"),
)  # fmt: skip
ORDER = {f"opdviz.{name}": (step, at) for step, names in enumerate(STEPS) for at, name in enumerate(names)}
LAB_TRAINS = {f"opdviz/lab/{name}.py" for name in ("models", "subnetwork", "callbacks", "train")}
UI = {f"opdviz/ui/{name}.py" for name in ("links", "address", "chosen", "sharing", "shown", "boards", "shell")}
BORDERS = {
    "torch": {"opdviz/checkpoint/torch_file.py", *LAB_TRAINS},
    "transformers": LAB_TRAINS,
    "trl": {"opdviz/lab/train.py"},
    "datasets": {"opdviz/lab/train.py"},
    "streamlit": {*UI, "opdviz/serve.py", "app.py"},
    "plotly": UI,
}
SOURCES = [p for p in ROOT.glob("**/*.py") if p.relative_to(ROOT).parts[0] in ("opdviz", "pages", "app.py")]


def module_name(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> list[str]:
    """Every module that a file imports, also inside functions; `from a import b` gives a.b where that is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in ORDER else node.module for name in inner]
    return found


def test_every_module_has_its_step():
    missing = {module_name(p) for p in SOURCES if module_name(p).startswith("opdviz.")} - set(ORDER)
    assert not missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    me = ORDER.get(module_name(path), (99, 0))
    ours = [name for name in imports(path) if name in ORDER]
    upward = [name for name in ours if ORDER[name] >= me]
    assert not upward, f"{path.name} imports {upward}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_big_dependencies_stand_at_their_borders(path):
    here = str(path.relative_to(ROOT))
    for name in imports(path):
        top = name.split(".")[0]
        if top in BORDERS and not (here in BORDERS[top] or (top == "streamlit" and here.startswith("pages/"))):
            assert top == "plotly" and here.startswith(("opdviz/figures/", "opdviz/views/view")), (
                f"{here} imports {name}"
            )


def test_pages_stand_in_subfolders_and_are_listed_by_the_app():
    assert not list((ROOT / "pages").glob("*.py"))
    listed = set(re.findall(r'st\.Page\("([^"]+)"', (ROOT / "app.py").read_text()))
    assert listed == {str(p.relative_to(ROOT)) for p in (ROOT / "pages").glob("*/*.py")}


def test_nothing_outgrows_its_room():
    limits = {"pages": 110, "app.py": 50}
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        assert lines <= limits.get(path.relative_to(ROOT).parts[0], 400), f"{path}: {lines} lines"


CALLS = (
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "eval",
    "exec",
    "st.stop",
)  # the last would end the frame too: ui.end


def forbidden(tree: ast.AST) -> list[str]:
    """What no source of ours may hold: blanket handlers, pickles, unsafe loads, HTML from data."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = [n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)] if node.type else ["everything"]
            found += [f"except {n}" for n in names if n in ("everything", "Exception", "BaseException")]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called for _ in [0] if called in CALLS]
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                bad = {"weights_only": False, "allow_pickle": True, "unsafe_allow_html": True}
                found += [keyword.arg for _ in [0] if keyword.arg in bad and value is bad[keyword.arg]]
    return found


BLANKET = {
    "opdviz/workers.py": ["except BaseException"],  # the pool lets go of its workers on any exit, and raises again
    "opdviz/measures/__init__.py": [
        "except Exception"
    ],  # one tensor costs its own rows, and `skipped` says what it raised
}


def test_forbidden_things_are_nowhere():
    for path in SOURCES:
        found = forbidden(ast.parse(path.read_text()))
        assert found == BLANKET.get(str(path.relative_to(ROOT)), []), f"{path}: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept (ValueError, Exception) as e: pass",
        "try: f()\nexcept: pass",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "st.markdown(x, unsafe_allow_html=True)",
        "pickle.loads(b)",
        "eval(x)",
        "st.stop()",
    ],
)
def test_the_check_for_forbidden_things_finds_them(code):
    assert forbidden(ast.parse(code))
