"""What one DDL of the source does to the schema of an Iceberg table.

What belongs here: planning the change from one recorded shape to the next, pure, and saying why a
DDL has no effect in place. What does not: the schema of a new table (``evolution.py``), when a
change is committed (``schema_follow.py``) and filling a new column (``fill.py``).

Columns are known by ``attnum``. A column that is renamed keeps its field id, one that is dropped
takes its id along, one that is added gets an id that no column ever had. Only what keeps every
value that no event is sent for is followed: an equal type, or one that PostgreSQL's own cast and
Iceberg's promotion widen to the same values.
Source: Iceberg spec, "Schema Evolution"; PostgreSQL manual, ALTER TABLE.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
)

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import UnsupportedSchemaChangeError
from carbon_pipelines.lake.evolution import (
    COMMENT,
    captured_columns,
    check_layout,
    check_protected,
    column_type,
    load_source_columns,
    with_element_ids,
)
from carbon_pipelines.lake.history_columns import check_names
from carbon_pipelines.lake.types import arrow_type
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType

_SAME_TEXT = frozenset({"text", "varchar"})
_UNSEEN = (
    "was found by a look at the source and not recorded at its place (no event triggers, or the "
    "table was out of its publication): rows may have changed without events"
)
_EXACT_CASTS = frozenset(
    {("int2", "int4"), ("int2", "int8"), ("int4", "int8"), ("float4", "float8")}
)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What a schema version asks of the Iceberg table.

    Attributes:
        schema: The table's schema from then on, under the next free id.
        source_columns: attnum (text) -> field id, of the columns of that schema.
        comment: Of the table, if it has one.
        filled: New columns that existing rows have a constant in, by name.
        steps: What changes, for people; none if nothing does.
    """

    schema: Schema
    source_columns: Mapping[str, int]
    comment: str | None
    filled: Mapping[str, str]
    steps: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether anything has to be done."""
        return bool(self.steps)


def plan_change(
    table: Table,
    relation: SourceRelation,
    spec: TableSpec,
    previous: SourceRelation | None,
) -> SchemaChange:
    """What has to change in ``table`` to hold rows of ``relation``.

    Args:
        table: As it is, which may be after this change already.
        relation: The shape after the DDL.
        spec: The declaration under the names of ``relation``.
        previous: The shape recorded before it, which tells a new column from one that was there
            and not captured, and a new label of an enum from a renamed one.

    Raises:
        HistoryColumnError: A column took a name that is one of ours.
        UnsupportedSchemaChangeError: The rows that exist cannot be had without a copy anew.
        LayoutColumnGoneError: A column that the table is partitioned or sorted by was dropped.
        ProtectedColumnMissingError: A protected column was renamed or dropped.
        UnsupportedTypeError: A column's type has no Iceberg type.
    """
    check_protected(relation, spec)
    check_names({column.name for column in captured_columns(relation, spec)}, spec)
    known = load_source_columns(table)
    live = {known[str(c.attnum)] for c in relation.columns if str(c.attnum) in known}
    check_layout(table, live, spec)
    for reason in _reasons(table, relation, spec, previous):
        raise UnsupportedSchemaChangeError(spec.label, reason, relation.version)
    return _Planning(table, relation, spec).change()


def _reasons(
    table: Table, relation: SourceRelation, spec: TableSpec, previous: SourceRelation | None
) -> Iterator[str]:
    """Why a copy anew is needed."""
    yield from _key_changes(relation, spec)
    if relation.rewritten and not relation.cast_only:
        yield _UNSEEN if relation.by_setup else "rewrites the table"
    if previous is None:
        yield "comes after a shape that the DDL history does not hold"
        return
    if previous.leaves - relation.leaves:
        yield "takes partitions away, whose rows go without events"
    if (relation.leaves - previous.leaves) & relation.filled:
        yield "attaches partitions that hold rows already"
    if relabelled := _renamed_labels(previous, relation):
        yield f"renames {relabelled} of an enum"
    before = {column.attnum: column for column in previous.columns}
    there_before = before.keys() | {column.attnum for column in previous.unsent}
    known = load_source_columns(table)
    for column in captured_columns(relation, spec):
        if column.attnum in before:
            yield from _changed_values(before[column.attnum], column, relation)
        if str(column.attnum) in known:
            continue
        if column.attnum in there_before:
            yield f"has {column.name}, which was there before and not captured"
        elif column.generated or relation.rewritten:
            yield f"adds {column.name} with a value for existing rows"


def _key_changes(relation: SourceRelation, spec: TableSpec) -> Iterator[str]:
    """How rows are identified otherwise than declared."""
    if spec.is_bag and relation.replica_identity != "f":
        yield "takes the replica identity away from FULL, so old rows are not sent any more"
    if not spec.key or relation.replica_identity == "f":
        return
    identity = set(relation.identity_columns)
    if missing := [name for name in spec.key if name not in identity]:
        yield f"takes {', '.join(missing)} out of the replica identity, so changes went unseen"
    if more := sorted(identity.difference(spec.key)):
        yield f"adds {', '.join(more)} to the replica identity, so several rows may share a key"


def _renamed_labels(previous: SourceRelation, relation: SourceRelation) -> str:
    """Labels of enums that read otherwise now, in rows that no event is sent for."""
    now = relation.enum_labels
    return ", ".join(
        f"{label} to {now[oid]}"
        for oid, label in previous.enum_labels.items()
        if now.get(oid, label) != label
    )


def _changed_values(
    old: SourceColumn, new: SourceColumn, relation: SourceRelation
) -> Iterator[str]:
    """Whether values that no event is sent for may read otherwise from now on."""
    if old.generated != new.generated:
        yield f"makes {new.name} a column of another kind"
    cast = (old.type.base_name, new.type.base_name)
    if relation.cast_only:
        same = (old.type.name, old.type.typmod) == (new.type.name, new.type.typmod)
        followed = same or cast in _EXACT_CASTS
    else:
        followed = _same_values(old.type, new.type)
    if not followed:
        yield f"changes {new.name} from {old.type.name} to {new.type.name}"


def _same_values(old: SourceType, new: SourceType) -> bool:
    """Whether a value's text is the same in both types, as PostgreSQL rewrote nothing."""
    if old.element is not None or new.element is not None:
        both = old.element is not None and new.element is not None
        return both and _same_values(old.element, new.element)  # pyright: ignore[reportArgumentType]
    return old.base_name == new.base_name or {old.base_name, new.base_name} <= _SAME_TEXT


