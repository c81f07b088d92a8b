from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.automation.databases import (
    automation_runs,
    confirm_cron,
    confirm_schedule,
    lag_sensor,
)
from carbon_pipelines.defs.automation.lag import Lag
from carbon_pipelines.defs.automation.observe import Observation
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import SettingsError, StreamError
from carbon_pipelines_tests.catalog.declarations import declare, minimal
from carbon_pipelines_tests.cli.nowhere import NOWHERE


class World:
    """What a sensor sees, and runs that end when the test says so."""

    def __init__(self, database: DatabaseSpec, directory: Path) -> None:
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(directory))
        self.database = database
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.lags: dict[str, Lag] = {}
        self.errors: tuple[StreamError, ...] = ()
        self.cursor: str | None = None
        self.sensor = lag_sensor(
            database, running=False, observe=self.observe, clock=lambda: self.now
        )

    def observe(self, database: DatabaseSpec, endpoints: object) -> Observation:
        return Observation(tuple(self.lags.values()), self.errors)

    def behind(self, asset: str, behind: int | None, end: int) -> None:
        self.lags[asset] = Lag(asset, behind, end)

    def tick(self) -> list[set[str]]:
        self.now += timedelta(seconds=30)
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"endpoints": EndpointsResource()},
        )
        result = self.sensor.evaluate_tick(context)
        self.cursor = result.cursor
        assert all(request.run_key is None for request in result.run_requests or [])
        return [
            {key.to_user_string() for key in request.asset_selection or []}
            for request in result.run_requests or []
        ]

    def running(self, *assets: str) -> str:
        keys = frozenset(dg.AssetKey.from_user_string(asset) for asset in assets)
        run = dg.DagsterRun(
            job_name="any", status=dg.DagsterRunStatus.STARTED, asset_selection=keys
        )
        self.instance.add_run(run)
        return run.run_id


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    declare(tmp_path, "market", credit=minimal("credit"), tick=minimal("tick"))
    return World(load_catalog(tmp_path).database("market"), tmp_path)


def test_nothing_behind_is_no_run(world: World) -> None:
    world.behind("stream/market", 0, end=900)
    world.behind("lake/market/tick", 0, end=10)

    assert world.tick() == []


def test_only_the_tables_that_lag_are_run(world: World) -> None:
    world.behind("stream/market", 0, end=900)
    world.behind("lake/market/tick", 5, end=15)
    world.behind("lake/market/credit", 0, end=10)

    assert world.tick() == [{"lake/market/tick"}]


def test_a_table_without_a_copy_is_run_together_with_the_drain_it_needs(world: World) -> None:
    world.behind("stream/market", 0, end=900)
    world.behind("lake/market/tick", None, end=0)

    assert world.tick() == [{"stream/market", "lake/market/tick"}]


def test_wal_that_kafka_has_not_seen_does_not_hold_up_what_kafka_holds(world: World) -> None:
    world.behind("stream/market", 9_000_000, end=9_000_000)
    world.behind("lake/market/tick", 5, end=15)

    assert world.tick() == [{"stream/market"}, {"lake/market/tick"}]


def test_runs_are_not_stacked_whoever_started_the_first_one(world: World) -> None:
    world.behind("lake/market/tick", 5, end=15)
    world.behind("lake/market/credit", 5, end=15)
    world.running("lake/market/tick", "lake/registry/other")

    assert world.tick() == [{"lake/market/credit"}]


def test_a_first_copy_waits_for_a_drain_that_is_running(world: World) -> None:
    world.behind("lake/market/tick", None, end=0)
    world.running("stream/market")

    assert world.tick() == []


def test_it_comes_to_rest_although_markers_look_like_lag(world: World) -> None:
    world.behind("lake/market/tick", 5, end=15)
    assert world.tick() == [{"lake/market/tick"}]

    world.instance.report_runless_asset_event(
        dg.AssetMaterialization(asset_key=dg.AssetKey(["lake", "market", "tick"]))
    )
    world.now = datetime.now(UTC)
    world.behind("lake/market/tick", 1, end=15)

    assert [world.tick() for _ in range(200)] == [[]] * 200


def test_a_table_that_cannot_be_observed_does_not_hide_the_others(world: World) -> None:
    world.behind("lake/market/tick", 5, end=15)
    world.errors = (StreamError("The topic of market/credit is gone. Recopy it."),)

    assert world.tick() == [{"lake/market/tick"}]


def test_a_tick_that_sees_nothing_but_errors_is_red(world: World) -> None:
    world.errors = (StreamError("Kafka does not answer. Start it."),)

    with pytest.raises(dg.Failure, match=r"Kafka does not answer\. Start it\."):
        world.tick()


def test_the_schedule_runs_everything_unless_something_is_running(world: World) -> None:
    schedule = confirm_schedule(world.database, running=False, clock=lambda: datetime.now(UTC))

    with dg.instance_for_test() as world.instance:

        def ticked() -> list[dg.RunRequest]:
            context = dg.build_schedule_context(instance=world.instance)
            return list(schedule.evaluate_tick(context).run_requests or [])

        [request] = ticked()
        assert (request.run_key, request.asset_selection) == (None, None)
        world.running("lake/market/tick")
        assert ticked() == []


@pytest.mark.parametrize(
    ("freshness", "cron"),
    [
        ([timedelta(minutes=1)], "* * * * *"),
        ([timedelta(hours=2), timedelta(minutes=15)], "*/5 * * * *"),
        ([timedelta(hours=2)], "0 * * * *"),
        ([timedelta(days=7)], "0 0 * * *"),
        ([], "0 0 * * *"),
    ],
)
def test_the_schedule_fits_twice_into_the_shortest_freshness(
    freshness: list[timedelta], cron: str
) -> None:
    assert confirm_cron(freshness) == cron


@pytest.mark.parametrize(
    ("environ", "running"), [({}, False), ({"CARBON_AUTOMATION": "running"}, True)]
)
def test_nothing_drains_a_slot_by_itself_unless_a_deployment_says_so(
    environ: dict[str, str],
    running: bool,  # noqa: FBT001
) -> None:
    repository = build_definitions(environ).get_repository_def()
    statuses = {one.default_status for one in [*repository.sensor_defs, *repository.schedule_defs]}

    assert {status.value for status in statuses} == {"RUNNING" if running else "STOPPED"}


def test_an_unknown_automation_is_an_error() -> None:
    with pytest.raises(SettingsError, match='"on", which is neither "running" nor "stopped"'):
        automation_runs({"CARBON_AUTOMATION": "on"})


def test_the_resource_shows_names_of_variables_and_never_a_secret() -> None:
    environ = {**NOWHERE, "CARBON_SOURCE_MARKET_DSN": "postgresql://u:hidden@h/market"}
    bound = EndpointsResource.from_environment(environ)

    shown = {
        name: value for name in EndpointsResource.model_fields if (value := getattr(bound, name))
    }

    assert {value.env_var_name for value in shown.values()} == {
        "CARBON_STREAM_BOOTSTRAP",
        "CARBON_LAKE_CATALOG_TYPE",
        "CARBON_LAKE_WAREHOUSE",
        "CARBON_LAKE_S3_ENDPOINT",
        "CARBON_LAKE_S3_REGION",
    }


def test_what_the_resource_is_told_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)

    endpoints = EndpointsResource(stream_bootstrap="kafka:9092").resolve()

    assert endpoints.stream_bootstrap == "kafka:9092"
    assert endpoints.lake.warehouse == "s3://lake/warehouse"
