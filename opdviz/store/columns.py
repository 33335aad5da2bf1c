"""The written contract of what is stored: every table of every measure with its columns, and the type of each column.

The app's process reads tables without loading the engine, so the columns stand here; a test holds them against the measures.
"""

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from opdviz.store.manifest import Manifest

PAIRS = "pairs"  # the names of all pairs; of a bundle, the names of those whose parts it holds
PAIRING = "pairing"  # what stands in the place of a measure for the tables that matching makes
TEXT = {
    "name", "tuned_name", "tower", "block", "module", "shape", "base_dtype", "tuned_dtype", "kind", "precision", "probe",
    "steps", "matrix", "method", "side", "row_bin", "column_bin", "mask", "of", "axis", "token", "measure", "reason",
    "rule", "detail", "verdict",
}  # fmt: skip
WHOLE = {
    "layer", "expert", "rows", "columns", "numel", "nonfinite", "untouched_rows", "decayed_rows", "unchanged", "off_grid",
    "count",
    "index", "rank", "rank_50", "rank_90", "rank_99", "k", "visible", "bin", "row",
}  # fmt: skip
PAIRING_TABLES = {
    "unmatched": ("side", "name", "shape", "reason"),
    "rewrites": ("name", "tuned_name", "rule", "detail"),
}
SKIPPED = {"skipped": ("name", "measure", "reason")}
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    PAIRING: PAIRING_TABLES | {PAIRS: ("name",)},
    "magnitude": {
        "tensors": (
            "name", "tuned_name", "tower", "layer", "block", "module", "expert", "shape", "rows", "columns", "numel",
            "base_dtype", "tuned_dtype", "kind", "base_norm", "tuned_norm", "delta_norm", "relative_norm", "delta_max",
            "delta_mean_abs", "delta_rms", "base_rms", "cosine", "shrink", "nonfinite", "moved", "off_grid",
            "base_norm_bfloat16", "delta_norm_bfloat16", "untouched_rows", "decayed_rows",
        ),
    } | SKIPPED,
    "sparsity": {
        "sparsity": ("name", "precision", "probe", "threshold", "unchanged", "share"),
        "steps": ("name", "precision", "steps", "count", "share"),
    } | SKIPPED,
    "concentration": {"concentration": ("name", "top_share", "energy_share", "chance")},
    "coordinates": {
        "histogram": ("name", "of", "precision", "threshold", "low", "high", "count", "moved", "null_moved"),
        "profile": ("name", "axis", "bin", "low", "high", "moved", "moved_bfloat16", "energy"),
        "rows": ("name", "row", "relative_norm", "moved", "shrink", "cosine", "token"),
    } | SKIPPED,
    "spectrum": {
        "spectrum": ("name", "matrix", "index", "sigma", "energy"),
        "spectrum_summary": (
            "name", "matrix", "spectral_norm", "stable_rank", "entropy_rank", "energy_entropy_rank", "rank_50", "rank_90",
            "rank_99", "norm", "method", "error_bound",
        ),
        "rank": ("name", "matrix", "tolerance", "rank", "share"),
        "top_energy": ("name", "matrix", "k", "share", "energy", "chance"),
        "tail": ("name", "position", "moved_share", "verdict", "reason"),
    } | SKIPPED,
    "geometry": {
        "projection": (
            "name", "side", "share", "k", "energy", "chance", "chance_sd", "chance_profile", "energy_without_shrink",
        ),
        "rotation": ("name", "side", "share", "k", "mean_sine", "rms_sine", "chance", "max_degrees", "gap", "pairs"),
        "angle": ("name", "side", "k", "index", "degrees"),
        "drift": ("name", "drift", "nss", "chance", "drift_per_delta"),
        "basis_energy": ("name", "row_bin", "column_bin", "energy", "chance"),
    } | SKIPPED,
    "coverage": {
        "coverage": (
            "name", "mask", "share", "rank", "probe", "threshold", "precision", "visible", "density", "coverage", "chance",
            "lowest", "highest", "enrichment", "null_low", "null_high", "blind_low", "blind_high",
        ),
    } | SKIPPED,
}  # fmt: skip
FILE = re.compile(r"([a-z0-9_]+)\.([a-z0-9_]+)(?:\.([0-9]+))?\.parquet")


def column_type(table: str, column: str) -> pa.DataType:
    """The stored type of a column: fixed by its name, so that a table of missing values has the same type as a full one."""
    if column in TEXT:
        return pa.string()
    if column in WHOLE or (table, column) == ("tensors", "moved") or (table, column) == ("histogram", "moved"):
        return pa.int64()
    return pa.float64()


def schema(table: str, columns: tuple[str, ...]) -> pa.Schema:
    """The schema of a table with some columns."""
    return pa.schema([(c, column_type(table, c)) for c in columns])


def typed(table: str, columns: tuple[str, ...], rows: Iterable[dict]) -> pa.Table:
    """Rows with every column typed."""
    rows, fields = list(rows), schema(table, columns)
    return pa.Table.from_arrays(
        [pa.array([row.get(c) for row in rows], type=fields.field(c).type) for c in columns], schema=fields
    )


def group_of(file: str) -> tuple[str, ...]:
    """What a stored table belongs to: a measure, or a measure and the number of a bundle.

    >>> group_of("spectrum.geometry.parquet"), group_of("spectrum.geometry.3.parquet")
    (('geometry',), ('geometry', '3'))
    """
    return tuple(file.split(".")[1:-1])


def schema_of_file(name: str) -> pa.Schema | None:
    """The schema of a stored table by its file's name; `None` where no version of ours has such a table.

    >>> schema_of_file("drift.geometry.parquet").names
    ['name', 'drift', 'nss', 'chance', 'drift_per_delta']
    """
    if not (parts := FILE.fullmatch(name)):
        return None
    table, measure, number = parts.groups()
    known = COLUMNS.get(measure, {}) | ({PAIRS: ("name",)} if number else {})
    return schema(table, known[table]) if table in known else None


def wanted_files(manifest: Manifest) -> set[str]:
    """The tables that a manifest has to name: those of matching, of every measure that is whole, and of every bundle."""
    measured = manifest.compacted or manifest.bundled
    wanted = {f"{table}.{PAIRING}.parquet" for table in COLUMNS[PAIRING]} if measured else set()
    for measured_id in manifest.compacted:
        measure = measured_id.split("@")[0]
        wanted |= {f"{table}.{measure}.parquet" for table in COLUMNS.get(measure, {})}
    for measured_id, counts in manifest.bundled.items():
        measure = measured_id.split("@")[0]
        wanted |= {f"{t}.{measure}.{n}.parquet" for n in counts for t in (*COLUMNS.get(measure, {}), PAIRS)}
    return wanted


def wrong_values(rows: pa.Table) -> bool:
    """Whether rows hold what none of ours do: text that is no UTF-8, numbers that are not finite."""
    try:
        rows.validate(full=True)
    except pa.ArrowException:
        return True
    numbers = (rows.column(i) for i, field in enumerate(rows.schema) if field.type == pa.float64())
    return not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers)


def fitting_rows(table: str, columns: tuple[str, ...], name: str, rows: object) -> bool:
    """Whether these are rows of one tensor in a table, every value of its column's type."""
    if not (isinstance(rows, list) and all(isinstance(row, dict) and row.get("name") == name for row in rows)):
        return False
    if not set().union(*rows) <= set(columns) or any(type(v) is bool for row in rows for v in row.values()):
        return False
    try:
        return not wrong_values(typed(table, columns, rows))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
