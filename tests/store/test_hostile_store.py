"""Whatever is damaged, foreign or hostile in a store is one line that names the file; `compare`
makes it anew.
"""

import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from opdviz import cli
from opdviz.engine import measuring, workers
from opdviz.errors import MachineError
from opdviz.store import board, bundles
from opdviz.store.store import Store
from opdviz.tables import summaries
from tests.conftest import GOLDEN
from tests.hostile_store import (
    ALL_SUMMARIES,
    LEFT,
    MANIFEST,
    PARTS,
    ROOT,
    SECONDS,
    WHOLE,
    Place,
    instead,
)


@contextmanager
def quick(returned: dict, *made: str):
    """Commands that measure in this process, once a pair, make some summaries, and end without
    leaving it.
    """

    def remembered(pair, names, *where):
        if not set(names) <= returned.setdefault(pair.name, {}).keys():
            returned[pair.name] |= dict(zip(names, real(pair, names, *where)))
        return [returned[pair.name][name] for name in names]

    @contextmanager
    def pool(count):
        with ThreadPoolExecutor(1) as executor:
            yield executor

    real = measuring.work_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "work_on", remembered)
        patch.setattr(workers, "pool", pool)
        patch.setattr(cli, "leave", lambda code: code)
        names = {"headline", *made} if made else set(ALL_SUMMARIES)  # the command's own answer
        some = {name: make for name, make in ALL_SUMMARIES.items() if name in names}
        patch.setattr(summaries, "SUMMARIES", some)
        yield patch


def compare(root: Path, tuned: str = "b", *more: str) -> int:
    name = "golden" if tuned == "b" else tuned
    sides = (str(GOLDEN / "base"), str(GOLDEN / f"tuned_{tuned}"))
    return cli.main(["compare", *sides, "--name", name, "--cache", str(root), *more])


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """A finished comparison, one that was stopped when all was measured, another pair's, and what
    workers returned.
    """
    root, returned = tmp_path_factory.mktemp("stores"), {}

    def stopped(*_):
        raise MachineError("stopped")

    with quick({}):
        assert compare(root / "other", "a", "--measures", "magnitude") == 0
    with quick(returned) as patch:
        assert compare(root / "whole") == 0
        patch.setattr(bundles, "BUNDLE", 7)
        patch.setattr(bundles.Writer, "compact", stopped)
        assert compare(root / "stopped") == 3
    assert list(root.glob("stopped/comparisons/*/parts/*.magnitude.*"))
    return root, returned


def place(caches, which: str, into: Path) -> Place:
    """A copy of a store, to be damaged."""
    shutil.copytree(caches[0] / which, into)
    (key,) = Store(into).keys()
    return Place(Store(into), key, next((caches[0] / "other" / "comparisons").iterdir()))


