"""A frame as the bytes of a file: CSV, Parquet and JSON for programs; LaTeX and Markdown for
papers, where the first column has words and the others numbers.
"""

import io
import json
import re
from collections.abc import Callable

import pandas as pd

from opdviz.tables.stored import records

LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "–": "--", "→": r"$\rightarrow$", "≤": r"$\leq$", "<": r"\textless{}"}
    | {">": r"\textgreater{}", "|": r"\textbar{}", "\n": " "}
)


def csv(frame: pd.DataFrame) -> bytes:
    """A header and a line a row, without an index."""
    return frame.to_csv(index=False).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    """A Parquet file without an index."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def as_json(frame: pd.DataFrame) -> bytes:
    """One value: a list of objects, missing values as null."""
    return (json.dumps(records(frame), allow_nan=False) + "\n").encode()


def latex(frame: pd.DataFrame) -> bytes:
    """A tabular with the rules of booktabs."""
    head, *rows = [" & ".join(one.translate(LATEX) for one in row) for row in texts(frame)]
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(frame.columns) - 1)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def markdown(frame: pd.DataFrame) -> bytes:
    """A table as GitHub and most others read it."""
    head, *rows = [[escaped(one) for one in row] for row in texts(frame)]
    marks = ["---"] + ["--:"] * (len(frame.columns) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *rows)).encode()


def escaped(text: str) -> str:
    """A text as one cell of a Markdown table, where nothing of it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


def texts(frame: pd.DataFrame) -> list[list[str]]:
    """Header and rows as text, missing values empty."""
    rows = [["" if pd.isna(v) else str(v) for v in row] for row in frame.itertuples(index=False)]
    return [[str(name) for name in frame.columns], *rows]


WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": csv,
    "parquet": parquet,
    "json": as_json,
    "tex": latex,
    "md": markdown,
}
