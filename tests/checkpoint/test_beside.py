"""What stands beside the weights: read within bounds, and what cannot be read costs only what it
would have told.
"""

import json
import os

import numpy as np
import pytest

from opdviz import checkpoint
from opdviz.checkpoint import beside, bounded
from opdviz.checkpoint.bounded import Unreadable
from tests.conftest import write_checkpoint


def test_a_config_that_cannot_be_read_is_one_note_and_no_config(tmp_path):
    write_checkpoint(tmp_path, {"w": np.zeros(3)})
    (tmp_path / "config.json").write_text("[" * 100_000)
    opened = checkpoint.open(tmp_path)
    assert opened.config == {}
    assert opened.notes == [
        "Chosen: model.safetensors.",
        (
            "config.json is not used: found JSON that is nested too deep. Heads and tied weights"
            " are not known."
        ),
    ]


def test_a_config_that_is_not_there_is_no_note(tmp_path):
    write_checkpoint(tmp_path, {"w": np.zeros(3)})
    assert checkpoint.open(tmp_path).notes == ["Chosen: model.safetensors."]
    assert checkpoint.tokens_note(tmp_path) == []


def test_tokens_are_cut_and_hold_no_lone_surrogate(tmp_path):
    vocab = {"a": 0, "\ud800b": 1, "c" * 500: 2, "\U0001f600": 3}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    assert checkpoint.tokens(tmp_path) == {0: "a", 1: "?b", 2: "c" * 200, 3: "\U0001f600"}
    assert checkpoint.tokens_note(tmp_path) == []


@pytest.mark.parametrize("row", ["1e999", "NaN", "-1", '"1"', "true", "null", "[1]", "1.5"])
def test_tokens_with_a_row_that_is_no_number_are_not_used(tmp_path, row):
    (tmp_path / "tokenizer.json").write_text(f'{{"model": {{"vocab": {{"a": 0, "b": {row}}}}}}}')
    assert checkpoint.tokens(tmp_path) == {}
    assert checkpoint.tokens_note(tmp_path) == [
        "tokenizer.json is not used: found rows that are no numbers. Rows of the vocabulary have no"
        " words."
    ]


def test_a_damaged_tokenizer_is_not_replaced_by_the_other_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text("broken")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    assert checkpoint.tokens(tmp_path) == {}


def test_only_plain_files_within_the_bound_are_read(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "long").write_bytes(b"12345")
    for name in ("folder", "pipe", "zero"):
        with pytest.raises(Unreadable, match="a folder or device"):
            bounded.read_bytes(tmp_path / name, 4)
    with pytest.raises(Unreadable, match="more than 4 bytes"):
        bounded.read_bytes(tmp_path / "long", 4)
    assert bounded.read_bytes(tmp_path / "long", 5) == b"12345"
    with pytest.raises(FileNotFoundError):
        bounded.read_bytes(tmp_path / "absent", 4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b"1" * 10_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_that_cannot_be_read_says_why(data, words):
    with pytest.raises(Unreadable, match=words):
        bounded.from_json(data)


def test_json_of_too_many_values_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(bounded, "MOST_SIGNS", 5)
    assert bounded.from_json(b"[1,2,3]") == [1, 2, 3]
    with pytest.raises(Unreadable, match="too many values"):
        bounded.from_json(b"[1,2,3,4,5,6]")


def test_a_line_too_many_is_no_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "MOST_TOKENS", 3)
    (tmp_path / "vocab.txt").write_text("a\nb\nc\n")
    assert checkpoint.tokens(tmp_path) == {0: "a", 1: "b", 2: "c"}
    (tmp_path / "vocab.txt").write_text("a\nb\nc\nd\n")
    assert checkpoint.tokens(tmp_path) == {}
