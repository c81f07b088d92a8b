"""The merging process of the crash tests: merges for ever, and kills itself where it is told to.

    python -m carbon_pipelines_tests.integration.merging DATABASE [--die MOMENT --at NUMBER]

MOMENT is before_write, after_write or after_commit; the process dies by SIGKILL at the NUMBERth
time it passes there. Errors that may be retried are, as a supervisor would; any other ends it with
status 3. Tables come in another order each time, so that none is left for last by every process
that dies. What a sync reports is written to the log.
"""

import argparse
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from itertools import count

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.embedded.endpoints import catalog_directory, resolve_endpoints
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.sync import sync_table

FATAL = 3
PAUSE_SECONDS = 0.1


def main(arguments: list[str]) -> int:
    """Merge every table of the database in turn until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--die", default="")
    parser.add_argument("--at", type=int, default=0)
    options = parser.parse_args(arguments)
    database = load_catalog(catalog_directory(os.environ)).database(options.database)
    endpoints = resolve_endpoints(os.environ)
    hooks = MergeHooks(**({options.die: _die_at(options.at)} if options.die else {}))
    while True:
        for table in random.sample(database.tables, len(database.tables)):
            try:
                sync_table(table, database, endpoints, hooks=hooks, report=log)
            except CarbonPipelinesError as error:
                log(f"{type(error).__name__}: {error}")
                if not error.retryable:
                    log(traceback.format_exc())
                    return FATAL
        time.sleep(PAUSE_SECONDS)


def log(line: str) -> None:
    """One line of the log."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _die_at(number: int) -> Callable[[], None]:
    passes = count(1)

    def pass_by() -> None:
        if next(passes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
