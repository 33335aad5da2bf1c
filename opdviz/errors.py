"""The few kinds of failure that a user meets, each with its exit code.

A message is one line: what was called, what was found, what was expected, what to do.
"""


class OpdvizError(Exception):
    """Base of every error that opdviz raises on purpose; caught at the borders (command, job,
    page).
    """

    exit_code = 3


class RequestError(OpdvizError):
    """The request was wrong: a path, a name, a file that is no checkpoint."""

    exit_code = 2


class CheckFailed(OpdvizError):
    """A check ran and found something wrong."""

    exit_code = 1


class MachineError(OpdvizError):
    """The machine failed: disk full, memory, workers lost. What was finished is kept."""

    exit_code = 3


def one_line(text: object, *, limit: int = 300) -> str:
    """`text` as a single printable line of at most `limit` characters.

    >>> one_line("a\\nb")
    'a b'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
