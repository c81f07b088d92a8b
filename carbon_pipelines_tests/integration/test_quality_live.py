"""Verification beside writers: what moves is never called wrong, what is wrong is still found."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Self

import psycopg
import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.quality import reconcile
from carbon_pipelines.quality.drilldown import Difference
from carbon_pipelines.quality.verification import VerifyLimits
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.copy import ExportedSnapshot
from carbon_pipelines.source.visibility import current_insert_lsn
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.quality_bench import Bench, open_bench
from carbon_pipelines_tests.oracle import differences

pytestmark = pytest.mark.integration

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def bench(stack: Stack, source: SourceDatabase) -> Iterator[Bench]:
    with open_bench(source.name, source.dsn, stack.endpoints()) as bench:
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

    monkeypatch.setattr(reconcile, "ExportedSnapshot", LateCommit)


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
    sync_table = reconcile.sync_table
    pending = ["TRUNCATE reading"]

    def truncate_after_sync(*arguments: object, **named: object) -> object:
        synced = sync_table(*arguments, **named)  # type: ignore[arg-type]
        if pending:
            bench.execute(pending.pop())
        return synced

    monkeypatch.setattr(reconcile, "sync_table", truncate_after_sync)

    found = bench.verify(bench.reading)

    assert (found.verified, found.rounds, found.source_rows, found.lake_rows) == (True, 2, 0, 0)


def test_a_lake_merged_beyond_the_snapshot_voids_the_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_table = reconcile.sync_table
    pending = ["UPDATE reading SET big = 7 WHERE id = 7"]

    def another_run_first(*arguments: object, **named: object) -> object:
        if pending:
            bench.execute(pending.pop())
            bench.sync()
        return sync_table(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(reconcile, "sync_table", another_run_first)

    found = bench.verify(bench.reading)

    assert (found.verified, found.rounds) == (True, 2)


def _update_a_hot_key(connection: Connection, random: Random) -> None:
    connection.execute("UPDATE reading SET big = big + 1 WHERE id = %s", [random.randint(1, 3)])


def _change_anything(connection: Connection, random: Random) -> None:
    """Inserts, updates, deletes, key changes; some in savepoints, some rolled back, some slow."""
    for _ in range(random.randint(1, 4)):
        number, part = random.randint(1, 500), f"p{random.randint(0, 2)}"
        statement = random.choice(
            [
                "INSERT INTO reading (id, part, at) VALUES (%s, %s, now()) ON CONFLICT DO NOTHING",
                "UPDATE reading SET big = big + 1, due = 'infinity' WHERE (id, part) = (%s, %s)",
                "UPDATE reading SET id = id + 1000 WHERE (id, part) = (%s, %s)",
                "UPDATE reading SET id = id - 1000 WHERE (id - 1000, part) = (%s, %s)",
                "DELETE FROM reading WHERE (id, part) = (%s, %s)",
            ]
        )
        with connection.transaction(force_rollback=random.random() < 0.2):
            connection.execute(statement, [number, part])
    if random.random() < 0.2:
        time.sleep(random.random() / 20)
    if random.random() < 0.1:
        raise psycopg.Rollback


@contextmanager
def _writers(
    dsn: str, change: Callable[[Connection, Random], None], *, asynchronous: bool
) -> Iterator[None]:
    stop = threading.Event()

    def write(seed: int) -> None:
        random = Random(seed)
        with psycopg.connect(dsn, autocommit=True) as connection:
            if asynchronous:
                connection.execute("SET synchronous_commit = off")
            while not stop.is_set():
                try:
                    with connection.transaction():
                        change(connection, random)
                except (psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                    continue

    with ThreadPoolExecutor(4) as pool:
        writing: list[Future[None]] = [pool.submit(write, seed) for seed in range(4)]
        try:
            yield
        finally:
            stop.set()
    for future in writing:
        future.result()


@contextmanager
def _captured(bench: Bench) -> Iterator[None]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(Capture(bench.database, bench.endpoints).run, stop)
        try:
            yield
        finally:
            stop.set()
        running.result()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["synchronous", "asynchronous"])
def test_no_false_alarm_beside_concurrent_transactions(bench: Bench, *, asynchronous: bool) -> None:
    with _captured(bench), _writers(bench.dsn, _change_anything, asynchronous=asynchronous):
        found = [bench.verify(bench.reading) for _ in range(8)]

    assert [(v.differing_keys, v.schema_differences) for v in found] == [((), ())] * len(found)
    assert all(v.verified for v in found)
    bench.sync()
    assert differences(bench.endpoints, bench.reading) == 0


def test_hot_keys_are_verified_or_called_unsettled_but_never_wrong(bench: Bench) -> None:
    with _captured(bench), _writers(bench.dsn, _update_a_hot_key, asynchronous=True):
        patient = [bench.verify(bench.reading, VerifyLimits(rounds=40)) for _ in range(2)]
        hasty = [bench.verify(bench.reading, VerifyLimits(rounds=1)) for _ in range(4)]

    assert [v.differing_keys for v in (*patient, *hasty)] == [()] * 6
    assert all(v.verified for v in patient)
    assert all(v.verified == (v.unsettled_keys == 0) for v in hasty)


def test_damage_is_found_beside_writers(bench: Bench) -> None:
    bench.damage(bench.reading, lambda rows: [row for row in rows if row["id"] != 300])

    with _captured(bench), _writers(bench.dsn, _update_a_hot_key, asynchronous=False):
        found = bench.verify(bench.reading, VerifyLimits(rounds=20))

    assert found.differing_keys == (Difference(("300", "p0"), "missing in lake"),)
