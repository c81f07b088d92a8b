"""Merging all the time: fresh, alone, not stopped by one table, and losing nothing when killed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, cast

import dagster as dg
import psycopg
import pytest

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.automation.observe import observe_lag
from carbon_pipelines.defs.lake.following import FollowReporter
from carbon_pipelines.errors import FollowRunningError, TableParkedError
from carbon_pipelines.lake import follow as follow_module
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.follow import Follower, Turn
from carbon_pipelines.lake.freshness import Freshness
from carbon_pipelines.lake.release import apply_release, park_by_hand, plan_release
from carbon_pipelines.lake.sync import TableSynced
from carbon_pipelines.maintenance.leases import LeaseRequest, take_lease
from carbon_pipelines.maintenance.thinning import Thinning
from carbon_pipelines.source.followers import FollowerMark
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import wait_until
from carbon_pipelines_tests.integration.supervised import Supervised, write_catalog
from carbon_pipelines_tests.integration.upkeep import snapshot_rows

pytestmark = pytest.mark.integration

KILLS = 5
SECONDS_BETWEEN_KILLS = 3.0


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """Tables a and b, copied."""
    for name in ("a", "b"):
        pipeline.execute(
            f"CREATE TABLE {name} (id bigint PRIMARY KEY, n bigint)",
            f"INSERT INTO {name} SELECT g, 0 FROM generate_series(1, 50) g",
        )
        pipeline.declare(name)
    pipeline.follow_all()
    return pipeline


def mark_of(pipeline: Pipeline, *tables: str, patience: float = 0.0) -> FollowerMark:
    return FollowerMark(
        pipeline.dsn,
        pipeline.name,
        tables or list(pipeline.tables),
        patience=timedelta(seconds=patience),
        wait=time.sleep,
        clock=time.monotonic,
    )


@contextmanager
def followed(
    pipeline: Pipeline,
    on_turn: Callable[[Turn], None],
    *,
    keep: Callable[[], None] = lambda: None,
    tend: Callable[[TableSynced], None] = lambda _: None,
) -> Iterator[None]:
    """A capture and a follower of every table, in threads of this process."""
    stop = threading.Event()
    follower = Follower(
        pipeline.tables.values(),
        {pipeline.name: pipeline.database},
        pipeline.endpoints,
        interval=timedelta(seconds=0.5),
        on_turn=on_turn,
        tend=tend,
        keep=keep,
    )
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(Capture(pipeline.database, pipeline.endpoints).run_forever, stop),
            pool.submit(follower.run, stop),
        ]
        try:
            yield
        finally:
            stop.set()
        for one in running:
            one.result()


def test_changes_become_visible_by_themselves_and_it_is_known_how_soon(pipeline: Pipeline) -> None:
    fresh: dict[str, Freshness] = {"a": Freshness(), "b": Freshness()}

    def count(turn: Turn) -> None:
        assert turn.synced is not None, turn.error
        fresh[turn.table.name].merge(turn.synced.freshness)

    with followed(pipeline, count):
        for number in range(1, 21):
            pipeline.execute("UPDATE a SET n = n + 1 WHERE id <= 10")
            if number % 5 == 0:
                pipeline.execute(f"INSERT INTO b VALUES ({100 + number}, 1)")
            time.sleep(0.1)
        wait_until(lambda: fresh["a"].changes == 200 and fresh["b"].changes == 4)

    assert pipeline.differences("a") == pipeline.differences("b") == 0
    assert 0 < fresh["a"].quantile(0.5) <= fresh["a"].quantile(0.99) < 30


def test_a_followed_table_keeps_few_snapshots_and_those_that_are_leased(
    pipeline: Pipeline,
) -> None:
    with open_catalog(pipeline.endpoints.lake) as catalog:
        request = LeaseRequest("ann", timedelta(hours=1))
        leased = take_lease(catalog, pipeline.tables["a"].identifier, request, datetime.now(UTC))
    thinning = Thinning(pipeline.endpoints.lake, keep=2, spared=timedelta(0))
    most = 0

    def count(turn: Turn) -> None:
        nonlocal most
        assert turn.synced is not None, turn.error
        most = max(most, turn.synced.snapshots)

    with followed(pipeline, count, tend=thinning.tend):
        for number in range(1, 9):
            pipeline.execute(f"UPDATE a SET n = {number}")
            wait_until(lambda: pipeline.differences("a") == 0)

    table = pipeline.iceberg("a")
    kept = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
    # one commit beyond a half more makes it worth it; the leased one stays besides
    assert 2 <= len(kept) <= most <= 5
    assert leased.snapshot_id in kept
    held = snapshot_rows(pipeline.endpoints, table, leased.snapshot_id)
    assert sorted(held) == [(number, 0) for number in range(1, 51)]
    assert pipeline.differences("a") == 0


def test_a_table_whose_retention_is_declared_is_not_thinned(pipeline: Pipeline) -> None:
    table = pipeline.iceberg("a")
    with table.transaction() as transaction:
        transaction.set_properties({"history.expire.max-snapshot-age-ms": "86400000"})
    for number in range(3):
        pipeline.execute(f"UPDATE a SET n = {number}")
        pipeline.follow("a")
    pipeline.execute("UPDATE a SET n = 9")
    synced = pipeline.follow("a")
    thinning = Thinning(pipeline.endpoints.lake, keep=2, spared=timedelta(0))
    assert thinning.is_due(synced)
    thinning.tend(synced)
    assert len(pipeline.iceberg("a").metadata.snapshots) == synced.snapshots


def test_a_table_that_is_parked_waits_alone_and_goes_on_once_it_is_released(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "STANDING_SECONDS", 0.5)
    turns: list[Turn] = []
    park_by_hand(pipeline.tables["a"], pipeline.endpoints, reason="look", by="ann")

    with followed(pipeline, turns.append):
        pipeline.execute("UPDATE a SET n = 5", "UPDATE b SET n = 5")
        wait_until(lambda: pipeline.differences("b") == 0)
        wait_until(lambda: any(isinstance(turn.error, TableParkedError) for turn in turns))
        [plan] = plan_release([pipeline.tables["a"]], pipeline.endpoints)
        apply_release(plan, pipeline.endpoints, reason="looked", by="ann")
        wait_until(lambda: pipeline.differences("a") == 0)

    assert {turn.table.name for turn in turns if turn.error is not None} == {"a"}


def test_an_error_that_nobody_foresaw_is_of_its_table_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Turn] = []
    sync = follow_module.sync_table

    def broken(table: TableSpec, *arguments: Any, **more: Any) -> TableSynced:
        if table.name == "a":
            raise ZeroDivisionError
        return sync(table, *arguments, **more)

    monkeypatch.setattr(follow_module, "sync_table", broken)
    with followed(pipeline, turns.append):
        pipeline.execute("UPDATE a SET n = 5", "UPDATE b SET n = 5")
        wait_until(lambda: pipeline.differences("b") == 0)
        wait_until(lambda: any(isinstance(turn.error, ZeroDivisionError) for turn in turns))

    monkeypatch.undo()
    pipeline.follow_all()
    assert pipeline.differences("a") == 0


def test_one_process_follows_a_table_and_the_next_takes_over_when_it_has_gone(
    pipeline: Pipeline,
) -> None:
    first, second, beside = mark_of(pipeline), mark_of(pipeline), mark_of(pipeline, "b")
    first.keep()
    for refused in (second, beside):
        with pytest.raises(FollowRunningError, match=r"followed by another process .*process \d+"):
            refused.keep()

    threading.Timer(1.0, first.close).start()
    patient = mark_of(pipeline, patience=30.0)
    patient.keep()
    patient.close()

    only_a, only_b = mark_of(pipeline, "a"), mark_of(pipeline, "b")
    only_a.keep()
    only_b.keep()
    only_a.close()
    only_b.close()


def test_a_source_that_goes_away_costs_the_mark_and_not_the_merging(pipeline: Pipeline) -> None:
    mark = mark_of(pipeline)
    mark.keep()
    with psycopg.connect(pipeline.stack.admin_dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            [pipeline.name],
        )
    time.sleep(1.1)
    mark.keep()  # finds it gone
    time.sleep(1.1)
    mark.keep()  # and sets it again
    with pytest.raises(FollowRunningError):
        mark_of(pipeline).keep()
    mark.close()


def test_dagster_is_told_and_its_sensor_leaves_followed_tables_alone(pipeline: Pipeline) -> None:
    mark = mark_of(pipeline)
    lake = {name: dg.AssetKey(["lake", pipeline.name, name]) for name in pipeline.tables}
    with dg.DagsterInstance.ephemeral() as instance:
        reporter = FollowReporter(instance, clock=_minutes().__next__)
        with followed(pipeline, reporter.take, keep=mark.keep):
            pipeline.execute("UPDATE a SET n = 7 WHERE id <= 3")
            wait_until(lambda: pipeline.differences("a") == 0)
            wait_until(lambda: bool(_metadata(instance, lake["a"]).get("carbon/upserted_rows")))
            seen = {
                lag.asset: lag for lag in observe_lag(pipeline.database, pipeline.endpoints).lags
            }
            assert seen[lake["a"].to_user_string()].behind == 0
            park_by_hand(pipeline.tables["b"], pipeline.endpoints, reason="look", by="ann")
            wait_until(lambda: _check(instance, lake["b"]) is False)

        told = _metadata(instance, lake["a"])
        assert _check(instance, lake["a"]) is True
        assert told["dagster/row_count"] == 50
        assert cast("dict[str, float]", told["carbon/visible_after_seconds"])["p99"] > 0
    mark.close()


def _minutes() -> Iterator[float]:
    """A clock that is a minute on each time it is asked."""
    minute = 0.0
    while True:
        yield minute
        minute += 60.0


def _metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, object]:
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        return {}
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def _check(instance: dg.DagsterInstance, key: dg.AssetKey) -> bool | None:
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key, "flowing"), limit=1
    )
    evaluation = records[0].evaluation if records else None
    return None if evaluation is None else evaluation.passed


def test_a_follower_that_is_killed_again_and_again_loses_and_doubles_nothing(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    environ = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        "CARBON_HOME": str(pipeline.stack.home),
        "CARBON_CATALOG_DIR": str(write_catalog(pipeline, tmp_path)),
    }
    run = [sys.executable, "-m", "carbon_pipelines.cli"]
    capture = Supervised([*run, "capture", pipeline.name], environ, tmp_path / "capture.log")
    follow = Supervised([*run, "follow", "--interval=0.2"], environ, tmp_path / "follow.log")
    random, stop = Random(7), threading.Event()

    def write() -> None:
        with psycopg.connect(pipeline.dsn, autocommit=True) as connection:
            while not stop.wait(0.01):
                table, number = random.choice("ab"), random.randint(1, 80)
                change = random.choice(
                    [
                        f"INSERT INTO {table} VALUES ({number}, 1) ON CONFLICT DO NOTHING",
                        f"UPDATE {table} SET n = n + 1 WHERE id = {number}",
                        f"DELETE FROM {table} WHERE id = {number}",
                    ]
                )
                connection.execute(change.encode())

    try:
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            for _ in range(KILLS):
                time.sleep(random.uniform(0.5, 1.0) * SECONDS_BETWEEN_KILLS)
                follow.kill()
                follow.keep()
            stop.set()
            writing.result()
        wait_until(lambda: pipeline.differences("a") == pipeline.differences("b") == 0)
        follow.process.send_signal(signal.SIGTERM)
        assert follow.process.wait(30) == 0
        assert "Stopped following." in follow.tail()
        assert " changes in " in follow.tail()
    finally:
        stop.set()
        follow.kill()
        capture.kill()
