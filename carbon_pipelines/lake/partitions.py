"""Writing rows to the data files of their partitions.

What belongs here: routing rows to one open file a partition, buffering them to whole row groups,
and the declared partition spec and sort order as Iceberg's. What does not: one file
(``data_file.py``).
"""

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField as IcebergPartitionField
from pyiceberg.partitioning import PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.table.sorting import SortField as IcebergSortField
from pyiceberg.transforms import IdentityTransform, parse_transform

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import DeclaredColumnError
from carbon_pipelines.lake.data_file import ROW_GROUP_ROWS, DataFileWriter, FileTarget
from carbon_pipelines.lake.encodings import fitted
from carbon_pipelines.lake.partition_values import split_by_partition

_FIRST_PARTITION_FIELD_ID = 1000


class PartitionedWriter:
    """Writes batches into one data file for each partition they touch."""

    def __init__(self, target: FileTarget) -> None:
        self._target = target
        self._writers: dict[object, DataFileWriter] = {}
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self.rows = 0

    def write(self, batch: pa.Table | pa.RecordBatch) -> None:
        """Take rows with the columns of ``arrow_schema``; held until they fill a row group."""
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self.rows += table.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> list[DataFile]:
        """Finish all files; none if no row was written."""
        self._flush()
        return [writer.close() for writer in self._writers.values()]

    def abandon(self) -> None:
        """Give the files up."""
        for writer in self._writers.values():
            writer.abandon()

    def _flush(self) -> None:
        if not self._pending_rows:
            return
        table = pa.concat_tables(self._pending)
        self._pending, self._pending_rows = [], 0
        if self._target.spec.is_unpartitioned():
            self._writer(None, table).write(table)
            return
        for partition, rows in split_by_partition(table, self._target.spec, self._target.schema):
            self._writer(partition, rows).write(rows)

    def _writer(self, partition: PartitionKey | None, first: pa.Table) -> DataFileWriter:
        key = partition.partition if partition else None
        if key not in self._writers:
            self._writers[key] = DataFileWriter(fitted(self._target, first), partition)
        return self._writers[key]


def file_target(
    table: Table, schema: Schema | None = None, spec: PartitionSpec | None = None
) -> FileTarget:
    """Where new files of ``table`` go, with ``schema`` and ``spec`` or its current ones."""
    metadata = table.metadata
    return FileTarget(
        table.io, table.location_provider(), schema or metadata.schema(), spec or metadata.spec()
    )


def partition_spec(table: TableSpec, schema: Schema) -> PartitionSpec:
    """The Iceberg partition spec of a declaration.

    Raises:
        DeclaredColumnError: It names a column that ``schema`` lacks.
    """
    fields = [
        IcebergPartitionField(
            source_id=_field_id(table, "partitioning", field.column, schema),
            field_id=_FIRST_PARTITION_FIELD_ID + index,
            transform=parse_transform(field.transform),
            name=_partition_name(field.column, field.transform),
        )
        for index, field in enumerate(table.partitioning)
    ]
    return PartitionSpec(*fields)


def _field_id(table: TableSpec, place: str, name: str, schema: Schema) -> int:
    for field in schema.fields:
        if field.name == name:
            return field.field_id
    raise DeclaredColumnError(table.label, place, name)


def _partition_name(column: str, transform: str) -> str:
    return column if transform == "identity" else f"{column}_{transform.split('[')[0]}"


def sort_order(table: TableSpec, schema: Schema) -> SortOrder:
    """The Iceberg sort order of a declaration; unsorted if none is declared.

    Raises:
        DeclaredColumnError: It names a column that ``schema`` lacks.
    """
    fields = [
        IcebergSortField(
            source_id=_field_id(table, "sort_order", field.column, schema),
            transform=IdentityTransform(),
            direction=SortDirection.ASC if field.direction == "asc" else SortDirection.DESC,
            null_order=NullOrder.NULLS_LAST if field.direction == "asc" else NullOrder.NULLS_FIRST,
        )
        for field in table.sort_order
    ]
    return SortOrder(*fields, order_id=1) if fields else SortOrder(order_id=0)
