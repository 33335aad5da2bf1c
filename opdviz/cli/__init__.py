"""The command line: a thin shell over the functions that the app uses too, and its exit codes."""

import argparse
import os
import signal
import sys
from functools import cache

from opdviz import __version__
from opdviz.cli import app, doctor, lab, pair, reproduce, runs, share, stored
from opdviz.cli.command import CACHE
from opdviz.errors import MachineError, OpdvizError, RequestError, one_line

INTERRUPTED = 130
COMMANDS = (
    pair.check, pair.compare, doctor.doctor, stored.list_, stored.show, stored.headline,
    runs.subnetwork, runs.apply, runs.overlap, runs.payload, lab.lab, reproduce.reproduce,
    stored.verify, stored.block, stored.rename, stored.label, stored.stop, stored.forget,
    share.pack, share.unpack, share.report, share.figure, app.app,
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit 2."""

    def error(self, message: str):
        raise RequestError(
            f"{self.prog}: {one_line(message)}. `{self.prog} --help` shows what it takes."
        )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. Failures are one line on stderr, never a traceback."""
    signal.signal(signal.SIGTERM, interrupt)
    # Nohup and the like had it ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    code = run(arguments)
    # This is the program, and all is done: a signal now would only garble its end.
    if arguments is None:
        signal.signal(signal.SIGINT, ignore)
    return code


def run(arguments: list[str] | None) -> int:
    """Run one command and say what went wrong; the exit code."""
    try:
        options = parsed(parser(), arguments)
        if not hasattr(options, "run"):
            raise RequestError("opdviz: no command; `opdviz --help` lists them.")
        return options.run(options) or 0
    except OpdvizError as error:
        print(f"opdviz: {one_line(error, limit=600)}", file=sys.stderr)
        return leave(error.exit_code) if isinstance(error, MachineError) else error.exit_code
    except KeyboardInterrupt:
        print("opdviz: interrupted; what was finished is kept.", file=sys.stderr)
        return leave(INTERRUPTED)
    except (MemoryError, ImportError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print(
            "opdviz: out of memory; what was finished is kept. Run it again with --workers 1.",
            file=sys.stderr,
        )
        return leave(3)
    except BrokenPipeError:  # the reader of a pipe left: `opdviz show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"opdviz: {one_line(error)}", file=sys.stderr)
        return 3


def out_of_memory(error: Exception) -> bool:
    """Whether there was no room: for an array, for a library, or for a thread."""
    words = str(error)
    return (
        isinstance(error, MemoryError)
        or "failed to map segment" in words
        or "can't start new thread" in words
    )


def parsed(top: Parser, arguments: list[str] | None) -> argparse.Namespace:
    """The options of a command line; recipe names may also stand after options, where argparse no
    longer looks for them.
    """
    options, rest = top.parse_known_args(arguments)
    if rest and not (hasattr(options, "recipe") and not any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.recipe = [*options.recipe, *rest]
    return options


def leave(code: int) -> int:
    """End at once, without tearing the interpreter down: a pool's clean-up would wait for workers
    that died holding its queue and never return, and Arrow's threads, still at work when the
    libraries go, have aborted commands that were done.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the disk that the output goes to is full
        code = code or MachineError.exit_code
    os._exit(code)


def entry() -> None:
    """The command as a process: run it, and leave."""
    leave(main())


def interrupt(*_) -> None:
    """Ctrl-C or a termination signal ends the command; whoever asks twice gets one answer."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ignore)
    raise KeyboardInterrupt


def ignore(*_) -> None:
    """Do nothing. With `SIG_IGN` instead, Python would print a signal that came just before."""


@cache
def parser() -> Parser:
    """Every command with its options; made once, for whoever runs many in one process."""
    top = Parser(prog="opdviz", description="What did training do to the weights?")
    top.add_argument("--version", action="version", version=f"opdviz {__version__}")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        below = subparsers.add_parser(
            command.name,
            help=command.text,
            description=command.text,
            epilog=f"example: {command.example}",
        )
        below.set_defaults(run=command.body)
        for argument in (*command.arguments, CACHE):
            below.add_argument(*argument.names, **argument.options)
    return top
