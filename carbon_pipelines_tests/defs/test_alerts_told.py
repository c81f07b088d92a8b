"""Receivers that fail, memories that are lost, long pauses: what is told, and what a look costs."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.runs.schema import RunsTable
from sqlalchemy import event
from sqlalchemy.engine import Engine

from carbon_pipelines.alerts.memory import Memory, decode_memory, encode_memory
from carbon_pipelines.alerts.payloads import timestamp
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.automation import alert_runs
from carbon_pipelines.defs.automation.alerts import alerts_sensor
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines_tests.catalog.declarations import declare, minimal
from carbon_pipelines_tests.defs.alert_world import World


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
    monkeypatch.setattr(alert_runs, "_PAGE", 2)
    monkeypatch.setattr(alert_runs, "MOST_RUNS", 2)
    monkeypatch.setattr(alert_runs, "OVERLAP", timedelta(milliseconds=1))
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
