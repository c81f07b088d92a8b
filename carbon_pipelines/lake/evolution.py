"""The schema of an Iceberg table, and how it follows the source's.

What belongs here: planning a schema from a source relation and planning the change from one to the
next, pure; applying such a plan to a transaction. What does not: types (``types.py``), values
(``codec.py``) and when a change applies (``merge.py``: with the first batch of the new version).

Columns are known by ``attnum``, which survives a rename in PostgreSQL; the table property
``carbon.source-columns`` keeps attnum -> Iceberg field id.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.types import IcebergType, ListType, NestedField

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    ProtectedColumnMissingError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.types import arrow_type, iceberg_type
from carbon_pipelines.source.relation import SourceColumn, SourceRelation

SOURCE_COLUMNS = "carbon.source-columns"
"""Table property: JSON object of attnum (text) to Iceberg field id."""


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column that the source has and the lake has not."""

    attnum: int
    name: str
    type: IcebergType


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What a schema version asks of the Iceberg table; empty if nothing."""

    version: int
    added: tuple[AddedColumn, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything has to be done."""
        return bool(self.added)


def captured_columns(relation: SourceRelation, table: TableSpec) -> tuple[SourceColumn, ...]:
    """The relation's columns without those that the declaration drops."""
    return tuple(c for c in relation.columns if c.name not in table.dropped_columns)


def check_protected(relation: SourceRelation, table: TableSpec) -> None:
    """A protected column is known by its name: without it, another name may be it.

    Raises:
        ProtectedColumnMissingError: Names them.
    """
    missing = sorted(table.dropped_columns - relation.column_names)
    if missing:
        raise ProtectedColumnMissingError(table.label, ", ".join(missing))


def column_type(column: SourceColumn, table: TableSpec) -> IcebergType:
    """The Iceberg type of one column.

    Raises:
        UnsupportedTypeError: Names table and column.
    """
    spec = table.columns.get(column.name)
    try:
        return iceberg_type(column.type, spec.type if spec else None)
    except UnsupportedTypeError as error:
        raise UnsupportedTypeError(error.type_name, column.name, table.label) from None


def plan_schema(relation: SourceRelation, table: TableSpec) -> Schema:
    """The Iceberg schema of a new table; key columns are required and identifier fields.

    Raises:
        ProtectedColumnMissingError, UnsupportedTypeError: Nothing may be copied.
    """
    check_protected(relation, table)
    columns = captured_columns(relation, table)
    fields = [
        NestedField(
            number,
            column.name,
            _with_element_ids(column_type(column, table), len(columns) + number),
            required=column.name in table.key,
        )
        for number, column in enumerate(columns, start=1)
    ]
    ids = {field.name: field.field_id for field in fields}
    return Schema(*fields, identifier_field_ids=[ids[name] for name in table.key])


def _with_element_ids(kind: IcebergType, element_id: int) -> IcebergType:
    if isinstance(kind, ListType):
        return ListType(element_id, kind.element_type, element_required=False)
    return kind


def plan_renewed_schema(table: Table, relation: SourceRelation, spec: TableSpec) -> Schema:
    """The schema of a copy that replaces the rows of an existing table.

    A column that is the same (attnum and type) keeps its field id under its present name; any other
    gets a new id, so that no reader takes old values for new ones.

    Raises:
        ProtectedColumnMissingError, UnsupportedTypeError: Nothing may be copied.
    """
    check_protected(relation, spec)
    known: Mapping[str, int] = json.loads(table.properties.get(SOURCE_COLUMNS, "{}"))
    old = {field.field_id: field for field in table.schema().fields}
    next_id = table.metadata.last_column_id + 1
    fields: list[NestedField] = []
    for column in captured_columns(relation, spec):
        kind = column_type(column, spec)
        field = old.get(known.get(str(column.attnum), -1))
        required = column.name in spec.key
        if field is not None and arrow_type(field.field_type) == arrow_type(kind):
            fields.append(
                NestedField(field.field_id, column.name, field.field_type, required=required)
            )
            continue
        fields.append(
            NestedField(
                next_id, column.name, _with_element_ids(kind, next_id + 1), required=required
            )
        )
        next_id += 2
    ids = {field.name: field.field_id for field in fields}
    return Schema(*fields, identifier_field_ids=[ids[name] for name in spec.key])


def source_columns_property(relation: SourceRelation, schema: Schema) -> str:
    """The value of ``carbon.source-columns`` for a schema made by ``plan_schema``."""
    ids = {field.name: field.field_id for field in schema.fields}
    return json.dumps({str(c.attnum): ids[c.name] for c in relation.columns if c.name in ids})


