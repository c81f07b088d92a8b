"""Running the checks of one table with DuckDB: an outcome for each, and what the next run may keep.

What belongs here: putting counts together with samples of the rows that fail. What does not:
counting (``engine_counts.py``), the SQL (``checks.py``) and the meaning of numbers
(``judging.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from carbon_pipelines.catalog.expectations import Query, References, Unique
from carbon_pipelines.quality.checks import Check
from carbon_pipelines.quality.engine_counts import EngineCounts, Failing
from carbon_pipelines.quality.increment import Sums
from carbon_pipelines.quality.judging import Counted, judge, unscorable
from carbon_pipelines.quality.outcome import Outcome
from carbon_pipelines.quality.relations import SHOWN, part_of, within
from carbon_pipelines.quality.sql_text import quoted

_FEW_FILES = 50
"""A sample is looked for in the data files that have it, if they are not more."""

Sample = tuple[Mapping[str, str | None], ...]


@dataclass(slots=True)
class EnginePass:
    """The checks of one table snapshot, run with DuckDB.

    Attributes:
        notes: What to know about rows that fail, by the label of an expectation.
        given: How many rows fail, by label, where another runner has counted them.
        rows: Of the table, once it was run.
        sums: What the next run may keep, once it was run.
    """

    counts: EngineCounts
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    given: Mapping[str, int] = field(default_factory=dict[str, int])
    rows: int = 0
    sums: Sums | None = None

    def run(self, checks: Sequence[Check]) -> list[Outcome]:
        """The outcome of every check, in order.

        Raises:
            LakeUnreadableError: DuckDB cannot read the snapshot.
        """
        self.rows = self.counts.total()
        left = [check for check in checks if check.expectation.label not in self.given]
        facts = self.counts.of_aggregates([check for check in left if check.aggregates])
        failing = {label: Failing(count) for label, count in self.given.items()}
        found: dict[str, Failing | str] = {**failing}
        if self.rows:
            found |= self.counts.of_rows([check for check in left if check.failing is not None])
            found |= {
                check.expectation.label: self.counts.of_more(check)
                for check in left
                if check.counting is not None
            }
        self.sums = self._sums(checks, found)
        return [self._outcome(check, found, facts) for check in checks]

    def _sums(self, checks: Sequence[Check], found: Mapping[str, Failing | str]) -> Sums:
        counts: dict[str, Mapping[str, int]] = {}
        holding: dict[str, int | None] = {}
        for check in checks:
            label, one = check.expectation.label, found.get(check.expectation.label)
            if not isinstance(one, Failing):
                continue
            if one.by_file is not None and label in self.counts.steady:
                counts[label] = one.by_file
            if one.rows == 0 and isinstance(check.expectation, Unique):
                holding[label] = None
            if one.rows == 0 and isinstance(check.expectation, References):
                parent = self.counts.parents.get(check.expectation.table)
                if parent is not None:
                    holding[label] = parent
        increment = self.counts.increment
        full_at = increment.before.full_at if increment else self.counts.around.now
        return Sums(self.counts.snapshot_id, full_at, counts, holding)

    def _outcome(
        self,
        check: Check,
        found: Mapping[str, Failing | str],
        facts: Mapping[str, tuple[object, ...] | str],
    ) -> Outcome:
        label = check.expectation.label
        failing, told = found.get(label, Failing(0)), facts.get(label, ())
        for unknown in (failing, told):
            if isinstance(unknown, str):
                return unscorable(check.expectation, unknown)
        assert isinstance(failing, Failing)
        counted = Counted(
            rows=self.rows,
            unexpected_rows=failing.rows,
            facts=tuple(told),
            sample=self._sample(check, failing) if failing.rows else (),
            hidden=not self.counts.may_tell(check),
            note=self.notes.get(label, ""),
        )
        return judge(check.expectation, counted, self.counts.around.columns)

    def _sample(self, check: Check, failing: Failing) -> Sample:
        """Some rows that fail; none where they cannot be shown."""
        around = self.counts.around
        most = around.table.quality.sample_rows
        if not most:
            return ()
        try:
            if isinstance(check.expectation, Query):
                return self._query_sample(check.expectation, most)
            if not check.sampling:
                return ()
            query = f"{check.sampling} LIMIT {most}"
            if failing.by_file is None or len(failing.by_file) > _FEW_FILES:
                return self._texts(query)
            engine, others = self.counts.engine, around.others.values()
            with part_of(engine, around.table, others, failing.by_file):
                return self._texts(query)
        except duckdb.Error:
            return ()  # the count stands; a value that cannot be shown takes nothing from it

    def _query_sample(self, query: Query, most: int) -> Sample:
        """Rows that a query gives without the protected columns; none if it needs these.

        Nor if it names columns by their place: without some, the others would have wrong names.
        """
        wrong = f"(\n{query.sql}\n) AS wrong"
        around = self.counts.around
        tables = (around.table, *around.others.values())
        hidden = frozenset[str]().union(*(table.protected_columns for table in tables))
        all_names = self._names(wrong)
        with within(self.counts.engine, SHOWN):
            names = self._names(wrong)
            if names != [name for name in all_names if name not in hidden]:
                return ()
            shown = ", ".join(
                f"{around.dialect.shown(quoted(name))} AS {quoted(name)}" for name in names
            )
            return self._texts(f"SELECT {shown} FROM {wrong} LIMIT {most}")

    def _names(self, relation: str) -> list[str]:
        """The columns that a relation has in the present schema."""
        found = self.counts.engine.execute(f"DESCRIBE FROM {relation}").fetchall()
        return [str(row[0]) for row in found]

    def _texts(self, query: str) -> Sample:
        with self.counts.limited():
            cursor = self.counts.engine.execute(query)
            names = [str(column[0]) for column in cursor.description or ()]
            rows = cursor.fetchall()
        return tuple(dict(zip(names, row, strict=True)) for row in rows)
