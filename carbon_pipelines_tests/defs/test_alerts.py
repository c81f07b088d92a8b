"""Events of a real instance become alerts at real receivers: once each, and once when over."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.storage.runs.schema import RunsTable
from sqlalchemy import event
from sqlalchemy.engine import Engine

from carbon_pipelines.alerts.memory import Memory, decode_memory, encode_memory
from carbon_pipelines.alerts.payloads import timestamp
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.automation import alert_reading
from carbon_pipelines.defs.automation.alerts import alerts_sensor
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.lake.checks import flows, is_parked, lacks, lake_checks, stands
from carbon_pipelines.errors import LakeError, TableParkedError, UnrepresentableValueError
from carbon_pipelines_tests.alerts.receivers import Recorder, recording
from carbon_pipelines_tests.catalog.declarations import declare, minimal

LAKE = dg.AssetKey(["lake", "market", "credit"])
QUALITY = dg.AssetKey(["quality", "market", "credit"])
OWNERS = """\
default:
  - {kind: webhook, url_variable: EVERYBODY}
teams:
  team:market-data:
    - {kind: webhook, url_variable: MARKET}
"""


class World:
    """An instance, assets that do what the test says, and the sensor."""

    def __init__(self, root: Path, market: Recorder, everybody: Recorder) -> None:
        declare(root, "market", credit=minimal("credit") + CLASSIFIED)
        (root / "owners.yaml").write_text(OWNERS, encoding="utf-8")
        catalog = load_catalog(root)
        self.table: TableSpec = catalog.tables[0]
        self.market, self.everybody = market, everybody
        self.environ = {"MARKET": market.url, "EVERYBODY": everybody.url}
        self.environ["CARBON_ALERTS_UI_URI"] = "https://dagster.example.org"
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(root))
        self.now = datetime.now(UTC)
        self.fails: Exception | None = None
        self.checks: list[dg.AssetCheckResult] | None = None
        self.cursor: str | None = None

        @dg.asset(
            key=LAKE,
            owners=[self.table.owner],
            check_specs=lake_checks(self.table),
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=self.table.freshness),
            output_required=False,
        )
        def credit() -> Iterator[Any]:
            with as_failure():
                if self.fails is not None:
                    if isinstance(self.fails, LakeError):
                        yield stands(self.table, self.fails)
                    raise self.fails
                if self.checks is not None:
                    yield from self.checks
                    return
            yield dg.MaterializeResult(check_results=[flows(self.table), lacks(self.table, 0)])

        @dg.op
        def work() -> None:
            if self.fails is not None:
                with as_failure():
                    raise self.fails

        @dg.job(tags={"carbon/database": "market"})
        def replay() -> None:
            work()

        quality = dg.AssetSpec(QUALITY, owners=[self.table.owner])

        @dg.multi_asset(specs=[quality], name="quality__market__credit")
        def scored() -> None: ...

        self.asset, self.replay = credit, replay
        self.sensor = alerts_sensor(
            catalog,
            running=False,
            environ=self.environ,
            clock=lambda: self.now,
            sleep=lambda seconds: None,
        )
        self.defs = dg.Definitions(assets=[credit, scored], jobs=[replay], sensors=[self.sensor])

    def run(self, fails: Exception | None = None) -> str:
        self.fails = fails
        done = dg.materialize([self.asset], instance=self.instance, raise_on_error=False)
        return done.run_id

    def evaluated(self, *checks: dg.AssetCheckResult) -> None:
        self.checks = [*checks]
        self.run()
        self.checks = None

    def score(self, value: float, **told: Any) -> None:
        metadata = {"carbon/score": value, **{f"carbon/{k}": v for k, v in told.items()}}
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(QUALITY, metadata=metadata)
        )

    def tick(self, later: timedelta = timedelta(seconds=30)) -> list[tuple[str, str]]:
        """Alerts that the team's receiver was sent, as (status, name)."""
        self.now = max(self.now, datetime.now(UTC)) + later
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.defs
        )
        result = self.sensor.evaluate_tick(context)
        self.cursor, self.said = result.cursor, result.skip_message
        self.last = [alert for body in self.market.take() for alert in body["alerts"]]
        return sorted((alert["status"], alert["labels"]["alertname"]) for alert in self.last)


CLASSIFIED = "columns:\n  holder: {classification: confidential}\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with recording() as market, recording() as everybody:
        made = World(tmp_path, market, everybody)
        with made.instance:
            yield made


def test_nothing_wrong_is_nothing_told(world: World) -> None:
    world.run()

    assert [world.tick() for _ in range(3)] == [[]] * 3
    assert world.said == "0 firing, 0 told, 0 told to be over."


