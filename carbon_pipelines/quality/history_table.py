"""An Iceberg table that grows by a few rows at a time, for ever, and stays cheap.

What belongs here: its files and commits: rows of several tables of the lake in one commit, small
files put together as they become many, and the ids of what was written in the summary of the
commit that wrote it. What does not: what the rows say (``history.py``), and expiring its snapshots,
which is upkeep as for every table of the lake.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, EqualTo
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.types import IcebergType

from carbon_pipelines.errors import CommitConflictError
from carbon_pipelines.lake.commit import commit_files, discard_files
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.file_rows import as_columns
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_creation import create_own_table
from carbon_pipelines.lake.table_files import LiveFile, TableFiles, load_table_files

Row = dict[str, Any]
Plan = Callable[[Table], Mapping[str, tuple[str, Sequence[Row]]]]
"""From the table as loaded to the rows to add: by label, with the id that they have there."""

WRITTEN = "carbon.written"
"""Summary property: JSON object of label to the id of the rows that the commit has of it."""
FORMAT_VERSION = "1"
COMMIT_ATTEMPTS = 20
MERGED_FILES = 32
"""Small files that are written together as soon as there are so many."""
SMALL_FILE_BYTES = 8 * 1024 * 1024

_equals = cast("Callable[[str, object], BooleanExpression]", EqualTo)


class HistoryTable:
    """One such table; ``columns`` are name, type and whether each row has a value.

    Three of the columns are known here: ``table_name``, the label that rows are looked up by,
    ``scored_at``, which orders them, and ``score_id``.
    """

    def __init__(
        self,
        catalog: Catalog,
        identifier: tuple[str, str],
        columns: Sequence[tuple[str, IcebergType, bool]],
    ) -> None:
        self._catalog, self._identifier, self._columns = catalog, identifier, columns

    def add(self, plan: Plan) -> None:
        """Commit what ``plan`` makes of the table, planned anew whenever another commit is first.

        That rows are there once rests on this: a plan lands only on the snapshot it was made for.

        Raises:
            CommitConflictError: Others won again and again (retryable).
        """
        for _ in range(COMMIT_ATTEMPTS):
            table = load_table(self._catalog, self._identifier) or create_own_table(
                self._catalog, self._identifier, self._columns, self._label
            )
            planned = plan(table)
            if not planned or self._commit(table, planned):
                return
        raise CommitConflictError(".".join(self._identifier), COMMIT_ATTEMPTS)

    def last_id(self, table: Table, label: str) -> str | None:
        """The id of the newest rows of ``label``; None if there are none.

        Summaries tell; rows are read only if no snapshot that is left wrote any of ``label``.
        """
        head = table.current_snapshot()
        for snapshot in ancestors_of(head, table.metadata) if head else ():
            summary = snapshot.summary.additional_properties if snapshot.summary else {}
            written = json.loads(summary.get(WRITTEN, "{}"))
            if label in written:
                return written[label]
        newest = self._newest(table, label, ("scored_at", "score_id"))
        return newest["score_id"] if newest else None

    def newest(self, label: str, columns: Sequence[str]) -> Row | None:
        """Some columns, ``scored_at`` among them, of the newest row of ``label``."""
        table = load_table(self._catalog, self._identifier)
        return self._newest(table, label, columns) if table is not None else None

    def _newest(self, table: Table, label: str, columns: Sequence[str]) -> Row | None:
        with lake_errors(self._label):
            scan = table.scan(
                row_filter=_equals("table_name", label), selected_fields=tuple(columns)
            )
            rows = scan.to_arrow().to_pylist()
        return max(rows, key=lambda row: row["scored_at"], default=None)

    @property
    def _label(self) -> str:
        return f"Iceberg table {'.'.join(self._identifier)}"

    def _commit(self, table: Table, planned: Mapping[str, tuple[str, Sequence[Row]]]) -> bool:
        schema = arrow_schema(table.schema())
        rows = [row for _, added in planned.values() for row in added]
        with lake_errors(self._label):
            files = load_table_files(table.current_snapshot(), table.io)
            merged = _to_merge(files)
            parts = [_read(table, live) for live in merged]
            whole = pa.concat_tables([*parts, pa.Table.from_pylist(rows, schema=schema)])
            writer = PartitionedWriter(file_target(table))
            writer.write(whole.sort_by([("table_name", "ascending"), ("scored_at", "ascending")]))
            added = writer.close()
            changes = FileChanges(added, removed_data=merged, manifests=files.manifests)
            written = {label: found for label, (found, _) in planned.items()}
            properties = {
                WRITTEN: json.dumps(written),
                "carbon.quality_format": FORMAT_VERSION,
            }
            committed = commit_files(table, changes, properties)
            if committed is None:
                discard_files(table.io, added)
        return committed is not None


def _to_merge(files: TableFiles) -> list[LiveFile]:
    """The small files, if they are many; those with deletes, which we never write, are left."""
    small = [
        live
        for live in files.data
        if live.file.file_size_in_bytes < SMALL_FILE_BYTES and not any(files.deletes_for(live))
    ]
    return small if len(small) >= MERGED_FILES else []


def _read(table: Table, live: LiveFile) -> pa.Table:
    with table.io.new_input(live.file.file_path).open() as stream:
        return as_columns(pq.read_table(stream), table.schema())
