"""A slot that lost changes is replaced, and the tables are copied behind the gap: nothing missing
stays unseen.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import make_conninfo

from carbon_pipelines.defs.automation.observe import observe_lag
from carbon_pipelines.errors import SlotHealLimitError, StreamGapError
from carbon_pipelines.lake.first_copy import FirstCopy
from carbon_pipelines.stream import capture as capture_module
from carbon_pipelines.stream import heal, resume
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines.stream.drain import drain
from carbon_pipelines.stream.progress import Progress, load_progress
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import read_topic, wait_until

pytestmark = pytest.mark.integration

MISSED = (
    "DELETE FROM t WHERE id % 5 = 0",
    "UPDATE t SET n = n + 1000 WHERE id % 3 = 0",
    "UPDATE t SET id = -id WHERE id % 7 = 0",
    "INSERT INTO t SELECT g, 1, 'missed' FROM generate_series(5001, 5100) g",
    "ALTER TABLE t ADD COLUMN tag text",
    "UPDATE t SET tag = 'tagged' WHERE id % 11 = 0",
)
"""What happens while no slot keeps it."""


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "INSERT INTO t SELECT g, g % 10, 'row ' || g FROM generate_series(1, 2000) g",
    )
    pipeline.declare("t")
    pipeline.follow("t")
    return pipeline


def drop(pipeline: Pipeline) -> None:
    # the sender of a stream that was closed lets go of its slot a moment later
    wait_until(lambda: slot(pipeline, "active") is False)
    pipeline.execute(f"SELECT pg_drop_replication_slot('{pipeline.database.slot_name}')")


def remove_wal(pipeline: Pipeline) -> None:
    with setting(pipeline, "max_slot_wal_keep_size", "1MB"):
        for _ in range(4):
            pipeline.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
            pipeline.execute("SELECT pg_switch_wal()")
        wait_until(lambda: slot_after_checkpoint(pipeline, "wal_status") == "lost")


def leave_idle(pipeline: Pipeline) -> None:
    with setting(pipeline, "idle_replication_slot_timeout", "1s"):
        wait_until(
            lambda: slot_after_checkpoint(pipeline, "invalidation_reason") == "idle_timeout",
            every_seconds=0.2,
        )


@contextmanager
def setting(pipeline: Pipeline, name: str, value: str) -> Iterator[None]:
    pipeline.execute(f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        pipeline.execute(f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")


def slot_after_checkpoint(pipeline: Pipeline, column: str) -> object:
    """A checkpoint is what takes a slot's WAL away; it may come before its time is up."""
    pipeline.execute("CHECKPOINT")
    return slot(pipeline, column)


def slot(pipeline: Pipeline, column: str) -> object:
    with psycopg.connect(pipeline.dsn, autocommit=True) as connection:
        row = connection.execute(
            f"SELECT {column} FROM pg_replication_slots WHERE slot_name = %s".encode(),
            (pipeline.database.slot_name,),
        ).fetchone()
    return None if row is None else row[0]


def captured(pipeline: Pipeline) -> Progress:
    progress = load_progress(pipeline.endpoints, pipeline.database)
    assert progress is not None
    return progress


@pytest.mark.parametrize(
    ("lose", "reason"),
    [(drop, "it was dropped"), (remove_wal, "wal_removed"), (leave_idle, "idle_timeout")],
)
def test_what_a_lost_slot_missed_is_in_the_table_after_the_next_sync(
    pipeline: Pipeline, lose: Callable[[Pipeline], None], reason: str
) -> None:
    before = captured(pipeline)
    lose(pipeline)
    pipeline.execute(*MISSED)

    pipeline.drain()

    (gap,) = captured(pipeline).gaps
    assert (gap.generation, gap.reason, gap.captured_lsn) == (1, reason, before.end_lsn)
    assert gap.resumes_lsn > gap.captured_lsn
    assert slot(pipeline, "failover") is True
    assert len(pipeline.iceberg("t").scan().to_arrow()) == 2000  # readers keep what was right
    pipeline.execute("UPDATE t SET doc = 'behind' WHERE id = 1")
    lines: list[str] = []
    synced = pipeline.follow("t", report=lines.append)
    assert any("never reached Kafka" in line for line in lines)
    assert synced.copied_rows > 0
    assert pipeline.differences("t") == 0
    pipeline.execute("DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (9001, 1, 'new')")
    assert pipeline.follow("t").copied_rows == 0
    assert pipeline.differences("t") == 0
    events = read_topic(pipeline.endpoints, topic_of(pipeline.tables["t"]))
    assert {e["source"]["commit_lsn"] > gap.resumes_lsn for e in events} == {True}
    assert {e["source"]["generation"] for e in events} == {1}


