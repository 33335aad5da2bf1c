"""The reference of commands, written from the commands themselves: `python -m tests.reference`
writes docs/commands.md.
"""

import argparse
from pathlib import Path

from opdviz.cli import COMMANDS
from opdviz.cli.command import CACHE, Argument, Command

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """# Commands

Every command, as `opdviz COMMAND --help` says it. This page is written from the commands: `python -m tests.reference`.
`--cache DIR`, or `OPDVIZ_CACHE`, names the store everywhere (default `cache/`). Exit codes: 0 done, 1 a check failed, 2 the
request was wrong, 3 the machine failed and what is done is kept, 130 interrupted.
"""


def text() -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(section, COMMANDS)])


def section(command: Command) -> str:
    """A command with its arguments and its example."""
    rows = [row(argument) for argument in command.arguments if not hidden(argument)]
    table = ["| argument | what it is |", "|---|---|", *rows, ""] if rows else []
    sentence = f"{command.text[0].upper()}{command.text[1:]}".removesuffix(".")
    title = [f"## opdviz {command.name}", sentence + "." * (sentence[-1] != "?"), ""]
    return "\n".join([*title, *table, f"    {command.example}", ""])


def row(argument: Argument) -> str:
    """An argument as a row of a table."""
    options = argument.options
    name = argument.names[-1]
    if name.startswith("-"):
        value = options.get("metavar") or name.lstrip("-").upper().replace("-", "_")
        takes = "" if options.get("action") == "store_true" else f" {value}"
        many = "..." if options.get("nargs") in ("+", "*") else ""
        words = f"`{name}{takes}{many}`"
    else:
        many = "..." if options.get("nargs") in ("+", "*") else ""
        words = f"`{options.get('metavar') or name.upper()}{many}`"
    return f"| {words} | {said(options)} |"


def said(options: dict) -> str:
    """What an argument is: its help, what it may be, what it is without."""
    pieces = [options["help"].replace("%%", "%")] if options.get("help") else []
    if choices := options.get("choices"):
        pieces.append(f"one of {', '.join(f'`{choice}`' for choice in choices)}")
    default = options.get("default")
    # How many processes there are depends on the machine, and the help says so.
    if (
        isinstance(default, str | int)
        and default not in (None, False, "")
        and "core" not in str(options.get("help"))
    ):
        pieces.append(f"default `{default}`")
    return "; ".join(pieces).replace("|", "\\|") or "-"


def hidden(argument: Argument) -> bool:
    """Whether an argument is none of the user's."""
    return argument is CACHE or argument.options.get("help") == argparse.SUPPRESS


if __name__ == "__main__":
    PAGE.write_text(text())
