"""A table without a key, and changes of its rows, of which many are equal.

What belongs here: the table, and changes of one, some or all of the rows that equal each other,
NULLs included. What does not: DDL on its columns (``random_columns.py``).
"""

import random
from collections.abc import Sequence
from typing import Any

import psycopg

from carbon_pipelines_tests.integration.random_columns import (
    Change,
    Column,
    RandomTable,
    insertion,
    load_columns,
    random_value,
)

SETUP = """
CREATE TABLE bag (n int, word text, amount numeric(12, 2), doc text);
ALTER TABLE bag REPLICA IDENTITY FULL;
ALTER TABLE bag ALTER doc SET STORAGE EXTERNAL;
INSERT INTO bag SELECT nullif(g % 9, 0), 'w' || g % 2, g % 3, repeat(md5((g % 2)::text), 100)
  FROM generate_series(1, 600) g;
INSERT INTO bag SELECT FROM generate_series(1, 20);
"""

_WEIGHTS = {
    "bag: insert": 20,
    "bag: insert equal": 12,
    "bag: insert what is there": 6,
    "bag: update one": 20,
    "bag: update some": 10,
    "bag: update all": 4,
    "bag: update nothing": 4,
    "bag: delete one": 16,
    "bag: delete some": 8,
    "bag: delete all": 1.5,
    "bag: bulk": 2,
    "bag: truncate": 0.05,
}
_NUMBERS = range(1, 9)
_MOST_EQUAL = 5


def _change(connection: psycopg.Connection, chance: random.Random) -> Change:
    columns = load_columns(connection, "bag")
    kind = chance.choices([*_WEIGHTS], [*_WEIGHTS.values()])[0]
    number = chance.choice([None, *_NUMBERS])
    all_equal = "n IS NOT DISTINCT FROM %s AND word IS NOT DISTINCT FROM %s"
    values = [number, chance.choice([None, "w0", "w1"])]
    if kind.endswith(("one", "some", "is there")):
        some = f"SELECT ctid FROM bag WHERE {all_equal} OFFSET %s LIMIT %s"
        values += [chance.randint(0, 3), 1 if kind.endswith("one") else _MOST_EQUAL]
        where = f"ctid = ANY (ARRAY({some}))"
    else:
        where = all_equal
    match kind.split()[1:]:
        case ["insert", "what", *_]:
            return Change(kind, f"INSERT INTO bag SELECT * FROM bag WHERE {where}", values)
        case ["insert", *equal]:
            row = _draw_row(columns, chance)
            rows = [row] * (chance.randint(2, _MOST_EQUAL) if equal else 1)
            return Change(kind, insertion("bag", columns, rows), [v for each in rows for v in each])
        case ["delete", _]:
            return Change(kind, f"DELETE FROM bag WHERE {where}", values)
        case ["truncate"]:
            return Change(kind, "TRUNCATE bag")
        case ["update", "nothing"]:
            return Change(kind, f"UPDATE bag SET n = n WHERE {where}", values)
        case _:
            name, column_type, not_null = chance.choice(columns)
            value = _draw_value(name, column_type, chance, nullable=not not_null)
            if kind.endswith("bulk"):
                where, values = "coalesce(n, 0) %% %s = 0", [chance.randint(2, 20)]
            return Change(kind, f'UPDATE bag SET "{name}" = %s WHERE {where}', [value, *values])


def _draw_row(columns: Sequence[Column], chance: random.Random) -> list[Any]:
    if chance.random() < 0.05 and not any(not_null for *_, not_null in columns):
        return [None] * len(columns)
    return [
        _draw_value(name, kind, chance, nullable=not not_null) for name, kind, not_null in columns
    ]


def _draw_value(name: str, column_type: str, chance: random.Random, *, nullable: bool) -> Any:
    """A value out of few, so that rows come to be equal, or any value at all."""
    if chance.random() < 0.2:
        return random_value(column_type, chance, nullable=nullable)
    match name:
        case "n":
            return chance.choice(_NUMBERS)
        case "word" | "doc":
            return chance.choice(["w0", "w1"])
        case "amount":
            return chance.choice(["0", "1.50"])
        case _:
            return random_value(column_type, random.Random(chance.randint(0, 2)), nullable=nullable)


BAG = RandomTable("bag", (), _change, {"identity": "full"})
"""The table that ``SETUP`` makes."""
