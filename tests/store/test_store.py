"""The store: parts are whole or not there, damage is named, tables are typed, a lock keeps writers
apart.
"""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from opdviz import files, fingerprint
from opdviz.errors import CheckFailed, RequestError
from opdviz.store import checking, columns, parquet, parts, reading, status
from opdviz.store import manifest as manifests
from opdviz.store.manifest import Manifest, Side
from opdviz.store.store import Store

SIDE = Side("x", "x")
WHOLE = {
    "pairs": 2,
    "parameters": 5,
    "measures": 7,
    "dtypes": (),
    "base": SIDE,
    "tuned": SIDE,
}


def part(folder, name, rows, measure="magnitude", version=1):
    files.write(
        parts.part_path(folder, name, measure, version), parts.encode_part(name, {"tensors": rows})
    )


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    for key, name in (("aa11", "one"), ("aa22", "two"), ("bb33", "two")):
        manifests.write(made.folder(key), Manifest(**WHOLE, key=key, name=name))
    return made


def test_a_key_a_unique_prefix_and_a_name_find_a_comparison(store):
    assert store.resolve("aa11") == store.resolve("one") == "aa11"
    assert store.resolve("bb") == "bb33"
    assert store.resolve("two") == "bb33"
    with pytest.raises(RequestError, match="fits 2 comparisons"):
        store.resolve("aa")
    with pytest.raises(
        RequestError, match="is no comparison in the cache; there are: two, two, one"
    ):
        store.resolve("other")


def test_parts_are_read_until_they_are_damaged(store):
    folder = store.folder("aa11")
    part(folder, "w", [{"name": "w", "numel": 3, "delta_norm": 1.5}])
    part(folder, "v", [{"name": "v", "numel": 2, "delta_norm": None}])
    table = reading.sorted_rows(reading.read(store.open("aa11"), "tensors")).to_pylist()
    assert [(r["name"], r["numel"], r["delta_norm"]) for r in table] == [
        ("v", 2, None),
        ("w", 3, 1.5),
    ]
    assert checking.check(store.folder("aa11")) == []
    path = parts.part_path(folder, "w", "magnitude", 1)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    assert parts.decode_part(path) is None
    assert list(map(str, checking.check(store.folder("aa11")))) == [
        f"aa11: parts/{path.name} is damaged"
    ]
    assert [r["name"] for r in reading.read(store.open("aa11"), "tensors").to_pylist()] == ["v"]


def test_a_leftover_temporary_is_swept_and_is_no_fault(store):
    folder = store.folder("aa11")
    (folder / "parts").mkdir()
    (folder / "parts" / "x.json.1.tmp").write_text("half")
    assert checking.check(store.folder("aa11")) == []
    files.sweep(folder)
    assert not list((folder / "parts").iterdir())


def test_a_name_as_long_as_a_disk_takes_is_written(tmp_path):
    files.write(tmp_path / ("x" * 255), b"whole")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x" * 255, b"whole")]


def test_what_a_killed_run_left_of_the_fingerprints_is_swept_by_the_next(tmp_path):
    for name in ("fingerprints.json.4321.tmp", "fingerprints.json.ab12.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / "mine.tmp").write_text("somebody's own")
    memory = fingerprint.Memory(tmp_path / "fingerprints.json")
    memory.known["x"] = "0" * 32
    memory.save()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "fingerprints.json",
        "fingerprints.lock",
        "mine.tmp",
    ]
    assert fingerprint.Memory(tmp_path / "fingerprints.json").known == {"x": "0" * 32}


def test_a_compacted_table_has_types_even_where_all_is_missing(tmp_path):
    rows = [{"name": "a", "rank": None, "coverage": None}]
    (tmp_path / "t.parquet").write_bytes(
        parquet.encoded(columns.typed({"name": str, "rank": int, "coverage": float}, rows))
    )
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert [str(schema.field(c).type) for c in schema.names] == ["string", "int64", "double"]


def test_a_damaged_or_missing_table_is_named(store):
    store.open("aa11").changed(tables={"tensors.magnitude.parquet": "0" * 32})
    assert list(map(str, checking.check(store.folder("aa11")))) == [
        "aa11: tables/tensors.magnitude.parquet is missing"
    ]
    files.write(store.folder("aa11") / "tables" / "tensors.magnitude.parquet", b"x")
    assert list(map(str, checking.check(store.folder("aa11")))) == [
        "aa11: tables/tensors.magnitude.parquet is damaged"
    ]


def test_a_lock_keeps_a_second_writer_out_and_dies_with_its_process(store):
    folder = store.folder("aa11")
    code = "import sys, time; from pathlib import Path; from opdviz.files import lock\n"
    code += "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert files.running(folder)
    with pytest.raises(RequestError, match="being written by another process"), files.lock(folder):
        pass
    with pytest.raises(RequestError, match="being written"):
        store.forget("aa11")
    other.kill()
    other.wait()
    other.stdout.close()
    assert not files.running(folder)
    store.forget("aa11")
    assert "aa11" not in store.keys()


def test_a_manifest_that_is_no_object_is_a_fault_and_no_traceback(store):
    for text in ("[1]", "not json", ""):
        (store.folder("aa11") / "manifest.json").write_text(text)
        assert manifests.read(store.folder("aa11")) is None
        assert list(map(str, checking.check(store.folder("aa11")))) == [
            "aa11: manifest.json is missing or unreadable"
        ]


def test_what_an_earlier_version_stored_is_said_in_one_line(store):
    store.open("aa11").changed(format=manifests.FORMAT - 1)
    with pytest.raises(
        CheckFailed, match="aa11: measured by an earlier version; compare the pair again"
    ):
        reading.read(store.open("aa11"), "tensors")
    assert (status.state(store.open("aa11")), status.done_share(store.open("aa11"))) == (
        "partial",
        0.0,
    )


def test_a_small_file_takes_little_memory_whatever_may_be_read_at_most(tmp_path):
    file = tmp_path / "small"
    file.write_bytes(b"seven b")
    assert files.contents(file, most=1 << 50) == b"seven b"
    with pytest.raises(OSError, match="larger than 6 bytes"):
        files.contents(file, most=6)