def test_the_lag_sensor_sees_a_table_behind_a_gap_though_no_event_came(pipeline: Pipeline) -> None:
    asset = f"lake/{pipeline.name}/t"

    def behind() -> int | None:
        seen = observe_lag(pipeline.database, pipeline.endpoints)
        assert seen.errors == ()
        return next(lag.behind for lag in seen.lags if lag.asset == asset)

    assert behind() == 0
    drop(pipeline)
    pipeline.drain()
    healed = behind()
    pipeline.sync("t")

    assert healed == 1
    assert behind() == 0


def test_a_running_capture_goes_on_behind_a_slot_that_somebody_dropped_and_is_never_fenced(
    pipeline: Pipeline,
) -> None:
    stop = threading.Event()
    running = threading.Thread(
        target=Capture(pipeline.database, pipeline.endpoints).run_forever, args=(stop,)
    )
    running.start()
    try:
        wait_until(lambda: slot(pipeline, "active") is True)
        with psycopg.connect(pipeline.dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                " WHERE slot_name = %s",
                (pipeline.database.slot_name,),
            )
            drop(pipeline)
        pipeline.execute(*MISSED)
        wait_until(lambda: captured(pipeline).generation == 1)
        pipeline.execute("UPDATE t SET n = 7 WHERE id = 1")

        pipeline.follow("t")

        assert pipeline.differences("t") == 0
        assert running.is_alive()
        assert slot(pipeline, "active") is True
    finally:
        stop.set()
        running.join()
    assert captured(pipeline).generation == 1


def test_a_heal_that_is_killed_at_any_step_is_gone_on_with_and_counted_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_wal(pipeline)
    pipeline.execute(*MISSED)

    def killed(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    def interrupt(where: object, step: str, act: Callable[[], object]) -> None:
        monkeypatch.setattr(where, step, killed)
        with pytest.raises(KeyboardInterrupt):
            act()
        monkeypatch.undo()

    for module, step in (
        (heal, "ensure_source"),  # the lost slot is gone, there is no other one yet
        (capture_module, "Session"),  # there is another one, which nobody has read
        (resume, "behind_gap"),  # it was taken, the gap is not in the progress
    ):
        interrupt(module, step, pipeline.drain)
        assert captured(pipeline).generation == 0
    pipeline.drain()
    # all is copied, nothing can be seen
    interrupt(FirstCopy, "_publish", lambda: pipeline.sync("t"))
    assert len(pipeline.iceberg("t").scan().to_arrow()) == 2000
    pipeline.execute("DELETE FROM t WHERE id = 4")

    pipeline.follow("t")

    assert captured(pipeline).generation == 1
    assert pipeline.differences("t") == 0


def test_the_fourth_heal_within_an_hour_stops_and_says_what_to_do(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(heal.HEALS):
        drop(pipeline)
        pipeline.drain()
    drop(pipeline)
    pipeline.execute(*MISSED)

    for _ in range(2):
        with pytest.raises(SlotHealLimitError, match="max_slot_wal_keep_size") as error:
            pipeline.drain()
        assert error.value.retryable is False
    assert captured(pipeline).generation == heal.HEALS

    later = time.time() + heal.WITHIN.total_seconds()
    monkeypatch.setattr(resume.time, "time", lambda: later)
    pipeline.follow("t")
    assert captured(pipeline).generation == heal.HEALS + 1
    assert pipeline.differences("t") == 0


def test_an_appended_table_stops_before_the_gap_until_its_owner_has_it_copied(
    pipeline: Pipeline,
) -> None:
    pipeline.execute("CREATE TABLE log (line text)", "INSERT INTO log VALUES ('kept')")
    pipeline.declare("log", (), mode="append")
    pipeline.follow("log")
    pipeline.execute("DELETE FROM log")
    drop(pipeline)
    pipeline.execute("INSERT INTO log VALUES ('missed')")

    with pytest.raises(StreamGapError, match="carbon recopy"):
        pipeline.follow("log")

    assert pipeline.iceberg("log").scan().to_arrow().to_pylist() == [{"line": "kept"}]


def test_a_standby_that_a_failover_would_lose_changes_to_is_advised_about(
    pipeline: Pipeline,
) -> None:
    name = f"standby_{pipeline.name}"
    pipeline.execute(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    conninfo = make_conninfo(pipeline.dsn, replication="true", application_name=name)
    standby = pq.PGconn.connect(conninfo.encode())
    try:
        with psycopg.connect(pipeline.dsn) as connection:
            row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None
        start = f"START_REPLICATION SLOT {name} PHYSICAL {row[0]}"
        assert standby.exec_(start.encode()).status == pq.ExecStatus.COPY_BOTH

        drained = drain(pipeline.database, pipeline.endpoints, timeout=timedelta(minutes=1))
    finally:
        standby.finish()
        wait_until(lambda: _dropped(pipeline, name))

    assert len(drained.advice) == 1
    assert f"synchronized_standby_slots does not name {name}" in drained.advice[0]


def _dropped(pipeline: Pipeline, name: str) -> bool:
    with psycopg.connect(pipeline.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s AND NOT active",
            (name,),
        )
        found = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
        return connection.execute(found, (name,)).fetchone() is None
