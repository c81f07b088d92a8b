"""What becomes of the partitions of a table while its rows change.

What belongs here: partitions that are created, attached with rows or without, detached, dropped and
truncated, at either level, as the transaction sees them. What does not: changes of rows and which
of them a partition is for (``random_partitioned.py``).
"""

import random
from collections.abc import Callable

import psycopg

from carbon_pipelines_tests.integration.random_columns import insertion, load_columns
from carbon_pipelines_tests.integration.random_partitioned import (
    CODES,
    REST,
    SLOTS,
    Part,
    Place,
    draw_row,
    load_parts,
    reached,
)

_COLUMNS_TURNED_ROUND = """
SELECT string_agg(format('%I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                         ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
                         CASE WHEN a.attnotnull THEN ' NOT NULL' END), ', ' ORDER BY a.attnum DESC)
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE a.attrelid = 'parted'::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
_MOST_DETACHED = 4


def divide(connection: psycopg.Connection, chance: random.Random) -> str:
    """Have a partition come, go or be emptied; returns the kind."""
    possible = _Division(connection, chance).possible()
    (_, apply), *_ = chance.choices(possible, [weight for weight, _ in possible])
    apply()
    return f"parted: {apply.__name__.replace('_', ' ')}"


class _Division:
    """What can be done with the partitions that a transaction sees."""

    def __init__(self, connection: psycopg.Connection, chance: random.Random) -> None:
        self._connection, self._chance = connection, chance
        parts = load_parts(connection)
        self._attached = reached(parts)
        self._leaves = [part for part in self._attached if not part.is_divided]
        self._detached = [part for part in parts if part.parent is None]
        self._parents: dict[str, list[Place]] = {
            "parted": [Place(str(slot)) for slot in [*range(SLOTS), REST]],
            **{
                part.name: [Place(part.place.slot, code) for code in [*CODES, REST]]
                for part in self._attached
                if part.is_divided
            },
        }
        self._rests = {part.parent: part for part in self._attached if part.place.is_rest}
        taken = {(part.parent, part.place) for part in self._attached}
        self._free = [
            (parent, place)
            for parent, places in self._parents.items()
            for place in places
            if (parent, place) not in taken
        ]

    def possible(self) -> list[tuple[float, Callable[[], None]]]:
        """What can be done, with its weight."""
        many = len(self._detached) > _MOST_DETACHED
        return [
            *([(6.0, self.create), (3.0, self.attach)] if self._free else []),
            *([(2.0, self.attach_again)] if self._returning() else []),
            *([(2.0, self.detach), (1.5, self.drop)] if self._attached else []),
            *([(0.5, self.truncate_several)] if self._attached else []),
            *([(1.0, self.truncate_leaf)] if self._leaves else []),
            *([(5.0 if many else 0.3, self.drop_detached)] if self._detached else []),
        ]

    def create(self) -> None:
        """A partition of its parent, sometimes one that has partitions itself."""
        parent, place = self._chance.choice(self._free)
        name = self._name(parent, place)
        divided = place.code is None and self._chance.random() < 0.3
        self._clear_rest(parent, place)
        by = " PARTITION BY LIST (code)" if divided else ""
        self._execute(f"CREATE TABLE {name} PARTITION OF {parent} {place.bound()}{by}")
        for code in [c for c in [*CODES, REST] if self._chance.random() < 0.7] if divided else []:
            below = Place(place.slot, code)
            self._execute(
                f"CREATE TABLE {self._name(name, below)} PARTITION OF {name} {below.bound()}"
            )
        if self._chance.random() < 0.5 and not divided:
            self._insert(name, place)

    def attach(self) -> None:
        """A table that comes with rows or none, its columns in the same order or another one."""
        parent, place = self._chance.choice(self._free)
        name = self._name(parent, place)
        if self._chance.random() < 0.5:
            self._execute(f"CREATE TABLE {name} (LIKE parted INCLUDING ALL)")
        else:
            found = self._connection.execute(_COLUMNS_TURNED_ROUND.encode()).fetchone()
            assert found is not None
            self._execute(f"CREATE TABLE {name} ({found[0]})")
        self._clear_rest(parent, place, into=name)
        if self._chance.random() < 0.8:
            self._insert(name, place)
        self._execute(f"ALTER TABLE {parent} ATTACH PARTITION {name} {place.bound()}")

    def attach_again(self) -> None:
        """A table that was detached, whatever became of its rows since."""
        part, parent = self._chance.choice(self._returning())
        self._clear_rest(parent, part.place)
        self._execute(f"ALTER TABLE {parent} ATTACH PARTITION {part.name} {part.place.bound()}")

    def detach(self) -> None:
        """A leaf, or one with all below it."""
        part = self._chance.choice(self._attached)
        self._execute(f"ALTER TABLE {part.parent} DETACH PARTITION {part.name}")

    def drop(self) -> None:
        """A leaf, or one with all below it."""
        self._execute(f"DROP TABLE {self._chance.choice(self._attached).name}")

    def drop_detached(self) -> None:
        """A table that belongs to nothing any more."""
        self._execute(f"DROP TABLE {self._chance.choice(self._detached).name}")

    def truncate_leaf(self) -> None:
        """Rows of one leaf go without events."""
        self._execute(f"TRUNCATE {self._chance.choice(self._leaves).name}")

    def truncate_several(self) -> None:
        """Rows of some, maybe all, maybe one within another."""
        parts = self._chance.sample(self._attached, self._chance.randint(1, len(self._attached)))
        self._execute(f"TRUNCATE {', '.join(part.name for part in parts)}")

    def _returning(self) -> list[tuple[Part, str]]:
        """Detached tables whose place is free, and its parent."""
        return [
            (part, parent)
            for part in self._detached
            for parent, place in self._free
            if place == part.place
        ]

    def _clear_rest(self, parent: str, place: Place, *, into: str | None = None) -> None:
        """Take rows of ``place`` out of the rest: no other partition could take the place else."""
        rest = self._rests.get(parent)
        if rest is None or place.is_rest:
            return
        gone = f"DELETE FROM {rest.name} WHERE {place.condition()}"
        if into is not None and self._chance.random() < 0.7:
            names = ", ".join(f'"{name}"' for name, *_ in load_columns(self._connection, "parted"))
            gone = f"WITH gone AS ({gone} RETURNING {names})"
            gone += f" INSERT INTO {into} ({names}) SELECT {names} FROM gone"
        self._execute(gone)

    def _insert(self, name: str, place: Place) -> None:
        columns = load_columns(self._connection, name)
        for _ in range(self._chance.randint(1, 5)):
            row = draw_row(columns, place, self._chance)
            statement = f"{insertion(name, columns, [row])} ON CONFLICT DO NOTHING"
            self._connection.execute(statement.encode(), row)

    def _name(self, parent: str, place: Place) -> str:
        number = self._chance.randint(1, 10**6)
        return f"{parent}_{place.code or place.slot}_{number}"

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement.encode())
