"""Each change of the source is in its topic once and in order, whatever is killed."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType

import psycopg
import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    CaptureFencedError,
    CaptureOutdatedError,
    CaptureRunningError,
    DrainTimeoutError,
    EventTooLargeError,
    SourceUnreachableError,
    StreamUnavailableError,
)
from carbon_pipelines.source.position import Position, parse_lsn
from carbon_pipelines.stream import drain as drain_module
from carbon_pipelines.stream import producer as producer_module
from carbon_pipelines.stream import session as session_module
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines.stream.drain import drain
from carbon_pipelines.stream.producer import TransactionalProducer
from carbon_pipelines.stream.progress import load_progress
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.streaming import (
    SOON,
    Streamed,
    declare,
    positions,
    table,
    wait_until,
)

pytestmark = pytest.mark.integration

CREDIT = "CREATE TABLE credit (id bigint PRIMARY KEY, state text, body text)"


@pytest.fixture
def streamed(stack: Stack, source: tuple[str, str]) -> Streamed:
    """A database with the keyed table credit and the keyless table log; the slot exists."""
    name, dsn = source
    database = declare(name, table("credit", "id"), table("log"))
    made = Streamed(stack, dsn, database)
    made.run(CREDIT, "CREATE TABLE log (id bigint, line text)")
    made.drain()
    return made


class Writer:
    """Inserts 1, 2, 3 ... into credit until stopped; ``rows`` of them were committed."""

    def __init__(self, streamed: Streamed) -> None:
        self.rows = 0
        self._streamed, self._stop = streamed, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, rows: int) -> None:
        wanted = self.rows + rows
        wait_until(lambda: self.rows >= wanted)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._streamed.connect(autocommit=False) as connection:
                    self._write(connection)
            except psycopg.OperationalError:
                self._stop.wait(0.05)  # PostgreSQL was killed: the rows are written again

    def _write(self, connection: psycopg.Connection) -> None:
        while not self._stop.is_set():
            last = self.rows + random.randint(1, 40)
            for number in range(self.rows + 1, last + 1):
                connection.execute(
                    "INSERT INTO credit VALUES (%s, 'new') ON CONFLICT DO NOTHING", (number,)
                )
            connection.commit()
            self.rows = last


@pytest.fixture
def writer(streamed: Streamed) -> Iterator[Writer]:
    writing = Writer(streamed)
    yield writing
    writing.stop()


def assert_each_row_once(streamed: Streamed) -> None:
    """Every inserted row is in the topic once, and as committed: positions only grow."""
    streamed.drain()
    envelopes = streamed.envelopes("credit")
    with streamed.connect() as connection:
        in_source = {row[0] for row in connection.execute("SELECT id FROM credit")}
    captured = [envelope["after"]["id"] for envelope in envelopes]
    assert len(captured) == len(in_source)
    assert set(captured) == in_source
    assert positions(envelopes) == sorted(set(positions(envelopes)))


def test_a_mixed_workload_is_captured_in_the_order_of_its_commits(streamed: Streamed):
    statements = [
        "INSERT INTO credit SELECT g, 'issued', repeat('x', 10) FROM generate_series(1, 50) g",
        "INSERT INTO log VALUES (1, 'a'), (2, NULL)",
        "UPDATE credit SET state = 'retired' WHERE id <= 10",
        "UPDATE credit SET id = id + 1000 WHERE id <= 5",
        "DELETE FROM credit WHERE id > 45",
        "TRUNCATE log",
        "INSERT INTO log VALUES (3, 'b')",
    ]
    streamed.run(*statements[:4])
    streamed.drain()
    streamed.run(*statements[4:])
    streamed.drain()
    credit, log = streamed.envelopes("credit"), streamed.envelopes("log")
    assert [e["op"] for e in credit] == ["c"] * 50 + ["u"] * 10 + ["d", "u"] * 5 + ["d"] * 10
    assert [(e["op"], e["after"]) for e in log] == [
        ("c", {"id": 1, "line": "a"}),
        ("c", {"id": 2, "line": None}),
        ("t", None),
        ("c", {"id": 3, "line": "b"}),
    ]
    assert positions(credit) == sorted(set(positions(credit)))
    replayed: dict[int, dict] = {}
    for envelope in credit:
        if envelope["op"] == "d":
            del replayed[envelope["before"]["id"]]
        else:
            replayed[envelope["after"]["id"]] = envelope["after"]
    with streamed.connect() as connection:
        rows = connection.execute("SELECT id, state, body FROM credit").fetchall()
    assert replayed == {r[0]: {"id": r[0], "state": r[1], "body": r[2]} for r in rows}


def test_a_later_record_with_a_lower_lsn_is_captured_once(streamed: Streamed):
    with streamed.connect(autocommit=False) as slow, streamed.connect(autocommit=False) as fast:
        slow.execute("INSERT INTO credit VALUES (1, 'slow')")
        fast.execute("INSERT INTO credit VALUES (2, 'fast')")
        fast.commit()
        streamed.drain()
        fast.execute("INSERT INTO credit VALUES (3, 'fast')")
        fast.commit()
        slow.commit()
    streamed.drain()
    envelopes = streamed.envelopes("credit")
    assert [e["after"]["id"] for e in envelopes] == [2, 3, 1]
    lsns = [e["source"]["lsn"] for e in envelopes]
    assert lsns[2] < lsns[0] < lsns[1]
    assert positions(envelopes) == sorted(positions(envelopes))


def test_an_unchanged_toast_value_is_named(streamed: Streamed):
    streamed.run(
        "ALTER TABLE credit ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO credit VALUES (1, 'issued', repeat('x', 9000))",
        "UPDATE credit SET state = 'retired'",
        "ALTER TABLE credit REPLICA IDENTITY FULL",
        "UPDATE credit SET state = 'cancelled'",
    )
    streamed.drain()
    _, default, full = streamed.envelopes("credit")
    assert default["source"]["unchanged"] == "body"
    assert default["after"]["body"] == "__debezium_unavailable_value"
    assert full["after"] == {"id": 1, "state": "cancelled", "body": "x" * 9000}
    assert "unchanged" not in full["source"]


def test_add_column_changes_the_schema_version_exactly_at_its_place(
    streamed: Streamed, writer: Writer
):
    with streamed.capture_process() as process:
        streamed.wait_until_captured(process)
        writer.wait_for(500)
        streamed.run("ALTER TABLE credit ADD COLUMN tonnes numeric DEFAULT 1")
        writer.wait_for(500)
        writer.stop()
        assert_each_row_once(streamed)
    envelopes = streamed.envelopes("credit")
    versions = [e["source"]["schema_version"] for e in envelopes]
    assert versions == sorted(versions)
    assert len(set(versions)) == 2
    assert [("tonnes" in e["after"]) for e in envelopes] == [v == versions[-1] for v in versions]


def test_capture_killed_in_the_middle_of_transactions_loses_and_doubles_nothing(
    streamed: Streamed, writer: Writer
):
    for _ in range(6):
        with streamed.capture_process() as process:
            streamed.wait_until_captured(process)
            writer.wait_for(random.randint(50, 800))
            process.send_signal(signal.SIGKILL)
            process.wait()
    writer.stop()
    assert_each_row_once(streamed)


def test_kafka_killed_under_load_loses_and_doubles_nothing(streamed: Streamed, writer: Writer):
    with streamed.capture_process() as process:
        streamed.wait_until_captured(process)
        writer.wait_for(300)
        streamed.stack.kill("kafka")
        writer.wait_for(300)
        streamed.stack.up(lambda _line: None)
        writer.stop()
        assert_each_row_once(streamed)


def test_postgres_killed_under_load_loses_and_doubles_nothing(streamed: Streamed, writer: Writer):
    with streamed.capture_process() as process:
        streamed.wait_until_captured(process)
        writer.wait_for(300)
        streamed.stack.kill("postgres")
        assert process.wait(60) != 0
        assert process.stderr is not None
        assert b"SourceUnreachableError" in process.stderr.read()
    streamed.stack.up(lambda _line: None)
    writer.stop()
    assert_each_row_once(streamed)


@pytest.mark.parametrize("crash_after", [1, 4])
def test_a_transaction_larger_than_a_kafka_transaction_is_split_and_resumed(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, crash_after: int
):
    monkeypatch.setattr(session_module, "TRANSACTION_EVENTS", 100)
    monkeypatch.setattr(session_module, "TURN_MESSAGES", 40)
    streamed.run("INSERT INTO credit SELECT g, 'new' FROM generate_series(1, 1000) g")
    commits: list[Position] = []

    def crash_later(producer: TransactionalProducer, **how) -> None:
        whole(producer, **how)
        progress = load_progress(streamed.endpoints, streamed.database)
        assert progress is not None
        commits.append(progress.position)
        if len(commits) == crash_after:
            raise KeyboardInterrupt

    whole = TransactionalProducer.commit
    with monkeypatch.context() as patched:
        patched.setattr(TransactionalProducer, "commit", crash_later)
        with pytest.raises(KeyboardInterrupt):
            Capture(streamed.database, streamed.endpoints).run(threading.Event())
    assert commits[-1].ordinal in range(crash_after * 100, crash_after * 140 + 1)
    captured = Capture(streamed.database, streamed.endpoints).run(
        threading.Event(), until_lsn=commits[-1].commit_lsn + 1
    )
    assert captured.events == 1000 - commits[-1].ordinal
    assert captured.kafka_transactions > 1
    assert streamed.rows("credit") == list(range(1, 1001))


def test_a_second_capture_is_refused_and_leaves_the_first_alone(streamed: Streamed):
    with streamed.capture_process() as first:
        streamed.wait_until_captured(first)
        with pytest.raises(CaptureRunningError, match="is active for PID"):
            Capture(streamed.database, streamed.endpoints).run(threading.Event())
        streamed.run("INSERT INTO credit VALUES (1, 'new')")
        assert streamed.drain().by == "capture"
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
    assert streamed.rows("credit") == [1]
    assert streamed.drain().by == "self"


def test_a_capture_whose_producer_was_taken_over_says_so(streamed: Streamed):
    stop, found = threading.Event(), []

    def run() -> None:
        try:
            Capture(streamed.database, streamed.endpoints).run(stop)
        except CaptureFencedError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: streamed.slot("active") is True)
    streamed.run("INSERT INTO credit VALUES (1, 'new')")
    wait_until(lambda: streamed.rows("credit") == [1])
    intruder = TransactionalProducer(
        streamed.endpoints.stream_bootstrap, f"carbon-{streamed.database.name}"
    )
    intruder.take_over()
    streamed.run("INSERT INTO credit VALUES (2, 'new')")
    thread.join(60)
    stop.set()
    assert [error.transactional_id for error in found] == [f"carbon-{streamed.database.name}"]
    assert_each_row_once(streamed)


def test_kafka_that_stays_away_ends_capture_with_a_retryable_error(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(producer_module, "PATIENCE_SECONDS", 2.0)
    found: list[StreamUnavailableError] = []

    def run() -> None:
        try:
            Capture(streamed.database, streamed.endpoints).run(threading.Event())
        except StreamUnavailableError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: streamed.slot("active") is True)
    bootstrap = streamed.endpoints.stream_bootstrap
    streamed.run("INSERT INTO credit VALUES (1, 'new')")
    wait_until(lambda: streamed.rows("credit") == [1])
    streamed.stack.kill("kafka")
    streamed.run("INSERT INTO credit VALUES (2, 'new')")
    thread.join(60)
    streamed.stack.up(lambda _line: None)
    assert [(e.retryable, e.bootstrap) for e in found] == [(True, bootstrap)]
    assert_each_row_once(streamed)


def test_postgres_that_is_gone_is_a_retryable_error(streamed: Streamed):
    streamed.stack.kill("postgres")
    with pytest.raises(SourceUnreachableError):
        streamed.drain()
    streamed.stack.up(lambda _line: None)
    assert streamed.drain().by == "self"


@pytest.mark.parametrize(
    ("module", "moment"),
    [(drain_module, "emit_marker"), (session_module, "load_resume_point")],
)
def test_postgres_that_goes_in_between_is_a_retryable_error(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, module: ModuleType, moment: str
):
    real: Callable[..., object] = getattr(module, moment)

    def end_session_first(session: psycopg.Connection, *more: object, **named: object) -> object:
        with streamed.connect() as connection:
            pid = session.info.backend_pid
            connection.execute("SELECT pg_terminate_backend(%s, 30000)", (pid,))
        return real(session, *more, **named)

    monkeypatch.setattr(module, moment, end_session_first)
    with pytest.raises(SourceUnreachableError):
        streamed.drain()
    monkeypatch.setattr(module, moment, real)
    assert streamed.drain().by == "self"


@pytest.mark.parametrize("whose", ["ours", "the topic's"])
def test_an_event_that_is_too_large_names_its_table(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, whose: str
):
    if whose == "ours":
        settings = {**producer_module._SETTINGS, "message.max.bytes": 100_000}
        monkeypatch.setattr(producer_module, "_SETTINGS", settings)
    else:
        limit_topic(streamed, topic_of(streamed.database.table("credit")), 20_000)
    streamed.run(
        "INSERT INTO credit VALUES (1, 'new')",
        "INSERT INTO credit SELECT 2, 'large', string_agg(md5(g::text), '')"
        " FROM generate_series(1, 9000) g",
    )
    with pytest.raises(EventTooLargeError, match=r"public\.credit at LSN .*more than") as raised:
        streamed.drain()
    assert raised.value.size_bytes > 9000 * 32
    monkeypatch.undo()
    if whose != "ours":
        limit_topic(streamed, topic_of(streamed.database.table("credit")), 1 << 20)
    assert_each_row_once(streamed)


def limit_topic(streamed: Streamed, topic: str, size_bytes: int) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    from carbon_pipelines.stream.topics import open_admin

    entry = ConfigEntry(
        "max.message.bytes", str(size_bytes), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource("topic", topic, incremental_configs=[entry])
    admin = open_admin(streamed.endpoints.stream_bootstrap)
    admin.incremental_alter_configs([resource])[resource].result()


def test_a_table_declared_after_capture_started_stops_it_instead_of_losing_rows(
    streamed: Streamed,
):
    streamed.run("CREATE TABLE public.meter (id bigint PRIMARY KEY)")
    newer = declare(streamed.database.name, *streamed.database.tables, table("meter", "id"))
    with streamed.capture_process() as process:
        streamed.wait_until_captured(process)
        drain(newer, streamed.endpoints, timeout=SOON)
        streamed.run("INSERT INTO public.meter VALUES (1)")
        assert process.wait(60) != 0
        assert process.stderr is not None
        assert CaptureOutdatedError.__name__.encode() in process.stderr.read()
    renewed = Streamed(streamed.stack, streamed.dsn, newer)
    renewed.drain()
    assert renewed.rows("meter") == [1]


def test_an_idle_slot_moves_with_heartbeats_and_few_progress_records(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(session_module, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(session_module, "IDLE_BYTES", 1)
    monkeypatch.setattr(session_module, "STOP_SECONDS", 0.02)
    stop = threading.Event()
    captured = []
    capture = Capture(streamed.database, streamed.endpoints)
    thread = threading.Thread(target=lambda: captured.append(capture.run(stop)))
    thread.start()
    wait_until(lambda: streamed.slot("active") is True)
    before = parse_lsn(streamed.slot("confirmed_flush_lsn"))
    wait_until(lambda: parse_lsn(streamed.slot("confirmed_flush_lsn")) > before)
    stop.wait(1.5)
    stop.set()
    thread.join()
    assert captured[0].events == 0
    assert 1 <= captured[0].kafka_transactions <= 2 + captured[0].seconds / 0.5
    assert captured[0].end_lsn > before


def test_a_drain_that_a_running_capture_does_not_finish_names_it(streamed: Streamed):
    with streamed.capture_process() as process:
        streamed.wait_until_captured(process)
        wait_until(lambda: streamed.drain().by == "capture")
        streamed.wait_until_captured(process)
        process.send_signal(signal.SIGSTOP)
        streamed.run("INSERT INTO credit VALUES (1, 'new')")
        with pytest.raises(DrainTimeoutError, match="is active for PID") as raised:
            drain(streamed.database, streamed.endpoints, timeout=timedelta(seconds=1.5))
        assert parse_lsn(raised.value.reached) < parse_lsn(raised.value.wanted)
        process.send_signal(signal.SIGCONT)
        assert streamed.drain().by == "capture"
