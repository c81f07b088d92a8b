"""Reading 2,000,000 rows x 10 columns out of PostgreSQL as Arrow, by ranges.

    python -m carbon_pipelines_tests.benchmarks.source_copy [--rows N] [--dsn DSN] [--peer]

Each leg is a process of its own, and its CPU-seconds are that process's after imports. What belongs
here: making the table and measuring. Without --dsn the stack is the one in CARBON_HOME if that is
set, else a temporary one. --peer reads with ADBC as well (``pip install adbc-driver-postgresql``).
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext

import pyarrow as pa

from carbon_pipelines.source.connection import connect
from carbon_pipelines.source.copy import ExportedSnapshot, plan_table_ranges, read_range
from carbon_pipelines.source.relation import load_relation
from carbon_pipelines_tests.benchmarks.stack import benchmark_endpoints

TABLE = "carbon_benchmark"
RANGE_BYTES = 64 << 20
MAKE = f"""
DROP TABLE IF EXISTS public.{TABLE};
CREATE TABLE public.{TABLE} AS
SELECT i::bigint AS id, (i % 1000)::int AS facility_id, (i * 0.0371)::numeric(18,4) AS price,
       timestamptz '2024-01-01' + i * interval '7 second' AS observed_at,
       'note ' || md5(i::text) AS note, ('grade-' || i % 7)::varchar(20) AS grade,
       i % 3 = 0 AS active, i * 0.1::float8 AS reading, md5(i::text)::uuid AS uid,
       date '2020-01-01' + i % 1000 AS day
  FROM generate_series(1, {{rows}}) i
"""


def read_with_copy(dsn: str) -> int:
    """What the first copy does, in one thread."""
    types = {"id": pa.int64(), "facility_id": pa.int64(), "active": pa.bool_()}
    with closing(connect(dsn)) as connection, ExportedSnapshot(dsn) as snapshot:
        relation = load_relation(connection, "public", TABLE)
        names = [column.name for column in relation.columns]
        return sum(
            batch.num_rows
            for pages in plan_table_ranges(connection, relation, target_bytes=RANGE_BYTES)
            for batch in read_range(dsn, snapshot.snapshot_id, relation, names, pages, types)
        )


def read_with_adbc(dsn: str) -> int:
    """The same texts by ADBC, where a cast gives PostgreSQL's text form."""
    from adbc_driver_postgresql import dbapi  # only this leg needs it

    columns = (
        "id, facility_id::int8, price::text, observed_at::text, note, grade, active, reading::text,"
        " uid::text, day::text"
    )
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM ONLY public.{TABLE}")
        with cursor.fetch_record_batch() as batches:
            return sum(batch.num_rows for batch in batches)


LEGS: dict[str, Callable[[str], int]] = {"copy": read_with_copy, "adbc": read_with_adbc}


def measure(leg: str, dsn: str) -> None:
    """Run one leg in this process and print its figures."""
    started, cpu = time.perf_counter(), time.process_time()
    rows = LEGS[leg](dsn)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sys.stdout.write(
        f"{leg}: {rows:,} rows, {cpu_seconds:.2f} CPU-seconds, {seconds:.2f} s, {peak} MB\n"
    )


def main() -> None:
    """Make the table, then run each leg in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dsn")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--leg", choices=sorted(LEGS))
    arguments = parser.parse_args()
    if arguments.leg:
        measure(arguments.leg, arguments.dsn)
        return
    with nullcontext() if arguments.dsn else benchmark_endpoints() as endpoints:
        dsn = arguments.dsn or endpoints.source_dsn("postgres")
        with closing(connect(dsn)) as connection:
            connection.execute(MAKE.format(rows=arguments.rows).encode())
            connection.execute(f"VACUUM ANALYZE public.{TABLE}".encode())
            for leg in LEGS if arguments.peer else ["copy"]:
                command = [sys.executable, "-m", __spec__.name, "--dsn", dsn, "--leg", leg]
                subprocess.run(command, check=True)
            connection.execute(f"DROP TABLE public.{TABLE}".encode())


if __name__ == "__main__":
    main()
