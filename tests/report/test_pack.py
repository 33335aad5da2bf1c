"""Packs: what travels, that it draws the same figures elsewhere, and that a stranger's is checked
whole before any of it is written.
"""

import getpass
import io
import json
import os
import re
import shutil
import socket
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opdviz import fingerprint, views
from opdviz.cli import main
from opdviz.errors import MachineError
from opdviz.report import pack, page
from opdviz.runs import relate
from opdviz.store import board, checking
from opdviz.store.manifest import Side
from opdviz.store.store import Store
from opdviz.views.readers import several_of
from tests.conftest import GOLDEN, compared_here, reader_of

ROOT = Path(__file__).parent.parent.parent
TENSOR = "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Store:
    """Both golden updates on their base, related, with a pin, a note and a block of values."""
    folder = tmp_path_factory.mktemp("someone")
    for side in ("base", "tuned_a", "tuned_b"):
        shutil.copytree(GOLDEN / side, folder / side)
    runs = [
        compared_here(folder / "cache", folder / "base", folder / f"tuned_{name}", name)
        for name in "ab"
    ]
    store = Store(folder / "cache")
    with ThreadPoolExecutor(1) as executor:
        relate.relate(store, runs, executor, lambda progress: None)
    board.pin(runs[0].folder, "layers", {"quantity": "stable_rank"}, "where it is narrow")
    board.note(runs[0].folder, TENSOR, "turned most", "a reader")
    store.label(runs[0].key, {"recipe": "opd"})
    assert main(["block", runs[0].key, TENSOR, "--cache", str(store.root)]) == 0
    assert list(store.root.rglob("blocks/*.parquet"))
    return store


@pytest.fixture(scope="module")
def packed(family) -> bytes:
    """The pack of both."""
    return pack.packed(family, family.all())


@pytest.fixture
def elsewhere(tmp_path, packed) -> Store:
    """A store on another machine, into which it was unpacked."""
    (tmp_path / "f.opdviz").write_bytes(packed)
    store = Store(tmp_path / "cache")
    pack.unpack(store, tmp_path / "f.opdviz")
    return store


def figures(store: Store) -> dict[tuple[str, str], str]:
    """Every view of every comparison as it is drawn, and its sentence."""
    drawn = {}
    for comparison in store.all():
        reader = reader_of(comparison)
        for name in views.VIEWS:
            tensor = "model.embed_tokens.weight" if name == "vocabulary" else TENSOR
            view = views.draw(name, reader, {"tensor": tensor})
            drawn[comparison.key, name] = f"{view.reading} {view.figure and view.figure.to_json()}"
    several = several_of(store, sorted(store.all(), key=lambda run: run.key))
    for name in views.RUN_VIEWS:
        view = views.draw_runs(name, several, {"tensor": TENSOR})
        drawn["both", name] = f"{view.reading} {view.figure and view.figure.to_json()}"
    return drawn


def test_every_figure_is_drawn_elsewhere_as_it_was(family, elsewhere):
    ours, theirs = figures(family), figures(elsewhere)
    assert ours == theirs and len(ours) == 2 * len(views.VIEWS) + len(views.RUN_VIEWS)
    reports = [
        re.sub(r"<p>Made .*?</p>", "", page.written(store, [store.find("b")]))
        for store in (family, elsewhere)
    ]
    assert reports[0] == reports[1] and reports[0].count('class="plot"') > 15


def test_boards_labels_and_relations_travel_and_the_store_is_sound(family, elsewhere):
    runs = {run.name: run for run in elsewhere.all()}
    (key,) = (run.key for run in family.all() if run.name == "a")
    assert runs["a"].key == key and runs["a"].manifest.labels == {"recipe": "opd"}
    assert board.read(runs["a"].folder) == board.read(family.folder(key))
    assert relate.table(elsewhere, list(runs.values()), "overlap") is not None
    assert not [*checking.between(elsewhere), *checking.check(runs["a"].folder)]
    assert main(["verify", "--cache", str(elsewhere.root)]) == 0


def texts(data: bytes) -> list[str]:
    """Everything that a pack says in letters."""
    found = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            found.append(name)
            if name.endswith(".json"):
                found.append(archive.read(name).decode())
                continue
            table = pq.read_table(pa.BufferReader(archive.read(name)))
            found.append(str(table.schema.metadata or ""))
            for column in table.columns:
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                    found += [text for text in column.unique().to_pylist() if text]
    return found


