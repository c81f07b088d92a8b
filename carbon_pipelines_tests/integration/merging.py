"""The merging process of the crash tests: merges for ever, and kills itself where it is told to.

    python -m carbon_pipelines_tests.integration.merging DATABASE [--die MOMENT --at NUMBER]
        [--recopy]

MOMENT is before_write, after_write or after_commit; the process dies by SIGKILL at the NUMBERth
time it passes there. Errors that may be retried are, as a supervisor would; any other ends it with
status 3. With --recopy a DDL that has no effect in place is answered as an operator would: the
table is copied anew, and the reason is written to the log.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import count

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints, catalog_directory, resolve_endpoints
from carbon_pipelines.errors import (
    CarbonPipelinesError,
    SourceTableReplacedError,
    UnsupportedSchemaChangeError,
)
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.sync import sync_table

FATAL = 3
PAUSE_SECONDS = 0.1
UNFOLLOWED = (UnsupportedSchemaChangeError, SourceTableReplacedError)
"""Errors whose remedy is a re-copy."""


def main(arguments: list[str]) -> int:
    """Merge every table of the database in turn until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--die", default="")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--recopy", action="store_true")
    options = parser.parse_args(arguments)
    database = load_catalog(catalog_directory(os.environ)).database(options.database)
    endpoints = resolve_endpoints(os.environ)
    hooks = MergeHooks(**({options.die: _die_at(options.at)} if options.die else {}))
    while True:
        for table in database.tables:
            try:
                follow(table, database, endpoints, hooks, recopy=options.recopy)
            except CarbonPipelinesError as error:
                say(error)
                if not error.retryable:
                    return FATAL
        time.sleep(PAUSE_SECONDS)


def follow(
    table: TableSpec,
    database: DatabaseSpec,
    endpoints: Endpoints,
    hooks: MergeHooks | None = None,
    *,
    recopy: bool,
) -> None:
    """Sync one table; with ``recopy``, copy it anew where a DDL cannot be followed."""
    try:
        sync_table(table, database, endpoints, hooks=hooks)
    except UNFOLLOWED as error:
        if not recopy:
            raise
        say(error)
        recopy_table(table, database, endpoints)


def say(error: CarbonPipelinesError) -> None:
    """One line of the log."""
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.stderr.flush()


def _die_at(number: int) -> Callable[[], None]:
    passes = count(1)

    def pass_by() -> None:
        if next(passes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
