"""A market that keeps moving: several connections that change the sample for some seconds.

What belongs here: running transactions side by side at a rate, and the ADD COLUMN in the middle.
What does not: what a transaction does (``transactions.py``) and anything about capture.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

import psycopg
from psycopg import errors, sql

from carbon_pipelines.demo.transactions import TRANSACTIONS, Market, load_market

_ADD_COLUMN_LOCK = "2s"


@dataclass(frozen=True, slots=True)
class Pace:
    """How much to do.

    Attributes:
        seconds: For how long.
        connections: How many work side by side.
        rate: Transactions a second, of all connections together.
        seed: The same seed draws the same transactions; each run of a market draws others.
    """

    seconds: float
    connections: int = 4
    rate: float = 200
    seed: int = 254


@dataclass(frozen=True, slots=True)
class Worked:
    """What the workload did."""

    committed: int
    rolled_back: int
    added_column: str
    seconds: float

    def __add__(self, other: "Worked") -> "Worked":
        """Counts of connections that worked at the same time."""
        return Worked(
            committed=self.committed + other.committed,
            rolled_back=self.rolled_back + other.rolled_back,
            added_column=self.added_column or other.added_column,
            seconds=max(self.seconds, other.seconds),
        )


def run_workload(
    dsn: str,
    pace: Pace,
    *,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Worked:
    """Change the sample until ``pace.seconds`` have passed or ``stop`` is set.

    One column is added halfway.

    Raises:
        psycopg.OperationalError: The database does not answer.
    """
    ended = stop or threading.Event()
    with _connect(dsn) as connection:
        market = load_market(connection)
    with ThreadPoolExecutor(pace.connections + 1, thread_name_prefix="workload") as pool:
        traders = [
            pool.submit(_trade, dsn, market, pace, number, ended, clock)
            for number in range(pace.connections)
        ]
        altered = pool.submit(_add_column, dsn, market, pace.seconds / 2, ended, clock)
        worked = [future.result() for future in [*traders, altered]]
    total = worked[0]
    for other in worked[1:]:
        total += other
    return total


def _connect(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    """As an application connects: none of the settings that capture fixes for itself."""
    return psycopg.connect(dsn, autocommit=True, application_name="carbon demo")


def _trade(
    dsn: str,
    market: Market,
    pace: Pace,
    number: int,
    stop: threading.Event,
    clock: Callable[[], float],
) -> Worked:
    """One connection's share: a transaction at a time, at its share of the rate."""
    random = Random(pace.seed * 1_000_000 + market.memo_columns * 1_000 + number)
    kinds, weights = zip(*TRANSACTIONS.items(), strict=True)
    interval = pace.connections / pace.rate
    started = clock()
    committed = rolled_back = 0
    with _connect(dsn) as connection:
        while not stop.is_set() and (elapsed := clock() - started) < pace.seconds:
            (transact,) = random.choices(kinds, weights)
            try:
                with connection.transaction():
                    transact(connection, random, market)
                committed += 1
            except (errors.RaiseException, errors.DeadlockDetected, errors.UniqueViolation):
                rolled_back += 1
            behind = elapsed - (committed + rolled_back) * interval
            if behind < 0:
                stop.wait(min(-behind, interval))
    return Worked(committed, rolled_back, "", clock() - started)


def _add_column(
    dsn: str,
    market: Market,
    after_seconds: float,
    stop: threading.Event,
    clock: Callable[[], float],
) -> Worked:
    """Add the next ``memo_<n>`` to ``transfer``; new transfers fill it from then on."""
    started = clock()
    stop.wait(after_seconds)
    with _connect(dsn) as connection:
        number = 1 + market.memo_columns
        column = f"memo_{number}"
        statement = sql.SQL("ALTER TABLE transfer ADD COLUMN {} text").format(
            sql.Identifier(column)
        )
        while not _altered(connection, statement):
            stop.wait(0.05)
        market.memo_columns = number
    return Worked(1, 0, f"transfer.{column}", clock() - started)


def _altered(connection: psycopg.Connection[tuple[object, ...]], statement: sql.Composed) -> bool:
    """Whether the ALTER got its lock; it gives up early, as the traders queue up behind it."""
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_ADD_COLUMN_LOCK))
            )
            connection.execute(statement)
    except errors.LockNotAvailable:
        return False
    return True
