"""A connection to Trino, for what it does to or reads of the lake.

What belongs here: opening one, and naming a table snapshot in its SQL. What does not: statements.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from trino.auth import BasicAuthentication
from trino.dbapi import Connection, connect

from carbon_pipelines.embedded.endpoints import TrinoEndpoint

SOURCE = "carbon_pipelines"
"""How Trino lists what we run."""


@contextmanager
def open_trino(
    trino: TrinoEndpoint, *, session: Mapping[str, str] | None = None
) -> Generator[Connection]:
    """A connection; a password shows in no text of it. ``session`` are properties of it."""
    with connect(
        host=trino.host,
        port=trino.port,
        user=trino.user,
        http_scheme=trino.scheme,
        auth=BasicAuthentication(trino.user, trino.password) if trino.password else None,
        source=SOURCE,
        session_properties=dict(session or {}),
    ) as connection:
        yield connection


def table_name(trino: TrinoEndpoint, identifier: tuple[str, str]) -> str:
    """A table of the lake in SQL."""
    return ".".join(map(_quoted, (trino.catalog, *identifier)))


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
