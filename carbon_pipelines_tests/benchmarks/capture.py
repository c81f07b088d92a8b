"""What capture and the consumer cost: 500,000 updates of a table with ten columns.

    python -m carbon_pipelines_tests.benchmarks.capture [--events 500000]

Uses the stack in CARBON_HOME, which has to be up, or starts one of its own in a temporary
directory. The database and the topics it makes are dropped again. Each figure is of a process of
its own, from its start to its end, imports included; "us/event" is without the imports.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from datetime import timedelta

import click
import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import resolve_endpoints
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines.stream.consumer import read_batches
from carbon_pipelines.stream.drain import drain
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import delete_topics, topic_of
from carbon_pipelines_tests.benchmarks.stack import running_stack

DATABASE = "benchmark_capture"
ROWS_PER_TRANSACTION = 1_000
TABLE = """
CREATE TABLE public.reading (
    id bigint PRIMARY KEY, facility_id bigint NOT NULL, name varchar(80) NOT NULL,
    tonnes numeric(14,4) NOT NULL, factor double precision NOT NULL, verified boolean NOT NULL,
    measured_at timestamptz NOT NULL, note text, unit_count integer NOT NULL, batch uuid NOT NULL)
"""
ROWS = """
INSERT INTO public.reading
SELECT g, g % 1000, 'reading of meter ' || g, g * 1.2345, g / 7.0, g % 3 = 0,
       timestamptz '2024-01-01' + g * interval '1 second', 'an ordinary note, number ' || g,
       g % 100, md5(g::text)::uuid
  FROM generate_series(1, %s) g
"""
UPDATE = """
UPDATE public.reading SET tonnes = tonnes + 1, verified = NOT verified, note = 'changed ' || id
 WHERE id BETWEEN %s AND %s
"""


def declaration() -> DatabaseSpec:
    table = TableSpec(
        database=DATABASE,
        name="reading",
        source_table="reading",
        key=("id",),
        owner="team:benchmarks",
        freshness=timedelta(hours=1),
        description="Readings to be captured.",
    )
    return DatabaseSpec(name=DATABASE, owner="team:benchmarks", tables=(table,))


def capture_until(lsn: int) -> dict[str, float]:
    begun = time.process_time()
    captured = Capture(declaration(), resolve_endpoints(os.environ)).run(
        threading.Event(), until_lsn=lsn
    )
    facts = {"kafka_transactions": captured.kafka_transactions, "seconds": captured.seconds}
    return measured(captured.events, begun, facts)


def consume() -> dict[str, float]:
    bootstrap = resolve_endpoints(os.environ).stream_bootstrap
    topic = topic_of(declaration().tables[0])
    begun, started, events, size = time.process_time(), time.monotonic(), 0, 0
    state = load_topic_state(bootstrap, topic)
    for batch in read_batches(bootstrap, topic, state.low, state.high):
        events += len(batch.values)
        size += sum(map(len, batch.values))
    facts = {"megabytes": size >> 20, "seconds": time.monotonic() - started}
    return measured(events, begun, facts)


def measured(events: int, begun: float, facts: dict[str, float]) -> dict[str, float]:
    cpu = time.process_time()
    return {
        "events": events,
        "cpu_seconds": round(cpu, 2),
        "cpu_us_per_event": round((cpu - begun) / max(1, events) * 1e6, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        **{name: round(value, 2) for name, value in facts.items()},
    }


def in_its_own_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", __spec__.name, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)


def benchmark(events: int) -> None:
    with running_stack() as stack:
        endpoints = stack.endpoints()
        dsn = stack.create_source_database(DATABASE)
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(TABLE)
                connection.execute(ROWS.replace("%s", str(events)).encode())
                drain(declaration(), endpoints, timeout=timedelta(minutes=1))
                for first in range(1, events + 1, ROWS_PER_TRANSACTION):
                    connection.execute(UPDATE, (first, first + ROWS_PER_TRANSACTION - 1))
                row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
            assert row is not None
            click.echo(f"capture  {in_its_own_process('--capture-until', str(int(row[0])))}")
            click.echo(f"consumer {in_its_own_process('--consume')}")
        finally:
            remove(stack, endpoints.stream_bootstrap)


def remove(stack: Stack, bootstrap: str) -> None:
    slot = declaration().slot_name
    with psycopg.connect(stack.admin_dsn, autocommit=True) as connection:
        for _ in range(50):
            found = connection.execute(
                "SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)
            ).fetchone()
            if found is None or not found[0]:
                break
            time.sleep(0.1)
        if found is not None:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)".encode())
    delete_topics(bootstrap, DATABASE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--capture-until", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--consume", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.capture_until is not None:
        click.echo(json.dumps(capture_until(asked.capture_until)))
    elif asked.consume:
        click.echo(json.dumps(consume()))
    else:
        benchmark(asked.events)


if __name__ == "__main__":
    main()
