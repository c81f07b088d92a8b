"""An Iceberg table whose rows are all replaced at once.

What belongs here: the one commit that takes every row away and brings the new ones, their columns
included. What does not: where the rows come from (``duckdb_plugin.py``).

A reader sees the rows of before or those of after. The first commit makes the table along with its
rows. A commit that another one comes before is planned again on top of it: the last one stays. What
keeps an older build from being the last one is that builds of a mart do not overlap.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.update import (
    AddSchemaUpdate,
    SetCurrentSchemaUpdate,
    UpdatesAndRequirements,
)
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from carbon_pipelines.errors import CommitConflictError, MartColumnTypeError
from carbon_pipelines.lake.commit import commit_files, discard_files, same_columns
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges, RowDelta
from carbon_pipelines.lake.table_creation import PROPERTIES
from carbon_pipelines.lake.table_files import load_table_files

Rows = Callable[[], pa.RecordBatchReader]
"""Reads all rows anew, in the same order and batches each time."""

FINGERPRINT = "carbon.mart_rows"
"""Summary property: a digest of the rows in their order."""
COMMIT_ATTEMPTS = 10

_TYPES: Mapping[pa.DataType, IcebergType] = {
    pa.bool_(): BooleanType(),
    pa.int8(): IntegerType(),
    pa.int16(): IntegerType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float64(): DoubleType(),
    pa.string(): StringType(),
    pa.large_string(): StringType(),
    pa.date32(): DateType(),
    pa.timestamp("us"): TimestampType(),
    pa.timestamp("us", tz="UTC"): TimestamptzType(),
}


def replace_rows(
    catalog: Catalog, identifier: tuple[str, str], rows: Rows, properties: Mapping[str, str]
) -> bool:
    """Make ``rows`` the table's only ones; whether that took a commit.

    Nothing is committed if the table's newest snapshot was made of the same rows and columns.

    Args:
        catalog: Where the table is, or is to be.
        identifier: Namespace and name.
        rows: Read twice, a batch at a time.
        properties: Go into the snapshot's summary.

    Raises:
        MartColumnTypeError: A column has a type that is not for marts.
        CommitConflictError: Others committed first again and again (retryable).
        CommitUnknownError: The answer to the commit was lost (retryable).
    """
    columns = _columns(rows().schema, identifier[1])
    noted = {**properties, FINGERPRINT: _fingerprint(rows)}
    with lake_errors(f"Iceberg table {'.'.join(identifier)}"):
        for _ in range(COMMIT_ATTEMPTS):
            table = load_table(catalog, identifier)
            if table is None:
                if _create(catalog, identifier, columns, rows, noted):
                    return True
            elif _is_same(table, columns, noted[FINGERPRINT]):
                return False
            elif _replace(table, columns, rows, noted):
                return True
    raise CommitConflictError(".".join(identifier), COMMIT_ATTEMPTS)


Columns = Sequence[tuple[str, IcebergType]]


def _columns(schema: pa.Schema, mart: str) -> Columns:
    return [(field.name, _iceberg_type(field, mart)) for field in schema]


def _iceberg_type(field: pa.Field, mart: str) -> IcebergType:
    if pa.types.is_decimal128(field.type):
        return DecimalType(field.type.precision, field.type.scale)
    if field.type not in _TYPES:
        raise MartColumnTypeError(mart, field.name, str(field.type))
    return _TYPES[field.type]


def _fingerprint(rows: Rows) -> str:
    digest = hashlib.sha256()
    for batch in rows():
        nulls = [array.is_null().cast(pa.uint8()) for array in batch.columns]
        filled = [_without_nulls(array) for array in batch.columns]
        names = [str(number) for number in range(2 * batch.num_columns)]
        digest.update(pa.RecordBatch.from_arrays([*nulls, *filled], names=names).serialize())
    return digest.hexdigest()


def _without_nulls(array: pa.Array) -> pa.Array:
    """The same values; what is in memory where there is none depends on who wrote it."""
    if not array.null_count:
        return array
    if array.null_count == len(array):
        return pa.array([0] * len(array), pa.int8())
    return array.fill_null(array.drop_null()[0])


def _is_same(table: Table, columns: Columns, fingerprint: str) -> bool:
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    known = summary.additional_properties.get(FINGERPRINT) if summary else None
    return known == fingerprint and _named(table.schema()) == list(columns)


def _named(schema: Schema) -> list[tuple[str, IcebergType]]:
    return [(field.name, field.field_type) for field in schema.fields]


def _create(
    catalog: Catalog,
    identifier: tuple[str, str],
    columns: Columns,
    rows: Rows,
    properties: dict[str, str],
) -> bool:
    """Make the table with its rows in one commit; false if another made it first."""
    schema = Schema(*(NestedField(n, *column) for n, column in enumerate(columns, start=1)))
    with suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(identifier[0])
    try:
        begun = catalog.create_table_transaction(
            identifier, schema=schema, properties=dict(PROPERTIES)
        )
    except TableAlreadyExistsError:
        return False
    staged = begun._table  # pyright: ignore[reportPrivateUsage]
    changes = FileChanges(_write(PartitionedWriter(file_target(staged)), rows, staged.schema()))
    RowDelta(begun, changes, properties).commit()
    try:
        begun.commit_transaction()
    except (CommitFailedException, TableAlreadyExistsError):
        discard_files(staged.io, changes.added_data)
        return False
    return True


def _replace(table: Table, columns: Columns, rows: Rows, properties: dict[str, str]) -> bool:
    """One attempt on the table as loaded; false if another commit came first."""
    schema, first = _evolved(table, columns)
    files = load_table_files(table.current_snapshot(), table.io)
    added = _write(PartitionedWriter(file_target(table, schema)), rows, schema)
    changes = FileChanges(
        added,
        removed_data=files.data,
        removed_deletes=[*files.deletes, *files.equality_deletes],
        manifests=files.manifests,
    )
    committed = commit_files(table, changes, properties, schema=schema, first=first)
    if committed is None:
        discard_files(table.io, added)
    return committed is not None


def _write(writer: PartitionedWriter, rows: Rows, schema: Schema) -> list:
    """The data files that hold the rows."""
    wanted = arrow_schema(schema)
    try:
        for batch in rows():
            arrays = [batch.column(field.name).cast(field.type) for field in wanted]
            writer.write(pa.RecordBatch.from_arrays(arrays, schema=wanted))
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def _evolved(table: Table, columns: Columns) -> tuple[Schema, UpdatesAndRequirements]:
    """The schema for ``columns``, and what makes it current in the commit that brings the rows.

    A column keeps its id while it keeps its name and type; under another type it is another one,
    which is no loss, for no row of before stays.
    """
    current = table.schema()
    if _named(current) == list(columns):
        return current, ((), same_columns(table))
    known = {(field.name, field.field_type): field.field_id for field in current.fields}
    last = table.metadata.last_column_id
    fields: list[NestedField] = []
    for name, kind in columns:
        number = known.get((name, kind))
        if number is None:
            last += 1
            number = last
        fields.append(NestedField(number, name, kind))
    schema = Schema(*fields)
    before = next((one for one in table.schemas().values() if one.fields == schema.fields), None)
    requirements = same_columns(table)
    if before is not None:
        chosen = SetCurrentSchemaUpdate.model_validate({"schema-id": before.schema_id})
        return before, ((chosen,), requirements)
    schema = Schema(*fields, schema_id=max(table.schemas()) + 1)
    added = AddSchemaUpdate.model_validate({"schema": schema})
    chosen = SetCurrentSchemaUpdate.model_validate({"schema-id": -1})
    return schema, ((added, chosen), requirements)
