"""What an engine has to compute for each expectation: the plan, as SQL text.

What belongs here: one check for each expectation, pure. What does not: running them
(``engine_pass.py``), what numbers mean (``judging.py``) and reading SQL that somebody wrote
(``custom_sql.py``).

Whatever can be told from one row at a time is a predicate that is true for rows that fail, and all
of these are counted together in one pass over the table. Uniqueness, references and queries each
need a pass of their own over the columns that they name. A null fails no predicate but not_null's.

The text is plain SQL that DuckDB and Trino both run; relations are the tables' logical names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.types import IcebergType

from carbon_pipelines.catalog.expectations import (
    Between,
    Columns,
    ExpectationSpec,
    Fresh,
    Holds,
    InSet,
    LengthBetween,
    Matches,
    NotNull,
    Query,
    References,
    Unique,
)
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.quality.fit import FLOATS, LakeColumns, sql_moment, sql_value
from carbon_pipelines.quality.relations import PART
from carbon_pipelines.quality.sql_text import Dialect, listed, literal, quoted


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation as an engine checks it; each text may be missing.

    Attributes:
        failing: A predicate, true for rows that fail; counted in the common pass.
        aggregates: Aggregates of a query of their own.
        counting: A query of one row and column: how many rows fail.
        recounting: The same, of those that rows in ``relations.PART`` fail by; None: ``counting``
            tells that within it.
        sampling: A query of rows that fail, with columns as people are shown them.
        protected: Whether it reads columns whose values are never shown.
    """

    expectation: ExpectationSpec
    failing: str | None = None
    aggregates: tuple[str, ...] = ()
    counting: str | None = None
    recounting: str | None = None
    sampling: str | None = None
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What checks of one table are made with.

    Attributes:
        others: Other tables that the expectations read, by logical name.
        now: What the age of values is taken from.
    """

    table: TableSpec
    columns: LakeColumns
    others: Mapping[str, TableSpec]
    now: datetime
    dialect: Dialect

    @property
    def relation(self) -> str:
        """The table's name in SQL."""
        return quoted(self.table.name)

    def type_of(self, column: str) -> IcebergType:
        """The lake's type of a column."""
        return self.columns.types[column]

    def shown(self, column: str, prefix: str = "") -> str:
        """A column in a sample; of a protected one, what it is classified as."""
        if column in self.table.protected_columns:
            classification = self.table.columns[column].classification
            return f"{literal(f'({classification})')} AS {quoted(column)}"
        return f"{self.dialect.shown(prefix + quoted(column))} AS {quoted(column)}"


def plan_check(expectation: ExpectationSpec, around: Surroundings) -> Check:
    """The check of one expectation, which fits the table's columns."""
    if isinstance(expectation, Unique):
        return _unique(expectation, around)
    if isinstance(expectation, References):
        return _references(expectation, around)
    if isinstance(expectation, Query):
        counting = f"SELECT count(*) FROM (\n{expectation.sql}\n) AS wrong"
        return Check(expectation, counting=counting, protected=True)
    if isinstance(expectation, Fresh):
        hidden = _any_protected((expectation.column,), around)
        return Check(expectation, aggregates=_newest(expectation, around), protected=hidden)
    predicate = _predicate(expectation, around)
    if predicate is None:
        return Check(expectation)
    columns = tuple(column for _, column in expectation.reads)
    return Check(
        expectation,
        failing=predicate,
        sampling=_rows(predicate, columns, around),
        protected=isinstance(expectation, Holds) or _any_protected(columns, around),
    )


def pass_query(
    checks: Sequence[Check], around: Surroundings, files: Sequence[str] | None = None
) -> str:
    """The common pass: how many rows fail each check, in order, by data file.

    ``files`` are those that are read; None: all. Relations have to be those of ``FILED``.
    """
    failing = [f"count(*) FILTER (WHERE {check.failing})" for check in checks]
    column = around.dialect.file
    some = "" if files is None else f" WHERE {column} IN ({', '.join(map(literal, files))})"
    return f"SELECT {', '.join([column, *failing])} FROM {around.relation}{some} GROUP BY {column}"


def aggregate_query(check: Check, around: Surroundings) -> str:
    """The other aggregates of a check."""
    return f"SELECT {', '.join(check.aggregates)} FROM {around.relation}"


def _predicate(expectation: ExpectationSpec, around: Surroundings) -> str | None:
    """True for a row that fails; None for what is not about rows."""
    if isinstance(expectation, NotNull):
        return f"{quoted(expectation.column)} IS NULL"
    if isinstance(expectation, Between):
        return _outside(expectation, around)
    if isinstance(expectation, InSet):
        kind = around.type_of(expectation.column)
        values = ", ".join(str(sql_value(value, kind)) for value in expectation.values)
        return f"{quoted(expectation.column)} NOT IN ({values})"
    if isinstance(expectation, Matches):
        matching = around.dialect.matching(quoted(expectation.column), expectation.pattern)
        return f"NOT {matching}"
    if isinstance(expectation, LengthBetween):
        length = f"length({quoted(expectation.column)})"
        return _beyond(length, expectation.min, expectation.max)
    if isinstance(expectation, Holds):
        return f"NOT (\n{expectation.condition}\n)"
    return None


