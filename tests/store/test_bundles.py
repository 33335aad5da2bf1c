"""Parts become bundles and bundles become tables: whatever ends the run at any write, all is read
once and nothing is lost.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from opdviz import checkpoint, files, tables
from opdviz.engine import measuring, prepare
from opdviz.errors import CheckFailed
from opdviz.measures import MEASURES, coverage, geometry, magnitude, measure_id
from opdviz.store import bundles, checking, parts, reading, status
from opdviz.store import manifest as manifests
from opdviz.store.store import Store
from tests.conftest import GOLDEN

PAIRS = 30


class Killed(BaseException):
    """The end of a process, as far as what it leaves on disk goes."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[dict, dict]:
    """What workers return for the golden pair b, and the tables of a run that nothing disturbed and
    that made no bundle.
    """
    returned, root = {}, tmp_path_factory.mktemp("undisturbed")
    real = measuring.work_on

    def remembering(pair, names, *where):
        returned[pair.name] = returned.get(pair.name, {}) | dict(
            zip(names, result := real(pair, names, *where))
        )
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "work_on", remembering)
        key = run(root)
    assert not Store(root).open(key).manifest.bundled
    return returned, stored(root)


@pytest.fixture
def worked(measured, monkeypatch) -> list[str]:
    """Bundles of seven, and workers that only remember; the pairs that they were asked for."""
    asked: list[str] = []

    def remembered(pair, names, *where):
        asked.append(pair.name)
        return [measured[0][pair.name][name] for name in names]

    monkeypatch.setattr(bundles, "BUNDLE", 7)
    monkeypatch.setattr(measuring, "work_on", remembered)
    return asked


def run(root: Path) -> str:
    """Compare the golden pair b in this process; its key."""
    sides = [checkpoint.open(GOLDEN / side) for side in ("base", "tuned_b")]
    comparison = prepare.prepare(*sides, Store(root), None, lambda progress: None)
    with ThreadPoolExecutor(1) as executor:
        measuring.compare(comparison, Store(root), executor, listener=lambda progress: None)
    return comparison.key


def stored(root: Path) -> dict[str, bytes]:
    """Every table on disk."""
    return {p.name: p.read_bytes() for p in sorted(root.rglob("tables/*.parquet"))}


def dying(monkeypatch, when: Callable[[Path], bool]) -> None:
    """Let the process end before a write, a rename or a deletion for which `when` is true."""
    for of, name in ((files, "write"), (Path, "unlink")):
        real = getattr(of, name)

        def dies(path, *args, real=real, **more):
            if when(path):
                raise Killed
            return real(path, *args, **more)

        monkeypatch.setattr(of, name, dies)


def there(root: Path) -> set[tuple[str, str]]:
    """The pairs and measures that are on disk, loose or in bundles."""
    (key,) = Store(root).keys()
    loose = ((p.name.split("."), parts.decode_part(p)) for p in root.rglob("parts/*.json"))
    found = {(f"{words[1]}@{words[2]}", part["name"]) for words, part in loose}
    noted = Store(root).open(key).manifest.bundled
    return found | {
        (of, name) for of in noted for name in reading.bundled_pairs(Store(root).open(key), of)
    }


@pytest.mark.parametrize("seed", range(6))
def test_ended_at_any_write_every_pair_is_read_once_and_nothing_is_lost(
    tmp_path, worked, measured, monkeypatch, seed
):
    random, kept, ends, seen = Random(seed), set(), 0, 0
    with monkeypatch.context() as patch:
        dying(patch, lambda path: path.suffix != ".tmp" and random.random() < 0.015)
        while True:
            try:
                run(tmp_path)
                break
            except Killed:
                ends += 1
            if not (keys := Store(tmp_path).keys()):
                continue
            if Store(tmp_path).open(keys[0]).manifest.compacted:
                continue
            assert kept <= (now := there(tmp_path))
            kept = now
            names = tables.table(Store(tmp_path).open(keys[0]), "tensors")
            assert not len(names) or names["name"].is_unique
            assert len(names) >= seen
            seen = len(names)
    assert ends > 5
    assert stored(tmp_path) == measured[1]
    assert not list(tmp_path.rglob("parts/*"))


