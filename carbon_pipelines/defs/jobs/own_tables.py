"""The job ``upkeep_own``: dead letters, scores, violations and marts are tended, once a week.

What belongs here: which tables those are, running it and its schedule. What does not: what is done
to one (``maintenance/own_tables.py``) and upkeep of lake tables (``automation/upkeep.py``).

An error of one table does not keep the others from their upkeep: the run goes on, and fails last.
"""

import os
from collections.abc import Iterator

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.maintenance.actions import ActionConfig
from carbon_pipelines.defs.maintenance.health import POOL
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import CarbonPipelinesError

JOB, OP = "upkeep_own", "tend_own_tables"
WEEKLY = "53 3 * * 0"


def own_tables_job(catalog: Catalog) -> dg.JobDefinition:
    """The job over every table of ours that there is."""

    @dg.op(
        name=OP,
        description="Compacts dead letters; expires snapshots and moves orphans aside, of all.",
        pool=POOL,
        retry_policy=RETRIES,
    )
    def tend_own_tables(
        context: dg.OpExecutionContext, config: ActionConfig, endpoints: EndpointsResource
    ) -> None:
        from datetime import UTC, datetime

        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.maintenance.own_tables import apply_own_table, plan_own_table

        told: list[str] = []
        tended: list[str] = []
        failed: list[CarbonPipelinesError] = []
        now = datetime.now(UTC)
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            for identifier in _identifiers(catalog):
                try:
                    plan = plan_own_table(lake, identifier, now)
                    if plan is None:
                        continue
                    told.append(plan.describe())
                    if not config.dry_run:
                        told.append(apply_own_table(lake, plan, now).sentence())
                        tended.append(".".join(identifier))
                except CarbonPipelinesError as error:
                    failed.append(error)
                    context.log.warning(str(error))
            context.log.info("\n\n".join(told) or "There is no such table yet.")
            if failed:
                raise failed[0]
        plans = "```\n" + "\n\n".join(told) + "\n```"
        context.add_output_metadata(
            {"carbon/plan": dg.MetadataValue.md(plans), "carbon/tables": tended}
        )

    @dg.job(
        name=JOB,
        description=(
            "Upkeep of dead letters, scores, violations and marts. A dry run only shows the plan."
        ),
        tags={"carbon/job": JOB},
    )
    def upkeep_own() -> None:
        tend_own_tables()

    return upkeep_own


def _identifiers(catalog: Catalog) -> Iterator[tuple[str, str]]:
    from carbon_pipelines.lake import dead_letters
    from carbon_pipelines.mart.project import NAMESPACE, load_marts, project_directory
    from carbon_pipelines.quality.history import TABLES

    yield from ((database.name, dead_letters.NAME) for database in catalog.databases)
    yield from TABLES
    project = project_directory(os.environ)
    yield from ((NAMESPACE, mart.name) for mart in (load_marts(project) if project else ()))


def own_tables_schedule(*, running: bool) -> dg.ScheduleDefinition:
    """Once a week, after the upkeep of lake tables has begun."""
    statuses = dg.DefaultScheduleStatus

    @dg.schedule(
        cron_schedule=WEEKLY,
        name="upkeep_own_weekly",
        job_name=JOB,
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Upkeep of dead letters, scores, violations and marts.",
    )
    def weekly(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_config={"ops": {OP: {"config": {"dry_run": False}}}})

    return weekly
