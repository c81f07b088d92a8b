"""A whole pipeline over one source database, for tests that look at its two ends.

What belongs here: declaring tables, draining, syncing and comparing, and the end of a process at a
moment that a hook tells. What does not: what a test does to the source, and services
(``conftest.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints, LakeEndpoint, source_variable
from carbon_pipelines.embedded.lake_cache import LakeCache
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.lake.sync import TableSynced, sync_table
from carbon_pipelines.source.position import format_lsn
from carbon_pipelines.source.slot import observe_slot
from carbon_pipelines.stream.drain import drain
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.oracle import differences


class Killed(BaseException):
    """The process ends here."""


def die(*_: object) -> None:
    """End it."""
    raise Killed


def declare(database: str, name: str, key: Sequence[str] = ("id",), **more: Any) -> TableSpec:
    """A declaration with the fields that tests do not care about filled in."""
    return TableSpec(
        database=database,
        name=name,
        source_table=more.pop("source_table", name),
        key=tuple(key),
        owner="team:tests",
        freshness=timedelta(minutes=15),
        description=f"Table {name}.",
        **more,
    )


class Pipeline:
    """One database from PostgreSQL to the lake; the source may be another server's."""

    def __init__(
        self, stack: Stack, source: SourceDatabase, *, lake: LakeEndpoint | None = None
    ) -> None:
        self.stack, self.name, self.dsn, self._lake = stack, source.name, source.dsn, lake
        self.tables: dict[str, TableSpec] = {}
        self.heal_slots = True
        self.cache: LakeCache | None = None
        self.catalog: Catalog = open_catalog(self.endpoints.lake)

    def close(self) -> None:
        """Let go of the catalog."""
        self.catalog.close()

    @property
    def endpoints(self) -> Endpoints:
        """Where the services are now."""
        endpoints = self.stack.endpoints()
        own = {source_variable(self.name): self.dsn}
        lake = replace(self._lake or endpoints.lake, cache=self.cache)
        return replace(endpoints, lake=lake, source_dsns=own)

    @property
    def database(self) -> DatabaseSpec:
        """The declaration with all tables so far."""
        return DatabaseSpec(
            name=self.name,
            owner="team:tests",
            heal_slots=self.heal_slots,
            tables=tuple(self.tables.values()),
        )

    def execute(self, *statements: str) -> None:
        """Run statements on the source, each its own transaction."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def connect(self) -> psycopg.Connection:
        """A session of the application."""
        return psycopg.connect(self.dsn)

    def declare(self, name: str, key: Sequence[str] = ("id",), **more: Any) -> TableSpec:
        """Declare a table that exists in the source."""
        self.tables[name] = declare(self.name, name, key, **more)
        return self.tables[name]

    def drain(self) -> None:
        """Bring Kafka up to now."""
        drain(self.database, self.endpoints, timeout=timedelta(minutes=2))

    def sync(
        self,
        name: str,
        *,
        hooks: MergeHooks | None = None,
        until_lsn: int | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> TableSynced:
        """Bring one table up to what Kafka holds."""
        return sync_table(
            self.tables[name],
            self.database,
            self.endpoints,
            until_lsn=until_lsn,
            hooks=hooks,
            report=report,
        )

    def is_captured(self) -> bool:
        """Whether anybody reads the slot now."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            slot = observe_slot(connection, self.database.slot_name)
        return slot is not None and slot.holder_pid is not None

    def captured(self) -> tuple[str, int]:
        """The LSN up to which Kafka is known to be, and how many bytes of WAL lie behind it."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            slot = observe_slot(connection, self.database.slot_name)
        assert slot is not None
        return format_lsn(slot.confirmed_flush_lsn), slot.lag_bytes

    def follow(self, name: str, **more: Any) -> TableSynced:
        """Drain, then sync."""
        self.drain()
        return self.sync(name, **more)

    def follow_all(self) -> None:
        """Drain, then sync every table."""
        self.drain()
        for name in self.tables:
            self.sync(name)

    def compact(self, name: str) -> None:
        """Rewrite a table's rows into new files, as a foreign writer would."""
        table = self.iceberg(name)
        table.overwrite(table.scan().to_arrow())

    def differences(self, name: str) -> int:
        """Rows in one end and not in the other, by DuckDB alone."""
        return differences(self.endpoints, self.tables[name])

    def iceberg(self, name: str) -> Table:
        """The lake's table."""
        table = load_table(self.catalog, self.tables[name].identifier)
        assert table is not None
        return table

    def progress(self, name: str) -> TableProgress:
        """The progress that the table carries."""
        progress = load_progress(self.iceberg(name).metadata, name)
        assert progress is not None
        return progress
