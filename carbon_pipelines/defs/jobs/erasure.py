"""The job ``erase_due``: what was asked to be erased goes when its date has come.

What belongs here: running it for every table, showing what came of it, and its schedule. What
does not: what it does (``maintenance/erasure.py``) and asking: that needs a person's key, which no
run's configuration may hold, so it is ``carbon erase``.

An error of one table does not keep the others from their date: the run goes on, and fails at last.
"""

import dagster as dg
from pydantic import Field

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.maintenance.health import POOL
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import CarbonPipelinesError

JOB, OP = "erase_due", "erase_from_tables"
EVERY_FOUR_HOURS = "41 2-23/4 * * *"
NIGHT = 2
"""The hour at which requests that are not due yet are gone on with, too."""


class ErasureConfig(dg.Config):
    """Which tables, and whether to do it; why was said when it was asked for."""

    tables: list[str] = Field(
        default_factory=list,
        description='<database>/<table>, as "carbon" spells them; none is every table.',
    )
    due_only: bool = Field(default=False, description="Leave those whose date has not come.")
    dry_run: bool = Field(default=True, description="Only show the plan. Set false to do it.")


def erasure_job(catalog: Catalog) -> dg.JobDefinition:
    """The job over every declared table."""

    @dg.op(
        name=OP,
        description="Carries out the erasures that tables have been asked for, by their hashes.",
        pool=POOL,
        retry_policy=RETRIES,
    )
    def erase_from_tables(
        context: dg.OpExecutionContext, config: ErasureConfig, endpoints: EndpointsResource
    ) -> None:
        from datetime import UTC, datetime

        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.maintenance.deletion_check import Where
        from carbon_pipelines.maintenance.erasure import apply_pending
        from carbon_pipelines.maintenance.erasure_asking import plan_pending

        told: list[str] = []
        failed: list[CarbonPipelinesError] = []
        asked, finished, now = 0, 0, datetime.now(UTC)
        with as_failure():
            resolved = endpoints.resolve()
            with open_catalog(resolved.lake) as lake:
                for table in catalog.select(config.tables):
                    where = Where(lake, table, catalog.database(table.database), resolved)
                    try:
                        plans = plan_pending(where, now)
                        asked += len(plans)
                        told += [plan.describe() for plan in plans]
                        done = []
                        if not config.dry_run:
                            done = apply_pending(where, now, due_only=config.due_only)
                    except CarbonPipelinesError as error:
                        failed.append(error)
                        context.log.warning(str(error))
                        continue
                    finished += sum(one.finished for one in done)
                    told += [one.sentence() for one in done]
            context.log.info("\n\n".join(told) or "Nothing is to be erased.")
            if failed:
                raise failed[0]
        context.add_output_metadata(
            {
                "carbon/plan": dg.MetadataValue.md("```\n" + "\n\n".join(told) + "\n```"),
                "carbon/erasures": asked,
                "carbon/erasures_finished": finished,
            }
        )

    @dg.job(
        name=JOB,
        description="Erase what was asked to be gone by now. A dry run shows what is left of it.",
        tags={"carbon/job": JOB},
    )
    def erase_due() -> None:
        erase_from_tables()

    return erase_due


def erasure_schedule(*, running: bool) -> dg.ScheduleDefinition:
    """Every four hours, so that on the date that was promised there is another try."""
    statuses = dg.DefaultScheduleStatus

    @dg.schedule(
        cron_schedule=EVERY_FOUR_HOURS,
        name="erasures",
        job_name=JOB,
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Erases what was asked to be gone by now, of every table.",
    )
    def erasures(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        due_only = context.scheduled_execution_time.hour != NIGHT
        config = {"dry_run": False, "due_only": due_only}
        return dg.RunRequest(run_config={"ops": {OP: {"config": config}}})

    return erasures
