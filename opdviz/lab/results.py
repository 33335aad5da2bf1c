"""The lab's results as tidy tables, kept as Parquet: those made on this machine, or those that come with the package."""

import io
from pathlib import Path

import pandas as pd

from opdviz.store import write

TABLES = ("runs", "curve", "diagnostics", "overlap", "layers")
FOLDER = "results"
SHIPPED = Path(__file__).parent / "shipped" / FOLDER


def keep(found: dict[str, pd.DataFrame], into: Path) -> None:
    """Write every table as Parquet."""
    for name, table in found.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        write(into / f"{name}.parquet", buffer.getvalue())


def read(root: Path) -> dict[str, pd.DataFrame]:
    """Every table: those made on this machine, or those that come with the package; empty frames where neither is."""
    folder = root / FOLDER if (root / FOLDER / "runs.parquet").is_file() else SHIPPED
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    return {name: pd.read_parquet(file) if file.is_file() else pd.DataFrame() for name, file in files.items()}
