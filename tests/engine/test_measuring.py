"""Running and keeping: killed at any moment, resumed to the same bits; versions, workers, focus."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from opdviz import checkpoint, files, measures, pairing, tables
from opdviz.cli import main
from opdviz.engine import measuring, prepare
from opdviz.errors import MachineError
from opdviz.measures import MEASURES, SECOND_PASS
from opdviz.store import board, checking, parts, reading, status
from opdviz.store import manifest as manifests
from opdviz.store.store import Store
from tests.conftest import GOLDEN, compared_here, write_checkpoint

KILLS = 20


def start(cache: Path, workers: int = 2, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    """Compare the golden pair b in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "opdviz",
        "compare",
        GOLDEN / "base",
        GOLDEN / "tuned_b",
        "--workers",
        str(workers),
    ]
    return subprocess.Popen(
        [*map(str, command), "--cache", str(cache)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )


def stored(cache: Path) -> dict[str, bytes]:
    """Every compacted table."""
    return {p.name: p.read_bytes() for p in sorted(cache.rglob("tables/*.parquet"))}


def here(folder: Path, base: Path, tuned: Path) -> tuple[prepare.Prepared, Store]:
    """A comparison prepared in this process."""
    store = Store(folder)
    sides = [checkpoint.open(side) for side in (base, tuned)]
    return prepare.prepare(*sides, store, None, lambda progress: None), store


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """The tables of a run that nobody disturbed."""
    cache = tmp_path_factory.mktemp("undisturbed")
    assert start(cache).wait() == 0
    return stored(cache)


def descendants_gone(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_killed_twenty_times_nothing_finished_is_lost_and_the_tables_are_the_same(
    tmp_path, undisturbed
):
    random, kept, kills = Random(0), set(), 0
    while kills < KILLS:
        run = start(tmp_path)
        time.sleep(random.uniform(0.2, 1.6))
        ended = run.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        on_disk = {p.name: parts.decode_part(p) for p in tmp_path.rglob("parts/*.json")}
        assert all(on_disk.values()), "a half-written part was left under its final name"
        compacted = any(
            json.loads(m.read_text())["compacted"] for m in tmp_path.rglob("manifest.json")
        )
        assert compacted or kept <= set(on_disk), "a finished part was lost"
        kept = set(on_disk)
        kills += 1
        # Start over: the next kills should hit work, not a finished comparison.
        if ended or compacted:
            kept = set()
            assert start(tmp_path).wait() == 0
            assert stored(tmp_path) == undisturbed
            for key in Store(tmp_path).keys():
                Store(tmp_path).forget(key)
    assert start(tmp_path).wait() == 0
    assert stored(tmp_path) == undisturbed
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_number_of_workers_changes_no_bit(tmp_path, undisturbed):
    assert start(tmp_path, workers=1).wait() == 0
    assert stored(tmp_path) == undisturbed


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    run = start(tmp_path)
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("parts/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    while not descendants_gone(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descendants_gone(run.pid)


@pytest.mark.parametrize("after", [1, 20, 60])
def test_an_interrupted_run_says_so_keeps_its_parts_and_ends_with_130(tmp_path, after):
    run = start(tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.rglob("parts/*.json"))) < after and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    told = run.communicate(timeout=20)[1].decode().splitlines()
    assert run.returncode == 130
    assert told[-1] == "opdviz: interrupted; what was finished is kept."
    assert not [
        line for line in told[:-1] if not line.startswith(("reading the files:", "measuring:"))
    ]
    assert list(tmp_path.rglob("parts/*.json"))
    assert all(parts.decode_part(p) for p in tmp_path.rglob("parts/*.json"))
    while not descendants_gone(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descendants_gone(run.pid)


def test_any_executor_will_do_and_a_new_version_recomputes_its_measure_alone(tmp_path, monkeypatch):
    comparison, store = here(tmp_path, GOLDEN / "base", GOLDEN / "tuned_a")
    seen: list[str] = []
    real = measuring.work_on

    def counting(pair, names, *where):
        seen.extend(names)
        return real(pair, names, *where)

    monkeypatch.setattr(measuring, "work_on", counting)
    with ThreadPoolExecutor(1) as executor:
        measuring.compare(comparison, store, executor, listener=lambda p: None)
        assert len(seen) == 30 * len(MEASURES)
        before = stored(tmp_path)
        seen.clear()
        measuring.compare(comparison, store, executor, listener=lambda p: None)
        assert seen == []
        monkeypatch.setattr(measures.concentration, "VERSION", 99)
        measuring.compare(comparison, store, executor, listener=lambda p: None)
        assert set(seen) == {"concentration"}
        assert len(seen) == 30
    assert stored(tmp_path) == before
    assert "concentration@99" in store.open(comparison.key).manifest.compacted


def test_the_tensor_that_someone_looks_at_goes_first(tmp_path):
    pairs = pairing.match(
        checkpoint.open(GOLDEN / "base"), checkpoint.open(GOLDEN / "tuned_a")
    ).pairs
    runs = [SimpleNamespace(writer=SimpleNamespace(folder=tmp_path / name)) for name in "ab"]
    tasks = [[(run, pair, []) for run in runs] for pair in pairs]
    assert measuring.looked_at(tasks, runs) == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "focus").write_text(pairs[7].name)
    assert measuring.looked_at(tasks, runs) == 7
    (tmp_path / "b" / "focus").write_text("no such tensor")
    assert measuring.looked_at(tasks, runs) == 0


def test_the_key_is_of_contents_not_of_paths(tmp_path):
    x = np.random.default_rng(0).standard_normal((8, 8))
    keys = set()
    for place in ("here", "there"):
        base = write_checkpoint(tmp_path / place / "base", {"w": x})
        tuned = write_checkpoint(tmp_path / place / "tuned", {"w": x + 1})
        keys.add(here(tmp_path / "cache", base, tuned)[0].key)
    assert len(keys) == 1
    write_checkpoint(tmp_path / "there" / "tuned", {"w": x + 2})
    os.utime(tmp_path / "there" / "tuned" / "model.safetensors", (1, 1))
    keys.add(here(tmp_path / "cache", base, tuned)[0].key)
    keys.add(here(tmp_path / "cache", tuned, base)[0].key)
    assert len(keys) == 3


def test_progress_only_grows_and_ends_at_all(tmp_path):
    comparison, store = here(tmp_path, GOLDEN / "base", GOLDEN / "tuned_a")
    told = []
    with ThreadPoolExecutor(2) as executor:
        done = measuring.compare(
            comparison, store, executor, listener=lambda p: told.append((p.phase, p.share, p.left))
        )
    phases, shares, left = zip(*told)
    assert list(dict.fromkeys(phases)) == ["measuring", "writing the tables"]
    assert shares == tuple(sorted(shares)) and shares[0] == 0
    # The last phase is counted, and so is what the table of comparisons says.
    assert shares[-1] == status.MEASURED < status.done_share(done) == 1.0
    assert all(seconds is None or seconds >= 0 for seconds in left)


def test_what_was_there_counts_when_a_run_is_taken_up_again(tmp_path):
    comparison, store = here(tmp_path, GOLDEN / "base", GOLDEN / "tuned_a")
    with ThreadPoolExecutor(1) as executor:
        half = measuring.compare(
            comparison, store, executor, pattern="*layers.0*", listener=lambda p: None
        )
        share, told = status.done_share(half), []
        measuring.compare(
            comparison, store, executor, listener=lambda p: told.append((p.phase, p.share))
        )
    assert 0 < share < 1
    assert told[0] == ("measuring", pytest.approx(share))


def test_a_matrix_that_does_not_converge_is_skipped_and_ends_nothing(tmp_path, monkeypatch):
    comparison, store = here(tmp_path, GOLDEN / "base", GOLDEN / "tuned_a")

    def diverge(gram, k):
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr("opdviz.linalg.spectrum_of_gram", diverge)
    with ThreadPoolExecutor(1) as executor:
        done = measuring.compare(comparison, store, executor, listener=lambda p: None)
    assert len(done.manifest.compacted) == len(MEASURES)
    skipped = reading.read(store.open(comparison.key), "skipped").to_pylist()
    # One matrix did not move: nothing of it is turned at random.
    assert sum("did not converge" in row["reason"] for row in skipped) == len(SECOND_PASS) * 23 - 1


def test_a_failure_is_noted_until_the_next_run(tmp_path, monkeypatch):
    comparison, store = here(tmp_path, GOLDEN / "base", GOLDEN / "tuned_a")

    class Broken(ThreadPoolExecutor):
        def submit(self, *arguments, **more):
            raise BrokenExecutor

    with Broken(1) as executor, pytest.raises(MachineError, match="a worker process was lost"):
        measuring.compare(comparison, store, executor, listener=lambda p: None)
    assert status.state(store.open(comparison.key)) == "failed"
    with ThreadPoolExecutor(1) as executor:
        measuring.compare(comparison, store, executor, listener=lambda p: None)
    assert status.state(store.open(comparison.key)) == "done"


def small_pair(folder: Path, **config) -> tuple[Path, Path]:
    """Two small checkpoints with a configuration."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 16)).astype(np.float32)
    query = rng.standard_normal((16, 16)).astype(np.float32)
    for side, factor in (("base", 1.0), ("tuned", 1.01)):
        arrays = {"model.embed_tokens.weight": rows * factor, "lm_head.weight": rows * factor}
        write_checkpoint(
            folder / side, arrays | {"model.layers.0.self_attn.q_proj.weight": query * factor}
        )
        (folder / side / "config.json").write_text(json.dumps(config))
    return folder / "base", folder / "tuned"


def test_a_configuration_that_changes_the_numbers_makes_another_comparison(tmp_path):
    """The same weights with a tied head, or with other heads: what was kept for them is not read
    for these.
    """
    keys = set()
    for config in (
        {},
        {"tie_word_embeddings": True},
        {"hidden_size": 16, "num_attention_heads": 4},
    ):
        comparison = compared_here(tmp_path / "cache", *small_pair(tmp_path, **config))
        names = set(tables.table(comparison, "tensors")["name"])
        assert (
            len(names) == comparison.manifest.pairs == (2 if "tie_word_embeddings" in config else 3)
        )
        keys.add(comparison.key)
    assert len(keys) == 3
    again = compared_here(tmp_path / "cache", *small_pair(tmp_path))
    assert again.key in keys


def test_a_name_that_was_given_stays_when_the_pair_is_compared_again(tmp_path):
    pair = small_pair(tmp_path)
    assert compared_here(tmp_path / "cache", *pair).name.endswith("base..tuned")
    assert compared_here(tmp_path / "cache", *pair, "mine").name == "mine"
    assert compared_here(tmp_path / "cache", *pair).name == "mine"
    key = Store(tmp_path / "cache").resolve("mine")
    assert main(["rename", "mine", "yours", "--cache", str(tmp_path / "cache")]) == 0
    assert compared_here(tmp_path / "cache", *pair).name == "yours"
    assert Store(tmp_path / "cache").resolve("yours") == key


def test_a_rename_waits_for_nobody_and_undoes_no_run(tmp_path, capsys):
    key = compared_here(tmp_path, *small_pair(tmp_path / "pair"), "mine").key
    with files.lock(Store(tmp_path).folder(key)):
        assert main(["rename", "mine", "yours", "--cache", str(tmp_path)]) == 2
    assert "being written by another process" in capsys.readouterr().err
    assert Store(tmp_path).resolve("mine") == key


def test_an_earlier_version_s_comparison_is_taken_over_with_its_name_and_board(tmp_path):
    pair, store = small_pair(tmp_path), Store(tmp_path / "cache")
    mine = compared_here(store.root, *pair, "mine")
    old = "0123456789abcdef"
    mine.folder.rename(store.folder(old))
    board.pin(store.folder(old), "layers", {}, "kept")
    manifests.write(store.folder(old), replace(mine.manifest, format=manifests.FORMAT - 1))
    again = compared_here(store.root, *pair)
    assert (again.key, again.name, store.keys()) == (mine.key, "mine", [mine.key])
    assert [pin["caption"] for pin in board.read(store.folder(again.key))["pins"]] == ["kept"]
    assert checking.check(store.folder(again.key)) == []


@pytest.mark.parametrize("sequential", [False, True])
def test_the_first_pass_goes_in_the_order_of_the_files(tmp_path, monkeypatch, sequential):
    """A file has its tensors by name; the second pass begins with the largest matrix, but for
    network disks.
    """
    if sequential:
        monkeypatch.setenv("OPDVIZ_SEQUENTIAL", "1")
    shapes = {"a": (4, 4), "b": (4, 4), "y": (40, 30), "z": (40, 30)}
    sides = []
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        tensors = {f"{x}.weight": random.standard_normal(shape) for x, shape in shapes.items()}
        sides.append(checkpoint.open(write_checkpoint(tmp_path / str(seed), tensors)))
    finished = []

    def listen(progress):
        if progress.phase == "measuring" and progress.pairs_done > len(finished):
            finished.append(progress.current.removesuffix(".weight"))

    store = Store(tmp_path / "cache")
    prepared = prepare.prepare(*sides, store, None, lambda progress: None)
    with ThreadPoolExecutor(1) as executor:
        measuring.compare(prepared, store, executor, listener=listen)
    assert finished == [*"abyz", *("abyz" if sequential else "yzab")]


def test_what_is_no_finite_number_is_missing_in_a_part():
    row = {"name": "w", "base_norm": 1.0, "delta_norm": float("nan"), "cosine": float("inf")}
    _, _, body = measuring.encoded("w", {"tensors": [row]}).partition(b"\n")
    assert json.loads(body)["tables"]["tensors"] == [row | {"delta_norm": None, "cosine": None}]
