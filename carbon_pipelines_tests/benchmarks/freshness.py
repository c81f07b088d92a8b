"""How soon changes are visible in the lake: ten tables, a thousand changes a second, ten minutes.

    python -m carbon_pipelines_tests.benchmarks.freshness [--seconds N] [--rate N] [--tables N]

``carbon capture`` and ``carbon follow`` run as the services they are, and once a minute upkeep of
every table beside them: ``carbon compact``, ``expire`` and ``orphans``. What they say of themselves
is not believed: each writer notes, for every transaction, the WAL position before its commit and
the clock after it, and the lake's snapshots say at which time they came to which position. A table
has one writer, so the first snapshot at or past a transaction's position is the first that shows
it. At the end DuckDB compares every table with its source.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import psutil
import psycopg

from carbon_pipelines.lake.state import read_progress
from carbon_pipelines.source.position import parse_lsn
from carbon_pipelines_tests.benchmarks.stack import running_stack
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import wait_until
from carbon_pipelines_tests.integration.supervised import Supervised, write_catalog

DATABASE = "benchmark_fresh"
UPKEEP_SECONDS = 60.0
UPKEEP = (("compact", "--apply"), ("expire", "--apply", "--at-most", "100"), ("orphans", "--apply"))
ROWS = 10_000
CHANGES_OF_A_TRANSACTION = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """A transaction: its commit lies above ``lsn``, and was done at ``at`` (Unix seconds)."""

    lsn: int
    at: float


class Shown:
    """Which positions of a table's source became visible when, of expired snapshots too."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self._pipeline, self._name = pipeline, name
        self._seen: dict[int, tuple[int, float]] = {}

    def look(self) -> None:
        """Note the snapshots that are there now."""
        for snapshot in self._pipeline.iceberg(self._name).metadata.snapshots:
            properties = snapshot.summary.additional_properties if snapshot.summary else {}
            if "carbon.cluster_id" in properties:
                lsn = read_progress(properties, self._name).position.commit_lsn
                self._seen[snapshot.sequence_number or 0] = (lsn, snapshot.timestamp_ms / 1000)

    @property
    def commits(self) -> int:
        """How many were seen."""
        return len(self._seen)

    def ages(self, samples: list[Sample]) -> np.ndarray:
        """Seconds from each transaction's commit to the first snapshot that shows it."""
        places = [self._seen[number] for number in sorted(self._seen)]
        positions = [lsn for lsn, _ in places]
        return np.array(
            [places[bisect_left(positions, sample.lsn)][1] - sample.at for sample in samples]
        )


def main() -> None:
    """Run the load and print how old changes were when they became visible."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--tables", type=int, default=10)
    arguments = parser.parse_args()
    with running_stack() as stack, tempfile.TemporaryDirectory() as directory:
        pipeline = Pipeline(stack, SourceDatabase(DATABASE, stack.create_source_database(DATABASE)))
        names = [f"t{number}" for number in range(arguments.tables)]
        for name in names:
            pipeline.execute(
                f"CREATE TABLE {name} (id bigint PRIMARY KEY, n bigint, note text)",
                f"INSERT INTO {name} SELECT g, 0, 'row ' || g FROM generate_series(1, {ROWS}) g",
            )
            pipeline.declare(name)
        pipeline.follow_all()
        shown = [Shown(pipeline, name) for name in names]
        samples = _measure(pipeline, Path(directory), shown, names, arguments)
        ages = np.concatenate(
            [one.ages(samples[name]) for one, name in zip(shown, names, strict=True)]
        )
        changes = len(ages) * CHANGES_OF_A_TRANSACTION
        p50, p99, longest = np.quantile(ages, [0.5, 0.99, 1.0])
        differing = sum(pipeline.differences(name) for name in names)
        _say(
            f"{changes:,} changes in {arguments.seconds:.0f} s to {len(names)} tables: visible "
            f"after {p50:.1f} s (half), {p99:.1f} s (99 of 100), {longest:.1f} s (all); "
            f"{differing} rows differ; {sum(one.commits for one in shown):,} commits"
        )
        pipeline.close()


def _measure(
    pipeline: Pipeline,
    directory: Path,
    shown: Sequence[Shown],
    names: list[str],
    arguments: argparse.Namespace,
) -> dict[str, list[Sample]]:
    environ = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        "CARBON_HOME": str(pipeline.stack.home),
        "CARBON_CATALOG_DIR": str(write_catalog(pipeline, directory)),
    }
    run = [sys.executable, "-m", "carbon_pipelines.cli"]
    services = {
        "capture": Supervised([*run, "capture", pipeline.name], environ, directory / "c.log"),
        "follow": Supervised([*run, "follow"], environ, directory / "f.log"),
    }
    try:
        wait_until(pipeline.is_captured)
        stop = threading.Event()
        pause = CHANGES_OF_A_TRANSACTION * len(names) / arguments.rate
        before = {name: _cpu_seconds(one.process) for name, one in services.items()}
        with ThreadPoolExecutor(len(names) + 1) as pool:
            upkeep = pool.submit(_keep_up, run, environ, directory / "u.log", stop, shown)
            writing = {name: pool.submit(_write, pipeline.dsn, name, pause, stop) for name in names}
            time.sleep(arguments.seconds)
            stop.set()
            samples = {name: one.result() for name, one in writing.items()}
            _say(upkeep.result())
        for name, one in services.items():
            used = _cpu_seconds(one.process) - before[name]
            _say(f"{name}: {used / arguments.seconds:.2f} of a core")
        wait_until(lambda: not sum(pipeline.differences(name) for name in names))
        for one in shown:
            one.look()
        services["follow"].process.send_signal(signal.SIGTERM)
        services["follow"].process.wait(60)
        _say(services["follow"].tail())
        return samples
    finally:
        for one in services.values():
            one.kill()


def _keep_up(
    run: list[str],
    environ: dict[str, str],
    log: Path,
    stop: threading.Event,
    shown: Sequence[Shown],
) -> str:
    """Upkeep of every table once a minute; how often it ran, and what it took."""
    rounds, before = 0, os.times()
    while not stop.wait(UPKEEP_SECONDS):
        for one in shown:
            one.look()
        for command in UPKEEP:
            with log.open("ab") as out:
                subprocess.run([*run, *command], env=environ, stdout=out, stderr=out, check=True)
        rounds += 1
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return f"upkeep: {rounds} rounds, {used:.1f} CPU-s"


def _write(dsn: str, table: str, pause: float, stop: threading.Event) -> list[Sample]:
    """Transactions of a few updates at a steady rate, an insert and a delete in some."""
    random, samples, due = Random(table), list[Sample](), time.monotonic()
    with psycopg.connect(dsn) as connection:
        while not stop.is_set():
            for _ in range(CHANGES_OF_A_TRANSACTION - 2):
                key = random.randint(1, ROWS)
                connection.execute(f"UPDATE {table} SET n = n + 1 WHERE id = {key}".encode())
            new = ROWS + len(samples)
            connection.execute(f"INSERT INTO {table} VALUES ({new + 1}, 0, 'new')".encode())
            connection.execute(f"DELETE FROM {table} WHERE id = {new}".encode())
            row = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            assert row is not None
            connection.commit()
            samples.append(Sample(parse_lsn(str(row[0])), time.time()))
            due += pause
            stop.wait(max(0.0, due - time.monotonic()))
    return samples


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def _say(line: str) -> None:
    sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
