"""Fixtures that start real services, once for the whole session.

What belongs here: the stack and a fresh source database in it. What does not: tables and rows.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import conninfo, sql
from trino.dbapi import Cursor, connect

from carbon_pipelines.embedded.endpoints import cache_directory
from carbon_pipelines.embedded.stack import Stack

settings.register_profile("usual", max_examples=30, deadline=None)
settings.register_profile("nightly", max_examples=1_000, deadline=None)
settings.load_profile("nightly" if os.environ.get("CARBON_NIGHTLY") == "1" else "usual")


@dataclass(frozen=True, slots=True)
class SourceDatabase:
    """A database of the stack's PostgreSQL that one test has for itself."""

    name: str
    dsn: str

    def __iter__(self) -> Iterator[str]:
        """Unpack as ``name, dsn``."""
        return iter((self.name, self.dsn))


def silent(_line: str) -> None:
    """A report nobody reads."""


def make_stack(home: Path, *, postgres_bin: Path | None = None) -> Stack:
    """A stack, not up yet, out of reach of the caller's CARBON_* variables but for downloads."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CARBON_")}
    return Stack(home, cache_directory(os.environ), postgres_bin=postgres_bin, environ=own)


@pytest.fixture(scope="session")
def stack_directory() -> Iterator[Path]:
    """A directory for stacks, outside pytest's own: pytest closes that to every other OS user again
    and again, and PostgreSQL runs as another user when we are root.
    """
    with tempfile.TemporaryDirectory(prefix="carbon-stack-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def stack(stack_directory: Path) -> Iterator[Stack]:
    """PostgreSQL, Kafka and S3, up for the session."""
    started = make_stack(stack_directory / "session")
    try:
        started.up(silent)
        yield started
    finally:
        started.down(silent)


@pytest.fixture(scope="session")
def trino(stack: Stack) -> Iterator[Cursor]:
    """A cursor of a real Trino over the session's lake; tables are `lake.<namespace>.<name>`."""
    port = stack.up(silent, with_=frozenset({"trino"})).part("trino").port
    with connect(host="127.0.0.1", port=port, user="carbon", catalog="lake") as connection:
        yield connection.cursor()


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    """A fresh, empty database; it and its replication slots are dropped after the test."""
    with fresh_source(stack) as database:
        yield database


@contextmanager
def fresh_source(stack: Stack) -> Generator[SourceDatabase]:
    """What ``source`` is, for fixtures that several tests share."""
    name = f"source_{secrets.token_hex(4)}"
    yield SourceDatabase(name, stack.create_source_database(name))
    stack.up(silent)  # a crash test may have left PostgreSQL down
    with psycopg.connect(stack.admin_dsn, autocommit=True) as connection:
        _drop_slots(connection, stack.admin_dsn, name)
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def _drop_slots(connection: psycopg.Connection, admin_dsn: str, database: str) -> None:
    """Slots are few and shared by the whole server: a forgotten one would starve later tests."""
    prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = %s"
    for (gid,) in connection.execute(prepared, (database,)).fetchall():
        own_database = conninfo.make_conninfo(admin_dsn, dbname=database)
        with psycopg.connect(own_database, autocommit=True) as own:
            own.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))
    for _ in range(100):
        connection.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            " WHERE database = %s AND active",
            (database,),
        )
        slots = connection.execute(
            "SELECT slot_name, active FROM pg_replication_slots WHERE database = %s", (database,)
        ).fetchall()
        for slot, active in slots:
            if not active:
                connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        if not any(active for _, active in slots):
            return
        time.sleep(0.05)
    pytest.fail(f"replication slots of {database} stay active: a capture was not stopped")
