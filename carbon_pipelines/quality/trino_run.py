"""Trino as the counter of the standard kinds, where the lake is too large for one process.

What belongs here: running the counts of checks on one table snapshot in Trino. What does not: the
checks (``checks.py``), what counts mean, and samples of rows that fail, which are the same whoever
counted.

It counts kinds that it and DuckDB count alike. Conditions and queries that somebody wrote stay with
DuckDB: 7 / 2 is 3 for one and 3.5 for the other; so do regular expressions, of which each has its
own. A check that Trino cannot run is in no count either, and is counted by the common pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trino.dbapi import Connection
from trino.exceptions import Error, TrinoQueryError

from carbon_pipelines.catalog.expectations import (
    Between,
    ExpectationSpec,
    InSet,
    LengthBetween,
    NotNull,
    References,
    Unique,
)
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import TrinoEndpoint
from carbon_pipelines.errors import RunnerUnavailableError
from carbon_pipelines.lake.history_columns import TO_LSN
from carbon_pipelines.lake.trino import open_trino, table_name
from carbon_pipelines.quality.checks import Check
from carbon_pipelines.quality.sql_text import quoted

COUNTED = (NotNull, Between, InSet, LengthBetween, Unique, References)
STATEMENT_TIME = "15m"
"""No single statement takes longer."""


@dataclass(frozen=True, slots=True)
class TrinoSnapshot:
    """One table snapshot that checks name by the table's logical name."""

    table: TableSpec
    snapshot_id: int

    def named(self, trino: TrinoEndpoint) -> str:
        """The rows under the logical name; of a history those that are the row."""
        where = f" WHERE {quoted(TO_LSN)} IS NULL" if self.table.is_history else ""
        there = f"{table_name(trino, self.table.identifier)} FOR VERSION AS OF {self.snapshot_id}"
        return f"{quoted(self.table.name)} AS (SELECT * FROM {there}{where})"


def run_trino(
    trino: TrinoEndpoint, snapshots: Sequence[TrinoSnapshot], checks: Sequence[Check]
) -> dict[str, int]:
    """Rows that fail, by label of the expectation; ``snapshots[0]`` is the checked table's.

    ``checks`` are made for Trino's dialect.

    Raises:
        RunnerUnavailableError: Trino does not answer (retryable).
    """
    counted = [check for check in checks if _is_counted(check.expectation)]
    together = [check for check in counted if check.failing is not None]
    relations = "WITH " + ", ".join(one.named(trino) for one in snapshots)
    found: dict[str, int] = {}
    try:
        with open_trino(trino, session={"query_max_run_time": STATEMENT_TIME}) as connection:
            for some in _portions(together):
                found |= _together(connection, relations, snapshots[0].table, some)
            for check in counted:
                if check.counting is not None:
                    (count,) = _row(connection, f"{relations} {check.counting}") or (None,)
                    if count is not None:
                        found[check.expectation.label] = int(count)
    except (Error, OSError) as error:
        at = f"{trino.scheme}://{trino.host}:{trino.port}"
        raise RunnerUnavailableError("trino", at, str(error).partition("\n")[0][:300]) from error
    return found


def _is_counted(expectation: ExpectationSpec) -> bool:
    return isinstance(expectation, COUNTED)


def _portions(checks: Sequence[Check], most: int = 100) -> list[Sequence[Check]]:
    """So many checks in one statement, which Trino bounds."""
    return [checks[first : first + most] for first in range(0, len(checks), most)]


def _together(
    connection: Connection, relations: str, table: TableSpec, checks: Sequence[Check]
) -> Mapping[str, int]:
    """What single rows tell, in one pass; one by one if that fails."""
    failing = ", ".join(f"count(*) FILTER (WHERE {check.failing})" for check in checks)
    row = _row(connection, f"{relations} SELECT {failing} FROM {quoted(table.name)}")
    if row is not None:
        labels = (check.expectation.label for check in checks)
        return {label: int(count) for label, count in zip(labels, row, strict=True)}
    if len(checks) == 1:
        return {}
    found: dict[str, int] = {}
    for check in checks:
        found |= _together(connection, relations, table, [check])
    return found


def _row(connection: Connection, statement: str) -> Sequence[int] | None:
    """The one row of a statement; None if Trino cannot run it."""
    try:
        (row,) = connection.cursor().execute(statement).fetchall()
    except TrinoQueryError as error:
        if error.error_type in {"INTERNAL_ERROR", "INSUFFICIENT_RESOURCES"}:
            raise
        return None
    return row
