"""Running the checks of one table with DuckDB: exact counts, and some of the rows that fail.

What belongs here: one pass that counts everything that single rows tell, the passes that need more
than single rows, samples, and what a check that throws means. What does not: the SQL
(``checks.py``) and the meaning of numbers (``judging.py``).

A check that throws is unknown, and takes no other one with it: if the common pass fails, its checks
are counted one by one. Only if the rows cannot even be counted is the table unreadable. An engine's
own words are not told of a check that may read protected columns: they can hold values.
"""

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from carbon_pipelines.catalog.expectations import Query
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import LakeUnreadableError
from carbon_pipelines.quality.checks import Check, Surroundings, pass_query
from carbon_pipelines.quality.custom_sql import first_line
from carbon_pipelines.quality.judging import Counted, judge, unscorable
from carbon_pipelines.quality.outcome import Outcome
from carbon_pipelines.quality.sql_text import listed, quoted

WHOLE, SHOWN = "whole", "shown"
"""Schemas of the engine with the same relations: all columns, and those that may be shown."""
STATEMENT_SECONDS = 900.0
"""No single statement of a scoring takes longer."""

Sample = tuple[Mapping[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """One table snapshot in an engine: its declaration, and its rows in SQL."""

    table: TableSpec
    sql: str


def name_relations(engine: duckdb.DuckDBPyConnection, relations: Sequence[Relation]) -> None:
    """Give table snapshots their logical names; ``SHOWN`` lacks columns that are protected."""
    engine.execute("SET python_enable_replacements = false")  # a name is no variable of ours
    engine.execute("SET schema = 'main'")
    for schema in (WHOLE, SHOWN):
        engine.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        engine.execute(f"CREATE SCHEMA {schema}")
    for relation in relations:
        name = quoted(relation.table.name)
        engine.execute(f"CREATE VIEW {WHOLE}.{name} AS SELECT * FROM {relation.sql}")
        found = engine.execute(f"DESCRIBE {WHOLE}.{name}").fetchall()
        hidden = [row[0] for row in found if row[0] in relation.table.protected_columns]
        kept = f"* EXCLUDE ({listed(hidden)})" if hidden else "*"
        if len(hidden) < len(found):
            engine.execute(f"CREATE VIEW {SHOWN}.{name} AS SELECT {kept} FROM {relation.sql}")
    engine.execute(f"SET schema = '{WHOLE}'")


@dataclass(slots=True)
class EnginePass:
    """The checks of one table snapshot, run with DuckDB.

    Attributes:
        notes: What to know about rows that fail, by the label of an expectation.
        counts: How many rows fail, by label, where another runner has counted them.
    """

    engine: duckdb.DuckDBPyConnection
    around: Surroundings
    snapshot_id: int
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    statement_seconds: float = STATEMENT_SECONDS
    rows: int = 0

    def run(self, checks: Sequence[Check]) -> list[Outcome]:
        """The outcome of every check, in order.

        Raises:
            LakeUnreadableError: DuckDB cannot read the snapshot.
        """
        left = [check for check in checks if check.expectation.label not in self.counts]
        counted = self._counted_together([check for check in left if check.counting is None])
        counted |= {
            check.expectation.label: self._counted_alone(check)
            for check in left
            if check.counting is not None
        }
        counted |= {
            check.expectation.label: self._facts(check, self.counts[check.expectation.label])
            for check in checks
            if check.expectation.label in self.counts
        }
        return [self._outcome(check, counted[check.expectation.label]) for check in checks]

    def _counted_together(self, checks: Sequence[Check]) -> dict[str, "Counted | str"]:
        """What the common pass counts, by label; a text is why a check could not be."""
        try:
            return self._pass(checks)
        except duckdb.Error as error:
            failed = error
        try:
            self._pass(())
        except duckdb.Error as error:
            label = self.around.table.label
            raise LakeUnreadableError(label, self.snapshot_id, first_line(error)) from failed
        one_by_one: dict[str, Counted | str] = {}
        for check in checks:
            try:
                one_by_one |= self._pass((check,))
            except duckdb.Error as error:
                one_by_one[check.expectation.label] = self._told(check, error)
        return one_by_one

    def _pass(self, checks: Sequence[Check]) -> dict[str, "Counted | str"]:
        self.rows, *numbers = self._row(pass_query(checks, self.around))
        counted: dict[str, Counted | str] = {}
        for check in checks:
            unexpected = numbers.pop(0) if check.failing is not None else None
            facts = tuple(numbers.pop(0) for _ in check.aggregates)
            counted[check.expectation.label] = self._facts(check, unexpected, facts)
        return counted

    def _counted_alone(self, check: Check) -> "Counted | str":
        if self.rows == 0:
            return self._facts(check, 0)
        try:
            (unexpected,) = self._row(str(check.counting))
        except duckdb.Error as error:
            return self._told(check, error)
        return self._facts(check, int(unexpected))

    def _facts(
        self, check: Check, unexpected: int | None, facts: tuple[object, ...] = ()
    ) -> Counted:
        return Counted(
            rows=self.rows,
            unexpected_rows=unexpected,
            facts=facts,
            hidden=not self._may_tell(check),
            note=self.notes.get(check.expectation.label, ""),
        )

    def _outcome(self, check: Check, counted: "Counted | str") -> Outcome:
        if isinstance(counted, str):
            return unscorable(check.expectation, counted)
        if counted.unexpected_rows:
            counted = Counted(
                rows=counted.rows,
                unexpected_rows=counted.unexpected_rows,
                facts=counted.facts,
                sample=self._sample(check),
                hidden=counted.hidden,
                note=counted.note,
            )
        return judge(check.expectation, counted, self.around.columns)

    def _sample(self, check: Check) -> Sample:
        """Some rows that fail; none where they cannot be shown."""
        most = self.around.table.quality.sample_rows
        if not most:
            return ()
        if isinstance(check.expectation, Query):
            return self._query_sample(check.expectation, most)
        if not check.sampling:
            return ()
        try:
            return self._texts(f"{check.sampling} LIMIT {most}")
        except duckdb.Error:
            return ()  # the count stands; a value that cannot be shown takes nothing from it

    def _query_sample(self, query: Query, most: int) -> Sample:
        """Rows that a query gives without the protected columns; none if it needs these.

        Nor if it names columns by their place: without some, the others would have wrong names.
        """
        wrong = f"(\n{query.sql}\n) AS wrong"
        tables = (self.around.table, *self.around.others.values())
        hidden = frozenset[str]().union(*(table.protected_columns for table in tables))
        try:
            all_names = self._names(wrong)
            self.engine.execute(f"SET schema = '{SHOWN}'")
            names = self._names(wrong)
            if names != [name for name in all_names if name not in hidden]:
                return ()
            shown = ", ".join(
                f"{self.around.dialect.shown(quoted(name))} AS {quoted(name)}" for name in names
            )
            return self._texts(f"SELECT {shown} FROM {wrong} LIMIT {most}")
        except duckdb.Error:
            return ()
        finally:
            self.engine.execute(f"SET schema = '{WHOLE}'")

    def _names(self, relation: str) -> list[str]:
        """The columns that a relation has in the present schema."""
        return [str(row[0]) for row in self.engine.execute(f"DESCRIBE FROM {relation}").fetchall()]

    def _texts(self, query: str) -> Sample:
        with self._limited():
            cursor = self.engine.execute(query)
            names = [str(column[0]) for column in cursor.description or ()]
            rows = cursor.fetchall()
        return tuple(dict(zip(names, row, strict=True)) for row in rows)

    def _row(self, query: str) -> tuple[Any, ...]:
        with self._limited():
            return self.engine.execute(query).fetchone() or ()

    @contextmanager
    def _limited(self) -> Generator[None]:
        """End a statement that takes too long, as an error of it."""
        timer = threading.Timer(self.statement_seconds, self.engine.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _may_tell(self, check: Check) -> bool:
        tables = (self.around.table, *self.around.others.values())
        return not (check.protected and any(table.protected_columns for table in tables))

    def _told(self, check: Check, error: duckdb.Error) -> str:
        """An engine's error in words that hold no protected value."""
        if isinstance(error, duckdb.InterruptException):
            return f"it took longer than {self.statement_seconds:g} s"
        if self._may_tell(check):
            return first_line(error)
        kind = type(error).__name__.removesuffix("Exception").lower()
        return f"a {kind} error, whose words may hold protected values"
