"""An application that keeps changing the bench's tables, and a capture beside it.

What belongs here: threads that write and capture until a block ends. What does not: assertions.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from random import Random
from typing import Self

import psycopg

from carbon_pipelines.stream.capture import Capture
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import wait_until

Connection = psycopg.Connection[tuple[object, ...]]


def update_a_hot_key(connection: Connection, random: Random) -> None:
    connection.execute("UPDATE reading SET big = big + 1 WHERE id = %s", [random.randint(1, 3)])


def change_anything(connection: Connection, random: Random) -> None:
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
def writers(
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


class SteadyChanges:
    """Four connections that change ``rows`` rows a second of a table like ``reading``.

    ``changed`` counts the rows of committed transactions. Of twenty transactions one deletes its
    rows and inserts them again under other keys, so that the table stays as large as it is.
    """

    def __init__(self, dsn: str, table: str, *, keys: int, rows: float) -> None:
        self._dsn, self._table, self._keys, self._pause = dsn, table, keys, 4 * 20 / rows
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(4)
        self._changed = [0] * 4
        self._running: list[Future[None]] = []

    @property
    def changed(self) -> int:
        return sum(self._changed)

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._write, number) for number in range(4)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for one in self._running:
            one.result()

    def _write(self, number: int) -> None:
        chance, due = Random(number), time.monotonic()
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.is_set():
                first = chance.randint(1, self._keys - 20)
                with suppress(psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                    self._changed[number] += self._change(connection, first, chance)
                due = max(due + self._pause, time.monotonic() - 1)
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _change(self, connection: Connection, first: int, chance: Random) -> int:
        chosen = f"{self._table} WHERE abs(id) BETWEEN {first} AND {first + 19}"
        if chance.random() > 0.05:
            return connection.execute(
                f"UPDATE {chosen.replace(' WHERE', ' SET mw = (mw + 1) % 90 WHERE')}".encode()
            ).rowcount
        return (
            2
            * connection.execute(
                f"WITH gone AS (DELETE FROM {chosen} RETURNING *) INSERT INTO {self._table}"
                " SELECT -id, name, code, plant, mw, at FROM gone".encode()
            ).rowcount
        )


@contextmanager
def captured(bench: Pipeline) -> Iterator[None]:
    """A continuous capture holds the slot, before the body starts and until it ends."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(Capture(bench.database, bench.endpoints).run_forever, stop)
        try:
            wait_until(lambda: running.done() or bench.is_captured())
            yield
        finally:
            stop.set()
        running.result()
