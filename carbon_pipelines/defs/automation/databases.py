"""Per database: a job, a sensor that runs what lags, and a schedule that confirms all of it.

Both automations start stopped. Opening the UI on a laptop whose environment points at production
must not begin to drain production's slot; a deployment says ``CARBON_AUTOMATION=running``.

Why both: the sensor reacts within seconds and rests when nothing happens, but it sees less than a
run does, and Dagster's freshness counts materializations, of which an idle table has none. The
schedule runs everything twice per freshness window, which proves the quiet tables current.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.automation.lag import (
    Asked,
    Lag,
    decode_asked,
    encode_asked,
    plan_requests,
)
from carbon_pipelines.defs.automation.observe import Observation, observe_lag
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.keys import database_key, table_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import SettingsError

if TYPE_CHECKING:
    from carbon_pipelines.embedded.endpoints import Endpoints

Observe = Callable[[DatabaseSpec, "Endpoints"], Observation]
Clock = Callable[[], datetime]

UNENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# Without run monitoring a killed run stays "started" for ever; its tables must not wait as long.
LONGEST_RUN = timedelta(days=1)

# A confirming run as often as this, if it is at most half the freshness.
CRONS = (
    (timedelta(days=1), "0 0 * * *"),
    (timedelta(hours=12), "0 */12 * * *"),
    (timedelta(hours=6), "0 */6 * * *"),
    (timedelta(hours=3), "0 */3 * * *"),
    (timedelta(hours=1), "0 * * * *"),
    (timedelta(minutes=30), "*/30 * * * *"),
    (timedelta(minutes=15), "*/15 * * * *"),
    (timedelta(minutes=5), "*/5 * * * *"),
    (timedelta(minutes=2), "*/2 * * * *"),
)
EVERY_MINUTE = "* * * * *"


def automation(catalog: Catalog, environ: Mapping[str, str]) -> dg.Definitions:
    """Job, sensor and schedule of every database.

    Raises:
        SettingsError: ``CARBON_AUTOMATION`` is neither ``running`` nor ``stopped``.
    """
    running = automation_runs(environ)
    return dg.Definitions(
        jobs=[sync_job(database) for database in catalog.databases],
        sensors=[lag_sensor(database, running=running) for database in catalog.databases],
        schedules=[confirm_schedule(database, running=running) for database in catalog.databases],
    )


def automation_runs(environ: Mapping[str, str]) -> bool:
    """Whether sensors and schedules start by themselves."""
    value = environ.get("CARBON_AUTOMATION", "stopped")
    if value not in {"running", "stopped"}:
        reason = (
            f'CARBON_AUTOMATION is "{value}", which is neither "running" nor "stopped". '
            "Nothing was loaded; set it to one of them, or unset it for stopped."
        )
        raise SettingsError(reason)
    return value == "running"


def sync_job(database: DatabaseSpec):
    """Everything of one database: drain, then merge every table."""
    keys = [table_key("lake", table) for table in database.tables]
    return dg.define_asset_job(
        job_name(database),
        selection=dg.AssetSelection.assets(database_key("stream", database), *keys),
        description=f"Bring Kafka and every lake table of {database.name} up to this moment.",
        tags={"carbon/database": database.name},
    )


def job_name(database: DatabaseSpec) -> str:
    """The job of one database."""
    return f"sync_{database.name}"


def lag_sensor(
    database: DatabaseSpec,
    *,
    running: bool,
    observe: Observe = observe_lag,
    clock: Clock = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor that asks for a run of what lags, and of nothing else."""

    @dg.sensor(
        name=f"lag_{database.name}",
        job_name=job_name(database),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING
        if running
        else dg.DefaultSensorStatus.STOPPED,
        description=f"Runs the assets of {database.name} that are behind; rests when none is.",
    )
    def lag(context: dg.SensorEvaluationContext, endpoints: EndpointsResource) -> dg.SensorResult:
        with as_failure():
            observation = observe(database, endpoints.resolve())
        asked = decode_asked(context.cursor)
        now = clock()
        plan = plan_requests(
            observation.lags,
            asked=asked,
            materialized_at=_materialized_at(context.instance, asked),
            in_flight=_waiting(
                database, observation.lags, assets_in_flight(context.instance, database, now)
            ),
            now=now.timestamp(),
        )
        requests = _run_requests(database, observation.lags, plan.assets)
        for error in observation.errors:
            context.log.error(str(error))
        if observation.errors and not requests:
            with as_failure():
                raise observation.errors[0]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "Nothing is behind that a run would help now.",
            cursor=encode_asked(plan.asked),
        )

    return lag


