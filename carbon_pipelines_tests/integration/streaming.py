"""Capturing one test database: declarations, a capture process, what a topic holds.

What belongs here: what the stream's integration tests share. Run as a module it is the capture
process that they kill.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints, resolve_endpoints
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines.stream.consumer import read_batches
from carbon_pipelines.stream.drain import Drained, drain
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of

SOON = timedelta(seconds=60)


def declare(database: str, *tables: TableSpec) -> DatabaseSpec:
    named = [table.model_copy(update={"database": database}) for table in tables]
    return DatabaseSpec(name=database, owner="team:market", tables=tuple(named))


def table(name: str, *key: str, **more: Any) -> TableSpec:
    return TableSpec(
        database="market",
        name=name,
        source_table=name,
        key=key,
        mode="mirror" if key else "append",
        owner="team:market",
        freshness=timedelta(hours=1),
        description="A table.",
        **more,
    )


@dataclass(frozen=True)
class Streamed:
    """A test's database and how to look at its topics."""

    stack: Stack
    dsn: str
    database: DatabaseSpec

    @property
    def endpoints(self) -> Endpoints:
        return self.stack.endpoints()

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=autocommit)

    def run(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def drain(self) -> Drained:
        return drain(self.database, self.endpoints, timeout=SOON)

    def envelopes(self, name: str) -> list[dict[str, Any]]:
        return read_topic(self.endpoints, topic_of(self.database.table(name)))

    def rows(self, name: str, key: str = "id") -> list[Any]:
        """The key values of the events of a table, in the order of their topic."""
        return [(e["after"] or e["before"])[key] for e in self.envelopes(name)]

    @contextmanager
    def capture_process(self) -> Iterator[subprocess.Popen[bytes]]:
        """``carbon capture`` as a process of its own, killed in the end if it still runs."""
        declared = pickle.dumps(self.database).hex()
        command = [sys.executable, "-m", __name__, str(self.stack.home), declared]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()

    def wait_until_captured(self, process: subprocess.Popen[bytes]) -> None:
        """Until ``process`` holds the slot."""

        def held() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            return self.slot("active") is True

        wait_until(held)

    def slot(self, column: str) -> Any:
        with self.connect() as connection:
            row = connection.execute(
                f"SELECT {column} FROM pg_replication_slots WHERE slot_name = %s".encode(),
                (self.database.slot_name,),
            ).fetchone()
        return None if row is None else row[0]


def read_topic(endpoints: Endpoints, topic: str) -> list[dict[str, Any]]:
    bootstrap = endpoints.stream_bootstrap
    state = load_topic_state(bootstrap, topic)
    batches = read_batches(bootstrap, topic, state.low, state.high)
    return [json.loads(value) for batch in batches for value in batch.values]


def positions(envelopes: list[dict[str, Any]]) -> list[Position]:
    return [Position(e["source"]["commit_lsn"], e["source"]["ordinal"]) for e in envelopes]


def wait_until(
    holds: Callable[[], bool], *, seconds: float = 60.0, every_seconds: float = 0.02
) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(every_seconds)


def main() -> None:
    home, declared = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    endpoints = resolve_endpoints(
        {k: v for k, v in os.environ.items() if not k.startswith("CARBON_")}, home=Path(home)
    )
    Capture(pickle.loads(bytes.fromhex(declared)), endpoints).run(stop)


if __name__ == "__main__":
    main()