@pytest.fixture(autouse=True)
def in_time():
    """A test that waits for a pipe ends."""

    def late(*_):
        raise TimeoutError("a command waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def told(capsys, place: Place, *arguments: str) -> tuple[int, str, str]:
    """What a command returns and prints; a refusal is one line."""
    capsys.readouterr()
    code = cli.main([*arguments, "--cache", str(place.store.root)])
    out, err = capsys.readouterr()
    assert code in (0, 1, 2), err
    assert err.count("\n") == (code != 0), err
    return code, out, err


def stored(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in root.rglob("tables/*.parquet")}


def said_everywhere(capsys, place: Place, words: str, table: str | None) -> None:
    """Assert that `verify` finds a damage, that `show` says it where it is read, and that nothing
    breaks elsewhere.
    """
    code, out, _ = told(capsys, place, "verify")
    assert code == 1 and words in out, out
    code, out, _ = told(capsys, place, "list")
    assert code == 0 and place.key in out
    assert ("damaged: manifest.json" in out) == words.startswith(MANIFEST)
    if table is not None:
        code, _, err = told(capsys, place, "show", place.key, table)
        assert code == 1 and "compare the pair again" in err, err
        assert "parquet " in err or "manifest.json" in err
    code, _, err = told(capsys, place, "headline", place.key)
    assert (code == 0 and not err) or "parquet " in err or "manifest.json" in err
    if table in ("tensors", "sparsity", "projection", "rotation", "coverage", "drift"):
        assert code == 1


def mended(capsys, caches, place: Place, pairs: str = "b") -> None:
    """Assert that `compare` mends it: every table is what it was."""
    assert compare(place.store.root, pairs) == 0, capsys.readouterr().err
    code, out, _ = told(capsys, place, "verify", "--content")
    assert code == 0, out
    assert stored(place.store.root) == stored(caches[0] / "whole")


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_damaged_is_said_and_mended(caches, tmp_path, capsys, name):
    damage, words, table = WHOLE[name]
    at = place(caches, "whole", tmp_path / "cache")
    damage(at)
    said_everywhere(capsys, at, words, table)
    with quick(caches[1], *(() if "summary" in name else ("tails",))):
        mended(capsys, caches, at)


@pytest.mark.parametrize("name", PARTS)
def test_what_is_damaged_while_it_is_made_is_said_and_mended(caches, tmp_path, capsys, name):
    damage, words, table = PARTS[name]
    at = place(caches, "stopped", tmp_path / "cache")
    damage(at)
    said_everywhere(capsys, at, words, table)
    if table is None and "stranger" not in str(words):
        code, out, _ = told(capsys, at, "show", at.key, "tensors")
        assert code == 0 and 29 <= out.count("\n") - 1 <= 30 and "stranger" not in out
    with quick(caches[1], "tails"):
        mended(capsys, caches, at)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_ours_to_mend_is_said_and_left(caches, tmp_path, capsys, name):
    damage, words = LEFT[name]
    at = place(caches, "whole", tmp_path / "cache")
    damage(at)
    for command in (("list",), ("show", at.key, "tensors"), ("headline", at.key)):
        assert told(capsys, at, *command)[0] == 0
    with quick(caches[1], "tails"):
        assert compare(at.store.root) == 0
    code, out, _ = told(capsys, at, "verify")
    assert code == 1 and words in out, out
    assert all(map(str.isprintable, out.splitlines()))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_a_board_that_cannot_be_locked_is_one_line(caches, tmp_path, kind):
    at = place(caches, "whole", tmp_path / "cache")
    instead("board.lock", kind)(at)
    with pytest.raises(MachineError, match=r"board\.lock: .*nothing was changed"):
        board.pin(at.store.folder(at.key), "layers", {}, "")


def test_a_damaged_comparison_can_be_forgotten(caches, tmp_path, capsys):
    for kind in ("pipe", "folder"):
        at = place(caches, "whole", tmp_path / kind)
        instead("manifest.json", kind)(at)
        instead("lock", kind)(at)
        assert told(capsys, at, "rename", at.key, "x")[0] == 1
        assert told(capsys, at, "forget", at.key)[0] == 0
        assert not at.folder.exists()


DRAW = """
import json, os, sys
from streamlit.testing.v1 import AppTest
for cache, pages in map(json.loads, sys.argv[1:]):
    os.environ["OPDVIZ_CACHE"] = cache
    told = {}
    app = AppTest.from_file("app.py", default_timeout=20)
    app.run()
    for page in pages:
        app.switch_page(f"pages/{page}.py").run()
        told[page] = {"exceptions": [e.message for e in app.exception], "errors": [e.value for e in app.error],
                      "buttons": [b.key for b in app.button]}
    print(json.dumps(told), flush=True)
"""
EVERY = ("run/overview", "run/tensor", "share/board")
SEEN = {  # damages that pages say, and where
    "other columns": ("run/overview", "projection"),
    "another comparison's name": ("run/overview", "tensors"),
    "left-overs of other columns": ("run/overview", "unmatched"),
    "a pipe for a table": ("run/overview", "coverage"),
    "another comparison's names alone": ("run/tensor", "angle"),
    "a pipe for the manifest": ("run/tensor", "manifest"),
    "a hundred thousand brackets": ("share/board", "manifest"),
    "half a character": ("open/comparisons", "manifest"),
    "a pipe for the board": ("share/board", "board"),
    "half a character on the board": ("share/board", "board"),
    "a summary of another frame": ("", ""),
    "a summary of text for numbers": ("", ""),
    "a pipe for a summary": ("", ""),
    "a block of other columns": ("run/part", ""),
    "a pipe for a block": ("run/part", ""),
    "a pipe for a job's request": ("open/comparisons", "request"),
    "a pipe for the lock": ("", ""),
}


@pytest.fixture(scope="module")
def pages(caches, tmp_path_factory) -> dict[str, dict]:
    """What every page shows of every damaged store: one process draws them all."""
    root = tmp_path_factory.mktemp("pages")
    for number, name in enumerate(SEEN):
        at = place(caches, "whole", root / str(number))
        (root / str(number) / "lab").mkdir()  # opened before: no first start
        (WHOLE | LEFT)[name][0](at)
        if SEEN[name][1] not in ("", "board", "request", "manifest"):
            # They were made of sound tables, and would be shown.
            shutil.rmtree(at.folder / "summaries")
    wanted = (
        json.dumps([str(root / str(i)), sorted({*EVERY, where} - {""})])
        for i, (where, _) in enumerate(SEEN.values())
    )
    command = [sys.executable, "-c", DRAW, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(SEEN, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", SEEN)
def test_a_page_says_what_is_damaged_in_one_line(pages, name):
    where, word = SEEN[name]
    for page, shown in pages[name].items():
        assert not shown["exceptions"], (page, shown["exceptions"])
        assert len(shown["errors"]) <= 1, (page, shown["errors"])
        assert page != where or not word or word in shown["errors"][0]
        assert word or not shown["errors"], (page, shown["errors"])
    if name in ("a block of other columns", "a pipe for a block"):
        assert "pin_pixels" in pages[name]["run/part"]["buttons"], "its values are read again"
