"""Summaries are the tables they stand for, kept once, never read when they are old, and nothing
depends on them.
"""

import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from opdviz import fingerprint, tables
from opdviz.store.store import Store
from opdviz.tables import protocols, stored, summaries


@pytest.fixture
def store(golden_store, tmp_path) -> Store:
    """A copy of a finished comparison's cache."""
    shutil.copytree(golden_store.root, tmp_path / "cache")
    return Store(tmp_path / "cache")


def test_a_finished_comparison_has_all_of_them_and_they_are_what_they_stand_for(store):
    (key,) = store.keys()
    kept = {path.name.split(".")[0] for path in (store.folder(key) / "summaries").iterdir()}
    assert kept == set(summaries.SUMMARIES)
    for name, make in summaries.SUMMARIES.items():
        pd.testing.assert_frame_equal(
            summaries.summary(store.open(key), name).reset_index(drop=True),
            make(store.open(key)).reset_index(drop=True),
            check_dtype=False,
        )
    headline = summaries.summary(store.open(key), "headline").set_index("quantity")["value"]
    assert {
        row["quantity"]: row["value"] for row in protocols.headline(store.open(key))
    } == headline.to_dict()


def test_one_of_older_tables_is_never_read(store):
    (key,) = store.keys()
    comparison = store.open(key)
    tensors = store.folder(key) / "tables" / "tensors.magnitude.parquet"
    pq.write_table(pq.read_table(tensors), tensors)  # the same rows in other bytes
    (old,) = (store.folder(key) / "summaries").glob("blocks.*")
    old.write_bytes(
        (
            store.folder(key) / "summaries" / next(p.name for p in old.parent.glob("tails.*"))
        ).read_bytes()
    )
    comparison.changed(
        tables={**comparison.manifest.tables, tensors.name: fingerprint.of_file(tensors)}
    )
    assert "energy_share" in summaries.summary(store.open(key), "blocks")
    assert not old.exists()


def test_a_damaged_one_is_made_again(store):
    (key,) = store.keys()
    (path,) = (store.folder(key) / "summaries").glob("blocks.*")
    path.write_bytes(b"no parquet")
    assert "energy_share" in summaries.summary(store.open(key), "blocks")
    assert path.read_bytes() != b"no parquet"


def test_a_cache_that_cannot_be_written_costs_time_not_the_answer(store):
    (key,) = store.keys()
    folder = store.folder(key) / "summaries"
    shutil.rmtree(folder)
    folder.write_text("a file where the folder should be")
    assert len(summaries.summary(store.open(key), "by_tensor")) == 30


def test_a_partial_comparison_is_summed_up_afresh_each_time(store):
    (key,) = store.keys()
    shutil.rmtree(store.folder(key) / "summaries")
    comparison = store.open(key)
    comparison.changed(compacted=comparison.manifest.compacted[:2])
    assert len(summaries.summary(store.open(key), "by_tensor")) == 30
    assert not (store.folder(key) / "summaries").exists()


def test_rows_of_one_tensor_are_those_of_the_whole_table(store):
    (key,) = store.keys()
    for table in ("spectrum", "histogram", "profile", "coverage", "skipped"):
        whole = tables.table(store.open(key), table)
        for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight", "none"):
            one = stored.of_tensor(store.open(key), table, name)
            expected = whole[whole["name"] == name].reset_index(drop=True)
            pd.testing.assert_frame_equal(one.reset_index(drop=True), expected, check_dtype=False)
