"""How soon changes are visible in the lake: ten tables, a thousand changes a second, ten minutes.

    python -m carbon_pipelines_tests.benchmarks.freshness [--seconds N] [--rate N] [--tables N]

``carbon capture`` and ``carbon follow`` run as the services they are. What they say of themselves
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
ROWS = 10_000
CHANGES_OF_A_TRANSACTION = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """A transaction: its commit lies above ``lsn``, and was done at ``at`` (Unix seconds)."""

    lsn: int
    at: float


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
        samples = _measure(pipeline, Path(directory), names, arguments)
        ages = np.concatenate([_ages(pipeline, name, samples[name]) for name in names])
        changes = len(ages) * CHANGES_OF_A_TRANSACTION
        p50, p99, longest = np.quantile(ages, [0.5, 0.99, 1.0])
        differing = sum(pipeline.differences(name) for name in names)
        _say(
            f"{changes:,} changes in {arguments.seconds:.0f} s to {len(names)} tables: visible "
            f"after {p50:.1f} s (half), {p99:.1f} s (99 of 100), {longest:.1f} s (all); "
            f"{differing} rows differ"
        )
        pipeline.close()


def _measure(
    pipeline: Pipeline, directory: Path, names: list[str], arguments: argparse.Namespace
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
        with ThreadPoolExecutor(len(names)) as pool:
            writing = {name: pool.submit(_write, pipeline.dsn, name, pause, stop) for name in names}
            time.sleep(arguments.seconds)
            stop.set()
            samples = {name: one.result() for name, one in writing.items()}
        for name, one in services.items():
            used = _cpu_seconds(one.process) - before[name]
            _say(f"{name}: {used / arguments.seconds:.2f} of a core")
        wait_until(lambda: not sum(pipeline.differences(name) for name in names))
        services["follow"].process.send_signal(signal.SIGTERM)
        services["follow"].process.wait(60)
        _say(services["follow"].tail())
        return samples
    finally:
        for one in services.values():
            one.kill()


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


def _ages(pipeline: Pipeline, name: str, samples: list[Sample]) -> np.ndarray:
    """Seconds from each transaction's commit to the first snapshot that shows it."""
    positions: list[int] = []
    shown_at: list[float] = []
    snapshots = pipeline.iceberg(name).metadata.snapshots
    for snapshot in sorted(snapshots, key=lambda one: one.sequence_number or 0):
        properties = snapshot.summary.additional_properties if snapshot.summary else {}
        if "carbon.cluster_id" in properties:
            positions.append(read_progress(properties, name).position.commit_lsn)
            shown_at.append(snapshot.timestamp_ms / 1000)
    return np.array(
        [shown_at[bisect_left(positions, sample.lsn)] - sample.at for sample in samples]
    )


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def _say(line: str) -> None:
    sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
