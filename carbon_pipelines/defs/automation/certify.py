"""Per database: the job that certifies its tables, and the schedule that runs it.

What belongs here: how often. What does not: what certifying is (``defs/quality/tables.py``).

Every table is compared with its source as often as ``certify_every`` says, changed or not: that a
table stands still at both ends is to be proven too. Between full comparisons only changed keys are
read.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.automation.databases import (
    CRONS,
    EVERY_MINUTE,
    LONGEST_RUN,
    UNENDED,
)
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.quality.tables import scored_tables


def certifying(catalog: Catalog, *, running: bool) -> dg.Definitions:
    """Job and schedule of every database that has something to certify."""
    databases = [database for database in catalog.databases if scored_tables(database)]
    return dg.Definitions(
        jobs=[certify_job(database) for database in databases],
        schedules=[certify_schedule(database, running=running) for database in databases],
    )


def job_name(database: DatabaseSpec) -> str:
    """The job of one database."""
    return f"certify_{database.name}"


def certify_job(database: DatabaseSpec):
    """Every table of one database of which something is expected."""
    return dg.define_asset_job(
        job_name(database),
        selection=dg.AssetSelection.assets(
            *(table_key("quality", table) for table in scored_tables(database))
        ),
        description=(
            f"Compare the tables of {database.name} with their source, score them, and certify "
            "those that are good."
        ),
        tags={"carbon/database": database.name},
    )


def certify_schedule(database: DatabaseSpec, *, running: bool) -> dg.ScheduleDefinition:
    """The schedule; it waits for a run of its own that has not ended."""
    statuses = dg.DefaultScheduleStatus

    @dg.schedule(
        cron_schedule=certify_cron(database.certify_every),
        name=job_name(database),
        job_name=job_name(database),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description=f"Certifies the tables of {database.name} at least as often as is declared.",
    )
    def certify(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        filters = dg.RunsFilter(
            job_name=job_name(database),
            statuses=UNENDED,
            created_after=datetime.now(UTC) - LONGEST_RUN,
        )
        if context.instance.get_runs(filters=filters, limit=1):
            return dg.SkipReason(f"A run of {job_name(database)} has not ended.")
        return dg.RunRequest()

    return certify


def certify_cron(every: timedelta) -> str:
    """The rarest of ``CRONS`` that is as often as ``every``."""
    return next((cron for spacing, cron in CRONS if spacing <= every), EVERY_MINUTE)