def plan_change(
    table: Table, relation: SourceRelation, spec: TableSpec, previous: SourceRelation | None
) -> SchemaChange:
    """What has to change in ``table`` to hold rows of ``relation``.

    ``previous``, the shape recorded before, tells a new column from one that was there and not
    captured, and a new label of an enum from a renamed one.

    Raises:
        UnsupportedSchemaChangeError: Anything but columns added at the end without a constant
            default; the table has to be copied anew.
        ProtectedColumnMissingError: A protected column was renamed or dropped.
    """
    known: Mapping[str, int] = json.loads(table.properties[SOURCE_COLUMNS])
    fields = {field.field_id: field for field in table.schema().fields}

    def refused(change: str) -> UnsupportedSchemaChangeError:
        return UnsupportedSchemaChangeError(spec.label, change, relation.version)

    check_protected(relation, spec)
    live = {str(column.attnum) for column in relation.columns}
    gone = [fields[i].name for attnum, i in known.items() if attnum not in live and i in fields]
    if gone:
        raise refused(f"drops {', '.join(gone)}")
    names = {attnum: fields[i].name for attnum, i in known.items() if i in fields}
    if change := _key_change(relation, spec, names):
        raise refused(change)
    if relation.rewritten:
        raise refused("rewrites the table")
    if previous is None:
        raise refused("comes after a shape that the DDL history does not hold")
    if relabelled := _renamed_labels(previous, relation):
        raise refused(f"renames {relabelled} of an enum")
    there_before = {column.attnum for column in (*previous.columns, *previous.unsent)}
    added: list[AddedColumn] = []
    for column in captured_columns(relation, spec):
        kind = column_type(column, spec)
        field_id = known.get(str(column.attnum))
        if field_id is None:
            if column.attnum in there_before:
                raise refused(f"has {column.name}, which was there before and not captured")
            if column.missing_value is not None or column.generated:
                raise refused(f"adds {column.name} with a value for existing rows")
            added.append(AddedColumn(column.attnum, column.name, kind))
            continue
        field = fields[field_id]
        if field.name != column.name:
            raise refused(f"renames {field.name} to {column.name}")
        if arrow_type(field.field_type) != arrow_type(kind):
            raise refused(f"changes {column.name} from {field.field_type} to {kind}")
    return SchemaChange(relation.version, tuple(added))


def _key_change(relation: SourceRelation, spec: TableSpec, names: Mapping[str, str]) -> str:
    """How rows are identified otherwise than declared, if so.

    ``names`` are the lake's, by attnum: a column that was renamed is judged elsewhere.
    """
    if not spec.key or relation.replica_identity == "f":
        return ""
    identity = {
        names.get(str(column.attnum), column.name)
        for column in relation.columns
        if column.key_position is not None
    }
    if missing := [name for name in spec.key if name not in identity]:
        return f"takes {', '.join(missing)} out of the replica identity, so changes went unseen"
    if more := sorted(identity.difference(spec.key)):
        return f"adds {', '.join(more)} to the replica identity, so several rows may share a key"
    return ""


def _renamed_labels(previous: SourceRelation, relation: SourceRelation) -> str:
    """Labels of enums that read otherwise now, in rows that no event is sent for."""
    now = relation.enum_labels
    return ", ".join(
        f"{label} to {now[oid]}"
        for oid, label in previous.enum_labels.items()
        if now.get(oid, label) != label
    )


def apply_change(transaction: Transaction, change: SchemaChange) -> None:
    """Stage ``change`` in ``transaction``, the map of attnums included."""
    if not change:
        return
    with transaction.update_schema(allow_incompatible_changes=False) as update:
        for column in change.added:
            update.add_column((column.name,), column.type)
    metadata = transaction.table_metadata
    known: dict[str, int] = json.loads(metadata.properties[SOURCE_COLUMNS])
    schema = metadata.schema()
    for column in change.added:
        known[str(column.attnum)] = schema.find_field(column.name).field_id
    transaction.set_properties({SOURCE_COLUMNS: json.dumps(known)})


def arrow_schema(schema: Schema) -> pa.Schema:
    """The Arrow schema of data files: our Arrow types with Parquet field ids, lists included."""
    return pa.schema([_arrow_field(field) for field in schema.fields])


def _arrow_field(field: NestedField) -> pa.Field:
    kind = arrow_type(field.field_type)
    if isinstance(field.field_type, ListType):
        element = pa.field(
            "element",
            kind.value_type,
            metadata={b"PARQUET:field_id": str(field.field_type.element_id)},
        )
        kind = pa.list_(element)
    metadata = {b"PARQUET:field_id": str(field.field_id)}
    return pa.field(field.name, kind, nullable=not field.required, metadata=metadata)
