"""Creating the Iceberg table of a source table.

What belongs here: namespace, schema, partition spec, sort order and properties of a new table. What
does not: its rows (``first_copy.py``).
"""

from contextlib import suppress

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import SOURCE_COLUMNS, plan_schema, source_columns_property
from carbon_pipelines.lake.partitions import partition_spec, sort_order
from carbon_pipelines.source.relation import SourceRelation

_PROPERTIES = {
    "format-version": "2",
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.previous-versions-max": "100",
    "write.metadata.delete-after-commit.enabled": "true",
}


def create_table(catalog: Catalog, table: TableSpec, relation: SourceRelation) -> Table:
    """Create the table empty, or load it if another process was faster."""
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
                    **_PROPERTIES,
                    SOURCE_COLUMNS: source_columns_property(relation, schema),
                },
            )
        except TableAlreadyExistsError:
            existing = load_table(catalog, table.identifier)
            assert existing is not None
            return existing
    return _with_assigned_ids(created, relation)


def _with_assigned_ids(table: Table, relation: SourceRelation) -> Table:
    """Correct ``carbon.source-columns`` where the catalog gave other field ids than we asked for."""
    assigned = source_columns_property(relation, table.schema())
    if table.properties.get(SOURCE_COLUMNS) != assigned:
        with table.transaction() as transaction:
            transaction.set_properties({SOURCE_COLUMNS: assigned})
    return table
