"""``lake/<database>/<table>``: the Iceberg tables, one asset for each.

Materializing merges what Kafka holds by then. It does not drain the source: that is
``stream/<database>``, upstream, and a run of both gives everything committed before the run.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import database_key, table_key
from carbon_pipelines.defs.lake.checks import flows, is_parked, lacks, lake_checks, stands
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import CarbonPipelinesError, TableParkedError

if TYPE_CHECKING:
    from carbon_pipelines.lake.freshness import Freshness
    from carbon_pipelines.lake.sync import TableSynced

_CLASSES = ("public", "internal", "confidential", "restricted")  # from open to strict


def lake_table(table: TableSpec, database: DatabaseSpec) -> dg.AssetsDefinition:
    """The asset that merges one table's next change events, or copies it the first time."""

    @dg.asset(
        key=table_key("lake", table),
        deps=[database_key("stream", database)],
        group_name="lake",
        kinds={"iceberg"},
        owners=[table.owner],
        description=table.description,
        metadata=_declared_metadata(table),
        tags=table_tags(table),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=table.freshness),
        pool="lake",
        retry_policy=RETRIES,
        check_specs=lake_checks(table),
        output_required=False,  # a parked table is not materialized, and that is no failure
    )
    def merged(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from carbon_pipelines.lake.sync import sync_table

        with as_failure():
            try:
                report = context.log.info
                facts = sync_table(table, database, endpoints.resolve(), report=report)
            except TableParkedError as parked:
                context.log.warning(str(parked))
                yield from is_parked(table, parked)
                return
            except CarbonPipelinesError as error:
                if not error.retryable:
                    yield stands(table, error)
                raise
        checks = [flows(table), lacks(table, len(facts.progress.dead_letters))]
        metadata = synced_metadata(facts)
        if warning := _renamed_key(table, facts.key):
            context.log.warning(warning)
            metadata["carbon/renamed_key"] = warning
        yield dg.MaterializeResult(metadata=metadata, check_results=checks)

    return merged


def lake_tables(catalog: Catalog) -> dg.Definitions:
    """One asset per declared table."""
    return dg.Definitions(
        assets=[
            lake_table(table, database)
            for database in catalog.databases
            for table in database.tables
        ]
    )


def _declared_metadata(table: TableSpec) -> dict[str, Any]:
    """What the declaration promises, for the asset's page."""
    classified = {
        name: column.classification
        for name, column in table.columns.items()
        if column.classification is not None
    }
    metadata: dict[str, Any] = {
        "dagster/table_name": ".".join(table.identifier),
        "carbon/relation": f"{table.source_schema}.{table.source_table}",
        "carbon/mode": table.mode,
        "carbon/key": list(table.key),
    }
    if classified:
        metadata["carbon/classification"] = classified
    if table.dropped_columns:
        metadata["carbon/dropped_columns"] = sorted(table.dropped_columns)
    return metadata


def table_tags(table: TableSpec) -> dict[str, str]:
    """Searchable: the database, and the strictest classification of any column that is kept."""
    kept = [
        column.classification
        for column in table.columns.values()
        if column.classification is not None and column.protect != "drop"
    ]
    tags = {"carbon/database": table.database}
    if kept:
        tags["carbon/classification"] = max(kept, key=_CLASSES.index)
    return tags


def _renamed_key(table: TableSpec, now: Iterable[str]) -> str | None:
    """What to do about a key that the source calls otherwise than the declaration."""
    renamed, missing = sorted(set(now) - {*table.key}), sorted({*table.key}.difference(now))
    if not (table.key and renamed and missing):
        return None
    return (
        f"{table.label}: key column {', '.join(missing)} is called {', '.join(renamed)} in its "
        "source now. Its rows were followed. Declare the key under that name: as declared, the "
        "next drain refuses the table."
    )


def synced_metadata(facts: "TableSynced") -> dict[str, Any]:
    """The facts of one merge under the names every dashboard knows."""
    columns = [
        dg.TableColumn(name, kind, description=facts.column_comments.get(name))
        for name, kind in facts.column_schema
    ]
    metadata: dict[str, Any] = {
        "dagster/row_count": facts.row_count,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "carbon/position": str(facts.position),
        "carbon/first_offset": facts.first_offset,
        "carbon/last_offset": facts.last_offset,
        "carbon/lag_offsets": facts.lag_offsets,
        "carbon/dead_letters": len(facts.progress.dead_letters),
        "carbon/committed": facts.committed,
        "carbon/copied_rows": facts.copied_rows,
        "carbon/upserted_rows": facts.upserted_rows,
        "carbon/deleted_rows": facts.deleted_rows,
        "carbon/seconds_by_step": dict(facts.seconds_by_step),
    }
    if facts.comment:
        metadata["carbon/source_comment"] = facts.comment
    if facts.recopied:
        metadata["carbon/recopied_because"] = list(facts.recopied)
    if facts.schema_steps:
        metadata["carbon/schema_changes"] = list(facts.schema_steps)
    if facts.freshness.changes:
        metadata["carbon/visible_after_seconds"] = seconds_to_visible(facts.freshness)
    if facts.snapshot_id is not None:
        metadata["carbon/snapshot_id"] = str(facts.snapshot_id)  # no number to plot
    return metadata


def seconds_to_visible(freshness: "Freshness") -> dict[str, float]:
    """How long changes took from their commit in PostgreSQL to being visible here."""
    return {
        "p50": round(freshness.quantile(0.5), 2),
        "p99": round(freshness.quantile(0.99), 2),
        "longest": round(freshness.oldest_seconds, 2),
    }
