"""Copies that are killed, resumed, or go on beside merges and changes of the source."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
from confluent_kafka import Producer

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CommitConflictError, LakeUnavailableError, WrongDatabaseError
from carbon_pipelines.lake import first_copy
from carbon_pipelines.lake.copy_range import RangeReader
from carbon_pipelines.lake.first_copy import FirstCopied, FirstCopy
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.staging import BRANCH
from carbon_pipelines.lake.state import read_progress
from carbon_pipelines.stream.progress import Progress, load_progress
from carbon_pipelines.stream.topics import progress_topic
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.catalogs import both_catalogs, lake_of
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.lake.local_lake import last_sequence_numbers

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(
    stack: Stack,
    source: SourceDatabase,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Pipeline]:
    """A table of seven ranges."""
    monkeypatch.setattr(first_copy, "RANGE_BYTES", 8192 * 2)
    made = Pipeline(stack, source, lake=lake_of(request, stack))
    made.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "INSERT INTO t SELECT g, g % 10, 'row ' || g FROM generate_series(1, 2000) g",
    )
    made.declare("t")
    yield made
    made.close()


def copy(pipeline: Pipeline, after_range: Callable[[int], None]) -> FirstCopied:
    return FirstCopy(
        pipeline.catalog,
        pipeline.tables["t"],
        pipeline.database,
        pipeline.endpoints,
        report=lambda _: None,
        after_range=after_range,
    ).run()


def kill_copy(pipeline: Pipeline, *, after_ranges: int = 2) -> None:
    done: list[int] = []

    def interrupt(index: int) -> None:
        done.append(index)
        if len(done) == after_ranges:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(pipeline, interrupt)
    assert BRANCH in pipeline.iceberg("t").metadata.refs


def source_rows(pipeline: Pipeline) -> list[tuple[object, ...]]:
    with psycopg.connect(pipeline.dsn) as connection:
        return connection.execute("SELECT * FROM t ORDER BY id").fetchall()


def lake_rows(pipeline: Pipeline) -> list[tuple[object, ...]]:
    """As PyIceberg reads them, which heeds sequence numbers where DuckDB does not."""
    rows = pipeline.iceberg("t").scan().to_arrow().to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def merge_update(pipeline: Pipeline, number: int) -> None:
    pipeline.execute(f"UPDATE t SET n = {number} WHERE id % 3 = 0")
    pipeline.follow("t")


def test_merges_while_a_copy_begins_keep_their_place_in_time(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.follow("t")

    def merge_thrice() -> None:
        for number in range(3):
            merge_update(pipeline, 100 + number)

    during_copy(monkeypatch, merge_thrice)
    kill_copy(pipeline, after_ranges=1)
    merge_update(pipeline, 200)

    numbers = last_sequence_numbers(pipeline.iceberg("t"))
    assert numbers == sorted(numbers)
    assert lake_rows(pipeline) == source_rows(pipeline)
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    merge_update(pipeline, 300)
    assert lake_rows(pipeline) == source_rows(pipeline)
    assert pipeline.differences("t") == 0


def during_copy(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have something happen once a range was read and before it is on the branch."""
    real, first = RangeReader.copy, threading.Lock()

    def copy_late(self: RangeReader, *arguments: object) -> object:
        copied = real(self, *arguments)  # type: ignore[arg-type]
        if first.acquire(blocking=False):
            happens()
        return copied

    monkeypatch.setattr(first_copy, "READERS", 1)  # so that the copy commits nothing meanwhile
    monkeypatch.setattr(RangeReader, "copy", copy_late)


def test_a_copy_anew_takes_no_reader_back_behind_what_was_merged_meanwhile(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.follow("t")
    during_copy(monkeypatch, lambda: merge_update(pipeline, 100))

    copied = recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)

    assert pipeline.differences("t") == 0
    assert lake_rows(pipeline) == source_rows(pipeline)
    assert copied.progress == pipeline.progress("t")
    merge_update(pipeline, 200)
    assert pipeline.differences("t") == 0


def test_a_copy_beside_which_columns_changed_is_published_and_the_next_merge_follows(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.follow("t")

    def change_columns() -> None:
        pipeline.execute("ALTER TABLE t ADD COLUMN tag text DEFAULT 'x'")
        merge_update(pipeline, 100)

    during_copy(monkeypatch, change_columns)
    lines: list[str] = []
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints, report=lines.append)
    pipeline.follow("t")

    assert any("readers go back" in line for line in lines)
    assert pipeline.differences("t") == 0


