"""Creating Iceberg tables: that of a source table, and those of our own.

What belongs here: namespace, schema, partition spec, sort order and properties of a new table. What
does not: its rows (``first_copy.py``).
"""

from collections.abc import Iterable
from contextlib import suppress

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, NestedField

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import StateMissingError
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import (
    SOURCE_COLUMNS,
    plan_schema,
    source_columns_property,
    table_properties,
)
from carbon_pipelines.lake.partitions import partition_spec, sort_order
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.state import created_properties
from carbon_pipelines.source.relation import SourceRelation

PROPERTIES = {
    "format-version": "2",
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.previous-versions-max": "100",
    "write.metadata.delete-after-commit.enabled": "true",
}


def create_table(catalog: Catalog, table: TableSpec, relation: SourceRelation) -> Table:
    """Create the table without rows; one that is there already is loaded as it is.

    A new table begins with an empty snapshot: PyIceberg refuses to write a branch of a table that
    has none, and the first copy grows on a branch.
    """
    existing = load_table(catalog, table.identifier)
    if existing is None:
        existing = _create(catalog, table, relation)
    if existing.metadata.snapshots:
        return existing
    with lake_errors(f"Iceberg table {table.label}"):
        begun = commit_files(existing, FileChanges(), created_properties())
    return begun.table if begun is not None else _reload(catalog, table)


def _create(catalog: Catalog, table: TableSpec, relation: SourceRelation) -> Table:
    schema = plan_schema(relation, table)
    with lake_errors(f"Iceberg table {table.label}"):
        with suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(table.identifier[0])
        try:
            created = catalog.create_table(
                table.identifier,
                schema=schema,
                partition_spec=partition_spec(table, schema),
                sort_order=sort_order(table, schema),
                properties={
                    **PROPERTIES,
                    **table_properties(relation, schema, table),
                },
            )
        except TableAlreadyExistsError:
            return _reload(catalog, table)
        return _with_assigned_ids(created, relation)


def _reload(catalog: Catalog, table: TableSpec) -> Table:
    existing = load_table(catalog, table.identifier)
    if existing is None:
        raise StateMissingError(table.label)
    return existing


def _with_assigned_ids(table: Table, relation: SourceRelation) -> Table:
    """Correct ``carbon.source-columns`` where the catalog gave other field ids than asked for."""
    assigned = source_columns_property(relation, table.schema())
    if table.properties.get(SOURCE_COLUMNS) != assigned:
        with table.transaction() as transaction:
            transaction.set_properties({SOURCE_COLUMNS: assigned})
    return table


def create_own_table(
    catalog: Catalog,
    identifier: tuple[str, str],
    columns: Iterable[tuple[str, IcebergType, bool]],
    label: str,
) -> Table:
    """Create a table that mirrors no source; one that is there already is loaded as it is.

    Args:
        catalog: Where to.
        identifier: Namespace and name.
        columns: Name, type, and whether it is required, of each.
        label: Names it in errors.
    """
    fields = [
        NestedField(number, name, kind, required=required)
        for number, (name, kind, required) in enumerate(columns, start=1)
    ]
    with lake_errors(label):
        with suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(identifier[0])
        try:
            return catalog.create_table(
                identifier, schema=Schema(*fields), properties=dict(PROPERTIES)
            )
        except TableAlreadyExistsError:
            return catalog.load_table(identifier)