def test_a_failed_run_is_told_once_however_often_it_fails_and_once_when_it_succeeds(
    world: World,
) -> None:
    first = world.run(ValueError("row (7, secret)"))
    assert world.tick() == [("firing", "RunFailed")]
    [told] = world.last

    again = world.run(ValueError("row (8, secret)"))
    assert [world.tick() for _ in range(3)] == [[]] * 3

    world.run()
    assert world.tick() == [("resolved", "RunFailed")]
    [over] = world.last
    assert [world.tick() for _ in range(3)] == [[]] * 3
    assert told["labels"] == {
        "alertname": "RunFailed",
        "severity": "critical",
        "team": "team:market-data",
        "stage": "lake",
        "database": "market",
        "table": "credit",
        "asset": "lake/market/credit",
    }
    assert told["annotations"] == {
        "summary": "ValueError, an error that is not foreseen; its words are on the page of the "
        "run.",
        "link": f"https://dagster.example.org/runs/{first}",
        "run": first,
        "runbook_url": "docs/lake.md#what-a-red-check-means",
    }
    assert told["generatorURL"] == f"https://dagster.example.org/runs/{first}"
    assert (over["fingerprint"], over["startsAt"]) == (told["fingerprint"], told["startsAt"])
    assert over["annotations"]["run"] == again
    assert world.everybody.bodies == []


def test_an_error_of_ours_is_told_in_its_own_words(world: World) -> None:
    error = LakeError("market/credit cannot be written. Give the lake's role the right.")
    world.run(error)

    assert world.tick() == [("firing", "TableStands")]
    assert world.last[0]["annotations"]["summary"] == (
        f"lake/market/credit does not follow its source: {error}"
    )
    world.run(ValueError("x"))  # another run, which its check does not tell of
    assert world.tick() == [("firing", "RunFailed")]
    world.run()
    assert world.tick() == [("resolved", "RunFailed"), ("resolved", "TableStands")]


def test_a_value_of_a_table_with_protected_columns_is_never_told(world: World) -> None:
    world.run(UnrepresentableValueError("holder", "decimal(9,2)", "Jane Doe"))

    assert world.tick() == [("firing", "TableStands")]
    assert "Jane" not in str(world.last)
    assert "UnrepresentableValueError" in str(world.last)


def test_a_materialization_without_a_run_is_a_success(world: World) -> None:
    world.run(ValueError("x"))
    world.tick()
    checks = (flows(world.table), lacks(world.table, 0))
    world.instance.report_runless_asset_event(dg.AssetMaterialization(LAKE))
    for check in checks:
        world.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(LAKE, str(check.check_name), passed=bool(check.passed))
        )

    assert world.tick() == [("resolved", "RunFailed")]


def test_a_job_that_fails_is_made_good_by_its_next_success(world: World) -> None:
    world.fails = LakeError("It cannot be put back. Correct the declaration.")
    world.replay.execute_in_process(instance=world.instance, raise_on_error=False)
    assert world.tick() == [("firing", "RunFailed")]
    [told] = world.last
    assert told["labels"] == {
        "alertname": "RunFailed",
        "severity": "critical",
        "team": "team:market-data",
        "database": "market",
        "job": "replay",
        "step": "work",
    }

    world.fails = None
    world.replay.execute_in_process(instance=world.instance)
    assert world.tick() == [("resolved", "RunFailed")]
    assert world.tick() == []


def test_a_gate_that_stops_its_run_is_told_as_the_gate(world: World) -> None:
    passes = dg.AssetCheckSpec("passes", asset=QUALITY, blocking=True)

    @dg.asset(key=QUALITY, check_specs=[passes], owners=[world.table.owner])
    def gated() -> dg.MaterializeResult:
        no = dg.AssetCheckResult(
            asset_key=QUALITY, check_name="passes", passed=False, description="40 of 100"
        )
        return dg.MaterializeResult(check_results=[no])

    world.defs = dg.Definitions(assets=[gated], sensors=[world.sensor])
    done = dg.materialize([gated], instance=world.instance, raise_on_error=False)

    assert not done.success
    assert world.tick() == [("firing", "ScoreTooLow")]
    assert world.last[0]["annotations"]["link"].endswith(f"/runs/{done.run_id}")


def test_a_parked_table_and_dead_letters_are_told_and_over_when_they_are(world: World) -> None:
    parked = TableParkedError(
        "market/credit", since="2026-01-01", by="ann", reason="The disk moves.", stands="offset 4"
    )
    world.run()
    world.tick()
    world.evaluated(*is_parked(world.table, parked)[:1], lacks(world.table, 2))

    assert world.tick() == [("firing", "DeadLettersPending"), ("firing", "TableStands")]
    told = {alert["labels"]["alertname"]: alert for alert in world.last}
    assert "is parked since 2026-01-01 by ann" in told["TableStands"]["annotations"]["summary"]
    assert told["TableStands"]["annotations"]["runbook_url"] == "docs/dead_letters.md#parked-tables"
    assert "lacks 2 events" in told["DeadLettersPending"]["annotations"]["summary"]
    assert told["DeadLettersPending"]["labels"]["severity"] == "warning"

    world.run()
    assert world.tick() == [("resolved", "DeadLettersPending"), ("resolved", "TableStands")]
    assert world.tick() == []


