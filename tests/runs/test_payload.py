"""What an update takes to send: every encoding is decoded again, and comes to the bytes counted."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opdviz.cli import main
from opdviz.runs import payload, relations
from opdviz.runs.masks import matching_of
from opdviz.store.relations import BASE, TABLES
from opdviz.store.store import Store
from opdviz.views import run_payload
from tests.conftest import write_checkpoint

NAME = "model.layers.0.mlp.up_proj.weight"


def gap_words(places: list[int]) -> list[int]:
    """The words of 16 bits of the encoding, one by one."""
    words, last = [], -1
    for place in places:
        passed, last = place - last - 1, place
        while passed >= payload.GAP_ESCAPE:
            words.append(payload.GAP_ESCAPE)
            passed -= payload.GAP_ESCAPE
        words.append(passed)
    return words


def decoded(words: list[int]) -> list[int]:
    """The places that words of 16 bits say."""
    places, at = [], -1
    for word in words:
        at += word + (word != payload.GAP_ESCAPE)
        if word != payload.GAP_ESCAPE:
            places.append(at)
    return places


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 299_999), max_size=30),
    st.integers(20_000, 300_000),
    st.sampled_from(["u1", "u2", "u4"]),
)
def test_bytes_are_those_of_the_encodings_whatever_the_blocks(places, block, kind):
    changed = sorted(places)
    before = np.zeros(300_000, dtype=kind)
    after = before.copy()
    after[changed] = 1
    tally = payload.Tally(before.itemsize)
    for first in range(0, len(before), block):
        tally.add(before[first : first + block], after[first : first + block])
    row, values = tally.row(), len(changed) * before.itemsize
    words = gap_words(changed)
    assert decoded(words) == changed
    assert (row["numel"], row["moved"]) == (len(before), len(changed))
    assert row["full_bytes"] == before.nbytes
    assert row["gap16_bytes"] == 2 * len(words) + values
    assert row["index32_bytes"] == 4 * len(changed) + values
    assert row["mask_bytes"] == len(np.packbits(before != after)) + values


def rows_of(
    folder, base: np.ndarray, *runs: np.ndarray, dtypes=("bfloat16",) * 3, steps=()
) -> list:
    """The rows of some runs on one base."""
    first = write_checkpoint(folder / "base", {NAME: base}, dtypes[0])
    paths = [
        write_checkpoint(folder / f"run{at}", {NAME: run}, dtype)
        for at, (run, dtype) in enumerate(zip(runs, dtypes[1:], strict=False))
    ]
    (tensor,) = relations.shared([matching_of(first, path) for path in paths], by=1)
    names = [f"run{at}" for at in range(len(paths))]
    rows = payload.of_tensor(tensor, names, steps=steps)["payload"]
    assert all(set(row) == set(TABLES["payload"]) for row in rows)
    return rows


def test_from_the_base_to_each_run_and_from_step_to_step(tmp_path):
    base = np.random.default_rng(0).choice([-1.0, 1.0], (64, 32))
    one, other = base.copy(), base.copy()
    one[:8] *= 2
    other[4:20] *= 2
    rows = rows_of(tmp_path, base, one, other, steps=[("run0", "run1")])
    moved = {(row["run_a"], row["run_b"]): row["moved"] for row in rows}
    assert moved == {(BASE, "run0"): 256, (BASE, "run1"): 512, ("run0", "run1"): 4 * 32 + 12 * 32}
    assert {row["full_bytes"] for row in rows} == {64 * 32 * 2}
    bits = base.astype(np.float32).view(np.uint32) >> 16
    changed = (bits ^ (one.astype(np.float32).view(np.uint32) >> 16)).astype(np.uint16)
    sent = pa.compress(changed.tobytes(), codec="zstd", asbytes=True)
    assert rows[0]["xor_zstd_bytes"] == pytest.approx(len(sent), abs=16)
    whole = payload.whole(pd.DataFrame(rows))
    assert whole["moved"].tolist() == list(moved.values())


def test_a_base_of_another_format_is_what_the_run_would_store(tmp_path):
    """What only the wider base holds is no change that anybody would send."""
    base = np.random.default_rng(0).normal(size=(64, 32))
    (row,) = rows_of(tmp_path, base, base, dtypes=("float32", "bfloat16"))
    assert row["moved"] == 0 and row["full_bytes"] == 64 * 32 * 2


def test_the_command_says_and_keeps_it(tmp_path, capsys):
    base = write_checkpoint(tmp_path / "base", {NAME: np.ones((40, 30))}, "bfloat16")
    for step in (10, 20):
        tuned = np.ones((40, 30))
        tuned[:step] = 2.0
        write_checkpoint(tmp_path / f"run/step_{step}", {NAME: tuned}, "bfloat16")
    where = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    assert main(["compare", str(base), str(tmp_path / "run"), *where]) == 0
    runs = sorted(Store(tmp_path / "cache").all(), key=lambda run: run.name)
    keys = [run.key for run in runs]
    capsys.readouterr()
    assert main(["payload", *keys, *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "base to base..run/step_10: 25.00% of 1,200 coordinates changed" in lines[0]
    assert lines[1].split() == ["750", "bytes,", "31.25%:", "bit", "mask", "+", "values"]
    assert main(["payload", *keys, "--json", *where]) == 0
    rows = pd.DataFrame(json.loads(capsys.readouterr().out))
    named = {BASE: BASE} | {run.name: run.key for run in runs}
    by_key = rows.assign(run_a=rows["run_a"].map(named), run_b=rows["run_b"].map(named))
    view = run_payload.by_step("run", (10, 20), keys, by_key, {})
    assert view.reading.startswith("At step 20 25 % of the coordinates changed: **")
    changed = {trace.name: list(trace.y) for trace in view.figure.data if "since" in trace.name}
    assert changed == {
        "changed since the step before": [0.25],
        "changed since the base": [0.25, 0.5],
    }
    since = run_payload.by_step("run", (10, 20), keys, by_key, {"since": run_payload.WHOLE})
    assert since.data["moved"].tolist() == [300, 600] and "50 %" in since.reading
    one = run_payload.of_one("run", by_key[by_key["run_b"] == keys[0]])
    assert one.reading.startswith("25 % of the coordinates changed: **")
    assert main(["payload", keys[0], *where]) == 0, "one run is enough"
