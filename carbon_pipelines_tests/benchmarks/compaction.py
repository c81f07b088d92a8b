"""Small files to target-size ones on S3: CPU-seconds and peak memory, invariant checks included.

    python -m carbon_pipelines_tests.benchmarks.compaction [--files N] [--rows N] [--legs ...]

500 files of 10,000 rows and 10 columns unless said. Legs: `plain`; `deleted`, where a delete file
of its own takes every tenth row from each file; `sorted`, where the table declares an order that
its files do not have; `both`; `stacked`, where as many rows are in ten files that are large enough,
each with 50 delete files of a hundredth of its rows together. Each leg is a table and a process of
its own. CPU-seconds are of that process from planning to the commit, after imports, threads
included; the peak is the process's whole resident memory. What belongs here: making the tables, and
measuring. The stack is the one in CARBON_HOME if that is set, else a temporary one.
"""

import argparse
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np

from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.data_file import write_data_file
from carbon_pipelines.lake.delete_file import count_rows, write_delete_file
from carbon_pipelines.lake.partitions import file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance.compact import apply_compaction
from carbon_pipelines.maintenance.compaction import plan_compaction
from carbon_pipelines.maintenance.table_facts import TARGET_PROPERTY, load_facts
from carbon_pipelines.source.relation import relation_from_history
from carbon_pipelines_tests.benchmarks.merge import history_document, rows
from carbon_pipelines_tests.benchmarks.stack import benchmark_endpoints
from carbon_pipelines_tests.lake.local_lake import START, table_spec

LEGS = {
    "plain": (False, False),
    "deleted": (True, False),
    "sorted": (False, True),
    "both": (True, True),
    "stacked": (False, False),
}
STACKED_FILES, STACKED_DELETES, STACKED_BYTES = 10, 50, 16 * 1024 * 1024
"""Of the leg `stacked`: data files, delete files of each, and the size that is large enough."""


def main() -> None:
    """Prepare a table for each leg, run it and print a row."""
    arguments = _arguments()
    if arguments.leg:
        with benchmark_endpoints() as endpoints:
            compaction_leg(endpoints, arguments)
        return
    with benchmark_endpoints() as endpoints:
        for leg in arguments.legs:
            arguments.leg, arguments.database = leg, f"bench_{uuid.uuid4().hex[:8]}"
            prepare(endpoints, _shaped(arguments))
            command = [sys.executable, "-m", __spec__.name, "--leg", leg]
            command += ["--database", arguments.database]
            subprocess.run(command, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--legs", nargs="+", choices=LEGS, default=list(LEGS))
    parser.add_argument("--leg", choices=LEGS)
    parser.add_argument("--database", default="")
    return parser.parse_args()


def _shaped(arguments: argparse.Namespace) -> argparse.Namespace:
    """The same rows in as many files as the leg has."""
    if arguments.leg != "stacked":
        return arguments
    rows_each = arguments.files * arguments.rows // STACKED_FILES
    return argparse.Namespace(**{**vars(arguments), "files": STACKED_FILES, "rows": rows_each})


def spec(database: str, leg: str):
    """The declaration of a leg's table."""
    order = [{"column": "id"}] if LEGS[leg][1] else []
    declared = table_spec(["id"], sort_order=order)
    return declared.model_copy(update={"database": database, "name": leg})


def prepare(endpoints: Endpoints, arguments: argparse.Namespace) -> None:
    """Make the table: ids come in any order, as those of changed rows do."""
    catalog = open_catalog(endpoints.lake)
    declared = spec(arguments.database, arguments.leg)
    table = create_table(catalog, declared, relation_from_history(history_document()))
    if arguments.leg == "stacked":
        with table.transaction() as transaction:
            transaction.set_properties({TARGET_PROPERTY: str(STACKED_BYTES)})
    size = arguments.rows
    ids = np.random.default_rng(0).permutation(arguments.files * size)
    target = file_target(table)
    files = [
        write_data_file([rows(np.sort(ids[n * size : (n + 1) * size]), n, table)], target)
        for n in range(arguments.files)
    ]
    deletes = []
    if arguments.leg == "stacked":
        many = range(STACKED_DELETES)
        positions = [np.arange(n, size, 100 * STACKED_DELETES) for n in many]
        deletes = [
            write_delete_file(
                table.io, table.location_provider(), {f.file_path: gone}, f.spec_id, f.partition
            )
            for f in files
            for gone in positions
        ]
    if LEGS[arguments.leg][0]:
        gone = np.arange(0, size, 10)
        deletes = [
            write_delete_file(
                table.io, table.location_provider(), {f.file_path: gone}, f.spec_id, f.partition
            )
            for f in files
        ]
    manifests = load_table_files(table.current_snapshot(), table.io).manifests
    changes = FileChanges(added_data=files, added_deletes=deletes, manifests=manifests)
    assert commit_files(table, changes, START.to_properties())


def _peak_megabytes() -> int:
    """The most that was resident; what ``getrusage`` says counts the process that started this."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) // 1024


def compaction_leg(endpoints: Endpoints, arguments: argparse.Namespace) -> None:
    """Plan, compact and print what it took."""
    catalog = open_catalog(endpoints.lake)
    start, began = time.process_time(), time.perf_counter()
    table = load_table(catalog, (arguments.database, arguments.leg))
    plan = plan_compaction(load_facts(table))
    planned = time.process_time() - start
    done = apply_compaction(plan, catalog)
    cpu, wall = time.process_time() - start, time.perf_counter() - began
    peak = _peak_megabytes()
    fresh = load_table(catalog, (arguments.database, arguments.leg))
    live = count_rows(fresh.current_snapshot(), fresh.io)
    sys.stdout.write(
        f"{arguments.leg:<8} {cpu:6.2f} CPU-s {wall:6.2f} s {peak:5d} MB   {live:,} rows, "
        f"{done.removed_files} files ({done.read_bytes / 1e6:.0f} MB) became {done.added_files} "
        f"({done.written_bytes / 1e6:.0f} MB), {done.removed_delete_files} delete files gone, "
        f"planning {planned:.2f} CPU-s\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
