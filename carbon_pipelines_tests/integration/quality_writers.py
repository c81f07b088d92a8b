"""An application that keeps changing the bench's tables, and a capture beside it.

What belongs here: threads that write and capture until a block ends. What does not: assertions.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from random import Random

import psycopg

from carbon_pipelines.stream.capture import Capture
from carbon_pipelines_tests.integration.quality_bench import Bench
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


@contextmanager
def captured(bench: Bench) -> Iterator[None]:
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
