"""The schema of an Iceberg table, as its source's columns make it.

What belongs here: planning a schema from a source relation, pure. What does not: types
(``types.py``), values (``codec.py``) and following a DDL (``schema_change.py``).

Columns are known by ``attnum``, which survives a rename in PostgreSQL; the table property
``carbon.source-columns`` keeps attnum -> Iceberg field id.
"""

import json
from collections.abc import Collection

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, ListType, NestedField

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    LakeColumnsChangedError,
    LayoutColumnGoneError,
    ProtectedColumnMissingError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.history_columns import check_names, history_fields, identifying
from carbon_pipelines.lake.types import arrow_type, iceberg_type
from carbon_pipelines.source.relation import SourceColumn, SourceRelation

SOURCE_COLUMNS = "carbon.source-columns"
"""Table property: JSON object of attnum (text) to Iceberg field id."""
FOLLOWED = "carbon.schema-followed"
"""Table property: JSON list of the schema versions that the columns were followed from and to."""
MODE = "carbon.mode"
"""Table property: the declared mode that the rows were written with; older tables have none."""
COMMENT = "comment"
"""Table property that engines show as the table's comment: the source's."""


def load_source_columns(table: Table) -> dict[str, int]:
    """Attnum (text) -> field id of every source column that the table knows."""
    return json.loads(table.properties[SOURCE_COLUMNS])


def followed_version(table: Table, version: int) -> int:
    """The schema version whose columns the table has, for rows that stand at ``version``.

    It is a later one if columns were followed and no merge has moved the rows since. A version from
    before those that were followed is none of their history.
    """
    first, last = json.loads(table.properties.get(FOLLOWED, f"[{version}, {version}]"))
    return last if first <= version < last else version


def captured_columns(relation: SourceRelation, table: TableSpec) -> tuple[SourceColumn, ...]:
    """The relation's columns without those that the declaration drops."""
    return tuple(c for c in relation.columns if c.name not in table.dropped_columns)


def check_columns(table: Table, present: SourceRelation, spec: TableSpec) -> None:
    """Events are merged by name, so the table has to call its columns as ``present`` does.

    Raises:
        LakeColumnsChangedError: Names the first column that it does not have as followed.
    """
    known = load_source_columns(table)
    names = {field.field_id: field.name for field in table.schema().fields}
    for column in captured_columns(present, spec):
        found = names.get(known.get(str(column.attnum), -1))
        if found != column.name:
            raise LakeColumnsChangedError(spec.label, column.name, found, present.version)


def check_protected(relation: SourceRelation, table: TableSpec) -> None:
    """A protected column is known by its name: without it, another name may be it.

    Raises:
        ProtectedColumnMissingError: Names them.
    """
    missing = sorted(table.dropped_columns - relation.column_names)
    if missing:
        raise ProtectedColumnMissingError(table.label, ", ".join(missing))


def check_layout(table: Table, field_ids: Collection[int], spec: TableSpec) -> None:
    """Files are laid out by columns of these ids: a schema without them describes no such file.

    Raises:
        LayoutColumnGoneError: Names the first column that is missing in ``field_ids``.
    """
    for how, fields in (
        ("partitioned", table.spec().fields),
        ("sorted", table.sort_order().fields),
    ):
        for field in fields:
            if field.source_id not in field_ids:
                name = table.schema().find_column_name(field.source_id)
                raise LayoutColumnGoneError(spec.label, name or f"field {field.source_id}", how)


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
        HistoryColumnError, ProtectedColumnMissingError, UnsupportedTypeError: Nothing may be
            copied.
    """
    check_protected(relation, table)
    columns = captured_columns(relation, table)
    check_names({column.name for column in columns}, table)
    fields = [
        NestedField(
            number,
            column.name,
            with_element_ids(column_type(column, table), len(columns) + number),
            required=column.name in table.key,
            doc=column.comment,
        )
        for number, column in enumerate(columns, start=1)
    ]
    if table.is_history:
        fields += history_fields(2 * len(columns) + 1)
    ids = {field.name: field.field_id for field in fields}
    return Schema(*fields, identifier_field_ids=[ids[name] for name in identifying(table)])


def with_element_ids(kind: IcebergType, element_id: int) -> IcebergType:
    """A list type with an id for its elements; any other as it is."""
    if isinstance(kind, ListType):
        return ListType(element_id, kind.element_type, element_required=False)
    return kind


def plan_renewed_schema(table: Table, relation: SourceRelation, spec: TableSpec) -> Schema:
    """The schema of a copy that replaces the rows of an existing table.

    A column that is the same (attnum and type) keeps its field id under its present name; any other
    gets a new id, so that no reader takes old values for new ones.

    Raises:
        HistoryColumnError, ProtectedColumnMissingError, LayoutColumnGoneError,
            UnsupportedTypeError: Nothing may be copied.
    """
    check_protected(relation, spec)
    check_names({column.name for column in captured_columns(relation, spec)}, spec)
    known = load_source_columns(table) if SOURCE_COLUMNS in table.properties else {}
    old = {field.field_id: field for field in table.schema().fields}
    next_id = table.metadata.last_column_id + 1
    fields: list[NestedField] = []
    for column in captured_columns(relation, spec):
        kind = column_type(column, spec)
        field = old.get(known.get(str(column.attnum), -1))
        required = column.name in spec.key
        if field is not None and arrow_type(field.field_type) == arrow_type(kind):
            fields.append(
                NestedField(
                    field.field_id,
                    column.name,
                    field.field_type,
                    required=required,
                    doc=column.comment,
                )
            )
            continue
        fields.append(
            NestedField(
                next_id,
                column.name,
                with_element_ids(kind, next_id + 1),
                required=required,
                doc=column.comment,
            )
        )
        next_id += 2
    if spec.is_history:
        there = {field.name: field for i, field in old.items() if i not in known.values()}
        fields += [there.get(field.name, field) for field in history_fields(next_id)]
    ids = {field.name: field.field_id for field in fields}
    check_layout(table, ids.values(), spec)
    return Schema(*fields, identifier_field_ids=[ids[name] for name in identifying(spec)])


def table_properties(relation: SourceRelation, schema: Schema, table: TableSpec) -> dict[str, str]:
    """The table properties that say what a table holds: columns of which source, and which rows."""
    return {MODE: table.mode, **source_properties(relation, schema)}


def source_properties(relation: SourceRelation, schema: Schema) -> dict[str, str]:
    """The table properties that say what a schema made by ``plan_schema`` was made of."""
    properties = {
        SOURCE_COLUMNS: source_columns_property(relation, schema),
        FOLLOWED: json.dumps([relation.version, relation.version]),
    }
    return properties if relation.comment is None else {**properties, COMMENT: relation.comment}


def source_columns_property(relation: SourceRelation, schema: Schema) -> str:
    """The value of ``carbon.source-columns`` for a schema made by ``plan_schema``."""
    ids = {field.name: field.field_id for field in schema.fields}
    return json.dumps({str(c.attnum): ids[c.name] for c in relation.columns if c.name in ids})


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
