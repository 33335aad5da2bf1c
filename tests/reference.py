"""What is written from the code itself: `python -m tests.reference` writes docs/commands.md, the
reference of commands, and docs/reproduce.md, the public pairs with their published numbers.
"""

import argparse
from pathlib import Path

from opdviz.cli import COMMANDS
from opdviz.cli.command import CACHE, Argument, Command
from opdviz.tables import reproduction

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


PAIRS = Path(__file__).parent.parent / "docs" / "reproduce.md"
PAIRS_HEAD = """# Reproduce

`opdviz reproduce NAME` says what there is to download, brings both models by `huggingface_hub` (with its cache, token and
mirrors), compares them, and prints our numbers beside the published ones; exit code 1 where one is not as published.
`--base` and `--tuned` name them where they lie on a disk already. This page is written from the data: `python -m tests.reference`.

Papers name models and no revisions, so that models are taken as they stand. Two papers that counted the same files
(Polaris-4B, 79.9 and 79.3 %) and others differ by up to 0.9 points: shares are held to that, or to a fifth of a small share;
norms and ranks, which are printed to two or three digits, to 2 %; what a script wrote in full to one part in a thousand. Each number is
worked out by its paper's own choices (`opdviz headline --protocol`); `top256_energy` is not stored and stays open.
None of these pairs was downloaded where this was written: what the tests compare are small stand-ins on a server of their own.
"""


def pairs_text() -> str:
    """The page of public pairs."""
    return "\n".join([PAIRS_HEAD, *map(pair_section, reproduction.pairs().values())])


def pair_section(pair: reproduction.PublicPair) -> str:
    """A pair with its published numbers."""
    rows = [
        f"| {row['paper']} | `{row['quantity']}`{f' of `{tensor}`' if tensor else ''}"
        f" | {row['value']:g} {'%' if row['unit'] == '%' else ''} | {reproduction.tolerance(row):.2g} |"
        for row in pair.numbers
        for tensor in [reproduction.matrix_of(row)[1]]
    ]
    title = f"## {pair.name}\n{pair.recipe}, {pair.parameters}: `hf://{pair.base}` to `hf://{pair.tuned}`.\n"
    return "\n".join(
        [title, "| paper | quantity | published | +- |", "|---|---|--:|--:|", *rows, ""]
    )


if __name__ == "__main__":
    PAGE.write_text(text())
    PAIRS.write_text(pairs_text())