def test_a_run_that_is_under_way_resolves_nothing(world: World) -> None:
    world.evaluated(stands(world.table, LakeError("It stands. Do this.")), lacks(world.table, 0))
    assert world.tick() == [("firing", "TableStands")]
    planned = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        job_name="any",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=LAKE, check_name="flowing"),
    )
    run = dg.DagsterRun(job_name="any", status=dg.DagsterRunStatus.STARTED)
    world.instance.add_run(run)
    world.instance.report_dagster_event(planned, run_id=run.run_id)

    assert world.tick() == []


def test_a_table_older_than_promised_is_told_and_over_when_it_is_fresh(world: World) -> None:
    world.run()
    assert world.tick() == []

    assert world.tick(timedelta(minutes=16)) == [("firing", "TableStale")]
    assert world.last[0]["annotations"]["link"] == (
        "https://dagster.example.org/assets/lake/market/credit"
    )
    assert world.tick() == []


def test_a_table_that_never_came_is_stale_after_its_freshness(world: World) -> None:
    assert world.tick() == []
    assert world.tick(timedelta(minutes=16)) == [("firing", "TableStale")]
    assert "has never been materialized" in world.last[0]["annotations"]["summary"]


def test_a_check_that_was_not_evaluated_since_is_missing(world: World) -> None:
    world.instance.report_runless_asset_event(dg.AssetMaterialization(LAKE))
    assert world.tick() == []

    assert world.tick(timedelta(minutes=11)) == [
        ("firing", "CheckMissing"),
        ("firing", "CheckMissing"),
    ]
    assert {alert["labels"]["check"] for alert in world.last} == {"dead_letters", "flowing"}


def test_a_score_that_falls_says_what_changed_and_is_over_when_it_is_back(world: World) -> None:
    world.run()
    world.score(98.0, validity=100.0, completeness=96.0, losses={"not_null(tonnes)": 2.0})
    assert world.tick() == []
    world.score(94.0, validity=92.0, completeness=96.0, losses={"not_null(tonnes)": 2.0})
    assert world.tick() == []
    world.score(
        80.0,
        validity=60.0,
        completeness=96.0,
        losses={"not_null(tonnes)": 2.0, "between(tonnes)": 18.0},
    )
    assert world.tick() == [("firing", "ScoreFell")]
    assert world.last[0]["annotations"]["summary"] == (
        "The score of market/credit fell from 94 to 80: validity 92 to 60; between(tonnes) costs "
        '18 points more. Its scorecard names the rows: "carbon quality market/credit".'
    )
    world.score(81.0, validity=62.0, completeness=96.0)
    assert world.tick() == []
    world.score(93.0, validity=90.0, completeness=96.0)
    assert world.tick() == [("resolved", "ScoreFell")]
    assert world.tick() == []


def test_what_could_not_be_sent_is_sent_when_it_can_be(world: World) -> None:
    world.market.always = 503
    world.run(ValueError("x"))
    assert world.tick() == []
    assert world.said == "1 firing, 0 told, 0 told to be over; 1 messages wait for their receivers."

    world.market.always = 200
    assert world.tick() == [("firing", "RunFailed")]
    assert world.tick() == []


def test_a_receiver_that_is_gone_is_told_of_and_its_alerts_go_to_everybody(world: World) -> None:
    world.market.always = 404
    world.run(ValueError("x"))
    world.tick()
    world.tick()
    told = {
        alert["labels"]["alertname"]: alert
        for body in world.everybody.take()
        for alert in body["alerts"]
    }

    assert set(told) == {"ReceiverRefused", "RunFailed"}
    assert "webhook:MARKET accepts no alerts: it answered 404" in str(told["ReceiverRefused"])
    assert world.market.url not in str(told)

    world.market.always = 200
    assert world.tick(timedelta(minutes=6)) == [("firing", "RunFailed")]
    world.tick()
    [over] = [alert for body in world.everybody.take() for alert in body["alerts"]]
    assert (over["status"], over["labels"]["alertname"]) == ("resolved", "ReceiverRefused")


def test_without_any_receiver_it_says_so_and_tells_once_there_is_one(world: World) -> None:
    url = world.environ.pop("MARKET")
    everybody = world.environ.pop("EVERYBODY")
    world.run(ValueError("x"))

    assert world.tick() == []
    assert world.said is not None
    assert "not configured: 1 alerts have no receiver" in world.said
    world.environ |= {"MARKET": url, "EVERYBODY": everybody}
    assert world.tick() == [("firing", "RunFailed")]


