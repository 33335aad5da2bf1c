"""Reports: the figures of the app in one file that asks nobody, whatever names and captions say."""

import json
import re
from pathlib import Path

import pytest

from opdviz import views
from opdviz.cli import main
from opdviz.figures import theme
from opdviz.report import contents
from opdviz.store import board
from opdviz.store.store import Store
from opdviz.views import run_overlap
from opdviz.views.readers import several_of
from tests.conftest import GOLDEN, compared_here, reader_of

TENSOR = "model.layers.1.self_attn.o_proj.weight"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Both golden updates; one has a name and a pin that would rather be code."""
    folder = tmp_path_factory.mktemp("reports")
    store = Store(folder)
    for name in "ab":
        compared_here(folder, GOLDEN / "base", GOLDEN / f"tuned_{name}", name)
    evil = store.find("b")
    store.rename(evil.key, EVIL)
    board.pin(evil.folder, "layers", {"quantity": "stable_rank"}, EVIL)
    return store


def report(store: Store, out: Path, *words: str) -> str:
    """The text of a report."""
    assert main(["report", *words, "--out", str(out), "--cache", str(store.root)]) == 0
    return out.read_text("utf-8")


def figures(text: str) -> list[dict]:
    """The figures in a report's file."""
    found = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', text, re.S)
    return [json.loads(one) for one in found]


def test_its_figures_are_those_of_the_app(store, tmp_path):
    text = report(store, tmp_path / "a.html", "a", "--tensor", TENSOR)
    reader = reader_of(store.find("a"))
    wanted = [views.draw("headline", reader, {})]
    wanted += [views.draw("layers", reader, {"quantity": name}) for name in contents.MAPS]
    wanted += [views.draw(name, reader, {}) for _, names in contents.OF_RUN for name in names]
    wanted += [views.draw(name, reader, {"tensor": TENSOR}) for name in contents.OF_TENSOR]
    drawn = [view for view in wanted if view.figure is not None]
    assert figures(text) == [
        json.loads(theme.inked(view.figure, "light").to_json()) for view in drawn
    ]
    assert len(drawn) > 15 and len(text) < 15e6
    for view in drawn:
        assert theme.alt(view.figure) in text.replace("&#x27;", "'").replace("&amp;", "&")
    assert text.count("<caption>Under protocol A, in percent") == 1
    assert "Formula: " in text and ">published<" in text and store.find("a").key in text


def test_a_run_that_is_not_compared_to_its_end_is_refused(tmp_path, capsys):
    sides = [str(GOLDEN / side) for side in ("base", "tuned_a")]
    cache = ["--cache", str(tmp_path)]
    few = ["--measures", "magnitude,sparsity", "--workers", "1", "--name", "few"]
    assert main(["compare", *sides, *few, *cache]) == 0
    assert main(["report", "few", "--out", str(tmp_path / "few.html"), *cache]) == 2
    assert "report(few): it is not compared to its end" in capsys.readouterr().err
    assert not (tmp_path / "few.html").exists()


def test_several_runs_come_side_by_side_first(store, tmp_path):
    text = report(store, tmp_path / "two.html", "a", EVIL)
    titles = re.findall(r'<h[23] id="s\d+">(.*?)</h', text)
    assert titles[0] == "Runs side by side" and titles.count("Headline") == 2
    assert titles.count("Pinned") == 1


def test_no_name_and_no_caption_is_code_and_nothing_is_asked_for(store, tmp_path):
    text = report(store, tmp_path / "evil.html", EVIL)
    ours = re.sub(r"<script>/\*.*?</script>", "", text, flags=re.S)  # Plotly's own
    assert "<script>alert" not in text and "<img" not in ours
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!#)', ours)
    assert str(store.root) not in text and str(GOLDEN) not in text


def test_how_several_runs_lie_to_each_other_is_in_it_once_somebody_worked_it_out(store):
    runs = [store.find("a"), store.find(EVIL)]
    several = several_of(store, runs)
    assert "Nobody worked that out yet: `opdviz overlap`" in contents.together(several).text
    pair = ["overlap", *(run.key for run in runs), "--workers", "1", "--cache", str(store.root)]
    assert main(pair) == 0
    related = contents.together(several)
    for relation in run_overlap.RELATIONS:
        start = run_overlap.what_of(relation, "any change")
        assert sum(view.title.startswith(start) for view in related.views) >= 1, relation
    texts = [view.figure.to_json() for view in related.views]
    for name in ("overlap_matrix", "overlap_map", "overlap_agreement"):
        assert views.draw_runs(name, several, {}).figure.to_json() in texts, name
    ((caption, rows),) = related.tables
    assert caption.startswith("Coordinates that both moved") and len(rows) == 3
    every = contents.sections(store, runs, protocol="A", tensors=[])
    assert contents.ALIKE in [section.title for section in every]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "is no comparison"),
        (["a", "--tensor", "nothing"], "no such tensor"),
        (["a", "--protocol", "Z"], "protocol"),
    ],
)
def test_wrong_requests_are_one_line(store, tmp_path, capsys, words, said):
    out = tmp_path / "x.html"
    assert main(["report", *words, "--out", str(out), "--cache", str(store.root)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not out.exists()