def part_way(root: Path, monkeypatch) -> str:
    """A run that ended after its first bundle of geometry; its key."""
    with monkeypatch.context() as patch:
        dying(patch, lambda path: path.name == "pairs.geometry.1.parquet")
        with pytest.raises(Killed):
            run(root)
    (key,) = Store(root).keys()
    return key


def test_what_is_bundled_is_drawn_and_counted(tmp_path, worked, monkeypatch):
    key = part_way(tmp_path, monkeypatch)
    store = Store(tmp_path)
    bundled = {
        measure: sum(counts.values())
        for measure, counts in store.open(key).manifest.bundled.items()
    }
    assert bundled[measure_id(magnitude)] == 28
    assert bundled[measure_id(geometry)] == 7
    assert len(list(tmp_path.rglob("parts/*.magnitude.*"))) == 2
    assert len(tables.table(store.open(key), "tensors")) == PAIRS
    assert 0.5 < status.done_share(store.open(key)) < 1
    assert status.state(store.open(key)) == "partial"
    assert checking.check(store.folder(key)) == []


def test_a_damaged_bundle_costs_its_own_pairs_alone(tmp_path, worked, measured, monkeypatch):
    key = part_way(tmp_path, monkeypatch)
    file = tmp_path / "comparisons" / key / "tables" / "sparsity.sparsity.2.parquet"
    lost = set(
        reading.read_compacted(tmp_path / "comparisons" / key, "pairs.sparsity.2.parquet")[
            "name"
        ].to_pylist()
    )
    file.write_bytes(file.read_bytes()[:-9])
    assert list(map(str, checking.check(Store(tmp_path).folder(key)))) == [
        f"{key}: tables/{file.name} is damaged"
    ]
    complete = {name for of, name in there(tmp_path) if of == measure_id(coverage)}
    worked.clear()
    run(tmp_path)
    assert len(lost) == 7
    assert lost <= set(worked)
    assert not (set(worked) - lost) & complete
    assert stored(tmp_path) == measured[1]


def test_another_version_of_a_measure_does_without_the_bundles_of_the_old_one(
    tmp_path, worked, measured, monkeypatch
):
    key = part_way(tmp_path, monkeypatch)
    monkeypatch.setattr(MEASURES[0], "VERSION", 99)
    worked.clear()
    run(tmp_path)
    assert len(set(worked)) == PAIRS
    assert measure_id(MEASURES[0]) in Store(tmp_path).open(key).manifest.compacted
    assert stored(tmp_path) == measured[1]


def test_a_reader_finds_the_table_when_bundles_became_one_while_it_read(
    tmp_path, worked, monkeypatch
):
    key = part_way(tmp_path, monkeypatch)
    real, before = reading.read_compacted, tables.table(Store(tmp_path).open(key), "tensors")

    def late(*args):
        monkeypatch.setattr(reading, "read_compacted", real)
        run(tmp_path)
        return real(*args)

    monkeypatch.setattr(reading, "read_compacted", late)
    after = tables.table(Store(tmp_path).open(key), "tensors")
    assert after["name"].tolist() == before["name"].tolist()


def test_a_bundle_that_is_gone_for_good_is_said(tmp_path, worked, monkeypatch):
    key = part_way(tmp_path, monkeypatch)
    (tmp_path / "comparisons" / key / "tables" / "tensors.magnitude.0.parquet").unlink()
    with pytest.raises(
        CheckFailed,
        match="tensors.magnitude.0.parquet is missing or damaged; compare the pair again",
    ):
        tables.table(Store(tmp_path).open(key), "tensors")


@pytest.mark.parametrize(
    "bundled", [[], {"magnitude@1": 3}, {"magnitude@1": {"x": 3}}, {"magnitude@1": {"0": "3"}}]
)
def test_a_manifest_with_senseless_bundles_is_damaged(tmp_path, worked, monkeypatch, bundled):
    key = part_way(tmp_path, monkeypatch)
    store = Store(tmp_path)
    path = store.folder(key) / manifests.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bundled": bundled}))
    assert manifests.read(store.folder(key)) is None