def _outside(between: Between, around: Surroundings) -> str:
    kind, column = around.type_of(between.column), quoted(between.column)
    low, high = (
        sql_value(bound, kind) if bound is not None else None
        for bound in (between.min, between.max)
    )
    outside = _beyond(column, low, high)
    if isinstance(kind, FLOATS):  # engines order NaN differently
        return f"({around.dialect.nan(column)} OR {outside})"
    return outside


def _beyond(value: str, low: object, high: object) -> str:
    sides = [f"{value} < {low}"] if low is not None else []
    sides += [f"{value} > {high}"] if high is not None else []
    return f"({' OR '.join(sides)})"


def _newest(fresh: Fresh, around: Surroundings) -> tuple[str, ...]:
    """The newest value that is not in the future, as text, and whether it is new enough."""
    kind, column = around.type_of(fresh.column), quoted(fresh.column)
    now = sql_moment(around.now, kind)
    newest = f"max(CASE WHEN {column} <= {now} THEN {column} END)"
    oldest = sql_moment(around.now - fresh.at_most, kind)
    return (around.dialect.shown(newest), f"{newest} >= {oldest}")


def _unique(unique: Unique, around: Surroundings) -> Check:
    names = listed(unique.columns)
    known = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in unique.columns)
    rows, more = f"FROM {around.relation} WHERE {known}", f"GROUP BY {names} HAVING count(*) > 1"
    groups = f"{rows} {more}"
    keys = names if len(unique.columns) == 1 else f"({names})"
    came = f"{rows} AND {keys} IN (SELECT {names} FROM {PART}.{around.relation}) {more}"
    shown = ", ".join(around.shown(name) for name in unique.columns)
    return Check(
        unique,
        counting=f"SELECT coalesce(sum(times), 0) FROM (SELECT count(*) AS times {groups}) AS same",
        recounting=f"SELECT coalesce(sum(times), 0) FROM (SELECT count(*) AS times {came}) AS same",
        sampling=(
            f"SELECT {shown}, CAST(count(*) AS VARCHAR) AS {quoted('(rows)')} {groups} "
            f"ORDER BY {listed(unique.columns, f'{around.relation}.')}"
        ),
        protected=_any_protected(unique.columns, around),
    )


def _references(reference: References, around: Surroundings) -> Check:
    other = around.others.get(reference.table, around.table)  # a table may refer to itself
    names = reference.to or other.key
    equal = " AND ".join(
        f"found.{quoted(theirs)} = orphan.{quoted(mine)}"
        for mine, theirs in zip(reference.columns, names, strict=True)
    )
    known = " AND ".join(f"orphan.{quoted(name)} IS NOT NULL" for name in reference.columns)
    orphans = (
        f"FROM {around.relation} AS orphan WHERE {known} AND NOT EXISTS "
        f"(SELECT 1 FROM {quoted(other.name)} AS found WHERE {equal})"
    )
    columns = _key_and(reference.columns, around)
    shown = ", ".join(around.shown(name, "orphan.") for name in columns)
    return Check(
        reference,
        counting=f"SELECT count(*) {orphans}",
        sampling=f"SELECT {shown} {orphans} ORDER BY {listed(columns, 'orphan.')}",
        protected=_any_protected(reference.columns, around),
    )


def _rows(predicate: str, columns: Sequence[str], around: Surroundings) -> str:
    """Rows that fail a predicate: their key, and what the expectation is about."""
    named = _key_and(columns, around)
    if not named:
        return ""
    shown = ", ".join(around.shown(name) for name in named)
    # a column and not the text that is shown of it, which has the same name
    order = listed(named, f"{around.relation}.")
    return f"SELECT {shown} FROM {around.relation} WHERE {predicate} ORDER BY {order}"


def _key_and(columns: Sequence[str], around: Surroundings) -> tuple[str, ...]:
    key = [name for name in around.table.key if name in around.columns.types]
    return tuple(dict.fromkeys([*key, *columns]))


def _any_protected(columns: Sequence[str], around: Surroundings) -> bool:
    return not around.table.protected_columns.isdisjoint(columns)


def schema_differences(expected: Columns, columns: LakeColumns) -> list[str]:
    """How a table's columns differ from those expected, as sentences; none if they do not."""
    differences: list[str] = []
    for name, kind in expected.types.items():
        found = columns.types.get(name)
        if found is None:
            differences.append(f"{name} is missing")
        elif _spelled(str(found)) != _spelled(kind):
            differences.append(f"{name} is {_spelled(str(found))}, not {_spelled(kind)}")
    if expected.more == "refused":
        more = [name for name in columns.types if name not in expected.types]
        differences += [f"{name} is not expected" for name in more]
    return differences


def _spelled(kind: str) -> str:
    return kind.lower().replace(" ", "")