@both_catalogs
def test_a_copy_anew_ends_beside_a_loop_of_merges(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_copy, "RANGE_BYTES", 8192 * 5)
    pipeline.follow("t")
    stop, merges = threading.Event(), [0]

    def merge_on() -> None:
        while not stop.is_set():
            with suppress(CommitConflictError):
                pipeline.execute(f"UPDATE t SET n = n + 1 WHERE id % 7 = {merges[0] % 7}")
                pipeline.follow("t")
            merges[0] += 1

    merging = threading.Thread(target=merge_on)
    merging.start()
    try:
        copied = copy(pipeline, lambda _: _wait_for_more(merges))
    finally:
        stop.set()
        merging.join()
    offsets = offsets_seen(pipeline)
    pipeline.follow("t")

    assert offsets == sorted(offsets)
    assert copied.rows == 2000
    assert merges[0] > 2
    assert lake_rows(pipeline) == source_rows(pipeline)
    assert pipeline.differences("t") == 0
    numbers = last_sequence_numbers(pipeline.iceberg("t"))
    assert numbers == sorted(numbers)


def offsets_seen(pipeline: Pipeline) -> list[int]:
    """The offsets that readers' snapshots go on from, in the order in which readers saw them."""
    table = pipeline.iceberg("t")
    seen = [table.snapshot_by_id(entry.snapshot_id) for entry in table.history()]
    carried = [s.summary.additional_properties for s in seen if s is not None and s.summary]
    return [read_progress(p, "t").next_offset for p in carried if "carbon.offsets" in p]


def _wait_for_more(merges: list[int]) -> None:
    before, pause = merges[0], threading.Event()
    while merges[0] == before:
        pause.wait(0.02)


def test_a_copy_whose_store_goes_away_may_be_made_once_it_is_back(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.drain()
    real = RangeReader.copy

    def copy_without_store(self: RangeReader, *arguments: object) -> object:
        pipeline.stack.kill("s3")
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RangeReader, "copy", copy_without_store)
    with pytest.raises(LakeUnavailableError) as gone:
        pipeline.sync("t")
    monkeypatch.setattr(RangeReader, "copy", real)
    pipeline.stack.up(lambda _: None)
    pipeline.sync("t")

    assert gone.value.retryable
    assert pipeline.differences("t") == 0


def test_a_copy_whose_rows_were_moved_after_it_was_killed_begins_again(
    pipeline: Pipeline,
) -> None:
    pipeline.drain()
    kill_copy(pipeline)
    pipeline.execute("DELETE FROM t WHERE id % 2 = 0", "VACUUM FULL t")

    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_copy_from_another_cluster_than_kafka_holds_is_refused(pipeline: Pipeline) -> None:
    pipeline.drain()
    tell_kafka(pipeline, lambda known: replace(known, system_identifier="7000"))

    with pytest.raises(WrongDatabaseError, match="system identifier"):
        pipeline.sync("t")

    with pytest.raises(AssertionError):
        pipeline.iceberg("t")


def test_a_copy_is_resumed_by_the_servers_timeline_and_not_by_kafkas(pipeline: Pipeline) -> None:
    pipeline.drain()
    kill_copy(pipeline)
    tell_kafka(pipeline, lambda known: replace(known, timeline=known.timeline + 1))
    lines: list[str] = []

    pipeline.sync("t", report=lines.append)

    assert any("resuming" in line for line in lines)
    assert pipeline.differences("t") == 0


def tell_kafka(pipeline: Pipeline, change: Callable[[Progress], Progress]) -> None:
    """Write another progress than capture's, as one that reaches further than any copy."""
    known = load_progress(pipeline.endpoints, pipeline.database)
    assert known is not None
    producer = Producer({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    value = replace(change(known), end_lsn=known.end_lsn + (1 << 40)).encode()
    producer.produce(progress_topic(pipeline.name), key=pipeline.name, value=value)
    assert producer.flush(10) == 0
    assert load_progress(pipeline.endpoints, pipeline.database) != known


def test_a_column_added_between_snapshot_and_edge_of_a_resumed_copy_is_in_the_lake(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.drain()
    kill_copy(pipeline)
    real, changed = first_copy.ExportedSnapshot.__enter__, []

    def add_column_after_snapshot(self: first_copy.ExportedSnapshot) -> object:
        snapshot = real(self)
        if not changed:
            changed.append(True)
            pipeline.execute(
                "ALTER TABLE t ADD COLUMN tag text", "UPDATE t SET tag = 'tagged' WHERE id <= 3"
            )
            with psycopg.connect(pipeline.dsn) as connection:
                found = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
            assert found is not None
            snapshot.insert_lsn = int(found[0])
        return snapshot

    monkeypatch.setattr(first_copy.ExportedSnapshot, "__enter__", add_column_after_snapshot)

    pipeline.follow("t")
    pipeline.follow("t")

    assert changed
    assert pipeline.differences("t") == 0
