"""Source tables as PostgreSQL has them: external, so that lineage starts where the data does."""

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.keys import table_key


def source_table(table: TableSpec) -> dg.AssetSpec:
    """The external asset of one declared table."""
    relation = f"{table.source_schema}.{table.source_table}"
    return dg.AssetSpec(
        key=table_key("source", table),
        group_name="source",
        kinds={"postgres"},
        owners=[table.owner],
        description=f"{relation} in PostgreSQL, written by its application. {table.description}",
        metadata={"carbon/relation": relation},
        tags={"carbon/database": table.database},
    )


def source_tables(catalog: Catalog) -> dg.Definitions:
    """One external asset per declared table."""
    return dg.Definitions(assets=[source_table(table) for table in catalog.tables])
