"""How we connect to a source database, and which database it is.

What belongs here: the settings every session of ours has, the translation of connection failures,
and the source's identity. What does not: which databases there are (``embedded/endpoints.py``).
"""

import re
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from carbon_pipelines.errors import (
    SettingsError,
    SourceAuthenticationError,
    SourceDatabaseMissingError,
    SourceIdentityError,
    SourceUnreachableError,
)

SourceConnection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# Shown in pg_stat_activity; the slot's reader is told from a stranger by this prefix.
APPLICATION_NAME = "carbon"

# One text form per value, whatever the role, the database or the server is set to: COPY and the
# walsender both run under these, so a row reads the same from either. search_path decides how
# regclass and default expressions are spelled; row_security = off makes a hidden row an error
# instead of a missing row.
_SETTINGS = {
    "client_encoding": "UTF8",
    "datestyle": "ISO,YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "lock_timeout": "30s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
SESSION_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())

_REFUSED = re.compile(
    r"password authentication failed|authentication failed|no password supplied|pg_hba\.conf"
    r'|role "[^"]*" (does not exist|is not permitted to log in)|not permitted to log in'
)
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What tells one source database from every other, whatever its name and address.

    A restored or re-created database has another oid or system identifier; a promoted standby has
    the same ones and a higher timeline.
    """

    system_identifier: str
    timeline: int
    database_oid: int


def describe_dsn(dsn: str) -> str:
    """Say where a DSN leads, like ``127.0.0.1:5432/market``, never with its password.

    Raises:
        SettingsError: The DSN cannot be parsed.
    """
    facts = _parse(dsn)
    host = facts.get("host") or facts.get("hostaddr") or "local socket"
    return f"{host}:{facts.get('port') or 5432}/{facts.get('dbname') or facts.get('user') or ''}"


def describe_session(connection: SourceConnection) -> str:
    """Say where an open session is, like ``127.0.0.1:5432/market``."""
    info = connection.info
    return f"{info.host or 'local socket'}:{info.port}/{info.dbname}"


def session_conninfo(dsn: str, *, application_name: str = APPLICATION_NAME, **more: str) -> str:
    """A libpq connection string for ``dsn`` with our session settings.

    Args:
        dsn: A libpq URI or keyword string; options in it are kept, ours win.
        application_name: Has to start with ``carbon`` for sessions that read a slot.
        more: Further libpq keywords, like ``replication="database"``.

    Raises:
        SettingsError: The DSN cannot be parsed.
    """
    facts = _parse(dsn)
    options = f"{facts.get('options') or ''} {SESSION_OPTIONS}".strip()
    defaults = {"connect_timeout": "10", "keepalives_idle": "60", "tcp_user_timeout": "120000"}
    ours = {"application_name": application_name, "options": options, "client_encoding": "UTF8"}
    return make_conninfo(**{**defaults, **facts, **ours, **more})


def connect(dsn: str, *, autocommit: bool = True) -> SourceConnection:
    """Open a session with our settings.

    Raises:
        SettingsError: The DSN cannot be parsed.
        SourceAuthenticationError: The role or the password is refused.
        SourceDatabaseMissingError: The server has no such database.
        SourceUnreachableError: No server answers, or it is not ready.
    """
    conninfo = session_conninfo(dsn)
    try:
        connection = psycopg.connect(conninfo, autocommit=True)
        if connection.info.server_version >= 170_000:  # a setting of 17 that would end long reads
            connection.execute("SET transaction_timeout = 0")
    except psycopg.OperationalError as failure:
        location, reason = describe_dsn(dsn), " ".join(str(failure).split())
        if _NO_DATABASE.search(reason):
            raise SourceDatabaseMissingError(location) from failure
        if _REFUSED.search(reason):
            raise SourceAuthenticationError(location, reason=reason) from failure
        raise SourceUnreachableError(location, reason=reason) from failure
    connection.autocommit = autocommit
    return connection


@contextmanager
def session(dsn: str) -> Generator[SourceConnection]:
    """Open an autocommit session for a block, and close it.

    Raises:
        SourceUnreachableError: The server went away within the block.
        SettingsError, SourceAuthenticationError, SourceDatabaseMissingError: See ``connect``.
    """
    with closing(connect(dsn)) as connection, session_errors(dsn):
        yield connection


@contextmanager
def session_errors(dsn: str) -> Generator[None]:
    """Raise the end of a session by its server as ``SourceUnreachableError``."""
    try:
        yield
    except psycopg.OperationalError as failure:
        state = failure.sqlstate or "08"
        if not state.startswith(("08", "57P")):  # connection exceptions and shutdowns
            raise
        reason = " ".join(str(failure).split())
        raise SourceUnreachableError(describe_dsn(dsn), reason=reason) from failure


def load_identity(connection: SourceConnection) -> SourceIdentity:
    """Read which database this is. Fails on a standby: its WAL position is not its own."""
    row = connection.execute(
        "SELECT (SELECT system_identifier FROM pg_control_system())::text,"
        " pg_walfile_name(pg_current_wal_insert_lsn()),"
        " (SELECT oid::bigint FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    assert row is not None
    return SourceIdentity(row[0], int(row[1][:8], 16), row[2])


def check_identity(remembered: SourceIdentity, found: SourceIdentity) -> None:
    """Refuse another database behind the same name.

    A higher timeline is refused too: whether the old timeline's last changes survived the
    failover, only a comparison of positions can tell.

    Raises:
        SourceIdentityError: System identifier, database oid or timeline differ.
    """
    for fact in ("system_identifier", "database_oid", "timeline"):
        before, now = str(getattr(remembered, fact)), str(getattr(found, fact))
        if before != now:
            raise SourceIdentityError(fact=fact.replace("_", " "), remembered=before, found=now)


def _parse(dsn: str) -> dict[str, str]:
    try:
        facts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Its text quotes the DSN, password included: it goes no further.
        reason = (
            "A source DSN is not a libpq connection string. Nothing was done. Correct "
            "CARBON_SOURCE_<DATABASE>_DSN; it looks like postgresql://role:password@host:5432/name."
        )
        raise SettingsError(reason) from None
    return {name: str(value) for name, value in facts.items() if value is not None}
