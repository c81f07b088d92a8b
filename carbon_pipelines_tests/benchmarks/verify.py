"""Verifying and repairing 5,000,000 rows x 10 columns: CPU-seconds and peak memory.

    python -m carbon_pipelines_tests.benchmarks.verify [--rows N]

After 10,000 changes all over the table, what changed since the first proof is verified. One byte of
one row is changed in the lake; verification has to find and name it, and the repair to
mend it in one commit. Then rows all over the table are lost, and mended. The leg that verifies is a
process of its own; it is handed a database that holds ``first_copy.TABLE``. The stack is the one in
CARBON_HOME if that is set, else a temporary one.
"""

import argparse
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
from pyiceberg.expressions import EqualTo

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.repair import REPAIR_LIMITS, apply_repair, plan_repair
from carbon_pipelines.quality.verification import NAMED_KEYS
from carbon_pipelines.stream.drain import drain
from carbon_pipelines_tests.benchmarks.first_copy import ROWS, TABLE
from carbon_pipelines_tests.benchmarks.stack import running_stack
from carbon_pipelines_tests.lake.local_lake import table_spec

LOST_ROWS = 2_000
"""Rows that are lost, about: more than there are buckets, so that every one of them differs."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What one process that verified reports."""

    sentence: str
    verified: bool
    differences: list[str]
    differing: int
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: int
    repaired_snapshot: int | None
    snapshots_made: int
    snapshot_id: int | None


def main() -> None:
    """Load, copy, verify, damage, verify and repair, verify; print what each verification took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--leg", default="")
    parser.add_argument("--repair", action="store_true")
    parser.add_argument("--proven", type=int)
    arguments = parser.parse_args()
    with running_stack() as stack:
        if arguments.leg:
            leg = verify_leg(
                stack.endpoints(), arguments.leg, repair=arguments.repair, proven=arguments.proven
            )
            sys.stdout.write(json.dumps(leg) + "\n")
            return
        name = f"bench_{uuid.uuid4().hex[:8]}"
        dsn = stack.create_source_database(name)
        prepare(dsn, stack.endpoints(), name, arguments.rows)
        legs = [run_leg(name)]
        change(dsn, stack.endpoints(), name, arguments.rows)
        legs += [run_leg(name, proven=legs[0].snapshot_id), run_leg(name)]
        change_one_byte(stack.endpoints(), name, arguments.rows // 3)
        legs += [run_leg(name, repair=True), run_leg(name)]
        lose_rows(stack.endpoints(), name, arguments.rows, LOST_ROWS)
        legs += [run_leg(name, repair=True), run_leg(name)]
    what_legs = (
        *("equal", "changed", "equal"),
        *("one byte", "repaired", "rows lost", "repaired"),
    )
    for what, leg in zip(what_legs, legs, strict=True):
        sys.stdout.write(
            f"verify {what:10} {leg.cpu_seconds:6.2f} CPU-s {leg.seconds:6.2f} s "
            f"{leg.peak_mb:5d} MB   {leg.sentence}\n"
        )


def prepare(dsn: str, endpoints: Endpoints, name: str, rows: int) -> None:
    """A source table of ``rows`` rows, and its copy."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(ROWS.replace("%(rows)s", str(rows)).encode())
        connection.execute("VACUUM ANALYZE t")
    database = declared(name)
    drain(database, endpoints, timeout=timedelta(minutes=5))
    sync_table(database.tables[0], database, endpoints)


def change(dsn: str, endpoints: Endpoints, name: str, rows: int) -> None:
    """Update 10,000 rows all over the table, and merge that."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE t SET name = name || '.' WHERE id %% %s = 0", [max(1, rows // 10_000)]
        )
    database = declared(name)
    drain(database, endpoints, timeout=timedelta(minutes=5))
    sync_table(database.tables[0], database, endpoints)


def declared(name: str) -> DatabaseSpec:
    """The database with its one table ``t``."""
    table = table_spec(["id"]).model_copy(update={"database": name})
    return DatabaseSpec(name=name, owner="team:tests", tables=(table,))


def change_one_byte(endpoints: Endpoints, name: str, key: int) -> None:
    """Change the first letter of one name in the lake."""
    with open_catalog(endpoints.lake) as catalog:
        iceberg = catalog.load_table(declared(name).tables[0].identifier)
        (row,) = iceberg.scan(row_filter=EqualTo("id", key)).to_arrow().to_pylist()
        schema = iceberg.scan(limit=1).to_arrow().schema
        changed = pa.Table.from_pylist([{**row, "name": "C" + row["name"][1:]}], schema=schema)
        iceberg.overwrite(changed, overwrite_filter=EqualTo("id", key))


def lose_rows(endpoints: Endpoints, name: str, rows: int, lost: int) -> int:
    """Delete ``lost`` of ``rows`` rows, or a few less, as far from each other as can be.

    Returns:
        How many it were.
    """
    (table,) = declared(name).tables
    with open_catalog(endpoints.lake) as catalog:
        iceberg = catalog.load_table(table.identifier)
        progress = load_progress(iceberg.metadata, table.label)
        assert progress is not None
        keys = KeySet((pa.array(range(1, rows + 1, rows // lost + 1), pa.int64()),))
        schema = arrow_schema(iceberg.schema())
        swap_rows(iceberg, ["id"], keys, schema.empty_table(), progress.to_properties())
    return len(keys)


def run_leg(name: str, *, repair: bool = False, proven: int | None = None) -> Leg:
    """Verify in a process of its own."""
    command = [sys.executable, "-m", "carbon_pipelines_tests.benchmarks.verify", "--leg", name]
    command += ["--repair"] * repair + (["--proven", str(proven)] if proven else [])
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Leg(**json.loads(done.stdout.splitlines()[-1]))


def verify_leg(
    endpoints: Endpoints, name: str, *, repair: bool, proven: int | None
) -> dict[str, object]:
    """Verify, and repair if that is asked for."""
    database = declared(name)
    (table,) = database.tables
    limits = REPAIR_LIMITS if repair else None
    found = verify_table(table, database, endpoints, limits=limits, proven=proven)
    snapshot, before = None, _snapshots(endpoints, database)
    if repair:
        plan = plan_repair(found, endpoints)
        snapshot = apply_repair(plan, endpoints, reason="a benchmark", by="benchmark").snapshot_id
    return {
        "sentence": found.sentence(),
        "verified": found.verified,
        "differences": [str(difference) for difference in found.differing_keys[:NAMED_KEYS]],
        "differing": found.differing_count,
        "rows": found.lake_rows,
        "seconds": found.seconds,
        "cpu_seconds": found.cpu_seconds,
        "peak_mb": _peak_mb(),
        "repaired_snapshot": snapshot,
        "snapshot_id": found.snapshot_id,
        "snapshots_made": _snapshots(endpoints, database) - before,
    }


def _peak_mb() -> int:
    """Of this program alone: ``ru_maxrss`` counts what its parent held when it was started."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) // 1024


def _snapshots(endpoints: Endpoints, database: DatabaseSpec) -> int:
    with open_catalog(endpoints.lake) as catalog:
        return len(catalog.load_table(database.tables[0].identifier).snapshots())


if __name__ == "__main__":
    main()
