"""Tables of every kind of replica identity that names a row by a key, and changes of their rows.

What belongs here: the tables, and inserts, updates, deletes, changes of keys, large rows and
TRUNCATE made from the columns that a table has at that moment. What does not: DDL
(``random_columns.py``), partitions and tables without a key.
"""

import random
from functools import partial

import psycopg

from carbon_pipelines.catalog.table import PartitionField
from carbon_pipelines_tests.integration.random_columns import (
    Change,
    RandomTable,
    insertion,
    load_columns,
    random_key,
    random_value,
)

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

_KEYS: dict[str, tuple[str, ...]] = {
    "plain": ("id",),
    "pair": ("a", "b"),
    "large": ("id",),
    "whole": ("id",),
    "coded": ("code",),
    "moving": ("id",),
}

_PARTITIONING = {
    "moving": (
        PartitionField(column="id", transform="bucket[4]"),
        PartitionField(column="at", transform="month"),
    )
}


def _change(table: str, connection: psycopg.Connection, chance: random.Random) -> Change:
    key, columns = _KEYS[table], load_columns(connection, table)
    types = {name: kind for name, kind, _ in columns}
    others = [column for column in columns if column[0] not in key]
    kind = chance.choices(
        ["insert", "update", "delete", "key", "bulk", "truncate"], [30, 40, 12, 12, 5, 0.15]
    )[0]
    where = " AND ".join(f'"{name}" = %s' for name in key)
    at = [random_key(types[name], chance) for name in key]
    if kind == "insert" or not others:
        row = [
            random_key(column_type, chance)
            if name in key
            else random_value(column_type, chance, nullable=not not_null)
            for name, column_type, not_null in columns
        ]
        return Change("insert", f"{insertion(table, columns, [row])} ON CONFLICT DO NOTHING", row)
    if kind == "delete":
        return Change(kind, f"DELETE FROM {table} WHERE {where}", at)
    if kind == "key":
        name = chance.choice(key)
        values = [random_key(types[name], chance), *at]
        return Change(kind, f'UPDATE {table} SET "{name}" = %s WHERE {where}', values)
    if kind == "truncate":
        return Change(kind, f"TRUNCATE {table}")
    name, column_type, not_null = chance.choice(others)
    value = random_value(column_type, chance, nullable=not not_null)
    if kind == "bulk":
        where = f'hashtext("{key[0]}"::text) %% %s = 0'
        values = [value, chance.randint(2, 20)]
        return Change(kind, f'UPDATE {table} SET "{name}" = %s WHERE {where}', values)
    return Change("update", f'UPDATE {table} SET "{name}" = %s WHERE {where}', [value, *at])


KEYED = tuple(
    RandomTable(
        name,
        key,
        partial(_change, name),
        {"partitioning": _PARTITIONING[name]} if name in _PARTITIONING else {},
    )
    for name, key in _KEYS.items()
)
"""The tables that ``SETUP`` makes."""
