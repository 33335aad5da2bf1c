"""Every page, drawn through app.py in a process of its own: cold and warm, with and without data,
with a job; no torch.
"""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import pytest

from opdviz import tables
from opdviz.store import bundles
from opdviz.store.store import Store
from opdviz.words import plain
from tests.commands import opdviz
from tests.conftest import GOLDEN

ROOT = Path(__file__).parent.parent
PAGES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "pages").glob("*/*.py"))
RUN_PAGES = [p for p in PAGES if p.startswith("pages/run/")]

DRAW = """
import json, os, sys
import streamlit as st
from streamlit.testing.v1 import AppTest
environment = dict(os.environ)
for line in sys.stdin:
    request = json.loads(line)
    os.environ.clear()
    os.environ.update(environment | request["environment"])
    st.cache_data.clear()
    st.cache_resource.clear()
    app = AppTest.from_file("app.py", default_timeout=60)
    for key, value in request["query"].items():
        # AppTest binds no address; browser tests follow links
        app.query_params[key] = app.session_state[key] = value
    app.run()
    turns = []
    for turn in range(2):  # cold, then warm
        app.switch_page(request["page"]).run()
        turns.append({
            "exceptions": [e.message for e in app.exception],
            "errors": [e.value for e in app.error],
            "info": [e.value for e in app.info],
            "warnings": [e.value for e in app.warning],
            "headers": [e.value for e in app.title],
            "text": [e.value for e in app.markdown] + [e.value for e in app.caption],
            "charts": [c.proto.spec for c in app.get("plotly_chart")],
            "frames": len(app.dataframe),
            "tables": [
                {str(c): list(map(str, t.value[c].head(20))) for c in t.value} for t in app.dataframe
            ],
            "buttons": [b.key for b in app.button],
        })
    print(json.dumps({"turns": turns, "torch": "torch" in sys.modules}), flush=True)
"""


