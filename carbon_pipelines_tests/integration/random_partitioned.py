"""A partitioned table, and changes of its rows.

What belongs here: its first partitions, which rows a partition is for, and changes by way of the
root, of a partition and of one that was detached. What does not: what becomes of partitions
(``random_division.py``) and DDL on columns (``random_columns.py``).

A partition is named after its place: ``parted_3_77`` holds the ids of slot 3, ``parted_3_77_b_5``
those of them with code ``b``, and ``rest`` stands for what has no partition of its own. So it is
known where a detached one fits.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
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
CREATE TABLE parted (id bigint, code text, n int, doc text, at timestamptz, PRIMARY KEY (id, code))
  PARTITION BY RANGE (id);
ALTER TABLE parted ALTER doc SET STORAGE EXTERNAL;
CREATE TABLE parted_0_0 PARTITION OF parted FOR VALUES FROM (-100) TO (300);
CREATE TABLE parted_1_0 PARTITION OF parted FOR VALUES FROM (300) TO (700) PARTITION BY LIST (code);
CREATE TABLE parted_1_0_a_0 PARTITION OF parted_1_0 FOR VALUES IN ('a');
CREATE TABLE parted_1_0_rest_0 PARTITION OF parted_1_0 DEFAULT;
CREATE TABLE parted_rest_0 PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT g, chr(97 + g % 3), g, repeat(md5(g::text), 5 + g % 90), now()
  FROM generate_series(1, 2000) g;
"""

_PARTS = """
SELECT c.relname, c.relkind = 'p', p.relname
  FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
  LEFT JOIN pg_class p ON p.oid = i.inhparent
 WHERE c.relkind IN ('r', 'p') AND c.relname ~ '^parted_([0-9]|rest_)'
   AND c.relnamespace = 'public'::regnamespace
 ORDER BY c.relname
"""
_NAME = re.compile(r"parted_(?P<slot>\d|rest)_\d+(_(?P<code>[abc]|rest)_\d+)?")
_KEY = ("id", "code")
SLOTS, _IDS_PER_SLOT, _LOWEST_ID = 6, 400, -100
CODES = ("a", "b", "c")
REST = "rest"


@dataclass(frozen=True, slots=True)
class Place:
    """Which rows a partition is for; without a code it is one of the root."""

    slot: str
    code: str | None = None

    def bound(self) -> str:
        """As CREATE and ATTACH spell it."""
        if self.is_rest:
            return "DEFAULT"
        if self.code:
            return f"FOR VALUES IN ('{self.code}')"
        return f"FOR VALUES FROM ({self.first_id}) TO ({self.first_id + _IDS_PER_SLOT})"

    def condition(self) -> str:
        """Its rows among those of its parent, if it is not the rest."""
        if self.code:
            return f"code = '{self.code}'"
        return f"id >= {self.first_id} AND id < {self.first_id + _IDS_PER_SLOT}"

    @property
    def first_id(self) -> int:
        """Lowest id of its slot; the rest has what is above all slots."""
        slot = SLOTS if self.slot == REST else int(self.slot)
        return _LOWEST_ID + slot * _IDS_PER_SLOT

    @property
    def is_rest(self) -> bool:
        """Whether it is a default partition."""
        return (self.code or self.slot) == REST

    def draw_key(self, chance: random.Random) -> tuple[int, str]:
        """Id and code of a row that fits."""
        code = self.code if self.code in CODES else chance.choice(CODES)
        return chance.randrange(self.first_id, self.first_id + _IDS_PER_SLOT), code


@dataclass(frozen=True, slots=True)
class Part:
    """A partition, or a table that was one."""

    name: str
    place: Place
    is_divided: bool
    parent: str | None


def load_parts(connection: psycopg.Connection) -> list[Part]:
    """Those that the transaction sees, detached ones too."""
    parts: list[Part] = []
    for name, is_divided, parent in connection.execute(_PARTS.encode()).fetchall():
        named = _NAME.fullmatch(name)
        assert named is not None, name
        parts.append(Part(name, Place(named["slot"], named["code"]), is_divided, parent))
    return parts


def reached(parts: Sequence[Part]) -> list[Part]:
    """Those that belong to the root, those of a detached one not."""
    tops = {part.name for part in parts if part.parent == "parted"}
    return [part for part in parts if part.name in tops or part.parent in tops]


def _change(connection: psycopg.Connection, chance: random.Random) -> Change:
    parts, columns = load_parts(connection), load_columns(connection, "parted")
    attached = reached(parts)
    detached = [part for part in parts if part not in attached and not part.is_divided]
    weights = {
        "parted: insert": 18,
        "parted: update": 22,
        "parted: delete": 6,
        "parted: move": 12,
        "parted: move many": 3,
        "parted: bulk": 3,
        "parted: truncate root": 0.05,
    }
    if attached:
        weights |= {
            "parted: insert into partition": 8,
            "parted: update partition": 10,
            "parted: delete from partition": 4,
            "parted: truncate leaf": 0.1,
        }
    if detached:
        weights["parted: insert into detached"] = 2
        weights["parted: update detached"] = 2
    kind = chance.choices([*weights], [*weights.values()])[0]
    if kind.endswith("detached"):
        part = chance.choice(detached)
    elif kind.endswith("leaf"):
        part = chance.choice([part for part in attached if not part.is_divided] or attached)
    elif kind.endswith("partition"):
        part = chance.choice(attached)
    else:
        part = Part("parted", Place(str(chance.randrange(SLOTS))), is_divided=True, parent=None)
    return _change_of(kind, part, columns, chance)


def _change_of(kind: str, part: Part, columns: Sequence[Column], chance: random.Random) -> Change:
    id_, code = part.place.draw_key(chance)
    name, column_type, not_null = chance.choice([c for c in columns if c[0] not in _KEY])
    value = random_value(column_type, chance, nullable=not not_null)
    match kind.split()[1]:
        case "insert":
            row = draw_row(columns, part.place, chance)
            statement = f"{insertion(part.name, columns, [row])} ON CONFLICT DO NOTHING"
            return Change(kind, statement, row)
        case "delete":
            return Change(kind, f"DELETE FROM {part.name} WHERE id = %s", [id_])
        case "truncate":
            return Change(kind, f"TRUNCATE {part.name}")
        case "bulk":
            statement = f'UPDATE parted SET "{name}" = %s WHERE id %% %s = 0'
            return Change(kind, statement, [value, chance.randint(2, 20)])
        case "move":
            if kind.endswith("many"):
                statement = """UPDATE parted p SET code = %s WHERE id %% %s = 0 AND NOT EXISTS (
                  SELECT FROM parted o WHERE o.id = p.id AND o.code <> p.code)"""
                return Change(kind, statement, [code, chance.randint(2, 20)])
            other_id, other_code = Place(str(chance.randrange(SLOTS))).draw_key(chance)
            statement = (
                "UPDATE parted SET id = %s, code = %s, n = n + 1 WHERE id = %s AND code = %s"
            )
            return Change(kind, statement, [other_id, other_code, id_, code])
        case _:
            return Change(kind, f'UPDATE {part.name} SET "{name}" = %s WHERE id = %s', [value, id_])


def draw_row(columns: Sequence[Column], place: Place, chance: random.Random) -> list[Any]:
    """A row that fits."""
    key = dict(zip(_KEY, place.draw_key(chance), strict=True))
    return [
        key[name] if name in key else random_value(kind, chance, nullable=not not_null)
        for name, kind, not_null in columns
    ]


PARTED = RandomTable("parted", _KEY, _change)
"""The table that ``SETUP`` makes."""
