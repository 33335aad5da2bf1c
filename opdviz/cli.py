"""The command line: a thin shell over the functions that the app uses too.

Imports stand inside the commands, so that `--version` and `list` do not pay for what `compare` needs.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from opdviz import __version__, commands, lab_commands
from opdviz.errors import MachineError, OpdvizError, RequestError, one_line

INTERRUPTED = 130
FORMATS = ("csv", "json", "parquet")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit 2."""

    def error(self, message: str):
        raise RequestError(f"{self.prog}: {one_line(message)}. `{self.prog} --help` shows what it takes.")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. Failures are one line on stderr, never a traceback."""
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup and the like had it ignored
        signal.signal(signal.SIGINT, interrupt)
    code = run(arguments)
    if arguments is None:  # this is the program, and all is done: a signal now would only garble its end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    except MemoryError:
        print("opdviz: out of memory; what was finished is kept. Run it again with --workers 1.", file=sys.stderr)
        return 3
    except BrokenPipeError:  # the reader of a pipe left: `opdviz show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"opdviz: {one_line(error)}", file=sys.stderr)
        return 3


def parsed(top: Parser, arguments: list[str] | None) -> argparse.Namespace:
    """The options of a command line; recipe names may also stand after options, where argparse no longer looks for them."""
    options, rest = top.parse_known_args(arguments)
    if rest and not (hasattr(options, "recipe") and not any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.recipe += rest
    return options


def leave(code: int) -> int:
    """End at once, without tearing the interpreter down: a pool's clean-up would wait for workers that died holding its
    queue and never return, and Arrow's threads, still at work when the libraries go, have aborted commands that were done.
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
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def parser() -> Parser:
    """Every command with its options."""
    top = Parser(prog="opdviz", description="What did training do to the weights?")
    top.add_argument("--version", action="version", version=f"opdviz {__version__}")
    known = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--cache", type=Path, help="the store (default: $OPDVIZ_CACHE or cache/)")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        made = known.add_parser(name, help=text, description=text, parents=[shared])
        made.set_defaults(run=run)
        return made

    c = command("check", commands.check, "what two checkpoints have in common, from their headers alone")
    add_pair(c)
    c = command("compare", commands.compare, "measure the update between two checkpoints and keep it")
    add_pair(c)
    c.add_argument("--name", help="a name to find it by")
    c.add_argument("--device", default="cpu", help="where the decompositions run (this version: cpu)")
    c.add_argument("--measures", help="comma-separated; all by default, magnitude always")
    c.add_argument("--tensors", metavar="GLOB", help="only tensors whose name fits")
    c.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    c = command("list", commands.list_, "the comparisons in the cache")
    c.add_argument("--json", action="store_true")
    c = command("show", commands.show, "print one tidy table")
    c.add_argument("key")
    c.add_argument("table")
    c.add_argument("--format", choices=FORMATS, default="csv")
    c.add_argument("--out", type=Path, help="write to this file instead")
    c = command("headline", commands.headline, "a paper's row beside its published numbers")
    c.add_argument("key")
    c.add_argument("--protocol", default="A", help="A, B, C or D")
    c.add_argument("--json", action="store_true")
    c = command(
        "subnetwork", lab_commands.subnetwork, "write one run's visible-update mask, to train that subnetwork alone"
    )
    c.add_argument("key")
    c.add_argument("--threshold", type=float, help="a coordinate is in it where |D| in bf16 is larger (default: 1e-5)")
    c.add_argument("--density", type=float, help="instead: the share of coordinates to keep, the most moved ones")
    c.add_argument("--out", type=Path, required=True, metavar="FILE")
    c = command("overlap", lab_commands.overlap, "do two runs on one base move the same coordinates?")
    c.add_argument("key", nargs=2)
    c.add_argument("--json", action="store_true")
    c = command("verify", commands.verify, "re-read the store and say what is wrong with it")
    c.add_argument("key", nargs="?")
    c.add_argument("--content", action="store_true", help="also read the checkpoints again")
    c = command("rename", commands.rename, "give a comparison another name")
    c.add_argument("key")
    c.add_argument("name")
    c = command("forget", commands.forget, "delete comparisons from the cache")
    c.add_argument("key", nargs="+")
    c = command("block", commands.block, "read a small block of values and keep it beside the tables")
    c.add_argument("key")
    c.add_argument("tensor")
    c.add_argument("--row", type=int, default=0)
    c.add_argument("--column", type=int, default=0)
    c.add_argument("--size", type=int, default=128)
    c = command("lab", lab_commands.lab, "train small models, and measure the papers' claims on them")
    c.add_argument("action", choices=("list", "run", "grade", "evaluate", "ship"))
    c.add_argument(
        "recipe", nargs="*", default=[], help="names or groups (main, ablation, sweep, all); `lab list` shows them"
    )
    c.add_argument("--seed", type=int, default=0)
    c.add_argument("--steps", type=int, help="another length than the recipe's; kept apart")
    c.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    c.add_argument("--master", action="store_true", help="also keep the float32 weights")
    c.add_argument("--json", action="store_true")
    c = command("app", commands.app, "open the dashboard")
    c.add_argument("--roots", nargs="+", type=Path, metavar="DIR", help="folders below which checkpoints may be listed")
    c.add_argument("--read-only", action="store_true", help="no jobs can be started from the pages")
    c.add_argument("--demo", action="store_true", help="start comparing the demo pair, if that is not done yet")
    c.add_argument("streamlit", nargs="*", help="after --: options for streamlit")
    return top


def add_pair(command: argparse.ArgumentParser) -> None:
    """The arguments of the commands that take two checkpoints."""
    command.add_argument("base", type=Path)
    command.add_argument("tuned", type=Path)
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    command.add_argument("--json", action="store_true")
