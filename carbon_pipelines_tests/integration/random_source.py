"""A database under random DML and DDL from several connections at once.

What belongs here: transactions over all tables (savepoints, rollbacks), DDL beside and between
them, and the count of what was committed. What does not: what a change or a DDL is
(``random_columns.py``, ``random_division.py`` and a module for each kind of table), and capture,
merging and comparing.

Statements are made from the catalog as the transaction sees it. DDL of another connection may make
one fail; then the transaction is rolled back, as an application's would be.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from carbon_pipelines_tests.integration.random_columns import (
    RandomTable,
    load_columns,
    random_definition,
)
from carbon_pipelines_tests.integration.random_division import divide
from carbon_pipelines_tests.integration.random_partitioned import PARTED
from carbon_pipelines_tests.integration.writers import Writers

_WRITERS, _DIVIDERS = 3, 2


class RandomSource(Writers):
    """Writers and authors of DDL that run until stopped; used as a context manager.

    Args:
        tables: Those that are changed. One of them that has partitions has authors of its own.
        by_name: For Debezium, which goes by names. It asks the database what may be NULL whenever
            it comes to read a change, so columns swap names only with those that may be NULL as
            they may. It takes rows of a table that is away for rows of the table with the columns
            that it read last, and stops where they have more, so rows are changed just before the
            table goes away.

    Attributes:
        committed: Counts of what was committed, by kind of statement.
        refused: Counts of transactions that PostgreSQL refused, by the reason.
    """

    def __init__(
        self, dsn: str, tables: Sequence[RandomTable], *, seed: int, by_name: bool = False
    ) -> None:
        works = [*[self._transaction] * _WRITERS, self._definition]
        if PARTED in tables:
            works += [self._division] * _DIVIDERS
        drawing = [(work, random.Random(f"{seed} {i}")) for i, work in enumerate(works)]
        super().__init__(dsn, drawing, on_connect="SET lock_timeout = '2s'")
        self.committed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._tables, self._by_name = tables, by_name

    def _transaction(self, connection: psycopg.Connection, chance: random.Random) -> None:
        kinds: list[str] = []
        with self._attempt(connection, chance, kinds):
            for _ in range(chance.randint(1, 8)):
                change = chance.choice(self._tables).change(connection, chance)
                if chance.random() < 0.1:
                    with _taken_back(connection):
                        connection.execute(change.statement.encode(), change.values)
                else:
                    connection.execute(change.statement.encode(), change.values)
                    kinds.append(change.kind)
        self.rest(0.005)

    def _definition(self, connection: psycopg.Connection, chance: random.Random) -> None:
        self.rest(chance.uniform(0.2, 1.5))
        kinds: list[str] = []
        with self._attempt(connection, chance, kinds):
            table = chance.choice(self._tables)
            for _ in range(chance.randint(1, 2)):
                self._dml(connection, table, chance)
                columns = load_columns(connection, table.name)
                kind, statements = random_definition(
                    table.name,
                    columns,
                    chance,
                    by_name=self._by_name,
                )
                for statement in statements:
                    connection.execute(statement.encode())
                kinds.append(kind)
                self._dml(connection, table, chance)

    def _division(self, connection: psycopg.Connection, chance: random.Random) -> None:
        self.rest(chance.uniform(0.5, 12.0))
        kinds: list[str] = []
        with self._attempt(connection, chance, kinds):
            for _ in range(chance.randint(1, 2)):
                self._dml(connection, PARTED, chance)
                kinds.append(divide(connection, chance))
                self._dml(connection, PARTED, chance)

    def _dml(
        self, connection: psycopg.Connection, table: RandomTable, chance: random.Random
    ) -> None:
        if chance.random() < 0.5:
            change = table.change(connection, chance)
            connection.execute(change.statement.encode(), change.values)

    @contextmanager
    def _attempt(
        self, connection: psycopg.Connection, chance: random.Random, kinds: list[str]
    ) -> Iterator[None]:
        """A transaction: usually committed, sometimes taken back, rolled back where it fails."""
        try:
            yield
            if chance.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()
                self.committed.update(kinds)
        except psycopg.Error as refusal:
            if connection.closed or connection.broken:
                raise
            self.refused[type(refusal).__name__] += 1
            connection.rollback()


@contextmanager
def _taken_back(connection: psycopg.Connection) -> Iterator[None]:
    """A savepoint whose changes never happened, though the transaction goes on."""
    with connection.transaction(force_rollback=True):
        yield
