"""Verification beside writers: what moves is never called wrong, what is wrong is still found."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Self

import psycopg
import pytest
from confluent_kafka import Producer

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CarbonPipelinesError, WrongDatabaseError
from carbon_pipelines.lake import first_copy
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.quality import rounds
from carbon_pipelines.quality.drilldown import Difference
from carbon_pipelines.quality.verification import VerifyLimits
from carbon_pipelines.source.connection import SourceConnection, session
from carbon_pipelines.source.copy import ExportedSnapshot
from carbon_pipelines.source.visibility import current_insert_lsn
from carbon_pipelines.stream.progress import load_progress
from carbon_pipelines.stream.topics import progress_topic
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.quality_bench import Bench, open_bench
from carbon_pipelines_tests.integration.quality_writers import (
    captured,
    change_anything,
    update_a_hot_key,
    writers,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(stack: Stack, source: SourceDatabase) -> Iterator[Bench]:
    with open_bench(stack, source) as bench:
        yield bench


def _commit_between_snapshot_and_l(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, *statements: str
) -> None:
    """Let a transaction that ran before the first source snapshot commit before L is read."""
    writer = psycopg.connect(bench.dsn)
    for statement in statements:
        writer.execute(statement.encode())

    class LateCommit(ExportedSnapshot):
        def __enter__(self) -> Self:
            entered = super().__enter__()
            if not writer.closed:
                writer.commit()
                writer.close()
                with session(bench.dsn) as connection:
                    self.insert_lsn = current_insert_lsn(connection)
            return entered

    monkeypatch.setattr(rounds, "ExportedSnapshot", LateCommit)


def test_keys_of_a_transaction_the_snapshot_cannot_see_are_compared_in_the_next_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit_between_snapshot_and_l(
        monkeypatch,
        bench,
        "UPDATE reading SET big = 0 WHERE id = 1",
        "UPDATE reading SET id = 1002 WHERE id = 2",
        "DELETE FROM reading WHERE id = 3",
        "INSERT INTO reading (id, part) VALUES (1004, 'new')",
    )

    found = bench.verify(bench.reading)

    assert (found.verified, found.rounds, found.source_rows, found.lake_rows) == (True, 2, 400, 400)


def test_an_unseen_insert_into_a_bag_is_compared_in_the_next_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit_between_snapshot_and_l(
        monkeypatch, bench, "INSERT INTO entry SELECT * FROM entry WHERE word = 'w3' LIMIT 2"
    )

    found = bench.verify(bench.entry)

    assert (found.verified, found.rounds, found.source_rows, found.lake_rows) == (True, 2, 202, 202)


def test_damage_at_a_key_that_was_left_out_at_first_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.damage(bench.reading, lambda rows: [row for row in rows if row["id"] != 1])
    _commit_between_snapshot_and_l(monkeypatch, bench, "UPDATE reading SET doc = '{}' WHERE id = 2")
    bench.damage(bench.reading, lambda rows: [row for row in rows if row["id"] not in {3, 4}])

    found = bench.verify(bench.reading)

    assert [(d.key, d.kind) for d in found.differing_keys] == [
        ((str(number), f"p{number % 3}"), "missing in lake") for number in (1, 3, 4)
    ]


def test_a_truncate_the_snapshot_cannot_see_voids_the_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit_between_snapshot_and_l(
        monkeypatch, bench, "TRUNCATE reading", "INSERT INTO reading (id, part) VALUES (1, 'again')"
    )

    found = bench.verify(bench.reading)

    assert (found.verified, found.rounds, found.source_rows, found.lake_rows) == (True, 2, 1, 1)


def test_a_truncate_between_snapshot_and_read_voids_the_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_table = rounds.sync_table
    pending = ["TRUNCATE reading"]

    def truncate_after_sync(*arguments: object, **named: object) -> object:
        synced = sync_table(*arguments, **named)  # type: ignore[arg-type]
        if pending:
            bench.execute(pending.pop())
        return synced

    monkeypatch.setattr(rounds, "sync_table", truncate_after_sync)

    found = bench.verify(bench.reading)

    assert (found.verified, found.rounds, found.source_rows, found.lake_rows) == (True, 2, 0, 0)


def test_a_lake_merged_beyond_the_snapshot_voids_the_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_table = rounds.sync_table
    pending = ["UPDATE reading SET big = 7 WHERE id = 7"]

    def another_run_first(*arguments: object, **named: object) -> object:
        if pending:
            bench.execute(pending.pop())
            bench.follow_all()
        return sync_table(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rounds, "sync_table", another_run_first)

    found = bench.verify(bench.reading)

    assert (found.verified, found.rounds) == (True, 2)


def test_a_copy_that_began_before_a_round_and_ends_inside_it_voids_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the stream from before the source snapshot and the rows from after it."""
    blocker = psycopg.connect(bench.dsn)
    blocker.execute("SELECT pg_current_xact_id()")
    sync_table, wait = rounds.sync_table, first_copy.wait_until_older_transactions_ended
    waiting = threading.Event()

    def wait_for_blocker(connection: SourceConnection) -> None:
        waiting.set()
        wait(connection)

    monkeypatch.setattr(first_copy, "wait_until_older_transactions_ended", wait_for_blocker)
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(recopy_table, bench.reading, bench.database, bench.endpoints)
        assert waiting.wait(60)

        def copy_ends_first(*arguments: object, **named: object) -> object:
            if not copying.done():
                bench.execute("UPDATE reading SET big = 7 WHERE id = 7")
                blocker.close()
                copying.result()
            return sync_table(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(rounds, "sync_table", copy_ends_first)
        found = bench.verify(bench.reading)

    assert (found.differing_keys, found.verified, found.rounds) == ((), True, 2)


@pytest.mark.parametrize(
    ("fact", "error"), [("database_oid", WrongDatabaseError), ("timeline", CarbonPipelinesError)]
)
def test_lsns_of_another_history_are_never_compared(
    bench: Bench, fact: str, error: type[CarbonPipelinesError]
) -> None:
    """The stream's progress is far ahead, so nothing would be waited for."""
    progress = load_progress(bench.endpoints, bench.database)
    assert progress is not None
    other = {fact: getattr(progress, fact) + 1, "end_lsn": progress.end_lsn + 2**40}
    producer = Producer({"bootstrap.servers": bench.endpoints.stream_bootstrap})
    value = replace(progress, **other).encode()
    producer.produce(progress_topic(bench.database.name), value, b"progress")
    producer.flush()
    bench.execute("UPDATE reading SET big = 9 WHERE id = 9")

    with pytest.raises(error) as refused:
        bench.verify(bench.reading)

    assert refused.value.retryable is False


@pytest.mark.parametrize("asynchronous", [False, True], ids=["synchronous", "asynchronous"])
def test_no_false_alarm_beside_concurrent_transactions(bench: Bench, *, asynchronous: bool) -> None:
    with captured(bench), writers(bench.dsn, change_anything, asynchronous=asynchronous):
        found = [bench.verify(bench.reading) for _ in range(8)]

    assert [(v.differing_keys, v.schema_differences) for v in found] == [((), ())] * len(found)
    assert all(v.verified for v in found)
    bench.follow_all()
    assert bench.differences("reading") == 0


def test_hot_keys_are_verified_or_called_unsettled_but_never_wrong(bench: Bench) -> None:
    with captured(bench), writers(bench.dsn, update_a_hot_key, asynchronous=True):
        patient = [bench.verify(bench.reading, VerifyLimits(rounds=40)) for _ in range(2)]
        hasty = [bench.verify(bench.reading, VerifyLimits(rounds=1)) for _ in range(4)]

    assert [v.differing_keys for v in (*patient, *hasty)] == [()] * 6
    assert all(v.verified for v in patient)
    assert all(v.verified == (v.unsettled_keys == 0) for v in hasty)


def test_damage_is_found_besidewriters(bench: Bench) -> None:
    bench.damage(bench.reading, lambda rows: [row for row in rows if row["id"] != 300])

    with captured(bench), writers(bench.dsn, update_a_hot_key, asynchronous=False):
        found = bench.verify(bench.reading, VerifyLimits(rounds=20))

    assert found.differing_keys == (Difference(("300", "p0"), "missing in lake"),)
