"""The moments at which rows get lost, doubled or revived, one test each."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    CaptureRunningError,
    CarbonPipelinesError,
    KeyMissingError,
    SourceTableReplacedError,
    TopicReplacedError,
    UnsupportedSchemaChangeError,
    WalGapError,
)
from carbon_pipelines.lake import first_copy
from carbon_pipelines.lake.first_copy import FirstCopy
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.staging import BRANCH
from carbon_pipelines.lake.start_over import apply_start_over, plan_start_over
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.catalogs import both_catalogs, lake_of
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import wait_until

pytestmark = pytest.mark.integration

ROWS = "INSERT INTO t SELECT g, g % 10, 'row ' || g FROM generate_series(1, 2000) g"
TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)"


@pytest.fixture
def pipeline(
    stack: Stack, source: SourceDatabase, request: pytest.FixtureRequest
) -> Iterator[Pipeline]:
    made = Pipeline(stack, source, lake=lake_of(request, stack))
    made.execute(TABLE, ROWS)
    made.declare("t", on_rewrite="park")
    yield made
    made.close()


def test_interleaved_transactions_whose_later_record_has_a_lower_lsn_keep_commit_order(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    with pipeline.connect() as early, pipeline.connect() as late:
        early.execute("UPDATE t SET n = 100 WHERE id = 1")
        late.execute("UPDATE t SET n = 200 WHERE id = 2")
        late.execute("INSERT INTO t VALUES (9001, 1, 'late')")
        early.execute("UPDATE t SET n = 300 WHERE id = 3")
        late.commit()
        late.execute("UPDATE t SET n = 201 WHERE id = 2")
        early.execute("DELETE FROM t WHERE id = 9001")
        late.commit()
        early.commit()

    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_table_added_while_a_writers_transaction_is_open_gets_all_its_rows(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute("CREATE TABLE late (id bigint PRIMARY KEY, n int)")
    writer = pipeline.connect()
    writer.execute("INSERT INTO late SELECT g, 1 FROM generate_series(1, 50) g")
    pipeline.declare("late")
    closing = threading.Timer(1.5, writer.commit)
    closing.start()

    pipeline.follow("late")
    closing.join()
    writer.close()
    pipeline.follow("late")

    assert pipeline.differences("late") == 0


@both_catalogs
def test_a_first_copy_that_was_killed_resumes_and_publishes_nothing_before_it_is_whole(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_copy, "RANGE_BYTES", 8192 * 2)
    pipeline.drain()
    copy = FirstCopy(
        pipeline.catalog,
        pipeline.tables["t"],
        pipeline.database,
        pipeline.endpoints,
        report=lambda _: None,
        after_range=lambda index: _interrupt() if index >= 2 else None,
    )
    with pytest.raises(KeyboardInterrupt):
        copy.run()
    half = pipeline.iceberg("t")
    assert BRANCH in half.metadata.refs
    assert len(half.scan().to_arrow()) == 0
    # between the two source snapshots rows move between pages, in both directions
    pipeline.execute(
        "UPDATE t SET n = n + 1000 WHERE id % 3 = 0",
        "DELETE FROM t WHERE id % 5 = 0",
        "UPDATE t SET id = -id WHERE id % 7 = 0",
        "VACUUM t",
        "INSERT INTO t SELECT g, 5, 'new' FROM generate_series(5001, 5200) g",
    )
    lines: list[str] = []

    pipeline.follow("t", report=lines.append)

    assert any("resuming" in line for line in lines)
    assert BRANCH not in pipeline.iceberg("t").metadata.refs
    assert pipeline.differences("t") == 0


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_an_asynchronous_commit_at_the_snapshots_edge_that_a_crash_takes_back_is_not_in_the_lake(
    stack: Stack, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.drain()
    pipeline.execute(
        "ALTER SYSTEM SET wal_writer_delay = '10s'",
        "SELECT pg_reload_conf()",
    )
    real, crashed = first_copy.ExportedSnapshot.__enter__, []

    def crash_after_snapshot(self: first_copy.ExportedSnapshot) -> first_copy.ExportedSnapshot:
        with psycopg.connect(pipeline.dsn, autocommit=True) as application:
            application.execute("SET synchronous_commit = off")
            application.execute("INSERT INTO t VALUES (77777, 1, 'never happened')")
        snapshot = real(self)
        if not crashed:
            crashed.append(True)
            stack.kill("postgres")
        return snapshot

    monkeypatch.setattr(first_copy.ExportedSnapshot, "__enter__", crash_after_snapshot)
    with pytest.raises(CarbonPipelinesError):
        pipeline.sync("t")
    stack.up(lambda _: None)
    monkeypatch.undo()
    pipeline.execute("ALTER SYSTEM RESET wal_writer_delay", "SELECT pg_reload_conf()")

    pipeline.follow("t")

    assert pipeline.differences("t") == 0


@pytest.mark.parametrize(
    "change",
    [
        "TRUNCATE t",
        "ALTER TABLE t ALTER n TYPE bigint USING n * 2",
        "VACUUM FULL t",
    ],
)
def test_a_truncate_or_rewrite_between_snapshot_and_read_starts_the_copy_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    pipeline.drain()
    real, done = first_copy.ExportedSnapshot.__enter__, []

    def change_after_snapshot(self: first_copy.ExportedSnapshot) -> first_copy.ExportedSnapshot:
        snapshot = real(self)
        if not done:
            done.append(True)
            pipeline.execute(change)
        return snapshot

    monkeypatch.setattr(first_copy.ExportedSnapshot, "__enter__", change_after_snapshot)
    lines: list[str] = []

    pipeline.sync("t", report=lines.append)
    pipeline.execute("INSERT INTO t VALUES (40001, 4, 'after')")
    pipeline.follow("t")

    assert any("starting again" in line for line in lines)
    assert pipeline.differences("t") == 0


def test_a_primary_key_dropped_by_its_owner_stops_the_table_and_never_the_owner(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 1 WHERE id = 1",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "UPDATE t SET n = 50 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "UPDATE t SET n = 60 WHERE id = 4",
    )

    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError, match="replica identity"):
        pipeline.sync("t")
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 5")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


@both_catalogs
@pytest.mark.filterwarnings("ignore:Merge on read is not yet supported:UserWarning")
def test_a_foreign_overwrite_between_plan_and_commit_revives_and_doubles_nothing(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = n + 1", "DELETE FROM t WHERE id % 2 = 0")
    rewrites: list[int] = []

    def compact() -> None:
        if not rewrites:
            rewrites.append(1)
            pipeline.compact("t")

    pipeline.drain()
    pipeline.sync("t", hooks=MergeHooks(after_write=compact))

    assert rewrites
    assert pipeline.differences("t") == 0


@both_catalogs
def test_two_merges_of_the_same_events_apply_them_once(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    pipeline.execute("INSERT INTO t VALUES (8001, 1, 'once')")
    pipeline.drain()

    with pytest.raises(CarbonPipelinesError, match="other writers committed first"):
        pipeline.sync("t", hooks=MergeHooks(after_write=lambda: pipeline.sync("t") and None))

    assert pipeline.sync("t").committed is False
    assert pipeline.differences("t") == 0


@both_catalogs
def test_nothing_is_committed_when_the_position_is_unchanged(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    before = pipeline.iceberg("t").metadata_location

    synced = pipeline.follow("t")

    assert synced.committed is False
    assert synced.lag_offsets == 0
    assert pipeline.iceberg("t").metadata_location == before


@both_catalogs
def test_a_column_added_while_data_flows_is_filled_from_its_first_row_on(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 1 WHERE id = 1",
        "ALTER TABLE t ADD COLUMN tag text",
        "UPDATE t SET tag = 'tagged' WHERE id = 1",
        "INSERT INTO t VALUES (3001, 1, 'x', 'y')",
        "ALTER TABLE t ADD COLUMN more numeric(10, 2)",
        "UPDATE t SET more = 1.25 WHERE id = 2",
    )

    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_column_added_without_any_row_after_it_is_in_the_lake(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    pipeline.execute("ALTER TABLE t ADD COLUMN tag text")

    pipeline.follow("t")

    assert [f.name for f in pipeline.iceberg("t").schema().fields] == ["id", "n", "doc", "tag"]
    assert pipeline.follow("t").committed is False


def test_a_rewrite_hidden_between_two_rows_stops_the_table_until_it_is_copied_again(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 7 WHERE id = 7",
        "ALTER TABLE t ALTER n TYPE bigint USING n * 2",
        "ALTER TABLE t ADD COLUMN tag text",
        "UPDATE t SET tag = 'x' WHERE id = 1",
    )

    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError):
        pipeline.sync("t")
    applied = pipeline.iceberg("t").scan("id = 7").to_arrow().column("n").to_pylist()
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")

    assert applied == [7]
    assert pipeline.differences("t") == 0


def test_a_table_dropped_and_created_again_under_the_same_name_is_told_apart(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = 3 WHERE id = 3", "DROP TABLE t", TABLE)
    pipeline.execute("INSERT INTO t VALUES (1, 1, 'another table')")

    pipeline.drain()
    with pytest.raises(SourceTableReplacedError, match="recopy"):
        pipeline.sync("t")
    rows = len(pipeline.iceberg("t").scan().to_arrow())
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")

    assert rows == 2000
    assert pipeline.differences("t") == 0


def test_large_values_that_an_update_leaves_alone_stay_what_they_were(pipeline: Pipeline) -> None:
    big = "(SELECT string_agg(md5(g::text || id::text), '') FROM generate_series(1, 200) g)"
    pipeline.execute(f"UPDATE t SET doc = {big} WHERE id <= 50")
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = n + 1 WHERE id <= 40",
        "UPDATE t SET id = id + 100000 WHERE id <= 10",
        "UPDATE t SET n = n + 1 WHERE id > 100000",
        f"UPDATE t SET doc = {big} || 'changed' WHERE id BETWEEN 11 AND 20",
        "UPDATE t SET n = n + 1 WHERE id BETWEEN 11 AND 20",
    )

    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_topic_deleted_and_created_again_is_told_apart(pipeline: Pipeline) -> None:
    from confluent_kafka.admin import AdminClient

    from carbon_pipelines.stream.topics import topic_of

    pipeline.follow("t")
    admin = AdminClient({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    topic = topic_of(pipeline.tables["t"])
    admin.delete_topics([topic])[topic].result()
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, every_seconds=0.1)
    pipeline.execute("UPDATE t SET n = 2 WHERE id = 2")
    pipeline.drain()

    with pytest.raises(TopicReplacedError, match="recopy"):
        pipeline.sync("t")
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_slot_created_again_by_someone_is_refused_and_starting_over_mends_it(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    slot = pipeline.database.slot_name
    pipeline.heal_slots = False
    pipeline.execute(
        f"SELECT pg_drop_replication_slot('{slot}')",
        "UPDATE t SET n = 99 WHERE id = 9",
        "DELETE FROM t WHERE id = 10",
    )
    with pytest.raises(WalGapError, match="start-over"):
        pipeline.drain()
    plan = plan_start_over(pipeline.database)

    done = list(
        apply_start_over(plan, pipeline.database, pipeline.endpoints, report=lambda _: None)
    )

    assert len(done) == 1
    pipeline.execute("UPDATE t SET n = 98 WHERE id = 11")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_starting_over_beside_a_running_capture_is_refused_before_anything_is_deleted(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    stop = threading.Event()
    running = threading.Thread(
        target=Capture(pipeline.database, pipeline.endpoints).run, args=(stop,)
    )
    running.start()
    try:
        wait_until(pipeline.is_captured)
        plan = plan_start_over(pipeline.database)
        with pytest.raises(CaptureRunningError):
            list(
                apply_start_over(plan, pipeline.database, pipeline.endpoints, report=lambda _: None)
            )
    finally:
        stop.set()
        running.join()
    assert pipeline.follow("t").committed is False


def test_a_mirror_is_not_copied_while_its_key_is_gone(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    pipeline.execute("ALTER TABLE t DROP CONSTRAINT t_pkey", "UPDATE t SET n = 50 WHERE id = 2")
    pipeline.drain()

    with pytest.raises(KeyMissingError, match="primary key"):
        recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)

    pipeline.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    pipeline.drain()
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = 51 WHERE id = 2")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


@both_catalogs
def test_a_copy_anew_follows_columns_dropped_renamed_and_retyped(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "ALTER TABLE t RENAME doc TO words",
        "ALTER TABLE t DROP COLUMN n",
        "ALTER TABLE t ADD COLUMN n text DEFAULT 'seven'",
        "ALTER TABLE t ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        "UPDATE t SET n = 'eight' WHERE id = 8",
    )
    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError):
        pipeline.sync("t")

    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = 'nine', words = 'w' WHERE id = 9")
    pipeline.follow("t")

    assert [f.name for f in pipeline.iceberg("t").schema().fields] == ["id", "words", "n", "at"]
    assert pipeline.differences("t") == 0
