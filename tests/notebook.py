"""Runs docs/notebook.ipynb and keeps what its cells show: `python -m tests.notebook`.

Figures are kept as pictures, because the pages that show notebooks run no scripts.
"""

import base64
import os
import re
import tempfile
from pathlib import Path

import nbformat
import plotly.graph_objects as go
from nbclient import NotebookClient

from opdviz.report import picture

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
LIVE, TEXT = "application/vnd.plotly.v1+json", "text/plain"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells, run in a folder."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=where).execute()
    return notebook


def kept(output: dict) -> dict:
    """An output as it is kept: a live figure as a picture."""
    if LIVE in output.get("data", {}):
        figure = go.Figure({k: output["data"][LIVE][k] for k in ("data", "layout")})
        png = picture.picture(figure, "png", width="full", title=True)
        output["data"] = {"image/png": base64.b64encode(png).decode()}
        output["metadata"] = {}
    return output


def write() -> None:
    """Run it, and write it with what it shows."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    for at, cell in enumerate(notebook.cells):
        cell.pop("id", None)
        cell["id"] = f"cell-{at}"
        cell.get("metadata", {}).pop("execution", None)
        if cell.cell_type == "code":
            shows = [one for one in cell.outputs if not is_progress(one)]
            cell.outputs = [kept(output) for output in shows]
    nbformat.write(notebook, NOTEBOOK)


def is_progress(output: dict) -> bool:
    """Whether an output is the line that says how far a comparison is."""
    return bool(re.match(r"^(opdviz: .*)?$", output.get("data", {}).get(TEXT, "-")))


if __name__ == "__main__":
    write()
