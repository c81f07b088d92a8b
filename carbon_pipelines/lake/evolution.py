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
from carbon_pipelines.errors import UnsupportedSchemaChangeError, UnsupportedTypeError
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
    """The Iceberg schema of a new table; key columns are required and identifier fields."""
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
    """
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


def plan_change(table: Table, relation: SourceRelation, spec: TableSpec) -> SchemaChange:
    """What has to change in ``table`` to hold rows of ``relation``.

    Raises:
        UnsupportedSchemaChangeError: Anything but columns added at the end without a constant
            default; the table has to be copied anew.
    """
    known: Mapping[str, int] = json.loads(table.properties[SOURCE_COLUMNS])
    fields = {field.field_id: field for field in table.schema().fields}
    added: list[AddedColumn] = []
    live = {str(column.attnum) for column in relation.columns}
    gone = [fields[i].name for attnum, i in known.items() if attnum not in live and i in fields]
    if gone:
        raise UnsupportedSchemaChangeError(spec.label, f"drops {', '.join(gone)}", relation.version)
    keyless = [name for name in spec.key if not _is_key(relation, name)]
    if keyless:
        change = f"takes {', '.join(keyless)} out of the replica identity, so changes went unseen"
        raise UnsupportedSchemaChangeError(spec.label, change, relation.version)
    if relation.rewritten:
        raise UnsupportedSchemaChangeError(spec.label, "rewrites the table", relation.version)
    for column in captured_columns(relation, spec):
        kind = column_type(column, spec)
        field_id = known.get(str(column.attnum))
        if field_id is None:
            if column.missing_value is not None or column.generated:
                raise UnsupportedSchemaChangeError(
                    spec.label,
                    f"adds {column.name} with a value for existing rows",
                    relation.version,
                )
            added.append(AddedColumn(column.attnum, column.name, kind))
            continue
        field = fields[field_id]
        if field.name != column.name:
            change = f"renames {field.name} to {column.name}"
            raise UnsupportedSchemaChangeError(spec.label, change, relation.version)
        if arrow_type(field.field_type) != arrow_type(kind):
            change = f"changes {column.name} from {field.field_type} to {kind}"
            raise UnsupportedSchemaChangeError(spec.label, change, relation.version)
    return SchemaChange(relation.version, tuple(added))


def _is_key(relation: SourceRelation, name: str) -> bool:
    """Whether ``name`` still identifies rows; a column that was renamed is judged elsewhere."""
    named = [column for column in relation.columns if column.name == name]
    return not named or named[0].key_position is not None or relation.replica_identity == "f"


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
