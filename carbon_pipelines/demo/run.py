"""The demo, from nothing to a verified lake.

What belongs here: the order of its stages and what each took. What does not: the market itself
(``load.py``, ``workload.py``), how results look (``summary.py``), and command-line options.

Capture and Dagster run as processes of their own, as they do in production. They see the demo's
stack and the packaged declarations only, whatever else the environment points at.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.demo.load import is_loaded, load_sample
from carbon_pipelines.demo.summary import DemoDone, Stage
from carbon_pipelines.demo.workload import Pace, Worked, run_workload
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import DemoStageError
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.verification import Verification
from carbon_pipelines.stream.drain import drain

DATABASE = "market"
_TIMEOUT = timedelta(minutes=5)
_CAPTURE_STARTS_SECONDS = 60
_STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How much of everything.

    Attributes:
        scale: Million rows to load, roughly.
        pace: The live workload.
        stop: Whether to stop the stack at the end.
    """

    scale: float = 1.0
    pace: Pace = field(default_factory=lambda: Pace(seconds=20))
    stop: bool = False


def run_demo(stack: Stack, options: DemoOptions, report: Callable[[str], None]) -> DemoDone:
    """Run every stage; a second run goes on with the database and the lake of the first.

    Raises:
        CarbonPipelinesError: A stage failed. The stack is left as it is.
    """
    return _Demo(stack, options, report).run()


@dataclass(slots=True)
class _Demo:
    stack: Stack
    options: DemoOptions
    report: Callable[[str], None]
    stages: list[Stage] = field(default_factory=list[Stage])

    def run(self) -> DemoDone:
        with self._stage("start the stack"):
            self.stack.up(self.report)
        endpoints, database = self.stack.endpoints(), load_catalog().database(DATABASE)
        with self._stage("load the market"):
            dsn, is_new = self._load()
        with self._stage("first copy" if is_new else "catch up"):
            self._copy(database, endpoints)
        with self._stage("live workload, captured"):
            worked = self._work(dsn, database)
        with self._stage("dagster materialize"):
            self._materialize()
        with self._stage("verify"):
            verifications = self._verify(database, endpoints)
        if self.options.stop:
            with self._stage("stop the stack"):
                self.stack.down(self.report)
        return DemoDone(tuple(self.stages), worked, verifications, self.options.stop)

    @contextmanager
    def _stage(self, name: str) -> Generator[None]:
        self.report(f"── {name}")
        started, cpu_started = time.monotonic(), _cpu_seconds()
        yield
        self.stages.append(Stage(name, time.monotonic() - started, _cpu_seconds() - cpu_started))

    def _load(self) -> tuple[str, bool]:
        """The market's address, and whether it was loaded just now."""
        dsn = self.stack.create_source_database(DATABASE)
        with psycopg.connect(dsn, autocommit=True, application_name="carbon demo") as connection:
            if is_loaded(connection):
                self.report("the market is there already and goes on from where it was")
                return dsn, False
            rows = load_sample(connection, self.options.scale, self.report)
            self.report(f"loaded {rows:,} rows in all")
        return dsn, True

    def _copy(self, database: DatabaseSpec, endpoints: Endpoints) -> None:
        """Everything up to now: the first copy, or what happened since the last run."""
        drain(database, endpoints, timeout=_TIMEOUT)
        for table in database.tables:
            synced = sync_table(table, database, endpoints)
            self.report(f"{table.label}: {synced.row_count:,} rows at {synced.position}")

    def _work(self, dsn: str, database: DatabaseSpec) -> Worked:
        with self._process(
            "capture", "-m", "carbon_pipelines.cli", "capture", database.name
        ) as capture:
            if not _is_captured(dsn, database, capture):
                self._await(capture, "capture", seconds=0)
            pace = self.options.pace
            self.report(
                f"{pace.connections} connections change the market for {pace.seconds:.0f} seconds"
            )
            worked = run_workload(dsn, pace)
            capture.send_signal(signal.SIGTERM)
            self._await(capture, "capture")
        self.report(f"{worked.committed:,} transactions, and {worked.added_column} added meanwhile")
        return worked

    def _materialize(self) -> None:
        chosen = ("--select", "group:stream or group:lake or group:quality or group:mart")
        arguments = ("asset", "materialize", "-m", "carbon_pipelines.definitions", *chosen)
        with self._process("materialize", "-m", "dagster", *arguments) as materialize:
            self._await(materialize, "materialize", seconds=600)

    def _verify(self, database: DatabaseSpec, endpoints: Endpoints) -> tuple[Verification, ...]:
        found: list[Verification] = []
        for table in database.tables:
            found.append(verify_table(table, database, endpoints))
            self.report(found[-1].sentence())
        return tuple(found)

    @contextmanager
    def _process(self, name: str, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
        """A Python process whose output goes to a log; it does not outlive the stage."""
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ, self.stack.home),
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _await(
        self, process: subprocess.Popen[bytes], name: str, *, seconds: float = _STOP_SECONDS
    ) -> None:
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired as expired:
            raise DemoStageError(
                name, f"still running after {seconds:.0f} s", self._log(name)
            ) from expired
        if code:
            raise DemoStageError(name, f"exit code {code}", self._log(name))

    def _log(self, name: str) -> Path:
        directory = self.stack.home / "logs"
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"demo-{name}.log"


def _cpu_seconds() -> float:
    """CPU time of this process and of those it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Only the demo's own stack, the packaged declarations, and Dagster's runs kept beside them."""
    elsewhere = ("CARBON_STREAM_", "CARBON_LAKE_", "CARBON_SOURCE_", "CARBON_CATALOG_")
    kept = {name: value for name, value in environ.items() if not name.startswith(elsewhere)}
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    return {**kept, "CARBON_HOME": str(home), "DAGSTER_HOME": str(dagster_home)}


def _is_captured(dsn: str, database: DatabaseSpec, capture: subprocess.Popen[bytes]) -> bool:
    """Whether the slot gets a reader in time, so that the workload is captured while it runs."""
    query = "SELECT coalesce(bool_or(active), false) FROM pg_replication_slots WHERE slot_name = %s"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(_CAPTURE_STARTS_SECONDS * 10):
            found = connection.execute(query, [database.slot_name]).fetchone()
            if found and found[0]:
                return True
            if capture.poll() is not None:
                return False
            time.sleep(0.1)
    return False
