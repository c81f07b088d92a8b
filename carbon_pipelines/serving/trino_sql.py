"""Running statements on Trino, and what each one cost.

What belongs here: one connection for several statements, their cost, and what Trino's refusals
mean. What does not: the statements (``trino_view.py``) and how Trino knows us (``lake/trino.py``).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from trino.dbapi import Connection
from trino.exceptions import Error, HttpError, TrinoQueryError

from carbon_pipelines.embedded.trino_endpoint import TrinoEndpoint
from carbon_pipelines.errors import (
    ServiceUnavailableError,
    StatementRefusedError,
    TrinoAccessError,
)
from carbon_pipelines.lake.trino import open_trino

STATEMENT_TIME = "15m"
"""No single statement takes longer."""
_SHOWN = 80
_PASSING = frozenset({"EXTERNAL", "INTERNAL_ERROR", "INSUFFICIENT_RESOURCES"})
"""Types of errors that are not the statement's fault."""
_STALE = frozenset({"INVALID_VIEW", "VIEW_IS_STALE", "COLUMN_NOT_FOUND"})
"""Errors of a view whose table has other columns than when it was made."""

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class QueryCost:
    """What statements took of Trino; ``rows`` and ``size_bytes`` are those read."""

    statements: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    rows: int = 0
    size_bytes: int = 0


class StaleViewError(Exception):
    """A view has to be made anew; told to whoever asked of it, and to nobody else."""


class TrinoSql:
    """Statements run on a Trino, whose cost is summed up."""

    def __init__(self, trino: TrinoEndpoint, connection: Connection) -> None:
        self._trino, self._connection = trino, connection
        self.cost = QueryCost()

    def run(self, statement: str) -> list[Row]:
        """Run one statement; its rows.

        Raises:
            ServiceUnavailableError: Trino does not answer, or asks us to come later (retryable).
            TrinoAccessError: It refuses our user.
            StatementRefusedError: It refuses the statement.
            StaleViewError: A view that is read has to be made anew.
        """
        cursor = self._connection.cursor()
        try:
            return list(cursor.execute(statement).fetchall())
        except (Error, HttpError, OSError) as error:
            raise self._refusal(statement, error) from error
        finally:
            self._count(cursor.stats or {})

    def _count(self, stats: dict[str, Any]) -> None:
        known = self.cost
        self.cost = replace(
            known,
            statements=known.statements + 1,
            cpu_seconds=known.cpu_seconds + stats.get("cpuTimeMillis", 0) / 1000,
            seconds=known.seconds + stats.get("elapsedTimeMillis", 0) / 1000,
            rows=known.rows + stats.get("processedRows", 0),
            size_bytes=known.size_bytes + stats.get("processedBytes", 0),
        )

    def _refusal(self, statement: str, error: Exception) -> Exception:
        trino = self._trino
        if isinstance(error, TrinoQueryError):
            told = f"{error.error_name}: {error.message}"
            if error.error_name in _STALE:
                return StaleViewError(told)
            if error.error_name == "PERMISSION_DENIED":
                return TrinoAccessError(trino.label, trino.user, told)
            if error.error_type in _PASSING:
                return ServiceUnavailableError(trino.label, told)
            shown = statement if len(statement) <= _SHOWN else f"{statement[:_SHOWN]}..."
            return StatementRefusedError(trino.label, shown, told)
        told = str(error).partition("\n")[0][:300]
        if isinstance(error, HttpError) and told.startswith(("error 401", "error 403")):
            return TrinoAccessError(trino.label, trino.user, told)
        return ServiceUnavailableError(trino.label, told)


@contextmanager
def open_sql(trino: TrinoEndpoint) -> Generator[TrinoSql]:
    """Statements on a Trino; a connection is made by the first one.

    Raises:
        TokenUnavailableError, TokenRefusedError: As for ``lake.trino.open_trino``.
    """
    with open_trino(trino, session={"query_max_run_time": STATEMENT_TIME}) as connection:
        yield TrinoSql(trino, connection)
