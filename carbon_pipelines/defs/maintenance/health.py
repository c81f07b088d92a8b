"""``maintenance/<database>/<table>``: how healthy a lake table is, to be plotted over time.

What belongs here: the assets and their numbers. What does not: the score
(``maintenance/health.py``) and what is done about it (``actions.py``). Only metadata is read, so
looking every hour costs next to nothing.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import CarbonPipelinesError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog as LakeCatalog

    from carbon_pipelines.maintenance.health import Health

POOL = "maintenance"
GAIN = "carbon/worth_compacting"
EXPIRED = "carbon/expired_snapshots"


def database_health(database: DatabaseSpec) -> dg.AssetsDefinition:
    """The assets of one database, in one step: a step each would cost more than looking."""

    @dg.multi_asset(
        name=f"health_{database.name}",
        specs=[
            dg.AssetSpec(
                table_key("maintenance", table),
                deps=[table_key("lake", table)],
                group_name="maintenance",
                kinds={"iceberg"},
                owners=[table.owner],
                description=f"Health of lake table {table.label}: at 100 it needs no upkeep.",
                skippable=True,
            )
            for table in database.tables
        ],
        can_subset=True,
        pool=POOL,
        retry_policy=RETRIES,
    )
    def judged(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult]:
        from carbon_pipelines.lake.connection import open_catalog

        errors: list[CarbonPipelinesError] = []
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            for table in database.tables:
                key = table_key("maintenance", table)
                if key not in context.selected_asset_keys:
                    continue
                try:
                    metadata = judge(lake, table)
                except CarbonPipelinesError as error:
                    context.log.error(str(error))  # noqa: TRY400 (the cause is raised below)
                    errors.append(error)
                    continue
                context.log.info(metadata["carbon/because"])
                yield dg.MaterializeResult(asset_key=key, metadata=metadata)
            if errors:
                raise errors[0]

    return judged


def judge(lake: "LakeCatalog", table: TableSpec) -> dict[str, Any]:
    """What one look at a table tells."""
    from carbon_pipelines.maintenance.expiry_run import load_expiry_plan
    from carbon_pipelines.maintenance.health import judge_health
    from carbon_pipelines.maintenance.retention import Retention
    from carbon_pipelines.maintenance.table_facts import load_facts

    loaded, expiry = load_expiry_plan(lake, table.identifier, Retention(), datetime.now(UTC))
    health = judge_health(load_facts(loaded))
    return {**health_metadata(health), EXPIRED: len(expiry.snapshots) + expiry.more}


def health_metadata(health: "Health") -> dict[str, Any]:
    """The numbers that are plotted, and why points were lost."""
    metadata: dict[str, Any] = {
        "carbon/score": round(health.score, 1),
        "carbon/files": health.files,
        "carbon/small_files": health.small_files,
        "carbon/size_bytes": health.size_bytes,
        "carbon/delete_ratio": round(health.delete_ratio, 4),
        "carbon/delete_files": health.delete_files,
        "carbon/dangling_delete_files": health.dangling_delete_files,
        "carbon/manifests": health.manifests,
        "carbon/snapshots": health.snapshots,
        "carbon/metadata_bytes": health.metadata_bytes,
        "carbon/planning_bytes": health.planning_bytes,
        "carbon/scan_saving": round(health.gain.scan_saving, 4),
        "carbon/cost_cpu_seconds": round(health.gain.cpu_seconds, 1),
        GAIN: bool(health.plan) and health.gain.is_worthwhile,
        "carbon/because": health.sentence(),
    }
    if health.snapshot_id is not None:
        metadata["carbon/snapshot_id"] = str(health.snapshot_id)  # no number to plot
    return metadata


def health_assets(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """An asset for each declared table."""
    return [database_health(database) for database in catalog.databases if database.tables]
