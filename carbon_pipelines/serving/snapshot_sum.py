"""What a table snapshot's rows are, counted and summed by an engine that is not the one asked.

What belongs here: the columns that Trino can show, and their sum by DuckDB. What does not: how the
sum is defined (``row_sum.py``) and what is shown (``trino_serving.py``).

Of a snapshot with more than ``WHOLE_ROWS`` rows only the columns of the key are summed, or the
first column where there is no key: both engines would read all of a large table for each move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, TimestamptzType

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.errors import LakeUnreadableError
from carbon_pipelines.lake.delete_file import count_rows
from carbon_pipelines.lake.trino import quoted
from carbon_pipelines.quality.lake_scan import open_engine, snapshot_sql
from carbon_pipelines.serving.row_sum import RowSum, sum_select

WHOLE_ROWS = 2_000_000
MEMORY_BYTES = 300_000_000
THREADS = 2
_LAST = "TIMESTAMPTZ '73326-01-01 00:00:00+00'"
"""Trino keeps a moment with time zone in 52 bits of milliseconds, and fails on one beyond."""


@dataclass(frozen=True, slots=True)
class SnapshotSum:
    """A snapshot as it is to be shown.

    Attributes:
        columns: Those that Trino can read, by their Iceberg types.
        left_out: Those that it cannot.
        summed: Columns that the sum is of.
    """

    snapshot_id: int
    columns: Mapping[str, IcebergType]
    left_out: tuple[str, ...]
    summed: tuple[str, ...]
    rows: RowSum

    def select(self) -> str:
        """The same two numbers in Trino, as a SELECT list."""
        return sum_select("trino", {name: self.columns[name] for name in self.summed})


def sum_snapshot(
    lake: LakeEndpoint, table: Table, snapshot_id: int, key: Sequence[str], *, label: str
) -> SnapshotSum:
    """Count and sum the rows of a snapshot with DuckDB.

    Raises:
        LakeUnreadableError: DuckDB cannot read it.
    """
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    number = snapshot.schema_id if snapshot.schema_id is not None else table.schema().schema_id
    schema = table.schemas()[number]
    kinds = {field.name: field.field_type for field in schema.fields}
    moments = [name for name, kind in kinds.items() if isinstance(kind, TimestamptzType)]
    whole = count_rows(snapshot, table.io) <= WHOLE_ROWS
    rows = snapshot_sql(table, snapshot_id)
    try:
        with open_engine(lake, memory_bytes=MEMORY_BYTES, threads=THREADS) as engine:
            beyond = _beyond(engine, rows, moments)
            columns = {name: kind for name, kind in kinds.items() if name not in beyond}
            keys = tuple(name for name in key if name in columns) or tuple(columns)[:1]
            summed = tuple(columns) if whole else keys
            of = sum_select("duckdb", {name: columns[name] for name in summed})
            found = engine.execute(f"SELECT {of} FROM {rows}").fetchall()
    except duckdb.Error as error:
        raise LakeUnreadableError(label, snapshot_id, str(error)) from error
    [(count, total)] = found
    return SnapshotSum(snapshot_id, columns, tuple(beyond), summed, RowSum(int(count), int(total)))


def _beyond(
    engine: duckdb.DuckDBPyConnection, rows: str, moments: Sequence[str]
) -> tuple[str, ...]:
    """The columns with a moment that Trino cannot read."""
    if not moments:
        return ()
    asked = ", ".join(
        f"coalesce(bool_or(NOT isfinite({name}) OR {name} >= {_LAST}), false)"
        for name in map(quoted, moments)
    )
    [found] = engine.execute(f"SELECT {asked} FROM {rows}").fetchall()
    return tuple(name for name, is_beyond in zip(moments, found, strict=True) if is_beyond)
