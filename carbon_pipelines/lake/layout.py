"""The schema, partition spec and sort order of a copy that replaces a table's rows.

What belongs here: having them in the table before they are the table's own, so that files can be
written with them, and the updates that make them so. What does not: planning a schema
(``evolution.py``), the declaration's spec and order (``partitions.py``), and when they become
current (``staging.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSortOrderUpdate,
    AssertLastAssignedPartitionId,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    TableUpdate,
)

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import LayoutColumnGoneError, PartitionColumnNewError
from carbon_pipelines.lake.commit import commit_updates, same_columns
from carbon_pipelines.lake.evolution import plan_renewed_schema, table_properties
from carbon_pipelines.lake.partitions import partition_spec, sort_order
from carbon_pipelines.source.relation import SourceRelation


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a copy lie.

    Attributes:
        schema: In the table under its id.
        spec: Likewise.
        sort_order: As declared; gets its id when it is added.
        properties: Of the table, that go with the schema.
    """

    schema: Schema
    spec: PartitionSpec
    sort_order: SortOrder
    properties: Mapping[str, str]


def stage_layout(
    table: Table, relation: SourceRelation, declared: TableSpec
) -> tuple[Table, Layout]:
    """Have what ``declared`` makes of ``relation`` in the table, without making it current.

    A schema or spec that is there already is used as it is.

    Returns:
        The table as it is then, and the layout.

    Raises:
        CommitFailedException: The table got other columns meanwhile, whose ids may be the same.
        DeclaredColumnError: The declaration partitions or sorts by a column that is not there.
        LayoutColumnGoneError: The table is partitioned or sorted by a column that is gone.
        PartitionColumnNewError: The copy's spec is over a column that the table has not yet.
    """
    planned = plan_renewed_schema(table, relation, declared)
    wanted = plan_renewed_spec(table, partition_spec(declared, planned))
    _check_sources(table, planned, wanted, declared)
    order = sort_order(declared, planned)
    schema = next((s for s in table.schemas().values() if s.fields == planned.fields), None)
    updates: tuple[TableUpdate, ...] = ()
    if schema is None:
        schema = Schema(
            *planned.fields,
            schema_id=max(table.schemas()) + 1,
            identifier_field_ids=planned.identifier_field_ids,
        )
        updates += (AddSchemaUpdate.model_validate({"schema": schema}),)
    if wanted.spec_id not in table.specs():
        updates += (AddPartitionSpecUpdate(spec=wanted),)
    if updates:
        same_partitions = AssertLastAssignedPartitionId.model_validate(
            {"last-assigned-partition-id": table.metadata.last_partition_id}
        )
        table = commit_updates(table, (updates, (*same_columns(table), same_partitions)))
    schema = next(s for s in table.schemas().values() if s.fields == schema.fields)
    spec = next(s for s in table.specs().values() if s.fields == wanted.fields)
    return table, Layout(schema, spec, order, table_properties(relation, schema, declared))


def plan_renewed_spec(table: Table, declared: PartitionSpec) -> PartitionSpec:
    """``declared`` with the ids it has or gets in ``table``.

    A field over the same column with the same transform keeps its id. The name of another field
    goes to no new one: readers join the fields of all specs.
    """
    fields: list[PartitionField] = []
    known = [field for spec in table.specs().values() for field in spec.fields]
    next_id = (table.metadata.last_partition_id or 999) + 1
    for field in declared.fields:
        same = [old for old in known if _means(old) == _means(field)]
        if same:
            fields.append(same[-1])
            continue
        taken = any(old.name == field.name for old in known)
        name = f"{field.name}_{next_id}" if taken else field.name
        fields.append(PartitionField(field.source_id, next_id, field.transform, name))
        next_id += 1
    for spec in table.specs().values():
        if spec.fields == tuple(fields):
            return spec
    return PartitionSpec(*fields, spec_id=max(table.specs()) + 1)


def _check_sources(
    table: Table, planned: Schema, wanted: PartitionSpec, declared: TableSpec
) -> None:
    """Every spec in the table has to be over columns of the schema that is current.

    Trino fails on the whole table otherwise, and REST catalogs refuse the spec. The new spec is
    there before the new schema is current; the old ones stay, for the snapshots that need them.
    """
    for spec in table.specs().values():
        for field in spec.fields:
            if planned.find_column_name(field.source_id) is None:
                gone = table.schema().find_column_name(field.source_id) or field.name
                raise LayoutColumnGoneError(declared.label, gone, "partitioned")
    for field in wanted.fields:
        if table.schema().find_column_name(field.source_id) is None:
            new = planned.find_column_name(field.source_id) or field.name
            raise PartitionColumnNewError(declared.label, new)


def _means(field: PartitionField) -> tuple[int, str]:
    return field.source_id, str(field.transform)


def plan_layout_updates(table: Table, layout: Layout) -> tuple[TableUpdate, ...]:
    """What makes ``layout`` that of ``table``."""
    updates: tuple[TableUpdate, ...] = (
        SetCurrentSchemaUpdate.model_validate({"schema-id": layout.schema.schema_id}),
        SetPropertiesUpdate(updates=dict(layout.properties)),
    )
    if layout.spec.spec_id != table.metadata.default_spec_id:
        updates += (SetDefaultSpecUpdate.model_validate({"spec-id": layout.spec.spec_id}),)
    orders = table.sort_orders()
    if layout.sort_order.fields == table.sort_order().fields:
        return updates
    known = [i for i, order in orders.items() if order.fields == layout.sort_order.fields]
    # 0 is the id of the unsorted order and of no other
    order_id = known[0] if known else (max(orders) + 1 if layout.sort_order.fields else 0)
    if not known:
        order = SortOrder(*layout.sort_order.fields, order_id=order_id)
        updates += (AddSortOrderUpdate.model_validate({"sort-order": order}),)
    return (*updates, SetDefaultSortOrderUpdate.model_validate({"sort-order-id": order_id}))
