"""Random rows, and random DDL on the columns that a table has at that moment.

What belongs here: what is the same for a table of any kind. What does not: which rows change
(``random_keyed.py``, ``random_partitioned.py``, ``random_keyless.py``) and who runs it
(``random_source.py``).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

_WORDS = ("", " ", "a", "A", "a ", "straße", "日本", "🂡", "null", "\\N", '"', "x\ny", "\\", "'")
_MOST_ADDED = 6


class Change(NamedTuple):
    """A statement, its parameters, and the kind that it is counted as."""

    kind: str
    statement: str
    values: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class RandomTable:
    """A table, how it is declared, and what changes its rows.

    Attributes:
        change: Draws a change from what the transaction of a connection sees.
        declared: Fields of its declaration apart from name and key.
    """

    name: str
    key: tuple[str, ...]
    change: Callable[[psycopg.Connection, random.Random], Change]
    declared: Mapping[str, Any] = field(default_factory=dict[str, Any])


Column = tuple[str, str, bool]
"""Name, type and whether it is NOT NULL."""


def load_columns(connection: psycopg.Connection, table: str) -> list[Column]:
    """The columns that the transaction sees."""
    return connection.execute(_COLUMNS.encode(), [table]).fetchall()


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


def insertion(table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> str:
    """An INSERT of so many rows, with a mark for each value."""
    names = ", ".join(f'"{name}"' for name, _, _ in columns)
    marks = f"({', '.join(['%s'] * len(columns))})"
    return f"INSERT INTO {table} ({names}) VALUES {', '.join([marks] * len(rows))}"


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
