"""One round of upkeep of small tables in one process: compact, expire, orphans.

    python -m carbon_pipelines_tests.benchmarks.upkeep [--tables N] [--commits N]

Each table has so many commits, each of a data file of 1,000 rows and a delete file for the file
before. CPU-seconds are of this process after imports, threads included, by action. What belongs
here: making the tables, and measuring. The stack is the one in CARBON_HOME if that is set, else a
temporary one.
"""

import argparse
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
from pyiceberg.catalog import Catalog

from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import load_lake_table, open_catalog
from carbon_pipelines.lake.data_file import write_data_file
from carbon_pipelines.lake.delete_file import count_rows, write_delete_file
from carbon_pipelines.lake.partitions import file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance.compact import apply_compaction
from carbon_pipelines.maintenance.compaction import plan_compaction
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.orphans import OrphanRules, plan_orphans
from carbon_pipelines.maintenance.quarantine import apply_orphans
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines.source.relation import relation_from_history
from carbon_pipelines_tests.benchmarks.merge import history_document, rows
from carbon_pipelines_tests.benchmarks.stack import benchmark_endpoints
from carbon_pipelines_tests.lake.local_lake import START, table_spec

ROWS = 1_000
Identifier = tuple[str, str]


def main() -> None:
    """Make the tables, do a round and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--commits", type=int, default=12)
    arguments = parser.parse_args()
    with benchmark_endpoints() as endpoints:
        database = f"bench_{uuid.uuid4().hex[:8]}"
        names = [(database, f"t{number}") for number in range(arguments.tables)]
        for name in names:
            prepare(endpoints, name, arguments.commits)
        measure(endpoints, names)


def prepare(endpoints: Endpoints, name: Identifier, commits: int) -> None:
    """Make one table."""
    catalog = open_catalog(endpoints.lake)
    declared = table_spec(["id"]).model_copy(update={"database": name[0], "name": name[1]})
    table = create_table(catalog, declared, relation_from_history(history_document()))
    before = None
    for number in range(commits):
        table = load_lake_table(catalog, name)
        ids = np.arange(number * ROWS, (number + 1) * ROWS)
        file = write_data_file([rows(ids, number, table)], file_target(table))
        deletes = []
        if before is not None:
            gone = {before.file_path: np.arange(0, ROWS, 10)}
            deletes = [
                write_delete_file(
                    table.io, table.location_provider(), gone, file.spec_id, file.partition
                )
            ]
        manifests = load_table_files(table.current_snapshot(), table.io).manifests
        changes = FileChanges(added_data=[file], added_deletes=deletes, manifests=manifests)
        assert commit_files(table, changes, START.to_properties())
        before = file


def measure(endpoints: Endpoints, names: list[Identifier]) -> None:
    """One round, and the CPU-seconds of each action."""
    spent = dict.fromkeys(("compact", "expire", "orphans"), 0.0)
    per_table: list[float] = []
    for name in names:
        began = time.process_time()
        with open_catalog(endpoints.lake) as catalog:
            for action, act in (("compact", _compact), ("expire", _expire), ("orphans", _orphans)):
                start = time.process_time()
                act(catalog, name)
                spent[action] += time.process_time() - start
        per_table.append(time.process_time() - began)
    for action, seconds in spent.items():
        sys.stdout.write(f"{action:<8} {seconds / len(names):6.3f} CPU-s a table\n")
    rest = per_table[1:] or per_table
    sys.stdout.write(
        f"all      {sum(per_table) / len(names):6.3f} CPU-s a table "
        f"(first {per_table[0]:.3f}, others {sum(rest) / len(rest):.3f})\n"
    )


def _compact(catalog: Catalog, name: Identifier) -> None:
    done = apply_compaction(plan_compaction(load_facts(load_lake_table(catalog, name))), catalog)
    assert done.added_files == 1


def _expire(catalog: Catalog, name: Identifier) -> None:
    done = expire_table(
        catalog, name, Retention(timedelta(microseconds=1), at_least=2), datetime.now(UTC)
    )
    assert done.files.files


def _orphans(catalog: Catalog, name: Identifier) -> None:
    now, rules = datetime.now(UTC), OrphanRules(timedelta(days=3))
    plan = plan_orphans(catalog, name, rules, now)
    assert not apply_orphans(catalog, name, plan, now).files
    table = load_lake_table(catalog, name)
    assert count_rows(table.current_snapshot(), table.io)


if __name__ == "__main__":
    main()
