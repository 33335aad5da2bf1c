"""The written contract of what is stored: the columns of every table with their types, and which
tables there must be.

The tables of measures are declared beside what makes them; those that matching makes stand here.
"""

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from opdviz.measures import MEASURES
from opdviz.store.manifest import Manifest

Columns = Mapping[str, type]
TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
PAIRS = "pairs"  # the names of all pairs; of a bundle, the names of those whose parts it holds
PAIRING = "pairing"  # what stands in the place of a measure for the tables that matching makes
NAMES = {"name": str}
PAIRING_TABLES: dict[str, Columns] = {
    "unmatched": {"side": str, "name": str, "shape": str, "reason": str},
    "rewrites": {"name": str, "tuned_name": str, "rule": str, "detail": str},
}
COLUMNS: dict[str, dict[str, Columns]] = {
    PAIRING: {**PAIRING_TABLES, PAIRS: NAMES},
    **{measure.NAME: measure.TABLES for measure in MEASURES},
}
BY_TABLE: dict[str, Columns] = {
    table: columns for tables in COLUMNS.values() for table, columns in tables.items()
}
FILE = re.compile(r"([a-z0-9_]+)\.([a-z0-9_]+)(?:\.([0-9]+))?\.parquet")


def schema(columns: Columns) -> pa.Schema:
    """The schema of some columns: a table of missing values has the same types as a full one."""
    return pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])


def typed(columns: Columns, rows: Iterable[dict]) -> pa.Table:
    """Rows with every column typed."""
    rows = list(rows)
    arrays = [
        pa.array([row.get(name) for row in rows], type=TYPES[kind])
        for name, kind in columns.items()
    ]
    return pa.Table.from_arrays(arrays, schema=schema(columns))


def group_of(file: str) -> tuple[str, ...]:
    """What a stored table belongs to: a measure, or a measure and the number of a bundle.

    >>> group_of("spectrum.geometry.parquet"), group_of("spectrum.geometry.3.parquet")
    (('geometry',), ('geometry', '3'))
    """
    return tuple(file.split(".")[1:-1])


def schema_of_file(name: str) -> pa.Schema | None:
    """The schema of a stored table by its file's name; `None` where no version of ours has such a
    table.

    >>> schema_of_file("drift.geometry.parquet").names
    ['name', 'drift', 'nss', 'chance', 'drift_per_delta']
    """
    if not (parts := FILE.fullmatch(name)):
        return None
    table, measure, number = parts.groups()
    tables = COLUMNS.get(measure, {}) | ({PAIRS: NAMES} if number else {})
    return schema(tables[table]) if table in tables else None


def wanted_files(manifest: Manifest) -> set[str]:
    """The tables that a manifest has to name: those of matching, of every measure that is whole,
    and of every bundle.
    """
    measured = manifest.compacted or manifest.bundled
    names = {f"{table}.{PAIRING}.parquet" for table in COLUMNS[PAIRING]} if measured else set()
    for measured_id in manifest.compacted:
        measure = measured_id.split("@")[0]
        names |= {f"{table}.{measure}.parquet" for table in COLUMNS.get(measure, {})}
    for measured_id, counts in manifest.bundled.items():
        measure = measured_id.split("@")[0]
        names |= {
            f"{t}.{measure}.{n}.parquet" for n in counts for t in (*COLUMNS.get(measure, {}), PAIRS)
        }
    return names


def wrong_values(rows: pa.Table) -> bool:
    """Whether rows hold what none of ours do: text that is no UTF-8, or numbers not finite."""
    try:
        rows.validate(full=True)
    except pa.ArrowException:
        return True
    numbers = (rows.column(i) for i, field in enumerate(rows.schema) if field.type == pa.float64())
    return not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers)


def rows_in_shape(columns: Columns, name: str, rows: object) -> bool:
    """Whether these are rows of one tensor that have no other columns than a table's."""
    return (
        isinstance(rows, list)
        and all(isinstance(row, dict) and row.get("name") == name for row in rows)
        and set().union(*rows) <= set(columns)
    )


def fitting_values(columns: Columns, rows: list[dict]) -> bool:
    """Whether every value of such rows is of its column's type."""
    floats = [column for column, kind in columns.items() if kind is float]
    # In whole numbers and text Arrow finds them itself; as floats they would be 0 and 1.
    if any(type(row.get(column)) is bool for row in rows for column in floats):
        return False
    try:
        return not wrong_values(typed(columns, rows))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