def test_nothing_says_where_it_was_made(family, packed):
    every = "\n".join(texts(packed))
    assert "tuned_a" in every and "/blocks/" not in every
    # A user called root is a word like others.
    private = [str(family.root.parent), str(Path.home()), socket.gethostname()]
    private += [f"/{getpass.getuser()}/"]
    assert [text for text in private if text in every] == []


def test_the_same_comparisons_are_the_same_bytes_and_only_they_are_in_it(family, packed):
    assert pack.packed(family, family.all()[::-1]) == packed
    (alone,) = (run for run in family.all() if run.name == "b")
    names = zipfile.ZipFile(io.BytesIO(pack.packed(family, [alone]))).namelist()
    assert {name.split("/")[1] for name in names if "/" in name} == {alone.key}


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/home/me/runs/opd", "opd"),
        ("/home/me/runs/opd/global_step_20/actor", "global_step_20/actor"),
        ("/home/me/opd/steps/25", "steps/25"),
        ("/home/me/opd/steps/25/model.safetensors", "steps/25/model.safetensors"),
    ],
)
def test_of_a_path_the_folder_and_the_step_stay(path, kept):
    left = pack.without_place(Side(path, "opd")).path
    assert left.startswith("packed/") and left.split("/", 2)[2] == kept
    sibling = pack.without_place(Side(path.replace("/me/", "/me/x"), "opd")).path
    assert sibling.split("/")[1] != left.split("/")[1]


def test_a_checkpoint_in_somebody_s_home_does_not_say_whose(monkeypatch, family):
    monkeypatch.setenv("HOME", "/home/alice")
    side = Side("/home/alice/model.safetensors", "alice")
    facts = replace(family.all()[0].manifest, base=side, name="alice..opd", notes=("alice moved",))
    assert b"alice" not in pack.elsewhere(facts).encoded()
    home = pack.without_place(Side("/home/alice", "alice"))
    assert (home.path.split("/")[-1], home.label) == ("checkpoint", "checkpoint")


