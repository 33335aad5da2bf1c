"""The page's field: what is typed there is a folder below a root, or one line says why not."""

import os

import pytest

from opdviz import roots
from opdviz.errors import RequestError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("OPDVIZ_ROOTS", str(tmp_path))
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "out").symlink_to("/etc")
    return tmp_path


@pytest.mark.parametrize("typed", ["~nobody-of-that-name/x", "{}/a\0b", "{}/circle"])
def test_what_is_no_path_is_refused_in_one_line(root, typed):
    with pytest.raises(
        RequestError, match="is no usable path; choose a folder, or type one"
    ) as refused:
        roots.allowed(typed.format(root))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("typed", ["/etc", "{}/../x", "{}/out/passwd", "~", ""])
def test_what_lies_outside_is_refused(root, typed):
    with pytest.raises(RequestError, match="lies outside the allowed folders"):
        roots.allowed(typed.format(root))


def test_a_name_longer_than_a_disk_takes_is_refused_on_the_way(root):
    with pytest.raises(RequestError, match="no usable path|nothing there"):
        roots.check(*[roots.allowed(f"{root}/{'x' * 5000}")] * 2)


@pytest.mark.parametrize(
    "word", ["a\0b", "\ud800", "x" * 3_000_000], ids=["NUL", "surrogate", "long"]
)
def test_words_that_no_command_line_takes_are_refused_in_one_line(word):
    with pytest.raises(RequestError, match="no command can be given these words") as refused:
        roots.output_of_command("block", "--", "key", word)
    assert len(str(refused.value)) < 400


def test_a_folder_of_bytes_that_are_no_text_is_not_listed(root):
    for name in ("good", os.fsdecode(b"caf\xe9")):
        (root / name).mkdir()
        (root / name / "model.safetensors").touch()
    assert [path for path in roots.checkpoint_folders() if path.startswith(str(root))] == [
        str(root / "good")
    ]


def test_a_path_of_bytes_that_are_no_text_is_told_in_text(root):
    with pytest.raises(RequestError, match="found nothing there"):
        roots.check(*[roots.allowed(f"{root}/{os.fsdecode(b'caf' + bytes([0xE9]))}")] * 2)