def test_a_cursor_that_was_not_written_tells_the_same_again_under_the_same_key(
    world: World,
) -> None:
    world.run(ValueError("x"))
    before = world.cursor
    assert world.tick() == [("firing", "RunFailed")]
    first = world.last
    world.cursor = before

    assert world.tick() == [("firing", "RunFailed")]
    assert world.last == first
    keys = [headers["Idempotency-Key"] for headers in world.market.headers]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_alertmanager_is_reminded_of_what_fires_and_told_the_end_once(world: World) -> None:
    world.environ["CARBON_ALERTS_ALERTMANAGER_URI"] = world.everybody.url
    world.run(ValueError("x"))

    def told() -> list[tuple[str, bool]]:
        world.tick()
        return [
            (alert["labels"]["alertname"], alert["endsAt"] > timestamp(world.now.timestamp()))
            for body in world.everybody.take()
            for alert in body
        ]

    assert [told() for _ in range(4)] == [[("RunFailed", True)], [], [("RunFailed", True)], []]
    world.run()
    assert [told() for _ in range(4)] == [[("RunFailed", False)], [], [], []]
    assert world.market.paths == []


def test_receivers_are_told_directly_when_alertmanager_is_gone(world: World) -> None:
    world.environ["CARBON_ALERTS_ALERTMANAGER_URI"] = "http://127.0.0.1:1"
    world.run(ValueError("x"))
    for _ in range(2):
        world.tick()
    assert world.everybody.take() == []

    world.tick(timedelta(minutes=11))
    told = [
        alert["labels"]["alertname"] for body in world.everybody.take() for alert in body["alerts"]
    ]
    assert sorted(told) == ["ReceiverRefused", "RunFailed"]


def test_a_look_costs_as_many_queries_however_many_tables_there_are(tmp_path: Path) -> None:
    assert queries_of_a_look(tmp_path / "few", 2) == queries_of_a_look(tmp_path / "many", 12)


def queries_of_a_look(root: Path, count: int) -> int:
    """Statements that the second look at tables takes, when nothing is new."""
    root.mkdir()
    expects = "expectations:\n  - {kind: not_null, column: id}\n"
    names = [f"table_{number}" for number in range(count)]
    declare(root, "market", **{name: minimal(name) + expects for name in names})
    catalog = load_catalog(root)
    sensor = alerts_sensor(catalog, running=False, environ={})
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(root)})
    statements: list[str] = []

    def count_one(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    with dg.DagsterInstance.ephemeral(tempdir=str(root)) as instance:
        for table in catalog.tables:
            for stage in ("lake", "quality"):
                made = dg.AssetMaterialization(table_key(stage, table))
                instance.report_runless_asset_event(made)
        context = dg.build_sensor_context(instance=instance, definitions=definitions)
        cursor = sensor.evaluate_tick(context).cursor
        again = dg.build_sensor_context(instance=instance, definitions=definitions, cursor=cursor)
        event.listen(Engine, "before_cursor_execute", count_one)
        try:
            sensor.evaluate_tick(again)
        finally:
            event.remove(Engine, "before_cursor_execute", count_one)
    return len(statements)


def test_an_old_run_that_gets_a_tag_is_not_news(world: World) -> None:
    run_id = world.run(ValueError("x"))
    yesterday = world.now.timestamp() - 86_400
    with world.instance.run_storage.connect() as connection:
        connection.execute(RunsTable.update().values(end_time=yesterday))
    world.cursor = encode_memory(Memory(until=world.now.timestamp()))
    world.instance.add_run_tags(run_id, {"seen": "by ann"})

    assert world.tick() == []


def test_after_a_long_pause_runs_are_read_in_several_looks_and_none_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_reading, "_PAGE", 2)
    monkeypatch.setattr(alert_reading, "MOST_RUNS", 2)
    monkeypatch.setattr(alert_reading, "OVERLAP", timedelta(milliseconds=1))
    for fails in (None, ValueError("x"), None, None, ValueError("x")):
        world.fails = fails
        world.replay.execute_in_process(instance=world.instance, raise_on_error=False)

    assert [world.tick() for _ in range(4)] == [
        [("firing", "RunFailed")],
        [("resolved", "RunFailed")],
        [("firing", "RunFailed")],
        [],
    ]


def test_no_secret_is_in_the_cursor_or_on_the_page(world: World) -> None:
    world.market.always = 401
    world.run(ValueError("x"))
    world.tick()
    world.tick()

    assert decode_memory(world.cursor).troubles.keys() == {"webhook:MARKET"}
    assert world.market.url not in str(decode_memory(world.cursor))
    assert world.market.url not in str(world.said)
