"""First copy of 2,000,000 rows x 10 columns: CPU-seconds and peak memory of our process.

    python -m carbon_pipelines_tests.benchmarks.first_copy [--rows N]

The leg that copies is a process of its own; its CPU-seconds are counted after imports, threads
included. The stack is the one in CARBON_HOME if that is set, else a temporary one.
"""

import argparse
import resource
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines.stream.drain import drain
from carbon_pipelines_tests.benchmarks.stack import running_stack
from carbon_pipelines_tests.lake.local_lake import table_spec

TABLE = """
CREATE TABLE t (id bigint PRIMARY KEY, name text, amount numeric(12, 2), ts timestamptz, payload
jsonb,                 active boolean, d1 double precision, d2 double precision, qty int, status
text)
"""
ROWS = """
INSERT INTO t SELECT g, 'customer-' || (g * 7919 % 1000000007), (g % 1000000) / 100.0,
       timestamptz '2024-01-01 00:00+00' + g * interval '1.37 s',
       jsonb_build_object('k', g * 31 % 1000003), g % 2 = 0, g / 3.0, g / 7.0, g % 100,
       (ARRAY['new', 'paid', 'shipped'])[1 + g % 3]
  FROM generate_series(1, %(rows)s::bigint) g
"""


def main() -> None:
    """Load the source, copy in a process of its own and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--leg", default="")
    arguments = parser.parse_args()
    with running_stack() as stack:
        if arguments.leg:
            copy_leg(stack.endpoints(), arguments.leg)
            return
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(stack.create_source_database(name), autocommit=True) as connection:
            connection.execute(TABLE)
            connection.execute(ROWS.replace("%(rows)s", str(arguments.rows)))
            connection.execute("VACUUM ANALYZE t")
        subprocess.run([sys.executable, "-m", __spec__.name, "--leg", name], check=True)


def copy_leg(endpoints: Endpoints, name: str) -> None:
    """Copy the table and print."""
    table = table_spec(["id"]).model_copy(update={"database": name})
    database = DatabaseSpec(name=name, owner="team:tests", tables=(table,))
    drain(database, endpoints, timeout=timedelta(minutes=5))
    start, began = time.process_time(), time.perf_counter()
    synced = sync_table(table, database, endpoints)
    cpu, wall = time.process_time() - start, time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(
        f"first copy     {cpu:6.2f} CPU-s {wall:6.2f} s {peak:5d} MB   "
        f"{synced.copied_rows:,} rows\n"
    )


if __name__ == "__main__":
    main()
