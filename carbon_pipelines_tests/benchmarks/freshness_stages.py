"""How old changes are at each stage, up to where people look: Trino's view and a mart.

    python -m carbon_pipelines_tests.benchmarks.freshness_stages [--changes N] [--pause SECONDS]

The sample market, small, on a temporary stack with Trino (821 MB to download). Changes are made one
after another; capture and follower run all the time, and certifying, building the mart and reading
back in Trino go round one after the other, as fast as they can. Every stage is read back. At the
end Trino and DuckDB both have to find all of the changes.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from carbon_pipelines.embedded.endpoints import cache_directory
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.integration.mart_market import open_market
from carbon_pipelines_tests.integration.stage_times import StageTimes, in_words
from carbon_pipelines_tests.oracle import differences


def main() -> None:
    """Make the changes and print how old they were at each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--pause", type=float, default=1.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carbon-benchmark-") as home:
        stack = Stack(Path(home), cache_directory(os.environ))
        try:
            stack.up(lambda _: None, with_=frozenset({"trino"}))
            with open_market(stack) as market:
                market.certify()
                times = StageTimes(market)
                began = time.monotonic()
                ages = times.run(arguments.changes, arguments.pause)
                rounds = len(times.counted["read back"].seen) - 1
                differing = differences(market.endpoints, times.table)
                _say(
                    f"{arguments.changes} changes in {time.monotonic() - began:.0f} s, {rounds} "
                    f"rounds of certifying and building, {len(times.unproven)} more in vain; "
                    f"{differing} rows differ"
                )
                _say(f"{'seconds':<12} {'half':>7} {'99/100':>7} {'all':>7}")
                for line in (*in_words(ages), *times.unproven):
                    _say(line)
        finally:
            stack.down(lambda _: None)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
