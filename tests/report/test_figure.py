"""One figure as a file: on paper, live, its numbers, a table for a paper, a model's graph."""

import getpass
import io
import json
import re
import shlex
import socket
from pathlib import Path

import pandas as pd
import pytest
import torch

from opdviz import views
from opdviz.cli import main
from opdviz.errors import MachineError, RequestError
from opdviz.figures import printed, theme
from opdviz.report import graph, picture
from opdviz.runs import headlines
from opdviz.store.store import Store
from opdviz.tables import writing
from opdviz.views import request
from opdviz.views.readers import several_of
from tests.conftest import GOLDEN, compared_here, reader_of

TENSOR = "model.layers.1.self_attn.o_proj.weight"
POINTS = 0.75  # of a pixel as CSS counts
LAYERS = ("a", "layers", "--set", "quantity=stable rank")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Both golden updates, and how they lie to each other."""
    folder = tmp_path_factory.mktemp("figures")
    for name in "ab":
        compared_here(folder, GOLDEN / "base", GOLDEN / f"tuned_{name}", name)
    assert main(["overlap", "a", "b", "--workers", "1", "--cache", str(folder)]) == 0
    return Store(folder)


def figure(store: Store, out: Path, *words: str) -> bytes:
    """What `opdviz figure` writes."""
    assert main(["figure", *words, "--out", str(out), "--cache", str(store.root)]) == 0
    return out.read_bytes()


def refused(store: Store, capsys, *words: str) -> str:
    """The one line with which a command refuses."""
    capsys.readouterr()
    assert main([*words, "--cache", str(store.root)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def saved(store, tmp_path_factory) -> dict[str, bytes]:
    """The map of stable ranks as a file of every kind."""
    folder = tmp_path_factory.mktemp("saved")
    kinds = (*picture.PAPER, *picture.LIVE, *picture.DATA, picture.NODES)
    return {kind: figure(store, folder / f"a.{kind}", *LAYERS) for kind in kinds}


def check_on_paper(pdf: bytes, svg: bytes, width: str) -> None:
    """As wide as it says, its fonts inside, its type of 7 to 9 points."""
    text = pdf.decode("latin-1")
    wide, high = map(float, re.search(r"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", text).groups())
    assert wide == pytest.approx(72 * printed.WIDTHS[width], abs=0.5) and high > 100
    assert text.count("/Type /Page\n") == 1
    fonts = re.findall(r"/Type /FontDescriptor[^>]*", text)
    assert fonts and all("/FontFile2 " in font for font in fonts), "TrueType, all of it inside"
    assert "/Type3" not in text
    sizes = re.findall(r"font-size: ([0-9.]+)px", svg.decode())
    points = [float(size) * POINTS for size in sizes]
    assert len(points) > 10 and min(points) >= 7 and max(points) <= 9.05
    assert "Stable rank by layer and module" in svg.decode()


def test_a_pdf_is_as_wide_as_a_column_and_has_its_fonts_inside(saved):
    check_on_paper(saved["pdf"], saved["svg"], "column")


def test_a_pdf_is_as_wide_as_the_text_and_has_its_fonts_inside(store, tmp_path):
    words = (*LAYERS, "--width", "full")
    pdf, svg = (figure(store, tmp_path / f"a.{kind}", *words) for kind in ("pdf", "svg"))
    check_on_paper(pdf, svg, "full")


def test_a_png_has_300_dots_an_inch_and_a_title_can_be_left_out(store, saved, tmp_path):
    assert saved["png"].startswith(b"\x89PNG")
    assert int.from_bytes(saved["png"][16:20]) == pytest.approx(3.25 * 300, abs=2)
    svg = figure(store, tmp_path / "a.svg", *LAYERS, "--no-title").decode()
    assert "by layer and module" not in svg


def test_live_it_is_the_figure_of_the_app_and_asks_nobody(store, saved):
    reader = reader_of(store.find("a"))
    view = views.draw("layers", reader, {"quantity": "stable_rank"})
    drawn = json.loads(theme.inked(view.figure, "light").to_json())
    assert json.loads(saved["json"]) == drawn
    page = saved["html"].decode()
    embedded = re.search(r'<script type="application/json" id="[^"]+">(.*?)</script>', page, re.S)
    assert json.loads(embedded[1]) == drawn
    assert "default-src 'none'" in page and 4e6 < len(page) < 6e6


def test_no_file_says_on_which_machine_it_was_made(store, saved, tmp_path):
    # "root" is a word of style sheets and of formulas.
    machine = {socket.gethostname(), getpass.getuser(), Path.home().name} - {"root"}
    words = "|".join(map(re.escape, {*machine, str(GOLDEN), str(store.root), str(Path.home())}))
    for ending, content in saved.items():
        text = content.decode("latin-1")
        ours = text.partition("<script>/**")[0]  # then comes Plotly
        assert not re.search(rf"(?<![\w/])({words})(?!\w)", ours), ending
    for ending in picture.TABLES:
        text = figure(store, tmp_path / f"a.{ending}", "a", "headline").decode()
        assert not re.search(rf"(?<![\w/])({words})(?!\w)", text), ending


def test_the_numbers_behind_it_are_those_of_the_app(store, saved):
    view = views.draw("layers", reader_of(store.find("a")), {"quantity": "stable_rank"})
    parquet = pd.read_parquet(io.BytesIO(saved["parquet"]))
    csv = pd.read_csv(io.BytesIO(saved["csv"]))
    for frame in (parquet, csv):
        assert frame["name"].tolist() == view.data["name"].tolist()
        assert frame["stable_rank"].to_numpy() == pytest.approx(
            view.data["stable_rank"], nan_ok=True
        )


def test_several_runs_and_how_they_lie_to_each_other_are_figures_too(store, tmp_path):
    maps = figure(store, tmp_path / "a.json", "a", "b", "run_maps", "--set", "against=b").decode()
    assert "Relative norm" in maps and "b" in json.loads(maps)["layout"]["title"]["text"]
    how = ("pair=b,a", "relation=opposite signs")
    pair = figure(store, tmp_path / "b.json", "a", "b", "overlap_map", "--set", *how).decode()
    assert "Opposite signs" in json.loads(pair)["layout"]["title"]["text"]


def test_a_headline_is_a_table_for_a_paper(store, tmp_path, capsys):
    tex = figure(store, tmp_path / "a.tex", "a", "headline").decode()
    assert tex.count(r"\\") == tex.count("\n") - 6 > 8
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"relative norm (\%)", "published OPD"):
        assert rule in tex
    md = figure(store, tmp_path / "a.md", "a", "b", "run_headlines").decode()
    head, marks, *rows = md.splitlines()
    assert head.startswith("| quantity (in brackets: by chance) | a | b | published")
    assert len({line.count("|") for line in (head, marks, *rows)}) == 1
    norm = reader_of(store.find("a")).summary("headline").set_index("quantity")["value"]
    assert f"| relative norm (%) | {norm['relative_norm']:.3g} |" in md
    capsys.readouterr()
    of_command = ["headline", "a", "b", "--format", "md", "--cache", str(store.root)]
    assert main(of_command) == 0 and capsys.readouterr().out == md
    out = tmp_path / "all.csv"
    assert main(["headline", "a", "b", "--out", str(out), "--cache", str(store.root)]) == 0
    table = pd.read_csv(out)
    assert table["what"].tolist()[:2] == ["run", "run"] and "published" in set(table["what"])
    assert main(["headline", "a", "b", "--json", "--cache", str(store.root)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["run"] for row in rows} == {"a", "b"}
    assert main(["headline", "a", "b", "--cache", str(store.root)]) == 0
    assert capsys.readouterr().out.startswith("a\nrelative_norm ")


def test_a_table_of_runs_that_have_unlike_quantities_leaves_cells_empty(store):
    run = store.find("a")
    rows = reader_of(run).summary("headline").replace({float("nan"): None}).to_dict("records")
    other = [row for row in rows if row["quantity"] != "energy_share_ffn"]
    other.append(rows[0] | {"quantity": "energy_share_router", "value": 3.0, "chance": 2.0})
    measured = [
        headlines.Measured("one", run.manifest, rows),
        headlines.Measured("other", run.manifest, other),
    ]
    table = headlines.for_paper(measured, "A").set_index(headlines.CAPTION)
    assert table.loc["energy share router (%)", ["one", "other"]].tolist() == ["", "3 (2)"]
    ffn = table.loc["energy share ffn (%)"]
    assert ffn["other"] == "" and ffn["one"]
    assert table.loc["relative norm (%)", "one"] == table.loc["relative norm (%)", "other"]


def test_nothing_in_a_name_is_markup_of_a_table():
    frame = pd.DataFrame({"a_b & 50%": ["x|y", "{$#~^\\}"], "<b>": ["1–2", None]})
    tex = writing.latex(frame).decode()
    assert r"a\_b \& 50\% & \textless{}b\textgreater{} \\" in tex
    assert r"\{\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}\} &  \\" in tex
    assert "1--2" in tex
    assert writing.markdown(frame).decode().splitlines()[2] == r"| x\|y | 1–2 |"


def test_node_data_name_the_nodes_of_an_exported_model(store, saved):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.Layers = torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False)])

        def forward(self, x):
            return self.Layers[0](x)

    exported = torch.export.export(Model(), (torch.ones(3),)).graph_signature
    assert {graph.exported(n): n for n in Model().state_dict()} == exported.inputs_to_parameters
    data = json.loads(saved["nodes.json"])
    tensors = reader_of(store.find("a")).summary("by_tensor").dropna(subset=["stable_rank"])
    for name, value in zip(tensors["name"], tensors["stable_rank"], strict=True):
        node = {"value": pytest.approx(value)}
        assert data["results"][name] == node == data["results"][graph.exported(name)]
    assert len(data["results"]) == 2 * len(tensors) and data["name"] == "stable_rank"
    assert [one["stop"] for one in data["gradient"]] == [0, 0.25, 0.5, 0.75, 1]
    assert all(re.fullmatch("#[0-9a-f]{6}", one["bgColor"]) for one in data["gradient"])


CASES = [
    (("a", "nix"), ("figure 'nix' is unknown; of one comparison there are: headline, layers",)),
    (("a", "b", "nix"), ("of several runs there are: run_headlines, run_maps",)),
    (("a", "b", "layers"), ("found 2 of them; expected one comparison",)),
    (("a", "run_maps"), ("found 1 of them; expected two runs or more on one base",)),
    (("a", "a", "run_maps"), ("found 1 of them",)),
    (("a", "layers", "--set", "colour=run"), ("'colour' is unknown; it knows quantity, tower",)),
    (("a", "tails", "--set", "k=1"), ("'k' is unknown; it takes none",)),
    (("a", "layers", "--set", "quantity=x"), ("found 'x'; expected a quantity by its name",)),
    (("a", "layers", "--set", "limits=narrow"), ("expected one of 2nd to 98th percentile",)),
    (("a", "layers", "--set", "quantity"), ("--set quantity: expected KEY=VALUE",)),
    (("a", "b", "run_maps", "--set", "against=c"), ("found 'c'; expected a run by its name",)),
    (("a", "b", "overlap_map", "--set", "pair=a,a"), ("expected two runs by their names",)),
    (("a", "energy"), ("expected tensor=NAME; `opdviz show KEY tensors` lists them",)),
    (("a", "energy", "--set", "tensor=x"), ("Its tensor is not in this comparison",)),
    (("a", "layers", "--set", "tensors=zzz"), ("nothing to draw. No tensor of a layer fits",)),
    (("a", "b", "steps_lines"), ("These runs are no steps of one training",)),
    (("a", "b", "overlap_directions"), ("not worked out", "subspace_similarity")),
]


@pytest.mark.parametrize(("words", "told"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_what_cannot_be_drawn_is_one_line(store, tmp_path, capsys, words, told):
    out = tmp_path / "a.json"
    err = refused(store, capsys, "figure", *words, "--out", str(out))
    assert all(piece in err for piece in told), err
    assert not out.exists()


def test_an_ending_that_nobody_writes_and_what_a_view_has_not_are_one_line(store, tmp_path, capsys):
    for name in ("a.xls", "a", "a.PDF", "a.eps"):
        err = refused(store, capsys, "figure", *LAYERS, "--out", str(tmp_path / name))
        assert f"found ending {name.rpartition('.')[2]!r}; expected one of pdf, svg, png" in err
    err = refused(store, capsys, "figure", *LAYERS, "--out", str(tmp_path / "a.tex"))
    assert "found no table for papers behind 'Stable rank by layer and module: a'" in err
    err = refused(store, capsys, "figure", "a", "tails", "--out", str(tmp_path / "a.nodes.json"))
    assert "found no value by tensor" in err
    assert not list(tmp_path.iterdir())


def test_without_a_chromium_it_says_what_there_is_instead(store, tmp_path, capsys, monkeypatch):
    from choreographer.browsers.chromium import Chromium

    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)
    err = refused(store, capsys, "figure", *LAYERS, "--out", str(tmp_path / "a.pdf"))
    assert "found no Chromium and no Chrome" in err and "Without one there are: html, json" in err
    figure(store, tmp_path / "a.csv", *LAYERS)


def test_a_browser_that_does_not_start_is_one_line(store, tmp_path, monkeypatch):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(broken))
    view = views.draw("layers", reader_of(store.find("a")), {})
    with pytest.raises(MachineError, match="Chromium did not draw it"):
        picture.saved(view, "pdf")


FULL = {
    "quantity": "stable_rank",
    "x": "cosine",
    "y": "stable_rank",
    "over": True,
    "limits": "fixed",
    "cells": "most extreme",
    "low": 0.5,
    "high": 9.0,
    "block": "attention",
    "layers": "0-1",
    "kinds": "all kinds",
    "above": "1e-5",
    "by": "layer",
    "profile": "moved",
    "row": 2,
    "column": 3,
    "size": 16,
    "colour": "run",
    "against": 1,
    "curve": "spectra",
    "relation": "cosine",
    "probe": "|D| > 1e-5",
    "pair": (0, 1),
}


def json_of(view: views.View) -> str:
    """A view as text."""
    return f"{view.reading} {view.figure and view.figure.to_json()}"


def test_a_view_speaks_of_the_keys_that_it_names_and_of_no_other(store):
    reader, several = reader_of(store.find("a")), several_of(store, store.all())
    for name in views.VIEWS:
        state = FULL | {"tensor": TENSOR}
        named = views.draw(name, reader, views.state_of(name, state))
        assert json_of(named) == json_of(views.draw(name, reader, state)), name
    for name in views.RUN_VIEWS:
        state = FULL | {"tensor": TENSOR}
        named = views.draw_runs(name, several, views.state_of(name, state))
        assert json_of(named) == json_of(views.draw_runs(name, several, state)), name


def test_the_command_beside_a_figure_draws_it_again(store):
    for name, drawing in (views.VIEWS | views.RUN_VIEWS).items():
        runs = ["a", "b"] if name in views.RUN_VIEWS else ["a"]
        state = views.state_of(name, FULL | {"tensor": TENSOR})
        words = shlex.split(request.command(runs, name, state, "out.pdf"))
        assert words[:2] == ["opdviz", "figure"] and words[-2:] == ["--out", "out.pdf"]
        pairs = words[words.index("--set") + 1 : -2] if "--set" in words else []
        again = request.state_of(name, drawing, dict(pair.split("=", 1) for pair in pairs), runs)
        assert again == state, name


def test_a_notebook_is_told_without_options(store):
    with pytest.raises(RequestError) as refusal:
        request.draw(store, [store.find("a")], "layers", {"nix": "1"})
    assert "--" not in str(refusal.value)
