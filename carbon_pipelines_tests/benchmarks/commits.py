"""What the 20th, the 100th and the 300th small commit in a row cost.

    python -m carbon_pipelines_tests.benchmarks.commits [--commits 300] [--rows 20000]

Twice on local files: changes of the newest rows, as most applications make them, and changes all
over the table, the worst case. Each line is the mean of ten commits. The table is read back by
DuckDB at the end and compared with what it has to hold.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from carbon_pipelines_tests.lake.commit_cost import KINDS, Commits, Cost, mean_cost

CHANGES = 60
WINDOW = 10
REPORTED = (20, 100, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=REPORTED[-1])
    parser.add_argument("--rows", type=int, default=20_000)
    arguments = parser.parse_args()
    header = [f"{way} {kind}" for way in ("read", "written") for kind in KINDS]
    _say("changes | commit | ms |", " | ".join(header))
    for name, hot in (("newest rows", 4 * CHANGES), ("all over", arguments.rows)):
        with tempfile.TemporaryDirectory(prefix="carbon-benchmark-") as directory:
            commits = Commits(Path(directory), rows=arguments.rows, hot=hot, changes=CHANGES)
            costs = list(commits.run(arguments.commits))
            for number in REPORTED:
                if number <= len(costs):
                    _say(name, "|", number, "|", _line(mean_cost(costs[number - WINDOW : number])))
            if commits.lake.rows() != commits.rows():
                message = "the table does not hold what it has to"
                raise SystemExit(message)
            _say(name, "| files at the end |", *_files(commits))


def _say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")


def _line(cost: Cost) -> str:
    amounts = [counter[kind] for counter in (cost.read, cost.written) for kind in KINDS]
    return f"{cost.seconds * 1000:.0f} | " + " | ".join(f"{n / 1000:.1f} kB" for n in amounts)


def _files(commits: Commits) -> tuple[str, ...]:
    snapshot = commits.lake.fresh().current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    totals = snapshot.summary.additional_properties
    manifests = len(snapshot.manifests(commits.lake.table.io))
    return (
        f"{totals['total-data-files']} data,",
        f"{totals['total-delete-files']} deletes,",
        f"{manifests} manifests",
    )


if __name__ == "__main__":
    main()
