"""What a command shows while it runs, and what becomes of errors that no command foresees."""

import argparse
import contextlib
import os
import pty
import subprocess

import pytest

from opdviz import cli
from tests.commands import RUN, in_a_process
from tests.conftest import GOLDEN


def test_a_terminal_gets_a_bar_and_a_pipe_gets_plain_lines(tmp_path):
    pair = [str(GOLDEN / "base"), str(GOLDEN / "tuned_a")]
    piped = in_a_process("compare", *pair, cache=tmp_path / "a")
    assert "measuring: 0% 0 of" in piped.stderr
    assert "\x1b" not in piped.stderr
    leader, follower = pty.openpty()
    environment = os.environ | {
        "OPDVIZ_CACHE": str(tmp_path / "b"),
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    process = subprocess.Popen(
        [*RUN, "compare", *pair], stdout=subprocess.DEVNULL, stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal ends with its last process
        while chunk := os.read(leader, 4096):
            shown += chunk
    os.close(leader)
    assert process.wait() == 0
    assert "━".encode() in shown
    assert b"measuring" in shown
    assert b"tasks" in shown


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("x.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
)
def test_no_room_for_an_array_a_library_or_a_thread_is_one_line(error, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(cli, "parsed", lambda *_: argparse.Namespace(run=fail))
    monkeypatch.setattr(cli, "leave", lambda code: code)
    assert cli.run(["list"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("opdviz: out of memory; what was finished is kept.")


def test_an_error_that_nobody_foresaw_is_not_called_short_memory(monkeypatch):
    def fail(_):
        raise RuntimeError("another")

    monkeypatch.setattr(cli, "parsed", lambda *_: argparse.Namespace(run=fail))
    with pytest.raises(RuntimeError, match="another"):
        cli.run(["list"])
