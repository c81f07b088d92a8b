"""What PostgreSQL itself promises about the rows of one table.

What belongs here: reading its constraints, its columns' and the ranges of its numbers. What does
not: what is made of them (``catalog/propose_expectations.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.relation import SourceColumn, SourceRelation

_KINDS: dict[str, Literal["unique", "check", "foreign key"]] = {
    "p": "unique",
    "u": "unique",
    "c": "check",
    "f": "foreign key",
}
_NUMBERS = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"})
_QUERY = """
SELECT c.conname, c.contype::text,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum), '{}'),
       coalesce(pg_catalog.pg_get_expr(c.conbin, c.conrelid), ''),
       coalesce(n.nspname, ''), coalesce(r.relname, ''),
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(c.confkey) WITH ORDINALITY AS k(attnum, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum), '{}')
  FROM pg_catalog.pg_constraint c
  LEFT JOIN pg_catalog.pg_class r ON r.oid = c.confrelid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
 WHERE c.conrelid = %s AND c.contype IN ('p', 'u', 'c', 'f') AND c.convalidated
 ORDER BY array_position(ARRAY['p', 'u', 'f', 'c'], c.contype::text), c.conname
"""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One validated constraint.

    Attributes:
        condition: Of a check, in PostgreSQL's words.
        to_schema: Of a foreign key: the table referred to, and ``to_columns`` of it.
    """

    name: str
    kind: Literal["unique", "check", "foreign key"]
    columns: tuple[str, ...]
    condition: str = ""
    to_schema: str = ""
    to_table: str = ""
    to_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenRange:
    """The least and the greatest finite value of a column, as text."""

    column: str
    least: str
    greatest: str


def load_constraints(
    connection: SourceConnection, relation: SourceRelation
) -> tuple[Constraint, ...]:
    """The constraints that every row of a table meets."""
    found = connection.execute(_QUERY.encode(), (relation.oid,)).fetchall()
    return tuple(
        Constraint(
            name, _KINDS[kind], tuple(columns), condition, to_schema, to_table, tuple(to_columns)
        )
        for name, kind, columns, condition, to_schema, to_table, to_columns in found
    )


def load_ranges(
    connection: SourceConnection, relation: SourceRelation, columns: Sequence[SourceColumn]
) -> tuple[SeenRange, ...]:
    """The ranges of number columns, all in one pass; none of a column without a finite value."""
    numbers = [
        column
        for column in columns
        if column.type.is_built_in and column.type.base_name in _NUMBERS
    ]
    if not numbers:
        return ()
    # NaN is above Infinity in PostgreSQL (manual, 8.1.2 and 8.1.3); integers have neither
    finite = "{c} > '-Infinity' AND {c} < 'Infinity'"
    either = "min({c}) FILTER (WHERE FINITE)::text, max({c}) FILTER (WHERE FINITE)::text"
    part = sql.SQL(either.replace("FINITE", finite))  # pyright: ignore[reportArgumentType]
    whole = sql.SQL("min({c})::text, max({c})::text")
    parts = [
        (whole if column.type.base_name.startswith("int") else part).format(
            c=sql.Identifier(column.name)
        )
        for column in numbers
    ]
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(parts), sql.Identifier(relation.schema, relation.name)
    )
    row = connection.execute(query).fetchone() or ()
    pairs = zip(numbers, row[::2], row[1::2], strict=True)
    return tuple(
        SeenRange(column.name, least, greatest)
        for column, least, greatest in pairs
        if least is not None and greatest is not None
    )
