"""What each column of a mart is made of, found in its SQL.

What belongs here: following a column through CTEs, subqueries, joins, unions and aggregates down to
the tables that are read. What does not: compiling the models (``compiled.py``).

A column is made of every column that its expression names, directly or through what it selects
from: the arguments of functions and aggregates, both sides of a CASE, and what a window is divided
and ordered by. What only decides which rows there are, a join's condition, WHERE and GROUP BY, is
not among them. ``count(*)`` is made of no column: it counts rows, those of the tables in its FROM.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope, find_all_in_scope
from sqlglot.schema import MappingSchema

from carbon_pipelines.errors import MartLineageError

DIALECT = "duckdb"
"""Models are compiled for the embedded engine, wherever they are built."""

SourceColumn = tuple[str, str, str]
"""Database, table and column."""
SourceTable = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ColumnLineage:
    """What a mart's column is made of: columns, and tables whose rows it counts."""

    columns: tuple[SourceColumn, ...] = ()
    rows_of: tuple[SourceTable, ...] = ()


def mart_lineage(
    name: str,
    models: Mapping[str, str],
    tables: Mapping[SourceTable, Sequence[str]],
) -> dict[str, ColumnLineage]:
    """What each column of a mart is made of, in the order of its columns.

    Args:
        name: The mart's relation, ``schema.name``, among the models.
        models: SQL of each model by its relation.
        tables: Columns of each table that they read, by database and table.

    Raises:
        MartLineageError: The SQL cannot be followed.
    """
    try:
        parsed = {
            relation: sqlglot.parse_one(sql, dialect=DIALECT) for relation, sql in models.items()
        }
        scope = build_scope(_qualified(parsed[name], parsed, tables))
        if scope is None:
            reason = "is no query"
            raise MartLineageError(name, reason)
        walk = _Walk()
        names = _query(scope).named_selects
        return {column: walk.column(scope, place).found() for place, column in enumerate(names)}
    except SqlglotError as error:
        raise MartLineageError(name, " ".join(str(error).split())) from error


def _qualified(
    query: exp.Expr, models: Mapping[str, exp.Expr], tables: Mapping[SourceTable, Sequence[str]]
) -> exp.Expr:
    """The query with the models it reads in their place, and every column with its table."""
    whole = query.copy()
    for table in whole.find_all(exp.Table):
        table.set("catalog", None)
    read: dict[str, exp.Query | Callable[[], exp.Query]] = {
        name: _without_catalog(model) for name, model in models.items()
    }
    whole = exp.expand(whole, read, dialect=DIALECT, copy=False)
    schema = MappingSchema(dialect=DIALECT)
    for (database, table), columns in tables.items():
        # Types decide nothing about lineage.
        schema.add_table(f"{database}.{table}", dict.fromkeys(columns, "VARCHAR"))
    return qualify(whole, dialect=DIALECT, schema=schema, identify=False)


def _without_catalog(query: exp.Expr) -> exp.Query:
    copy = query.copy()
    for table in copy.find_all(exp.Table):
        table.set("catalog", None)
    assert isinstance(copy, exp.Query)
    return copy


class _Found:
    """Columns and tables, as they are found."""

    __slots__ = ("columns", "tables")

    def __init__(self) -> None:
        self.columns: set[SourceColumn] = set()
        self.tables: set[SourceTable] = set()

    def add(self, other: "_Found") -> None:
        self.columns |= other.columns
        self.tables |= other.tables

    def found(self) -> ColumnLineage:
        return ColumnLineage(tuple(sorted(self.columns)), tuple(sorted(self.tables)))


class _Walk:
    """A way down from columns to tables; what was found of a column is kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Found] = {}

    def column(self, scope: Scope, place: int) -> _Found:
        """What the column at a place of a query is made of."""
        at = (id(scope), place)
        if at not in self._known:
            # Before it is known: a recursive query names itself.
            found = self._known[at] = _Found()
            for inner in scope.set_operation_scopes or ():
                found.add(self.column(inner, place))
            query = _query(scope)
            if not isinstance(query, exp.SetOperation):
                self._expression(scope, query.selects[place], found)
        return self._known[at]

    def _expression(self, scope: Scope, expression: exp.Expr, found: _Found) -> None:
        for column in find_all_in_scope(expression, exp.Column):
            source = scope.sources.get(column.table)
            if isinstance(source, exp.Table):
                found.columns.add((source.db, source.name, column.name))
            elif source is not None:
                self._named(source, column.name, found)
        for count in find_all_in_scope(expression, exp.Count):
            if isinstance(count.this, exp.Star):
                found.tables |= self._rows(scope)
        inner = {id(one.expression): one for one in scope.subquery_scopes}
        for query in find_all_in_scope(expression, exp.Query):
            scalar = inner.get(id(query.unnest()))
            if scalar is not None:
                for place in range(len(_query(scalar).selects)):
                    found.add(self.column(scalar, place))

    def _named(self, scope: Scope, name: str, found: _Found) -> None:
        names = scope.expression.named_selects if isinstance(scope.expression, exp.Query) else []
        if name in names:
            found.add(self.column(scope, names.index(name)))
        else:
            # An unnested list or the like: its values come from what it names.
            self._expression(scope, scope.expression, found)

    def _rows(self, scope: Scope) -> set[SourceTable]:
        """Tables that a query's rows come from; what is joined to them may not be there."""
        tables: set[SourceTable] = set()
        for inner in scope.set_operation_scopes or ():
            tables |= self._rows(inner)
        origin = scope.expression.args.get("from_") or scope.expression.args.get("from")
        if origin is not None:
            tables |= self._tables_of(scope.sources.get(origin.this.alias_or_name))
        return tables

    def _tables_of(self, source: "exp.Expr | Scope | None") -> set[SourceTable]:
        if isinstance(source, exp.Table):
            return {(source.db, source.name)}
        return self._rows(source) if isinstance(source, Scope) else set()


def _query(scope: Scope) -> exp.Query:
    assert isinstance(scope.expression, exp.Query)
    return scope.expression
