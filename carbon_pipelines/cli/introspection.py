"""Asking a source what ``catalog/propose.py`` needs to know about one table.

What belongs here: reading PostgreSQL for a declaration. What does not: what is proposed.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import click
import psycopg
from psycopg import sql

from carbon_pipelines.catalog.propose import ColumnFacts, NumericDigits, TableFacts
from carbon_pipelines.catalog.propose_expectations import ForeignKey, Promised
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.constraints import load_constraints, load_ranges
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, load_relation

_PART = r'"((?:[^"]|"")+)"|([^".]+)'
_RELATION = re.compile(rf"(?:(?:{_PART})\.)?(?:{_PART})")


def parse_relation(text: str) -> tuple[str, str]:
    """``schema.table`` as psql reads it, but without folding case: ``Sales.Order`` is kept as is.

    Raises:
        click.BadParameter: The text is neither ``table``, ``schema.table`` nor a quoted form.
    """
    found = _RELATION.fullmatch(text)
    if found is None:
        message = f'"{text}" is not schema.table; put names with a dot in double quotes'
        raise click.BadParameter(message)
    quoted_schema, schema, quoted_table, table = found.groups()
    return _name(quoted_schema, schema) or "public", _name(quoted_table, table)


def _name(quoted: str | None, plain: str | None) -> str:
    return quoted.replace('""', '"') if quoted else plain or ""


def load_facts(dsn: str, schema: str, name: str, report: Callable[[str], object]) -> TableFacts:
    """Describe one table; unbounded numerics cost one pass over it, which is announced.

    Raises:
        SourceError: The source does not answer, refuses us or has no such table.
    """
    with session(dsn) as connection:
        relation = load_relation(connection, schema, name)
        unbounded = [column for column in relation.columns if is_unbounded(column)]
        digits: dict[str, NumericDigits] = {}
        if unbounded:
            names = ", ".join(column.name for column in unbounded)
            report(f"Reading {schema}.{name} once for the widest values of {names}")
            digits = load_digits(connection, relation, unbounded)
        comment = _comment(connection, relation)
    columns = tuple(
        ColumnFacts(c.name, c.type.name, c.nullable, c.key_position, digits.get(c.name))
        for c in relation.columns
    )
    return TableFacts(schema, name, comment, columns)


def load_promised(dsn: str, table: TableSpec) -> tuple[tuple[str, ...], Promised]:
    """The columns that reach the lake, and what the source promises about them; one pass.

    Raises:
        SourceError: The source does not answer, refuses us or has no such table.
    """
    with session(dsn) as connection:
        relation = load_relation(connection, table.source_schema, table.source_table)
        kept = [column for column in relation.columns if column.name not in table.dropped_columns]
        constraints = load_constraints(connection, relation)
        ranges = load_ranges(connection, relation, kept)
    of_kind = {
        kind: [one for one in constraints if one.kind == kind]
        for kind in ("unique", "foreign key", "check")
    }
    return tuple(column.name for column in kept), Promised(
        not_null=tuple(column.name for column in kept if not column.nullable),
        labels={c.name: tuple(label for _, label in c.type.labels) for c in kept if c.type.labels},
        unique=tuple(one.columns for one in of_kind["unique"]),
        foreign_keys=tuple(
            ForeignKey(one.columns, (one.to_schema, one.to_table), one.to_columns)
            for one in of_kind["foreign key"]
        ),
        checks=tuple((one.name, one.condition) for one in of_kind["check"]),
        ranges=tuple((one.column, one.least, one.greatest) for one in ranges),
    )


def is_unbounded(column: SourceColumn) -> bool:
    """Whether it is a numeric without a precision, which no decimal type holds for certain."""
    return column.type.base_name == "numeric" and column.type.typmod == -1


def load_digits(
    connection: psycopg.Connection[tuple[Any, ...]],
    relation: SourceRelation,
    columns: Sequence[SourceColumn],
) -> dict[str, NumericDigits]:
    """The widest finite values of numeric columns, all in one query.

    NaN sorts above Infinity (PostgreSQL manual, 8.1.2), so two comparisons leave the finite ones.
    """
    finite = sql.SQL("{c} < 'Infinity' AND {c} > '-Infinity'")
    facts = sql.SQL(
        "coalesce(length(trunc(max(abs({c})) FILTER (WHERE {f}))::text), 0),"
        " coalesce(max(scale({c})) FILTER (WHERE {f}), 0),"
        " count(*) FILTER (WHERE {f}), count(*) FILTER (WHERE {c} IS NOT NULL AND NOT ({f}))"
    )
    parts = [
        facts.format(c=name, f=finite.format(c=name))
        for name in (sql.Identifier(column.name) for column in columns)
    ]
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(parts), sql.Identifier(relation.schema, relation.name)
    )
    row = connection.execute(query).fetchone() or ()
    quads = [row[at : at + 4] for at in range(0, len(row), 4)]
    return {column.name: NumericDigits(*quad) for column, quad in zip(columns, quads, strict=True)}


def _comment(connection: psycopg.Connection[tuple[Any, ...]], relation: SourceRelation) -> str:
    query = "SELECT coalesce(obj_description(%s::oid, 'pg_class'), '')"
    row = connection.execute(query, [relation.oid]).fetchone()
    return row[0] if row else ""
