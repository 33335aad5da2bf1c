"""Pins and notes are kept with the comparison, changed one at a time, and never lost to damage."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opdviz.errors import CheckFailed, MachineError, RequestError
from opdviz.store import board
from opdviz.store.store import Store

KEY = "aa" * 8
PIN = '{"id": "a", "view": "layers", "state": {}, "caption": ""}'
TWICE = f'{{"pins": [{PIN}, {PIN}], "notes": []}}'
LATE = '{"pins": [], "notes": [{"id": "a", "tensor": "t", "text": "x", "who": "", "time": 1e300}]}'


@pytest.fixture
def store(tmp_path) -> Store:
    """A cache with the folder of one comparison."""
    (tmp_path / "comparisons" / KEY).mkdir(parents=True)
    return Store(tmp_path)


def captions(store) -> list[str]:
    return [pin["caption"] for pin in board.read(store.folder(KEY))["pins"]]


def test_pins_keep_their_state_and_can_be_moved_captioned_and_deleted(store):
    ids = [
        board.pin(store.folder(KEY), "layers", {"quantity": "cosine", "over": True}, text)
        for text in "abc"
    ]
    assert board.read(store.folder(KEY))["pins"][0]["state"] == {"quantity": "cosine", "over": True}
    board.move(store.folder(KEY), ids[2], -1)
    assert captions(store) == ["a", "c", "b"]
    board.move(store.folder(KEY), ids[0], -1)
    board.move(store.folder(KEY), ids[1], 5)
    assert captions(store) == ["a", "c", "b"]
    board.caption(store.folder(KEY), ids[2], "# C")
    board.remove(store.folder(KEY), ids[0])
    assert captions(store) == ["# C", "b"]
    board.move(store.folder(KEY), "gone", 1)
    board.remove(store.folder(KEY), "gone")
    assert captions(store) == ["# C", "b"]


def test_notes_say_who_and_when(store):
    id_ = board.note(store.folder(KEY), "lm_head.weight", "the head moved", "Ada\nL.")
    (note,) = board.read(store.folder(KEY))["notes"]
    assert (note["id"], note["tensor"], note["text"], note["who"]) == (
        id_,
        "lm_head.weight",
        "the head moved",
        "Ada L.",
    )
    board.remove(store.folder(KEY), id_)
    assert board.read(store.folder(KEY))["notes"] == []


def test_what_is_too_long_or_empty_is_refused_and_nothing_changes(store):
    board.note(store.folder(KEY), "t", "kept", "")
    for call, match in (
        (
            lambda: board.pin(store.folder(KEY), "layers", {}, "x" * 4_001),
            "caption of 4,001 characters",
        ),
        (lambda: board.note(store.folder(KEY), "t", "x" * 2_001, ""), "note of 2,001 characters"),
        (lambda: board.note(store.folder(KEY), "t", "x", "w" * 61), "name of 61 characters"),
        (lambda: board.note(store.folder(KEY), "t", "  ", ""), "found no text"),
        (lambda: board.pin(store.folder("bb" * 8), "layers", {}, ""), "is gone"),
    ):
        with pytest.raises(RequestError, match=match):
            call()
    found = board.read(store.folder(KEY))
    assert ([n["text"] for n in found["notes"]], found["pins"]) == (["kept"], [])


def test_a_full_board_takes_no_more(store, monkeypatch):
    monkeypatch.setattr(board, "MOST", 1)
    board.pin(store.folder(KEY), "layers", {}, "")
    with pytest.raises(RequestError, match="it holds 1 already"):
        board.pin(store.folder(KEY), "layers", {}, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"pins": [], "notes": [{"id": 1}]}',
        '{"pins": {}, "notes": []}',
        "\xff",
        TWICE,
        LATE,
    ],
)
def test_a_damaged_board_is_said_and_left_as_it_is(store, text):
    path = store.folder(KEY) / "board.json"
    path.write_bytes(text.encode("latin-1"))
    for call in (
        lambda: board.read(store.folder(KEY)),
        lambda: board.pin(store.folder(KEY), "layers", {}, ""),
    ):
        with pytest.raises(CheckFailed, match=r"board\.json is damaged"):
            call()
    assert path.read_bytes() == text.encode("latin-1")
    assert len(board.check(store.folder(KEY))) == 1
    path.unlink()
    assert board.check(store.folder(KEY)) == []


def test_a_cache_that_cannot_be_written_is_one_line(store):
    (store.folder(KEY) / "board.lock").mkdir()
    with pytest.raises(MachineError, match="nothing was changed"):
        board.pin(store.folder(KEY), "layers", {}, "")


def test_many_at_once_lose_nothing(store):
    threads = [
        threading.Thread(target=board.pin, args=(store.folder(KEY), "layers", {}, str(i)))
        for i in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(captions(store), key=int) == [str(i) for i in range(24)]


@given(st.text(max_size=80))
def test_any_caption_comes_back_as_it_was(text):
    made = {"pins": [{"id": "a", "view": "layers", "state": {}, "caption": text}], "notes": []}
    assert board.sound(json.loads(json.dumps(made)))
