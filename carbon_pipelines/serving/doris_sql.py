"""Running statements on Doris, through SQLAlchemy on MySQL's protocol.

What belongs here: one connection for each statement, and what the server's refusals mean. What does
not: the statements (``doris_statements.py``).

Every session is in UTC: Doris shows a ``timestamptz`` of the lake in the session's time zone.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from carbon_pipelines.errors import (
    ServiceAuthenticationError,
    ServiceUnavailableError,
    StatementRefusedError,
)
from carbon_pipelines.serving.doris_settings import DorisSettings

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 900
"""So long a statement may be silent; INSERT ... SELECT of a mart answers at its end."""
_SHOWN = 60
_DENIED = frozenset({1044, 1045, 1130, 1142, 1143, 1227})
"""MySQL's codes of a wrong password or a missing privilege; Doris uses the same."""
_AWAY = frozenset({1040, 1053, 2002, 2003, 2006, 2013, 2014})
"""Codes of a server that is away, ends, or has no connection left."""

Row = Mapping[str, Any]


class Sql(Protocol):
    """Who runs statements: Doris, or a test's stand-in."""

    def run(self, statement: str) -> list[Row]:
        """Run one statement; its rows by column name, if it has any."""
        ...


class DorisSql:
    """Statements run on a Doris."""

    def __init__(self, settings: DorisSettings) -> None:
        """Make it ready; nothing is connected before the first statement."""
        self._settings = settings
        url = URL.create(
            "mysql+pymysql",
            settings.user,
            settings.password or None,
            settings.host,
            settings.sql_port,
            query={"charset": "utf8mb4"},
        )
        arguments: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STATEMENT_SECONDS,
            "write_timeout": STATEMENT_SECONDS,
            "init_command": "SET time_zone = '+00:00'",
        }
        if settings.tls:
            arguments["ssl"] = ssl.create_default_context()
        self._engine = create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments
        )

    def run(self, statement: str) -> list[Row]:
        """Run one statement.

        Raises:
            ServiceUnavailableError: Doris does not answer (retryable).
            ServiceAuthenticationError: It refuses our user.
            StatementRefusedError: It refuses the statement.
        """
        try:
            with self._engine.connect() as connection:
                # A percent sign is none of a parameter.
                plain = connection.execution_options(no_parameters=True)
                found = plain.exec_driver_sql(statement)
                return [dict(row) for row in found.mappings()] if found.returns_rows else []
        except DBAPIError as error:
            # The chain would show the statement, which may hold the catalog's secrets.
            refusal = self._refusal(statement, error)
        raise refusal

    def _refusal(self, statement: str, error: DBAPIError) -> Exception:
        arguments = error.orig.args if error.orig is not None else ()
        code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        # Behind this mark Doris quotes the statement, secrets included.
        said, _, _ = str(arguments[-1] if arguments else error.orig).partition("== SQL ==")
        told = " ".join(said.split())[:300]
        if code in _DENIED or "denied" in told.lower():
            return ServiceAuthenticationError(self._settings.label, self._settings.user, told)
        if code in _AWAY or error.connection_invalidated:
            return ServiceUnavailableError(self._settings.label, told or "the connection broke")
        return StatementRefusedError(self._settings.label, shown_statement(statement), told)


def shown_statement(statement: str) -> str:
    """A statement as messages show it: never the properties, which hold secrets."""
    head = statement.partition(" PROPERTIES")[0]
    return head if len(head) <= _SHOWN else f"{head[:_SHOWN]}..."
