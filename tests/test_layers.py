"""The house's borders: a module imports only from earlier steps, big dependencies stand where they
belong, nothing grows.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opdviz.engine.workers import SCIPY

ROOT = Path(__file__).parent.parent
STEPS = (
    ("errors",),
    ("definitions", "quantities", "methods", "words", "files", "naming", "slices", "interpreter"),
    ("fingerprint",),
    ("checkpoint",),
    ("ties", "chunks", "order", "layouts"),
    ("distinct",),
    ("linalg",),
    ("pairing",),
    ("measures",),
    ("store",),
    ("engine", "tables"),
    ("demo", "runs", "figures", "jobs", "doctor"),
    ("roots", "views", "lab", "live"),
    ("report",),
    ("ui", "cli", "notebook"),
    ("serve", "__main__"),
)
STEP_OF = {name: step for step, names in enumerate(STEPS) for name in names}
LIVE = {"opdviz/live/recorder.py", "opdviz/live/callback.py"}
LAB_TRAINS = {f"opdviz/lab/{name}.py" for name in ("models", "subnetwork", "callbacks", "train")}
UI = {str(path.relative_to(ROOT)) for path in (ROOT / "opdviz" / "ui").glob("*.py")}
BORDERS = {
    "torch": {
        "opdviz/checkpoint/torch_file.py",
        "opdviz/checkpoint/dtensor.py",
        "opdviz/checkpoint/dcp.py",
        "opdviz/linalg/accelerator.py",
        "opdviz/measures/accelerated.py",
        *LAB_TRAINS,
        *LIVE,
    },
    "transformers": {*LAB_TRAINS, *LIVE},
    "trl": {"opdviz/lab/train.py"},
    "datasets": {"opdviz/lab/train.py"},
    "distributed": {"opdviz/engine/cluster.py"},
    "streamlit": {*UI, "opdviz/serve.py", "app.py"},
    "plotly": {*UI, "opdviz/report/page.py"},
    "kaleido": {"opdviz/report/picture.py"},
    "choreographer": {"opdviz/report/picture.py"},
    "IPython": {"opdviz/notebook.py"},
    "huggingface_hub": {"opdviz/checkpoint/hub.py", "opdviz/checkpoint/hub_headers.py"},
}
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for p in ROOT.glob("opdviz/**/*.py")
}
SOURCES = [
    p for p in ROOT.glob("**/*.py") if p.relative_to(ROOT).parts[0] in ("opdviz", "pages", "app.py")
]


def module_name(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> list[str]:
    """Every module that a file imports, also inside functions; `from a import b` gives a.b where
    that is a module.
    """
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module for name in inner]
    return found


def room(module: str) -> str | None:
    """The package or module directly in `opdviz` that a module stands in; `None` for the package
    itself and all else.
    """
    words = module.split(".")
    return words[1] if words[0] == "opdviz" and len(words) > 1 else None


def test_every_room_has_its_step():
    assert {room(module) for module in MODULES} - {None} == set(STEP_OF)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(module_name(path))
    step = STEP_OF.get(here, len(STEPS))
    upward = [
        name
        for name in imports(path)
        if (other := room(name)) and other != here and STEP_OF[other] >= step
    ]
    assert not upward, f"{path.name} imports {upward}"


def test_modules_of_a_room_import_each_other_in_no_circle():
    below = {module_name(path): set(imports(path)) & MODULES for path in SOURCES}
    left = dict(below)
    while free := [name for name, others in left.items() if not others & left.keys() - {name}]:
        for name in free:
            del left[name]
    assert not left, f"in a circle: {sorted(left)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_big_dependencies_stand_at_their_borders(path):
    here = str(path.relative_to(ROOT))
    for name in imports(path):
        top = name.split(".")[0]
        if top in BORDERS and not (
            here in BORDERS[top] or (top == "streamlit" and here.startswith("pages/"))
        ):
            assert top == "plotly" and here.startswith(("opdviz/figures/", "opdviz/views/view")), (
                f"{here} imports {name}"
            )


def test_pages_stand_in_subfolders_and_are_listed_by_the_app():
    assert not list((ROOT / "pages").glob("*.py"))
    (written,) = re.findall(r"^PAGES = (\{.*?^\})", (ROOT / "app.py").read_text(), re.M | re.S)
    sections = ast.literal_eval(written).values()
    listed = {f"pages/{script}.py" for scripts in sections for script, *_ in scripts}
    assert listed == {str(p.relative_to(ROOT)) for p in (ROOT / "pages").glob("*/*.py")}


def test_nothing_outgrows_its_room():
    limits = {"pages": 100, "app.py": 50}
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        assert lines <= limits.get(path.relative_to(ROOT).parts[0], 400), f"{path}: {lines} lines"


# A local is named after the thing it holds, not after how it came to be.
VAGUE = set(
    [
        "found",
        "made",
        "told",
        "known",
        "kept",
        "there",
        "shown",
        "wanted",
        "taken",
        "asked",
        "given",
        "gone",
        "chosen",
        "said",
        "fitting",
        "pending",
        "flying",
        "noted",
        "seen",
        "mine",
        "own",
        "turned",
        "inside",
        "of",
    ]
)


def vague_locals(tree: ast.AST) -> list[str]:
    """`function(names)` for every function that binds such a name."""
    vague = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names = (n for n in ast.walk(function) if isinstance(n, ast.Name))
            if bound := {n.id for n in names if isinstance(n.ctx, ast.Store)} & VAGUE:
                vague.append(f"{function.name}({', '.join(sorted(bound))})")
    return vague


def test_locals_are_named_after_what_they_hold():
    vague = {str(path): vague_locals(ast.parse(path.read_text())) for path in SOURCES}
    assert not {path: names for path, names in vague.items() if names}
    assert vague_locals(ast.parse("def f():\n    found = 1")) == ["f(found)"]


# The last would end the frame too: ui.end.
CALLS = ("pickle.load", "pickle.loads", "joblib.load", "eval", "exec", "st.stop")


def forbidden(tree: ast.AST) -> list[str]:
    """What no source of ours may hold: blanket handlers, pickles, unsafe loads, HTML from data."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = (
                [n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)]
                if node.type
                else ["everything"]
            )
            found += [
                f"except {n}" for n in names if n in ("everything", "Exception", "BaseException")
            ]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called for _ in [0] if called in CALLS]
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                bad = {"weights_only": False, "allow_pickle": True, "unsafe_allow_html": True}
                found += [
                    keyword.arg for _ in [0] if keyword.arg in bad and value is bad[keyword.arg]
                ]
    return found


BLANKET = {
    # The pool lets go of its workers on any exit, and raises again.
    "opdviz/engine/workers.py": ["except BaseException"],
    # One tensor costs its own rows, and `skipped` says what it raised.
    "opdviz/measures/__init__.py": ["except Exception"],
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


def test_who_reads_the_store_loads_no_numerics():
    """Every command knows the columns of the measures; scipy's parts are for who measures."""
    code = "import sys, opdviz.store.store, opdviz.tables, opdviz.doctor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert "opdviz.measures.spectrum" in modules and "scipy" in modules
    assert not {*SCIPY, "torch", "plotly", "streamlit"} & {*modules}
