"""The upkeep process of the soak: compaction, expiry and orphans of every table, for ever.

    python -m carbon_pipelines_tests.integration.tending DATABASE --orphans-after SECONDS

Errors that may be retried are met by the next round; any other ends it with status 3. Each result
is written to the log.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import catalog_directory, resolve_endpoints
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.lake.connection import lake_errors, load_table, open_catalog
from carbon_pipelines.maintenance.compact import apply_compaction
from carbon_pipelines.maintenance.compaction import CompactionPolicy, plan_compaction
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.orphans import OrphanRules, plan_orphans
from carbon_pipelines.maintenance.quarantine import apply_orphans, apply_removal, plan_removal
from carbon_pipelines.maintenance.quarantine_record import load_quarantines
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines_tests.integration.merging import FATAL, log

POLICY = CompactionPolicy(min_files=3)
RETENTION = Retention(at_least=5, at_most=12)
QUARANTINE = timedelta(seconds=20)
PAUSE_SECONDS = 0.5


def main(arguments: list[str]) -> int:
    """Tend every table of the database in turn until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--orphans-after", type=float, required=True)
    options = parser.parse_args(arguments)
    database = load_catalog(catalog_directory(os.environ)).database(options.database)
    endpoints = resolve_endpoints(os.environ)
    age = timedelta(seconds=options.orphans_after)
    while True:
        for table in database.tables:
            try:
                with open_catalog(endpoints.lake) as catalog:
                    for line in tend(catalog, table, age):
                        log(line)
            except CarbonPipelinesError as error:
                log(f"{type(error).__name__}: {error}")
                if not error.retryable:
                    log(traceback.format_exc())
                    return FATAL
        time.sleep(PAUSE_SECONDS)


def tend(catalog: Catalog, table: TableSpec, orphans_after: timedelta) -> Iterator[str]:
    """One round of a table; yields what each action did."""
    loaded = load_table(catalog, table.identifier)
    assert loaded is not None
    with lake_errors(f"Iceberg table {table.label}"):
        plan = plan_compaction(load_facts(loaded), POLICY)
        if plan.groups:
            yield apply_compaction(plan, catalog).sentence()
    now = datetime.now(UTC)
    yield expire_table(catalog, table.identifier, RETENTION, now).sentence()
    rules = OrphanRules(orphans_after, may_take_running=True)
    orphans = plan_orphans(catalog, table.identifier, rules, now)
    yield apply_orphans(catalog, table.identifier, orphans, now).sentence()
    again = load_table(catalog, table.identifier)
    assert again is not None
    due = plan_removal(load_quarantines(again), QUARANTINE, now)
    apply_removal(again, due)
    yield f"{table.label}: {len(due)} quarantines removed for good"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
