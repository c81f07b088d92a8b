"""Counting rows that fail with DuckDB, in full or what an increment leaves to be read.

What belongs here: one pass that counts everything that single rows tell, by data file; the passes
that need more than single rows; and what a check that throws means. What does not: the SQL
(``checks.py``), what may be left unread (``increment.py``), and the meaning of numbers.

A check that throws is unknown, and takes no other one with it: if the common pass fails, its checks
are counted one by one. Only if the rows cannot even be counted is the table unreadable. An engine's
own words are not told of a check that may read protected columns: they can hold values.
"""

import threading
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from carbon_pipelines.catalog.expectations import References, Unique
from carbon_pipelines.errors import LakeUnreadableError
from carbon_pipelines.quality.checks import Check, Surroundings, aggregate_query, pass_query
from carbon_pipelines.quality.custom_sql import first_line
from carbon_pipelines.quality.increment import Increment
from carbon_pipelines.quality.relations import FILED, WHOLE, part_of, within

STATEMENT_SECONDS = 900.0
"""No single statement of a scoring takes longer."""


@dataclass(frozen=True, slots=True)
class Failing:
    """How many rows fail a check.

    Attributes:
        rows: In all.
        by_file: And in which data files, where that is known.
    """

    rows: int
    by_file: Mapping[str, int] | None = None


@dataclass(slots=True)
class EngineCounts:
    """The counts of one table snapshot's checks.

    Attributes:
        increment: What is left to be read; None: everything.
        steady: Labels of checks that say the same of a row whenever they are asked.
        parents: The snapshots of the tables that references read, by logical name.
    """

    engine: duckdb.DuckDBPyConnection
    around: Surroundings
    snapshot_id: int
    increment: Increment | None = None
    steady: Collection[str] = frozenset()
    parents: Mapping[str, int] = field(default_factory=dict[str, int])
    statement_seconds: float = STATEMENT_SECONDS

    def total(self) -> int:
        """All rows.

        Raises:
            LakeUnreadableError: DuckDB cannot read the snapshot.
        """
        try:
            (rows,) = self.row(f"SELECT count(*) FROM {self.around.relation}")
        except duckdb.Error as error:
            label = self.around.table.label
            raise LakeUnreadableError(label, self.snapshot_id, first_line(error)) from error
        return int(rows)

    def of_rows(self, checks: Sequence[Check]) -> dict[str, "Failing | str"]:
        """What single rows tell, by label; a text is why a check could not be made."""
        before = self.increment.before.counts if self.increment else {}
        known = [
            check
            for check in checks
            if check.expectation.label in before and check.expectation.label in self.steady
        ]
        found = self._filed([check for check in checks if check not in known], None)
        if self.increment and known:
            read = self._filed(known, self.increment.read) if self.increment.read else {}
            for check in known:
                label = check.expectation.label
                came = read.get(label, Failing(0, {}))
                found[label] = came if isinstance(came, str) else _added(before[label], came)
        return found

    def of_aggregates(self, checks: Sequence[Check]) -> dict[str, "tuple[object, ...] | str"]:
        """Other aggregates, by label."""
        found: dict[str, tuple[object, ...] | str] = {}
        for check in checks:
            try:
                found[check.expectation.label] = self.row(aggregate_query(check, self.around))
            except duckdb.Error as error:
                found[check.expectation.label] = self.told(check, error)
        return found

    def of_more(self, check: Check) -> "Failing | str":
        """What needs more than single rows."""
        try:
            return Failing(self._counted(check))
        except duckdb.Error as error:
            return self.told(check, error)

    def row(self, query: str) -> tuple[Any, ...]:
        """The one row of a query."""
        with self.limited():
            return self.engine.execute(query).fetchone() or ()

    def may_tell(self, check: Check) -> bool:
        """Whether nothing that a check reads is protected."""
        tables = (self.around.table, *self.around.others.values())
        return not (check.protected and any(table.protected_columns for table in tables))

    def told(self, check: Check, error: duckdb.Error) -> str:
        """An engine's error in words that hold no protected value."""
        if isinstance(error, duckdb.InterruptException):
            return f"it took longer than {self.statement_seconds:g} s"
        if self.may_tell(check):
            return first_line(error)
        kind = type(error).__name__.removesuffix("Exception").lower()
        return f"a {kind} error, whose words may hold protected values"

    @contextmanager
    def limited(self) -> Generator[None]:
        """End a statement that takes too long, as an error of it."""
        timer = threading.Timer(self.statement_seconds, self.engine.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _filed(
        self, checks: Sequence[Check], files: Sequence[str] | None
    ) -> dict[str, "Failing | str"]:
        """Counts by data file, of all or of some."""
        if not checks:
            return {}
        try:
            return self._filed_together(checks, files)
        except duckdb.Error as error:
            if len(checks) == 1:
                return {checks[0].expectation.label: self.told(checks[0], error)}
        one_by_one: dict[str, Failing | str] = {}
        for check in checks:
            one_by_one |= self._filed((check,), files)
        return one_by_one

    def _filed_together(
        self, checks: Sequence[Check], files: Sequence[str] | None
    ) -> dict[str, "Failing | str"]:
        with within(self.engine, FILED), self.limited():
            rows = self.engine.execute(pass_query(checks, self.around, files)).fetchall()
        counted: dict[str, Failing | str] = {}
        for place, check in enumerate(checks, start=1):
            by_file = {str(row[0]): int(row[place]) for row in rows if row[place]}
            counted[check.expectation.label] = Failing(sum(by_file.values()), by_file)
        return counted

    def _counted(self, check: Check) -> int:
        """The rows that fail, or those of them that rows which came can have brought."""
        if not self._held(check):
            return int(self.row(str(check.counting))[0])
        added = self.increment.added if self.increment else ()
        if not added:
            return 0
        with part_of(self.engine, self.around.table, self.around.others.values(), added):
            if check.recounting is None:
                return int(self.row(str(check.counting))[0])
            with within(self.engine, WHOLE):
                return int(self.row(check.recounting)[0])

    def _held(self, check: Check) -> bool:
        """Whether the rows of before are known to break nothing."""
        holding = self.increment.before.holding if self.increment else {}
        label = check.expectation.label
        if label not in holding:
            return False
        if isinstance(check.expectation, References):
            return holding[label] == self.parents.get(check.expectation.table)
        return isinstance(check.expectation, Unique)


def _added(before: Mapping[str, int], came: Failing) -> Failing:
    """The counts of files that were not read again and of those that were."""
    by_file = {**before, **(came.by_file or {})}
    return Failing(sum(by_file.values()), by_file)
