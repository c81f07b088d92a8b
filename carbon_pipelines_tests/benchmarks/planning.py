"""Planning in a fresh process: a table's metadata and manifests, from the store and from disk.

    python -m carbon_pipelines_tests.benchmarks.planning [--files N] [--commits N]

A table of 1,000 data files that 50 commits made, each file with a delete file of its own. Planning
is what a merge does before it looks for rows: load the table, read the manifest list, the manifests
and the delete files. Each measurement is a process of its own, after imports and the connection to
the catalog. What belongs here: making the table, and measuring. The stack is the one in CARBON_HOME
if that is set, else a temporary one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from statistics import median

import numpy as np

from carbon_pipelines.embedded.endpoints import Endpoints, resolve_endpoints
from carbon_pipelines.embedded.lake_cache import DIRECTORY_VARIABLE
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import KEPT_FILES, load_lake_table, open_catalog
from carbon_pipelines.lake.data_file import write_data_file
from carbon_pipelines.lake.delete_file import read_named, write_delete_file
from carbon_pipelines.lake.partitions import file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.source.relation import relation_from_history
from carbon_pipelines_tests.benchmarks.merge import history_document, rows
from carbon_pipelines_tests.benchmarks.stack import benchmark_endpoints
from carbon_pipelines_tests.lake.local_lake import START, table_spec

NAME = "planned"
ROWS = 20
ROUNDS = 5


def main() -> None:
    """Make the table, plan in processes and print what it took."""
    arguments = _arguments()
    if arguments.database:
        planning_leg(resolve_endpoints(os.environ), arguments.database)
        return
    with benchmark_endpoints() as endpoints, tempfile.TemporaryDirectory() as cache:
        database = f"bench_{uuid.uuid4().hex[:8]}"
        prepare(endpoints, database, arguments.files, arguments.commits)
        for leg, directory in (("from the store", ""), ("to disk", cache), ("from disk", cache)):
            rounds = 1 if leg == "to disk" else ROUNDS
            measured = [_in_process(database, directory) for _ in range(rounds)]
            seconds, cpu, files = (median(one) for one in zip(*measured, strict=True))
            kept = sum(file.stat().st_size for file in os.scandir(cache))
            sys.stdout.write(
                f"{leg:<15} {1000 * seconds:6.0f} ms {1000 * cpu:6.0f} CPU-ms, {files:.0f} files "
                f"planned, {kept / 1e6:.1f} MB on disk\n"
            )
            sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--commits", type=int, default=50)
    parser.add_argument("--database", default="")
    return parser.parse_args()


def _in_process(database: str, cache: str) -> tuple[float, float, int]:
    """Seconds, CPU-seconds and data files of one planning."""
    command = [sys.executable, "-m", __spec__.name, "--database", database]
    environ = {**os.environ, DIRECTORY_VARIABLE: cache}
    ran = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
    if not ran.stdout:
        raise SystemExit(ran.stderr)
    seconds, cpu, files = ran.stdout.split()
    return float(seconds), float(cpu), int(files)


def prepare(endpoints: Endpoints, database: str, count: int, commits: int) -> None:
    """Make the table."""
    catalog = open_catalog(endpoints.lake)
    declared = table_spec(["id"]).model_copy(update={"database": database, "name": NAME})
    table = create_table(catalog, declared, relation_from_history(history_document()))
    size = count // commits
    for commit in range(commits):
        table = load_lake_table(catalog, declared.identifier)
        target = file_target(table)
        files = [
            write_data_file([rows(np.arange(at * ROWS, (at + 1) * ROWS), at, table)], target)
            for at in range(commit * size, (commit + 1) * size)
        ]
        gone = np.arange(0, ROWS, 10)
        deletes = [
            write_delete_file(
                table.io, table.location_provider(), {f.file_path: gone}, f.spec_id, f.partition
            )
            for f in files
        ]
        manifests = load_table_files(table.current_snapshot(), table.io).manifests
        changes = FileChanges(added_data=files, added_deletes=deletes, manifests=manifests)
        assert commit_files(table, changes, START.to_properties())


def planning_leg(endpoints: Endpoints, database: str) -> None:
    """Plan once, and print what it took."""
    catalog = open_catalog(endpoints.lake, files=KEPT_FILES)
    catalog.list_namespaces()
    start, began = time.process_time(), time.perf_counter()
    table = load_lake_table(catalog, (database, NAME))
    files = load_table_files(table.current_snapshot(), table.io)
    named = sum(len(read_named(table.io, delete.file)) for delete in files.deletes)
    cpu, seconds = time.process_time() - start, time.perf_counter() - began
    assert named == len(files.data)
    sys.stdout.write(f"{seconds} {cpu} {len(files.data)}\n")


if __name__ == "__main__":
    main()
