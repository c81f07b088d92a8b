"""What integration tests begin with: a pipeline, or a PostgreSQL of each supported kind alone.

What belongs here: servers without the rest of the stack, a fresh database in them, and one with the
stack behind it. What does not: tables and rows. The wheel's PostgreSQL 18 is always there; Debian's
15 where it is installed.
"""

import os
import pwd
import secrets
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded import process
from carbon_pipelines.embedded.os_user import ensure_os_user
from carbon_pipelines.embedded.ports import choose_port
from carbon_pipelines.embedded.postgres import Postgres, find_binaries
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Pipeline

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database; ``connection`` is its superuser's, the application's unless said."""

    name: str
    dsn: str
    connection: psycopg.Connection

    def run(self, *statements: str) -> None:
        """Execute statements, each in a transaction of its own."""
        for statement in statements:
            self.connection.execute(statement)

    def rows(self, query: str, *arguments: object) -> list[tuple]:
        """The rows of a query."""
        return self.connection.execute(query, arguments or None).fetchall()

    def another(self, **more: str) -> psycopg.Connection:
        """A second session, not in autocommit mode."""
        return psycopg.connect(make_conninfo(self.dsn, **more))

    def spec(self, *tables: TableSpec) -> DatabaseSpec:
        """The declaration of this database; its slot's name is its own."""
        named = [table.model_copy(update={"database": self.name}) for table in tables]
        return DatabaseSpec(name=self.name, owner="team:market", tables=tuple(named))


def declare(name: str, *key: str, **more) -> TableSpec:
    """A declaration of ``public.<name>``."""
    facts = {"source_table": name, "mode": "mirror" if key else "append", **more}
    return TableSpec(
        database="market",
        name=name,
        key=key,
        owner="team:market",
        freshness="1h",
        description="A table.",
        **facts,
    )


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    """A fresh database without tables, and its way into the lake."""
    made = Pipeline(stack, source)
    yield made
    made.close()


@pytest.fixture(scope="session", params=["18", "15"])
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server that nothing but the test session uses."""
    with running_postgres(request.param) as server:
        yield server


@contextmanager
def running_postgres(version: str) -> Generator[Postgres]:
    """A server of version 18 or 15; skips where there is none."""
    if version == "15" and not DEBIAN_15.is_dir():
        pytest.skip("Debian's PostgreSQL 15 is not installed")
    user: pwd.struct_passwd | None = ensure_os_user(os.environ, lambda _line: None)
    with tempfile.TemporaryDirectory(prefix="carbon-postgres-") as directory:
        home = Path(directory)
        server = Postgres(
            directory=home / "postgres",
            log=home / "postgres.log",
            port=choose_port(set()),
            binaries=DEBIAN_15 if version == "15" else find_binaries(),
            user=user,
            password=secrets.token_hex(8),
        )
        server.prepare(lambda _line: None)
        running = process.find(process.start(server.launch()))
        assert running is not None
        try:
            assert process.wait_until(server.answers, timeout_seconds=60), server.log.read_text()
            yield server
        finally:
            process.stop("postgres", [running], gently=signal.SIGINT, patience_seconds=20)


@contextmanager
def debian_source() -> Generator[SourceDatabase]:
    """A fresh database of a Debian server of its own; skips where there is none."""
    with running_postgres("15") as server:
        name = f"source_{secrets.token_hex(4)}"
        server.create_database(name)
        yield SourceDatabase(name, server.dsn(name))


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A fresh database; it, its slots and roles are dropped after the test."""
    name = f"source_{secrets.token_hex(4)}"
    postgres.create_database(name)
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        yield Database(name, postgres.dsn(name), connection)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        of_it = "WHERE database = %s OR slot_name LIKE %s || '%%'"
        admin.execute(
            f"SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots {of_it}",
            (name, name),
        )
        admin.execute(
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots {of_it}",
            (name, name),
        )
        named = sql.Identifier(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(named))
        for (role,) in admin.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE %s || '%%'", (name,)
        ).fetchall():
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
