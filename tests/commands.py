"""Commands for the tests, in this process or in one of their own."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from opdviz import cli, pairing
from opdviz.checkpoint import torch_file

RUN = [sys.executable, "-m", "opdviz"]


def opdviz(*arguments, cache: Path) -> subprocess.CompletedProcess:
    """Run a command as its process would, but in this one: an interpreter takes longer to start
    than most of them to run. What its workers write themselves is not caught.
    """
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    patches = (
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
        mock.patch.object(cli, "leave", lambda code: code),  # it would end this process
        mock.patch.dict(os.environ, OPDVIZ_CACHE=str(cache)),
        warnings.catch_warnings(),
    )
    pairing.opened.cache_clear()  # a path may hold another checkpoint by now
    torch_file.state_dict.cache_clear()
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        warnings.simplefilter("default")
        code = cli.main(list(map(str, arguments)))
    said = (stream.buffer.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, code, *said)


def in_a_process(*arguments, cache: Path, **more) -> subprocess.CompletedProcess:
    """Run a command in a process of its own."""
    environment = os.environ | {"OPDVIZ_CACHE": str(cache)}
    return subprocess.run(
        [*RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        **more,
    )


def refused(done: subprocess.CompletedProcess, words: str, code: int = 2) -> None:
    """Assert one line on stderr with some words, no traceback, an exit code."""
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
