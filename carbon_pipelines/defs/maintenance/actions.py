"""``maintenance/compaction``, ``expiry`` and ``orphans``: upkeep, one table to a partition.

What belongs here: their configuration, and what a run shows. What does not: what they do
(``carbon_pipelines/maintenance``) and when they are asked for (``automation/upkeep.py``).

From the UI each is a dry run unless told otherwise: it shows its plan as an observation, and the
partition does not count as materialized, for nothing was done.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.maintenance.health import POOL, health_metadata
from carbon_pipelines.defs.resources.endpoints import EndpointsResource

if TYPE_CHECKING:
    from carbon_pipelines.maintenance.compact import Compacted
    from carbon_pipelines.maintenance.trino_optimize import Optimized

COMPACTION = dg.AssetKey(["maintenance", "compaction"])
EXPIRY = dg.AssetKey(["maintenance", "expiry"])
ORPHANS = dg.AssetKey(["maintenance", "orphans"])
ACTIONS = (COMPACTION, EXPIRY, ORPHANS)

Outcome = Iterator[dg.MaterializeResult | dg.AssetObservation]


class ActionConfig(dg.Config):
    """Whether to do it."""

    dry_run: bool = Field(default=True, description="Only show the plan. Set false to do it.")


class EngineOption(StrEnum):
    """Who compacts; the values of ``catalog.table.Engine``."""

    NATIVE = "native"
    TRINO = "trino"


class CompactionConfig(ActionConfig):
    """How files are chosen, and who writes them."""

    thorough: bool = Field(
        default=False,
        description="Also write files again for an older column set, sort order or a large size.",
    )
    min_files: int = Field(
        default=5, ge=2, description="So many small files of one partition are worth a rewrite."
    )
    engine: EngineOption | None = Field(
        default=None, description="Who compacts; left out: the table's declared engine."
    )


class ExpiryConfig(ActionConfig):
    """What is kept besides branches, tags, certified and leases."""

    older_than_hours: float = Field(default=24, gt=0, description="Younger snapshots stay.")
    keep: int = Field(default=10, ge=1, description="So many of the newest stay, however old.")


class OrphansConfig(ActionConfig):
    """How old an orphan has to be, and how long it stays in quarantine."""

    older_than_days: float = Field(default=3, ge=3, description="Younger objects stay.")
    quarantine_days: float = Field(
        default=7, gt=0, description="Until what was quarantined is removed for good."
    )


def op_name(action: dg.AssetKey) -> str:
    """What an action's configuration is found under in a run's."""
    return "__".join(action.path)


def tables_partition(catalog: Catalog) -> dg.StaticPartitionsDefinition:
    """A partition for each declared table, called by its label."""
    return dg.StaticPartitionsDefinition([table.label for table in catalog.tables])


def action_assets(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """The three assets."""
    tables = {table.label: table for table in catalog.tables}

    def chosen(context: dg.AssetExecutionContext) -> TableSpec:
        return tables[context.partition_key]

    @_action(
        COMPACTION,
        "Small, fragmented and delete-heavy files of a table are written again.",
        catalog,
    )
    def compaction(
        context: dg.AssetExecutionContext, config: CompactionConfig, endpoints: EndpointsResource
    ) -> Outcome:
        from carbon_pipelines.lake.connection import load_lake_table, open_catalog
        from carbon_pipelines.maintenance.compaction import CompactionPolicy
        from carbon_pipelines.maintenance.engines import choose_engine, compact_table
        from carbon_pipelines.maintenance.health import judge_health
        from carbon_pipelines.maintenance.table_facts import load_facts

        table = chosen(context)
        policy = CompactionPolicy(thorough=config.thorough, min_files=config.min_files)
        choice = choose_engine(table, config.engine.value if config.engine else None)
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            before = judge_health(load_facts(load_lake_table(lake, table.identifier)), policy)
            plan = "\n".join(filter(None, (before.plan.describe(), choice.sentence())))
            yield from _planned(context, config, plan)
            if config.dry_run:
                return
            done = compact_table(table, choice, before.plan, lake, endpoints.resolve())
            after = judge_health(load_facts(load_lake_table(lake, table.identifier)), policy)
        context.log.info(done.sentence())
        yield dg.MaterializeResult(
            metadata={
                "carbon/result": done.sentence(),
                **health_metadata(after),
                "carbon/score_before": round(before.score, 1),
                "carbon/engine": choice.engine,
                **_compacted_metadata(done),
                "carbon/cpu_seconds": round(done.cpu_seconds, 2),
            }
        )

    @_action(EXPIRY, "Old snapshots of a table go, with the files that only they need.", catalog)
    def expiry(
        context: dg.AssetExecutionContext, config: ExpiryConfig, endpoints: EndpointsResource
    ) -> Outcome:
        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.maintenance.expiry_run import expire_table, load_expiry_plan
        from carbon_pipelines.maintenance.retention import Retention

        table, now = chosen(context), datetime.now(UTC)
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            retention = Retention(timedelta(hours=config.older_than_hours), config.keep)
            _, plan = load_expiry_plan(lake, table.identifier, retention, now)
            yield from _planned(context, config, plan.describe())
            if config.dry_run:
                return
            done = expire_table(lake, table.identifier, retention, now)
        context.log.info(done.sentence())
        yield dg.MaterializeResult(
            metadata={
                "carbon/result": done.sentence(),
                "carbon/snapshots_removed": done.snapshots,
                "carbon/snapshots_left_for_later": done.more,
                "carbon/files_removed": done.files.files,
                "carbon/bytes_removed": done.files.size_bytes,
            }
        )

    @_action(
        ORPHANS, "Objects in a table's location that nothing refers to are moved aside.", catalog
    )
    def orphans(
        context: dg.AssetExecutionContext, config: OrphansConfig, endpoints: EndpointsResource
    ) -> Outcome:
        from carbon_pipelines.lake.connection import load_lake_table, open_catalog
        from carbon_pipelines.maintenance.orphans import OrphanRules, plan_orphans
        from carbon_pipelines.maintenance.quarantine import (
            apply_orphans,
            apply_removal,
            plan_removal,
        )
        from carbon_pipelines.maintenance.quarantine_record import load_quarantines

        table, now = chosen(context), datetime.now(UTC)
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            rules = OrphanRules(timedelta(days=config.older_than_days))
            plan = plan_orphans(lake, table.identifier, rules, now)
            loaded = load_lake_table(lake, table.identifier)
            due = plan_removal(
                load_quarantines(loaded), timedelta(days=config.quarantine_days), now
            )
            removal = [f"  to be removed for good: {one.sentence()}" for one in due]
            yield from _planned(context, config, "\n".join([plan.describe(), *removal]))
            if config.dry_run:
                return
            moved = apply_orphans(lake, table.identifier, plan, now)
            apply_removal(loaded, due)
        context.log.info(moved.sentence())
        yield dg.MaterializeResult(
            metadata={
                "carbon/result": moved.sentence(),
                "carbon/orphans": moved.files,
                "carbon/orphan_bytes": moved.size_bytes,
                "carbon/quarantine": moved.run or "none",
                "carbon/quarantines_removed": len(due),
                "carbon/objects_listed": plan.listed,
            }
        )

    return [compaction, expiry, orphans]


def _action(
    key: dg.AssetKey, description: str, catalog: Catalog
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """What the three assets have in common."""
    return dg.asset(
        key=key,
        description=description,
        group_name="maintenance",
        kinds={"iceberg"},
        owners=sorted({table.owner for table in catalog.tables}),
        partitions_def=tables_partition(catalog),
        pool=POOL,
        retry_policy=RETRIES,
        output_required=False,
    )


def _compacted_metadata(done: "Compacted | Optimized") -> dict[str, int]:
    """What an engine tells of what it did; Trino tells less."""
    from carbon_pipelines.maintenance.trino_optimize import Optimized

    if isinstance(done, Optimized):
        return {
            "carbon/files_before": done.files_before,
            "carbon/files_after": done.files_after,
            "carbon/delete_files_before": done.deletes_before,
            "carbon/delete_files_after": done.deletes_after,
        }
    return {
        "carbon/files_removed": done.removed_files,
        "carbon/files_added": done.added_files,
        "carbon/delete_files_removed": done.removed_delete_files,
        "carbon/bytes_rewritten": done.written_bytes,
        "carbon/groups_left_alone": len(done.left),
        "carbon/conflicts": done.conflicts,
    }


def _planned(
    context: dg.AssetExecutionContext, config: ActionConfig, plan: str
) -> Iterator[dg.AssetObservation]:
    """The plan in the log, and as an observation where it is all there will be."""
    context.log.info(plan)
    if config.dry_run:
        yield dg.AssetObservation(
            asset_key=context.asset_key,
            partition=context.partition_key,
            description="Dry run: nothing was changed. Set dry_run to false to do it.",
            metadata={"carbon/plan": dg.MetadataValue.md(f"```\n{plan}\n```")},
        )