def confirm_schedule(
    database: DatabaseSpec, *, running: bool, clock: Clock = lambda: datetime.now(UTC)
) -> dg.ScheduleDefinition:
    """The schedule that runs everything of a database twice within its shortest freshness."""
    statuses = dg.DefaultScheduleStatus

    @dg.schedule(
        cron_schedule=confirm_cron(table.freshness for table in database.tables),
        name=f"confirm_{database.name}",
        job_name=job_name(database),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description=(
            f"Runs all of {database.name} twice within its shortest freshness: a fallback for what "
            "its sensor cannot see, and the proof that quiet tables are current."
        ),
    )
    def confirm(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if assets_in_flight(context.instance, database, clock()):
            return dg.SkipReason(f"A run of {database.name} has not ended.")
        return dg.RunRequest()

    return confirm


def confirm_cron(freshness: Iterable[timedelta]) -> str:
    """The rarest of ``CRONS`` that still fits twice into the shortest freshness."""
    half = min(freshness, default=timedelta(days=2)) / 2
    return next((cron for every, cron in CRONS if every <= half), EVERY_MINUTE)


def assets_in_flight(
    instance: dg.DagsterInstance, database: DatabaseSpec, now: datetime
) -> frozenset[str]:
    """The database's assets that a queued or running run will materialize, whoever asked for it."""
    stream = database_key("stream", database)
    ours = {stream, *(table_key("lake", table) for table in database.tables)}
    filters = dg.RunsFilter(statuses=UNENDED, created_after=now - LONGEST_RUN)
    keys: set[dg.AssetKey] = set()
    for run in instance.get_runs(filters=filters):
        if run.asset_selection is not None:
            keys |= ours & run.asset_selection
        elif run.job_name == job_name(database):
            keys |= ours
    return frozenset(key.to_user_string() for key in keys)


def _waiting(
    database: DatabaseSpec, lags: Iterable[Lag], in_flight: frozenset[str]
) -> frozenset[str]:
    """What to leave alone: a first copy needs the drain in its own run, so it waits for another."""
    if database_key("stream", database).to_user_string() not in in_flight:
        return in_flight
    return in_flight | {lag.asset for lag in lags if lag.behind is None}


def _materialized_at(
    instance: dg.DagsterInstance, asked: Mapping[str, Asked]
) -> Mapping[str, float]:
    """When each asset that was asked for last succeeded."""
    events = {
        asset: instance.get_latest_materialization_event(dg.AssetKey.from_user_string(asset))
        for asset in asked
    }
    return {asset: event.timestamp for asset, event in events.items() if event is not None}


def _run_requests(
    database: DatabaseSpec, lags: Iterable[Lag], assets: Iterable[str]
) -> list[dg.RunRequest]:
    """At most two runs: one that drains first, and one that merges what Kafka holds already.

    They are apart so that a source that is down does not hold up what has left it.
    """
    stream = database_key("stream", database).to_user_string()
    never = {lag.asset for lag in lags if lag.behind is None}
    chosen = set(assets)
    draining = {stream, *(chosen & never)} if chosen & {stream, *never} else set[str]()
    merging = chosen - draining
    return [
        dg.RunRequest(
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in sorted(run)]
        )
        for run in (draining, merging)
        if run
    ]