@pytest.fixture(scope="module")
def drawer():
    """A process that draws pages as it is asked to, a line of JSON each: it starts once."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRAW)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def drawn(drawer):
    """What a page shows when it is drawn twice, with nothing cached; asserts that nothing raised
    and that torch was not imported.
    """

    def draw(page: str, cache: Path, query: dict | None = None, **environment: str) -> list[dict]:
        (cache / "lab").mkdir(exist_ok=True)  # opened before: no first start
        variables = {"OPDVIZ_CACHE": str(cache)} | environment
        request = {"page": page, "query": query or {}, "environment": variables}
        print(json.dumps(request), file=drawer.stdin, flush=True)
        answer = drawer.stdout.readline()
        assert answer, f"drawing {page} ended the process"
        facts = json.loads(answer)
        assert not facts["torch"], "the app's process imported torch"
        for turn in facts["turns"]:
            assert not turn["exceptions"], turn["exceptions"]
            assert turn["headers"], "a page without a title"
        return facts["turns"]

    return draw


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A cache with the golden pair a, whole, and b, of which only some tensors are there, in
    bundles and loose.
    """
    folder = tmp_path_factory.mktemp("pages")
    with mock.patch.object(bundles, "BUNDLE", 4):
        for tuned, more in (("b", ["--tensors", "*layers.0*"]), ("a", [])):
            sides = (GOLDEN / "base", GOLDEN / f"tuned_{tuned}")
            opdviz("compare", *sides, "--name", tuned, *more, cache=folder).check_returncode()
    assert list(folder.rglob("tables/spectrum.spectrum.0.parquet"))
    assert list(folder.rglob("parts/*.spectrum.*.json"))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A cache with both golden updates as two steps of one training, and how they lie to each
    other.
    """
    folder = tmp_path_factory.mktemp("trained")
    for step, tuned in enumerate("ab", start=1):
        shutil.copytree(GOLDEN / f"tuned_{tuned}", folder / "run" / f"checkpoint-{step}")
    names = ["base..run/checkpoint-1", "base..run/checkpoint-2"]
    for command in (
        ["compare", GOLDEN / "base", folder / "run"],
        ["overlap", *names],
        ["overlap", *names, "--table", "subspace_similarity"],
        ["payload", *names],
    ):
        opdviz(*command, cache=folder / "cache").check_returncode()
    return folder / "cache"


@pytest.mark.parametrize(
    ("page", "charts", "words"),
    [
        ("side_by_side", 5, "Higher than in"),
        ("overlap", 4, "times what sizes and rows of the weights alone explain"),
        ("trajectory", 6, "of the updates' energy lies in one direction"),
    ],
)
def test_pages_of_several_runs_show_a_family(drawn, trained, page, charts, words):
    key = Store(trained).keys()[0]
    for turn in drawn(f"pages/runs/{page}.py", trained, {"comparison": key}):
        assert len(turn["charts"]) == charts
        assert not turn["errors"]
        assert any(words in text for text in turn["text"])


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("side_by_side", "Still being measured: b."),
        ("overlap", "is worked out from the checkpoints"),
        ("trajectory", "None of these runs are steps of one training"),
    ],
)
def test_pages_of_several_runs_say_what_is_not_there_yet(drawn, cache, page, words):
    key = Store(cache).resolve("a")
    where = (f"pages/runs/{page}.py", cache, {"comparison": key})
    for turn in drawn(*where):
        assert any(words in text for text in (*turn["text"], *turn["info"]))
    if page == "overlap":
        (cold, _) = drawn(*where, OPDVIZ_READ_ONLY="1")
        assert any("opdviz overlap" in text for text in cold["text"])


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN_PAGES])
def test_every_page_has_an_empty_state(drawn, page, tmp_path):
    for turn in drawn(page, tmp_path, OPDVIZ_ROOTS=str(tmp_path)):
        assert not turn["errors"]


@pytest.mark.parametrize("page", RUN_PAGES)
def test_a_page_of_one_run_says_that_there_is_none_yet(drawn, page, tmp_path):
    for turn in drawn(page, tmp_path):
        assert "Nothing has been compared yet" in turn["info"][0]


@pytest.mark.parametrize("page", RUN_PAGES)
def test_every_page_shows_a_finished_comparison(drawn, page, cache):
    key = Store(cache).resolve("a")
    cold, warm = drawn(page, cache, {"comparison": key})
    assert cold["charts"]
    assert [json.loads(c)["data"] for c in cold["charts"]] == [
        json.loads(c)["data"] for c in warm["charts"]
    ]
    assert not cold["errors"]
    assert not cold["warnings"]
    assert any(
        words in text
        for text in cold["text"]
        for words in ("30 tensors", "relative norm", "bfloat16")
    )


def test_the_overview_says_how_the_sides_were_read(drawn, cache):
    cold, _ = drawn("pages/run/overview.py", cache, {"comparison": Store(cache).resolve("a")})
    notes = Store(cache).find("a").manifest.notes
    assert notes and {plain(note) for note in notes} <= set(cold["text"])


def test_the_comparisons_page_lists_and_offers(drawn, cache):
    cold, _ = drawn("pages/open/comparisons.py", cache, OPDVIZ_ROOTS=str(GOLDEN))
    assert cold["frames"] == 1
    assert any("2 comparisons in the cache" in t for t in cold["text"])
    readonly, _ = drawn("pages/open/comparisons.py", cache, OPDVIZ_READ_ONLY="1")
    assert any("read-only" in t for t in readonly["text"])
    assert "start_ready" not in readonly["buttons"]
    assert "start_ready" in cold["buttons"]


def test_hostile_names_are_shown_as_text(tmp_path):
    nasty = (
        "<img src=x onerror=alert(1)> ![a](http://e.vil/x.png) :red[x] $x$ `a`"
        " [b](javascript:1)\u202e\n#"
    )
    shown = plain(nasty)
    bare = re.sub(r"\\.", "", shown)  # what is left when every escaped character is gone
    assert not set(bare) & set("<>[]()!$:`#\u202e\n")
    assert "<" in shown and "red" in shown


def test_paths_outside_the_roots_are_refused(tmp_path, monkeypatch):
    from opdviz import roots
    from opdviz.errors import RequestError

    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    monkeypatch.setenv("OPDVIZ_ROOTS", str(tmp_path / "in"))
    assert roots.allowed(str(tmp_path / "in" / "deep")) == str(tmp_path / "in" / "deep")
    for path in ("out", "in/../out", "in/link", "in-other", ""):
        with pytest.raises(RequestError, match="outside the allowed folders"):
            roots.allowed(str(tmp_path / path))


def test_words_mean_the_one_folder_that_holds_them_and_hub_names_say_so(tmp_path):
    from opdviz import roots
    from opdviz.errors import RequestError

    folders = [str(tmp_path / name) for name in ("runs/opd", "runs/sft", "base")]
    assert roots.meant("opd", folders) == folders[0] == roots.meant("RUNS/OPD", folders)
    assert roots.meant("runs", folders) == "runs", "two folders fit"
    assert roots.meant(str(tmp_path), folders) == str(tmp_path), "a path that is there is meant"
    with pytest.raises(RequestError, match="hub/models--Qwen--Qwen3-0.6B/snapshots"):
        roots.meant("Qwen/Qwen3-0.6B", folders)


PARTS = {
    "base": ["base"],
    "one run": ["base", "opd"],
    "SGD alone": ["base", "opd_sgd"],
    "no base": ["opd", "grpo"],
    "a grid": ["base", "opd@1e-06", "opd@3e-06"],
    "other widths": ["base", "base@h128", "opd@h128@1e-06"],
}


@pytest.mark.parametrize("kept", PARTS.values(), ids=PARTS)
def test_the_lab_s_page_shows_what_is_there_of_its_results(drawn, tmp_path, kept):
    from opdviz.lab import results

    found = results.read(tmp_path)
    (tmp_path / "lab").mkdir()
    part = {}
    for name, table in found.items():
        column = table["recipe"] if "recipe" in table else table["run_a"]
        rows = table[column.isin(kept)] if name != "overlap" else table.iloc[:0]
        # As `evaluate` leaves a table without rows.
        part[name] = rows if len(rows) else rows.iloc[:, :0]
    results.keep(part, tmp_path / "lab" / results.RESULTS)
    cold, _ = drawn("pages/learn/lab.py", tmp_path)
    assert not cold["errors"]
    if "base" not in kept or not any("@" not in recipe and recipe != "base" for recipe in kept):
        assert any("No results yet" in text for text in cold["info"])
    else:
        assert any("not measured yet" in text for text in cold["text"])


def test_the_lab_s_tables_are_in_percent_as_they_say(drawn, tmp_path):
    from opdviz.lab import results

    found = results.read(tmp_path)
    cold, _ = drawn("pages/learn/lab.py", tmp_path)
    recipes, pairs = cold["tables"]
    means = results.by_recipe(found)
    for column in ("test", "relative_norm", "unchanged_exact", "projection_joint_chance"):
        assert list(map(float, recipes[column])) == pytest.approx(list(100 * means[column]))
    assert list(map(float, recipes["stable_rank"])) == pytest.approx(list(means["stable_rank"]))
    jaccard = 100 * results.overlaps(found)["jaccard"]
    assert list(map(float, pairs["jaccard"])) == pytest.approx(list(jaccard))


def test_damaged_results_are_one_line_on_the_lab_s_page(drawn, tmp_path):
    (tmp_path / "lab" / "results").mkdir(parents=True)
    (tmp_path / "lab" / "results" / "runs.parquet").write_bytes(b"no parquet")
    cold, _ = drawn("pages/learn/lab.py", tmp_path)
    assert len(cold["errors"]) == 1 and "lab evaluate" in cold["errors"][0]


@pytest.mark.parametrize("page", [p for p in RUN_PAGES if "part" not in p])
def test_a_damaged_table_is_one_line_on_every_page(drawn, page, cache, tmp_path):
    shutil.copytree(cache, tmp_path / "damaged")
    (file,) = (f for f in (tmp_path / "damaged").rglob("tables/tensors.magnitude.0.parquet"))
    file.write_bytes(file.read_bytes()[:300])
    for turn in drawn(page, tmp_path / "damaged", {"comparison": Store(cache).resolve("b")}):
        assert any(
            "missing or damaged; compare the pair again" in told for told in turn["errors"]
        ), turn["errors"]
        assert len(turn["errors"]) == 1


def test_a_page_of_one_run_asks_where_the_address_names_none_of_several(drawn, cache):
    for turn in drawn("pages/run/tensor.py", cache):
        assert turn["headers"] == ["Which comparison?"]
        assert not turn["charts"] and sum(key.startswith("ask_") for key in turn["buttons"]) == 2


def test_most_moved_means_one_thing(drawn, cache):
    """The tensor's page opens the matrix that the map calls the most moved: the largest by relative
    norm.
    """
    key = Store(cache).resolve("a")
    rows = tables.table(Store(cache).open(key), "tensors")
    most = rows[rows["kind"] == "matrix"].set_index("name")["relative_norm"].idxmax()
    cold, _ = drawn("pages/run/tensor.py", cache, {"comparison": key})
    assert cold["headers"] == [plain(most)]