class _Planning:
    """Walks the columns once; the reasons for a copy anew were looked for before."""

    def __init__(self, table: Table, relation: SourceRelation, spec: TableSpec) -> None:
        self._table, self._relation, self._spec = table, relation, spec
        self._old = {field.field_id: field for field in table.schema().fields}
        self._next_id = table.metadata.last_column_id + 1
        self._steps: list[str] = []
        self._filled: dict[str, str] = {}

    def change(self) -> SchemaChange:
        known = load_source_columns(self._table)
        live = {str(column.attnum) for column in self._relation.columns}
        gone = {i for attnum, i in known.items() if attnum not in live}
        fields = {i: field for i, field in self._old.items() if i not in gone}
        self._steps += [f"drops {self._old[i].name}" for i in gone if i in self._old]
        known = {attnum: i for attnum, i in known.items() if attnum in live}
        for column in captured_columns(self._relation, self._spec):
            field = fields.get(known.get(str(column.attnum), -1))
            made = self._added(column) if field is None else self._kept(field, column)
            fields[made.field_id] = made
            known[str(column.attnum)] = made.field_id
        schema = Schema(
            *fields.values(),
            schema_id=max(self._table.schemas()) + 1,
            identifier_field_ids=self._table.schema().identifier_field_ids,
        )
        comment = self._relation.comment
        if self._table.properties.get(COMMENT) != comment:
            self._steps.append("describes the table")
        return SchemaChange(schema, known, comment, self._filled, tuple(self._steps))

    def _added(self, column: SourceColumn) -> NestedField:
        kind = with_element_ids(column_type(column, self._spec), self._next_id + 1)
        made = NestedField(self._next_id, column.name, kind, required=False, doc=column.comment)
        self._next_id += 2
        self._steps.append(f"adds {column.name}")
        if column.missing_value is not None:
            self._filled[column.name] = column.missing_value
        return made

    def _kept(self, field: NestedField, column: SourceColumn) -> NestedField:
        kind = column_type(column, self._spec)
        if arrow_type(field.field_type) == arrow_type(kind):
            kind = field.field_type
        elif not _promotes(field.field_type, kind):
            change = f"changes {column.name} from {field.field_type} to {kind}"
            raise UnsupportedSchemaChangeError(self._spec.label, change, self._relation.version)
        else:
            self._steps.append(f"widens {column.name} from {field.field_type} to {kind}")
        if field.name != column.name:
            self._steps.append(f"renames {field.name} to {column.name}")
        if field.doc != column.comment:
            self._steps.append(f"describes {column.name}")
        return NestedField(
            field.field_id, column.name, kind, required=field.required, doc=column.comment
        )


def _promotes(old: IcebergType, new: IcebergType) -> bool:
    if isinstance(old, DecimalType) and isinstance(new, DecimalType):
        return old.scale == new.scale and old.precision < new.precision
    pair = (type(old), type(new))
    return pair in {(IntegerType, LongType), (FloatType, DoubleType)}
