"""One place that spells asset keys, so a table is called the same thing at every stage."""

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec

STAGES = ("source", "stream", "lake", "maintenance", "quality", "mart", "serving", "cluster")


def table_key(stage: str, table: TableSpec) -> dg.AssetKey:
    """``stage/database/table``."""
    return dg.AssetKey([stage, *table.identifier])


def database_key(stage: str, database: DatabaseSpec) -> dg.AssetKey:
    """``stage/database``."""
    return dg.AssetKey([stage, database.name])


def mart_key(name: str) -> dg.AssetKey:
    """``mart/<model>``."""
    return dg.AssetKey(["mart", name])


def served_key(system: str, *name: str) -> dg.AssetKey:
    """``serving/<system>/<name>``."""
    return dg.AssetKey(["serving", system, *name])