def test_the_commands_make_and_open_one_and_leave_alone_what_is_there(family, tmp_path, capsys):
    out = tmp_path / "runs.opdviz"
    assert main(["pack", "a", "b", "a", "--out", str(out), "--cache", str(family.root)]) == 0
    assert "2 comparisons" in capsys.readouterr().out and out.stat().st_size < 30e6
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["unpack", str(out), *cache]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()} == {"a", "b"}
    assert main(["rename", "a", "mine", *cache]) == 0
    assert main(["unpack", str(out), *cache]) == 0
    assert capsys.readouterr().out.count("was in the cache before") == 2
    assert {run.name for run in Store(tmp_path / "cache").all()} == {"mine", "b"}
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pack", "nobody", "--out", "x.opdviz"], "is no comparison"),
        (["pack", "a", "--out", "no/such/x.opdviz"], "no such folder"),
        (["pack", "a"], "--out"),
        (["unpack", "nothing.opdviz"], "No such file"),
        (["unpack", "."], "no plain file"),
        (["app", "--pack", "nothing.opdviz"], "No such file"),
    ],
)
def test_wrong_requests_are_one_line(family, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--cache", str(family.root)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_app_shows_a_pack_and_nothing_else(packed, family, tmp_path, monkeypatch):
    (tmp_path / "f.opdviz").write_bytes(packed)
    started = []
    monkeypatch.setattr("os.execv", lambda program, command: started.append(command))
    monkeypatch.setattr("os.environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert (
            main(["app", "--pack", str(tmp_path / "f.opdviz"), "--cache", str(tmp_path / "cache")])
            == 0
        )
    store = Store(Path(os.environ["OPDVIZ_CACHE"]))
    assert store.keys() and set(store.keys()) == set(family.keys())
    assert len(list((tmp_path / "cache" / "packs").iterdir())) == 1
    assert os.environ["OPDVIZ_READ_ONLY"] == "1"
    assert "--server.maxUploadSize 1" in " ".join(started[0]), "nobody can send anything to it"


def test_the_viewer_s_requirements_are_the_app_s_without_torch():
    wanted, viewer = (
        [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        for name in ("requirements.txt", "requirements-viewer.txt")
    )
    of_weights = ("torch", "huggingface_hub")
    assert viewer == [line for line in wanted if not line.startswith(of_weights)]


def test_a_cache_that_cannot_be_written_is_one_line(packed, tmp_path):
    (tmp_path / "f.opdviz").write_bytes(packed)
    with pytest.raises(MachineError, match="make the cache writable"):
        pack.unpack(Store(Path("/proc/nowhere")), tmp_path / "f.opdviz")


def test_a_comparison_that_is_not_whole_is_not_packed(tmp_path, family, capsys):
    shutil.copytree(family.root, tmp_path / "cache")
    store = Store(tmp_path / "cache")
    comparison = store.all()[0]
    comparison.changed(compacted=comparison.manifest.compacted[1:])
    out = ["--out", str(tmp_path / "x.opdviz"), "--cache", str(store.root)]
    assert main(["pack", comparison.key, *out]) == 2
    assert "not compared to its end" in capsys.readouterr().err
    assert not (tmp_path / "x.opdviz").exists()


Contents = dict[str, bytes]


def first(contents: Contents, end: str) -> str:
    return next(name for name in contents if name.endswith(end))


def about(contents: Contents, **changes) -> Contents:
    """With other words of itself."""
    said = json.loads(contents[pack.CONTENTS]) | changes
    return contents | {pack.CONTENTS: json.dumps(said).encode()}


def resealed(contents: Contents) -> Contents:
    """With sizes and digests that are right again, as a careful stranger would."""
    files = {
        name: {"bytes": len(data), "digest": fingerprint.of_contents(data)}
        for name, data in contents.items()
        if name != pack.CONTENTS
    }
    return about(contents, files=files)


def with_manifest(contents: Contents, **changes) -> Contents:
    name = first(contents, "manifest.json")
    value = json.loads(contents[name]) | changes
    return resealed(contents | {name: json.dumps(value).encode()})


def without(contents: Contents, name: str) -> Contents:
    return {other: data for other, data in contents.items() if other != name}


def renamed(contents: Contents, old: str, new: str) -> Contents:
    return {new if name == old else name: data for name, data in contents.items()}


def other_rows(contents: Contents) -> Contents:
    """A table of another comparison's tensors, its digest right everywhere."""
    name = first(contents, "tables/drift.geometry.parquet")
    table = pq.read_table(pa.BufferReader(contents[name]))
    names = pa.array([f"other.{n}" for n in table["name"].to_pylist()])
    buffer = io.BytesIO()
    pq.write_table(table.set_column(0, table.schema.field("name"), names), buffer)
    changed = contents | {name: buffer.getvalue()}
    manifest = name.rsplit("/", 2)[0] + "/manifest.json"
    value = json.loads(contents[manifest])
    value["tables"][Path(name).name] = fingerprint.of_contents(buffer.getvalue())
    return resealed(changed | {manifest: json.dumps(value).encode()})


def entry(name: str, *, mode: int = 0, how: int | None = None, flags: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.flag_bits = mode << 16, flags
    info.compress_type = pack.how_packed(name) if how is None else how
    return info


def written(contents: Contents, *more: tuple[zipfile.ZipInfo, bytes], **changed) -> bytes:
    """A zip of some contents; `changed` are entries in place of those that would be written."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents.items():
            info = changed.get("entries", {}).get(name) or entry(name)
            archive.writestr(info, data)
        for info, data in more:
            archive.writestr(info, data)
    return buffer.getvalue()


def side_at(path: str) -> dict:
    return {"path": path, "label": "x", "fingerprints": []}


KEY16 = "comparisons/0123456789abcdef"
EXTRA = [
    "../evil.json", "/etc/evil.json", "comparisons/../../evil", f"{KEY16}/../../x.json",
    f"{KEY16}/tables/../../x.parquet", f"{KEY16}/tables/x.py", f"{KEY16}/blocks/x.parquet",
    f"{KEY16}/lock", "comparisons/short/manifest.json", "jobs/x/request.json", "fingerprints.json",
    "C:\\evil.json", f"{KEY16}/tables/", f"{KEY16}/MANIFEST.json", "relations/x/runs.json",
]  # fmt: skip
MALFORMED = {
    "empty": lambda c: b"",
    "no zip": lambda c: b"PK\3\4 and nothing more",
    "cut off": lambda c: written(c)[:-400],
    "a byte changed": lambda c: bytearray(written(c)).replace(b"PAR1", b"PAR2", 1),
    "no contents": lambda c: written(without(c, pack.CONTENTS)),
    "contents no JSON": lambda c: written(c | {pack.CONTENTS: b"{"}),
    "contents deep": lambda c: written(c | {pack.CONTENTS: b"[" * 100_000}),
    "contents a list": lambda c: written(c | {pack.CONTENTS: b"[]"}),
    "another format": lambda c: written(about(c, format=2)),
    "files a list": lambda c: written(about(c, files=[])),
    "keys of others": lambda c: written(about(c, comparisons=["0123456789abcdef"])),
    "keys twice": lambda c: written(about(c, comparisons=2 * json.loads(c[pack.CONTENTS])["comparisons"])),
    "a file missing": lambda c: written(without(c, first(c, "drift.geometry.parquet"))),
    "a file too many": lambda c: written(c, (entry(f"{KEY16}/board.json"), b"{}")),
    "a name twice": lambda c: written(c, (entry(first(c, "manifest.json")), b"{}")),
    "a link": lambda c: written(c, entries={first(c, "board.json"): entry(first(c, "board.json"), mode=stat.S_IFLNK | 0o777)}),
    "a device": lambda c: written(c, entries={first(c, "board.json"): entry(first(c, "board.json"), mode=stat.S_IFCHR | 0o666)}),
    "a compressed table": lambda c: written(c, entries={first(c, ".parquet"): entry(first(c, ".parquet"), how=zipfile.ZIP_DEFLATED)}),
    "bzip2": lambda c: written(c, entries={first(c, "board.json"): entry(first(c, "board.json"), how=zipfile.ZIP_BZIP2)}),
    "a bomb": lambda c: written(resealed(c | {first(c, "board.json"): b" " * (80 << 20)})),
    "a size that is not": lambda c: written(about(c, files={n: v | {"bytes": 3} for n, v in json.loads(c[pack.CONTENTS])["files"].items()})),
    "a negative size": lambda c: written(about(c, files={n: v | {"bytes": -1} for n, v in json.loads(c[pack.CONTENTS])["files"].items()})),
    "a manifest missing": lambda c: written(resealed(without(c, first(c, "manifest.json")))),
    "a manifest of nothing": lambda c: written(resealed(c | {first(c, "manifest.json"): b"{}"})),
    "another key": lambda c: written(with_manifest(c, key="0123456789abcdef")),
    "not whole": lambda c: written(with_manifest(c, compacted=[])),
    "an older format": lambda c: written(with_manifest(c, format=1)),
    "a name that is no text": lambda c: written(c, (entry("é.json"), b"{}")).replace("é".encode(), b"\xff\xff"),
    "a later zip": lambda c: written(c).replace(b"PK\1\2\x14\x03\x14", b"PK\1\2\x14\x03\xff"),
    "encrypted": lambda c: written(c).replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\1\0"),
    "a path of a machine": lambda c: written(with_manifest(c, base=side_at("/etc"))),
    "a model of the hub": lambda c: written(with_manifest(c, tuned=side_at("someone/model"))),
    "a path above": lambda c: written(with_manifest(c, tuned=side_at("packed/../../etc"))),
    "a table outside": lambda c: written(with_manifest(c, tables={"../x.parquet": "0"})),
    "a pickle for a table": lambda c: written(resealed(c | {first(c, "drift.geometry.parquet"): b"\x80\x04N."})),
    "other rows": lambda c: written(other_rows(c)),
    "a damaged summary": lambda c: written(resealed(c | {next(n for n in c if "/summaries/" in n): b"PAR1"})),
    "a damaged board": lambda c: written(resealed(c | {first(c, "board.json"): b'{"pins": 3}'})),
    "relations of others": lambda c: written(resealed(c | {first(c, "runs.json"): b'{"keys": ["x"]}'})),
    "a damaged relation": lambda c: written(resealed(c | {next(n for n in c if n.startswith("relations/") and n.endswith(".parquet")): b"x"})),
    **{f"a file called {name}": lambda c, name=name: written(c, (entry(name), b"{}")) for name in EXTRA},
}  # fmt: skip


@pytest.fixture(scope="module")
def contents(packed) -> Contents:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_written_again_it_is_a_pack(contents, tmp_path, capsys):
    (tmp_path / "f").write_bytes(written(resealed(contents)))
    assert main(["unpack", str(tmp_path / "f"), "--cache", str(tmp_path / "cache")]) == 0


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_pack_is_refused_in_one_line_and_nothing_is_written(
    contents, tmp_path, capsys, name
):
    (tmp_path / "f.opdviz").write_bytes(MALFORMED[name](contents))
    assert main(["unpack", str(tmp_path / "f.opdviz"), "--cache", str(tmp_path / "cache")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("opdviz: unpack(") and err.count("\n") == 1, err
    assert not list((tmp_path / "cache").iterdir()) and len(list(tmp_path.iterdir())) == 2
