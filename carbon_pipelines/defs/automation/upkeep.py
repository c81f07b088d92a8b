"""When tables are looked at, and when upkeep of one is asked for.

What belongs here: the hourly look, the sensor that asks for what is worth it, the weekly floor, and
the list of schedules. What does not: what is worth it (``maintenance/health.py``).

The sensor decides by what the last look of a table said, and each look is answered once: an action
that was asked for since, in whatever way it ended, waits for the next look. So a table whose upkeep
fails costs one run an hour, and one that gains nothing costs none.
"""

import json
from collections.abc import Iterator

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import PodSpec, TableSpec
from carbon_pipelines.defs.automation.databases import UNENDED
from carbon_pipelines.defs.jobs.erasure import erasure_schedule
from carbon_pipelines.defs.jobs.own_tables import own_tables_schedule
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.maintenance.actions import (
    ACTIONS,
    COMPACTION,
    EXPIRY,
    op_name,
)
from carbon_pipelines.defs.maintenance.health import EXPIRED, GAIN

UPKEEP_JOB, HEALTH_JOB = "upkeep", "health"
TABLE_TAG, ACTION_TAG = "carbon/table", "carbon/action"
POD_TAG = "dagster-k8s/config"
"""Of a run: K8sRunLauncher gives its pod these resources; elsewhere it means nothing."""
EXPIRED_ENOUGH = 100
"""Expired snapshots that are worth a run; fewer are left to the weekly one."""
HOURLY, WEEKLY = "17 * * * *", "23 3 * * 0"


def upkeep(catalog: Catalog, *, running: bool) -> dg.Definitions:
    """Jobs, sensor and schedules; ``running`` as for the other automations."""
    if not catalog.tables:
        return dg.Definitions()
    return dg.Definitions(
        jobs=[health_job(catalog), upkeep_job()],
        sensors=[upkeep_sensor(catalog, running=running)],
        schedules=[
            health_schedule(running=running),
            weekly_schedule(catalog, running=running),
            own_tables_schedule(running=running),
            erasure_schedule(running=running),
        ],
    )


def health_job(catalog: Catalog):
    """A look at every table."""
    return dg.define_asset_job(
        HEALTH_JOB,
        selection=dg.AssetSelection.assets(
            *(table_key("maintenance", table) for table in catalog.tables)
        ),
        description="Judge the health of every lake table, from its metadata alone.",
    )


def upkeep_job():
    """Compaction, expiry and orphans of one table."""
    return dg.define_asset_job(
        UPKEEP_JOB,
        selection=dg.AssetSelection.assets(*ACTIONS),
        description="Upkeep of one table. Without configuration each action only shows its plan.",
    )


def upkeep_sensor(catalog: Catalog, *, running: bool) -> dg.SensorDefinition:
    """The sensor that asks for compaction and expiry of the tables that gain by it."""

    @dg.sensor(
        name="upkeep_where_worth_it",
        job_name=UPKEEP_JOB,
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.RUNNING
        if running
        else dg.DefaultSensorStatus.STOPPED,
        description="Runs upkeep of the tables whose last health says that it is worth its cost.",
    )
    def worth_it(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        requests = [
            request_of(table, action)
            for table in catalog.tables
            for action in actions_due(context.instance, table)
        ]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "No table gains enough by upkeep.",
        )

    return worth_it


def actions_due(instance: dg.DagsterInstance, table: TableSpec) -> Iterator[dg.AssetKey]:
    """What the last look at ``table`` asks for and nobody has asked for since."""
    event = instance.get_latest_materialization_event(table_key("maintenance", table))
    if event is None or event.asset_materialization is None:
        return
    told = event.asset_materialization.metadata
    wanted = {
        COMPACTION: GAIN in told and bool(told[GAIN].value),
        EXPIRY: EXPIRED in told and int(str(told[EXPIRED].value)) >= EXPIRED_ENOUGH,
    }
    for action, is_wanted in wanted.items():
        if is_wanted and not _asked_since(instance, table, action, event.timestamp):
            yield action


def _asked_since(
    instance: dg.DagsterInstance, table: TableSpec, action: dg.AssetKey, moment: float
) -> bool:
    """Whether a run of the action was begun after ``moment``, or has not ended."""
    tags = {TABLE_TAG: table.label, ACTION_TAG: action.path[-1]}
    [last] = instance.get_run_records(dg.RunsFilter(tags=tags), limit=1) or [None]
    return last is not None and (
        last.create_timestamp.timestamp() >= moment or last.dagster_run.status in UNENDED
    )


def request_of(
    table: TableSpec, *actions: dg.AssetKey, run_key: str | None = None
) -> dg.RunRequest:
    """A run that does ``actions`` to one table, and not only plans them."""
    tags = {TABLE_TAG: table.label}
    if len(actions) == 1:
        tags[ACTION_TAG] = actions[0].path[-1]
    if table.pod is not None:
        tags[POD_TAG] = pod_config(table.pod)
    return dg.RunRequest(
        run_key=run_key,
        job_name=UPKEEP_JOB,
        partition_key=table.label,
        asset_selection=list(actions),
        run_config={"ops": {op_name(action): {"config": {"dry_run": False}} for action in actions}},
        tags=tags,
    )


def pod_config(pod: PodSpec) -> str:
    """What K8sRunLauncher makes a run's pod of; memory is also the limit, cores are not."""
    asked = {"cpu": pod.cpu, "memory": pod.memory}
    resources = {"requests": asked, "limits": {"memory": pod.memory}}
    return json.dumps({"container_config": {"resources": resources}})


def health_schedule(*, running: bool) -> dg.ScheduleDefinition:
    """A look an hour."""
    statuses = dg.DefaultScheduleStatus

    @dg.schedule(
        cron_schedule=HOURLY,
        name="health_hourly",
        job_name=HEALTH_JOB,
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Judges the health of every lake table; upkeep is asked for by what it says.",
    )
    def hourly(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest()

    return hourly


def weekly_schedule(catalog: Catalog, *, running: bool) -> dg.ScheduleDefinition:
    """Everything once a week, whether it is worth it or not: what the looks cannot see."""
    statuses = dg.DefaultScheduleStatus

    @dg.schedule(
        cron_schedule=WEEKLY,
        name="upkeep_weekly",
        job_name=UPKEEP_JOB,
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Compaction, expiry and orphans of every table: the floor of upkeep.",
    )
    def weekly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        due = context.scheduled_execution_time.isoformat()
        return [
            request_of(table, *ACTIONS, run_key=f"{due} {table.label}") for table in catalog.tables
        ]

    return weekly
