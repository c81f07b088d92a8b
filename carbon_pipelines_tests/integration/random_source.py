"""A database under random DML and DDL from several connections at once.

What belongs here: tables of every kind of replica identity, transactions made from whatever
columns a table has at that moment (savepoints, rollbacks, key changes, large rows, TRUNCATE), and
DDL beside and between them. What does not: capture, merging and comparing.

Statements are made from the catalog as the transaction sees it. DDL of another connection may make
one fail; then the transaction is rolled back, as an application's would be.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from carbon_pipelines.catalog.table import PartitionField
from carbon_pipelines_tests.integration.writers import Writers

SETUP = """
CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE TABLE plain (id bigint PRIMARY KEY, n int, word text, amount numeric(12, 2), at timestamptz);
CREATE TABLE pair (a int, b text, n int, word text, PRIMARY KEY (a, b));
CREATE TABLE large (id bigint PRIMARY KEY, n int, doc text, other text);
ALTER TABLE large ALTER doc SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
CREATE TABLE whole (id bigint PRIMARY KEY, n int, doc text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE coded (id bigint, code text NOT NULL, n int, doc text);
CREATE UNIQUE INDEX coded_code ON coded (code);
ALTER TABLE coded REPLICA IDENTITY USING INDEX coded_code;
CREATE TABLE moving (id bigint PRIMARY KEY, n int, state mood, at timestamptz NOT NULL);
INSERT INTO plain SELECT g, g, 'word ' || g, g, now() FROM generate_series(1, 2000) g;
INSERT INTO pair SELECT g % 40, 'b' || g % 50, g, 'w' FROM generate_series(1, 2000) g
  ON CONFLICT DO NOTHING;
INSERT INTO large SELECT g, g, repeat(md5(g::text), 120), 'x' FROM generate_series(1, 200) g;
INSERT INTO whole SELECT g, g, repeat(md5(g::text), 120) FROM generate_series(1, 200) g;
INSERT INTO coded SELECT g, 'c' || g, g, 'doc' FROM generate_series(1, 1000) g;
INSERT INTO moving SELECT g, g, 'calm', timestamptz '2024-01-01' + g * interval '1 hour'
  FROM generate_series(1, 1000) g;
"""

KEYS: dict[str, tuple[str, ...]] = {
    "plain": ("id",),
    "pair": ("a", "b"),
    "large": ("id",),
    "whole": ("id",),
    "coded": ("code",),
    "moving": ("id",),
}
"""Tables and their declared keys."""

PARTITIONING: dict[str, tuple[PartitionField, ...]] = {
    "moving": (
        PartitionField(column="id", transform="bucket[4]"),
        PartitionField(column="at", transform="month"),
    )
}
"""Partition specs of those that have one."""

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

_WORDS = ("", " ", "a", "A", "a ", "straße", "日本", "🂡", "null", "\\N", '"', "x\ny", "\\", "'")
_MOST_ADDED = 6


class RandomSource(Writers):
    """Writers and one author of DDL that run until stopped; used as a context manager.

    Args:
        by_name: For Debezium, which goes by names. It asks the database what may be NULL whenever
            it comes to read a change, so columns swap names only with those that may be NULL as
            they may. It takes rows of a table that is away for rows of the table with the columns
            that it read last, and stops where they have more, so rows are changed just before the
            table goes away.

    Attributes:
        committed: Counts of what was committed, by kind of statement.
    """

    def __init__(self, dsn: str, *, seed: int, writers: int = 3, by_name: bool = False) -> None:
        works = [*[self._transaction] * writers, self._definition]
        drawing = [(work, random.Random(f"{seed} {i}")) for i, work in enumerate(works)]
        super().__init__(dsn, drawing, on_connect="SET lock_timeout = '2s'")
        self.committed: Counter[str] = Counter()
        self._by_name = by_name

    def _transaction(self, connection: psycopg.Connection, chance: random.Random) -> None:
        kinds: list[str] = []
        with self._attempt(connection, chance, kinds):
            for _ in range(chance.randint(1, 8)):
                table = chance.choice([*KEYS])
                columns = load_columns(connection, table)
                kind, statement, values = random_change(table, columns, chance)
                if chance.random() < 0.1:
                    with _taken_back(connection):
                        connection.execute(statement.encode(), values)
                else:
                    connection.execute(statement.encode(), values)
                    kinds.append(kind)
        self.rest(0.005)

    def _definition(self, connection: psycopg.Connection, chance: random.Random) -> None:
        self.rest(chance.uniform(0.2, 1.5))
        kinds: list[str] = []
        with self._attempt(connection, chance, kinds):
            table = chance.choice([*KEYS])
            for _ in range(chance.randint(1, 2)):
                self._dml(connection, table, chance)
                columns = load_columns(connection, table)
                kind, statements = random_definition(table, columns, chance, by_name=self._by_name)
                for statement in statements:
                    connection.execute(statement.encode())
                kinds.append(kind)
                self._dml(connection, table, chance)

    def _dml(self, connection: psycopg.Connection, table: str, chance: random.Random) -> None:
        if chance.random() < 0.5:
            _, statement, values = random_change(table, load_columns(connection, table), chance)
            connection.execute(statement.encode(), values)

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
        except psycopg.Error:
            if connection.closed or connection.broken:
                raise
            connection.rollback()


Column = tuple[str, str, bool]
"""Name, type and whether it is NOT NULL."""


def load_columns(connection: psycopg.Connection, table: str) -> list[Column]:
    """The columns that the transaction sees."""
    return connection.execute(_COLUMNS.encode(), [table]).fetchall()


@contextmanager
def _taken_back(connection: psycopg.Connection) -> Iterator[None]:
    """A savepoint whose changes never happened, though the transaction goes on."""
    with connection.transaction(force_rollback=True):
        yield


def random_change(
    table: str, columns: Sequence[Column], chance: random.Random
) -> tuple[str, str, list[Any]]:
    """A kind, a statement and its parameters."""
    key = KEYS[table]
    types = {name: kind for name, kind, _ in columns}
    others = [column for column in columns if column[0] not in key]
    kind = chance.choices(
        ["insert", "update", "delete", "key", "bulk", "truncate"], [30, 40, 12, 12, 5, 0.15]
    )[0]
    where = " AND ".join(f'"{name}" = %s' for name in key)
    at = [random_key(types[name], chance) for name in key]
    if kind == "insert" or not others:
        names = ", ".join(f'"{name}"' for name, _, _ in columns)
        marks = ", ".join(["%s"] * len(columns))
        values = [
            random_key(column_type, chance)
            if name in key
            else random_value(column_type, chance, nullable=not not_null)
            for name, column_type, not_null in columns
        ]
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        return "insert", statement, values
    if kind == "delete":
        return kind, f"DELETE FROM {table} WHERE {where}", at
    if kind == "key":
        name = chance.choice(key)
        values = [random_key(types[name], chance), *at]
        return kind, f'UPDATE {table} SET "{name}" = %s WHERE {where}', values
    if kind == "truncate":
        return kind, f"TRUNCATE {table}", []
    name, column_type, not_null = chance.choice(others)
    value = random_value(column_type, chance, nullable=not not_null)
    if kind == "bulk":
        where = f'hashtext("{key[0]}"::text) %% %s = 0'
        values = [value, chance.randint(2, 20)]
        return kind, f'UPDATE {table} SET "{name}" = %s WHERE {where}', values
    return "update", f'UPDATE {table} SET "{name}" = %s WHERE {where}', [value, *at]


def random_key(column_type: str, chance: random.Random) -> Any:
    """A value of a key column, out of few enough to be met again."""
    if column_type == "text":
        word = chance.choice(["b", "B", "c"])
        return f"{word}{chance.randint(0, 1100)}{chance.choice(['', '', ' '])}"
    return chance.randint(-50, 2100)


def random_value(column_type: str, chance: random.Random, *, nullable: bool) -> Any:
    """Any value of the type; sometimes NULL where that is allowed, sometimes out of line."""
    if nullable and chance.random() < 0.1:
        return None
    number = chance.randint(-30_000, 30_000)
    match column_type:
        case "integer" | "bigint" | "smallint":
            return number
        case "numeric":
            return f"{number}.{chance.randint(0, 99):02}"
        case "double precision":
            return chance.choice([number / 7, float("inf"), float("-inf"), -0.0])
        case "boolean":
            return number > 0
        case "mood":
            return chance.choice(["calm", "busy"])
        case "date":
            return f"20{chance.randint(10, 40)}-01-{chance.randint(1, 28):02}"
        case "timestamp with time zone":
            return f"2024-{chance.randint(1, 12):02}-11 {chance.randint(0, 23)}:00:00.123456+00"
        case _:
            if chance.random() < 0.1:
                return "".join(chance.choices("abcdefghij", k=chance.randint(3_000, 30_000)))
            return chance.choice(_WORDS)


def random_definition(
    table: str, columns: Sequence[Column], chance: random.Random, *, by_name: bool
) -> tuple[str, list[str]]:
    """A kind of DDL and its statements."""
    extra = [column for column in columns if column[0].startswith("extra")]
    fresh = f"extra_{chance.randint(0, 10**6)}"
    kinds = ["add", "add default", "add not null", "set not null", "rewrite", "away and back"]
    weights = [3.0, 2.0, 1.0, 0.5, 0.5, 0.5]
    if len(extra) >= _MOST_ADDED:
        weights[:3] = [0.0, 0.0, 0.0]
    if extra:
        kinds += ["drop", "rename", "swap names", "widen", "to text", "drop not null"]
        weights += [2.0, 2.0, 0.7, 1.5, 0.5, 0.5]
        name, column_type, not_null = chance.choice(extra)
    else:
        name, column_type, not_null = "", "", False
    kind = chance.choices(kinds, weights)[0]
    alter = f"ALTER TABLE {table}"
    match kind:
        case "add":
            added = chance.choice(["int", "text", "numeric(8,2)", "boolean", "date", "mood"])
            return kind, [f"{alter} ADD {fresh} {added}"]
        case "add default":
            added = chance.choice(["int DEFAULT 7", "text DEFAULT 'con''stant'"])
            added = chance.choice([added, "double precision DEFAULT random()"])
            return kind, [f"{alter} ADD {fresh} {added}"]
        case "add not null":
            return kind, [f"{alter} ADD {fresh} int NOT NULL DEFAULT {chance.randint(0, 9)}"]
        case "set not null":
            return kind, [f'{alter} ALTER "{columns[-1][0]}" SET NOT NULL']
        case "drop not null":
            return kind, [f"{alter} ALTER {name} DROP NOT NULL"]
        case "rewrite":
            return kind, [f"{alter} ALTER n TYPE int USING n + 1"]
        case "away and back":
            return kind, [
                *([f"UPDATE {table} SET n = n WHERE n % 50 = 0"] if by_name else []),
                f"{alter} RENAME TO {table}_away",
                f"UPDATE {table}_away SET n = n + 1 WHERE n %% 50 = 0".replace("%%", "%"),
                f"ALTER TABLE {table}_away RENAME TO {table}",
            ]
        case "drop":
            return kind, [f"{alter} DROP {name}"]
        case "rename":
            return kind, [f"{alter} RENAME {name} TO {fresh}"]
        case "swap names":
            other, _, other_not_null = chance.choice(extra)
            if other == name or (by_name and other_not_null != not_null):
                return "rename", [f"{alter} RENAME {name} TO {fresh}"]
            return kind, [
                f"{alter} RENAME {name} TO {fresh}",
                f"{alter} RENAME {other} TO {name}",
                f"{alter} RENAME {fresh} TO {other}",
            ]
        case "widen":
            wider = {"integer": "bigint", "numeric": "numeric(14,2)"}.get(column_type, column_type)
            return kind, [f"{alter} ALTER {name} TYPE {wider}"]
        case _:
            return kind, [f"{alter} ALTER {name} TYPE text USING {name}::text"]
