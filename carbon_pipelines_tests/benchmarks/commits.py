"""What the 20th, the 100th, the 300th and the 1,000th small commit in a row cost.

    python -m carbon_pipelines_tests.benchmarks.commits [--commits 300] [--rows 20000]
    python -m carbon_pipelines_tests.benchmarks.commits --upkeep --commits 1000

Twice on local files: changes of the newest rows, as most applications make them, and changes all
over the table, the worst case. Each line is the mean of ten commits (with upkeep, of fifty: it
comes in between). The table is read back by DuckDB at the end and compared with what it has to
hold.

``--upkeep`` is how a followed table lives: files are kept in memory, snapshots are thinned as
``carbon follow`` does, and every 60 commits (four minutes of them) comes a compaction, whose
seconds are not counted. Bytes are those that the store was asked for.
"""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from carbon_pipelines.maintenance.compact import apply_compaction
from carbon_pipelines.maintenance.compaction import CompactionPolicy, plan_compaction
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines.maintenance.thinning import SHARE
from carbon_pipelines_tests.lake.commit_cost import KINDS, Commits, Cost, mean_cost

CHANGES = 60
WINDOW = 10
REPORTED = (20, 100, 300, 1000)
COMPACT_EVERY, THIN_TO = 60, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=300)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--upkeep", action="store_true")
    arguments = parser.parse_args()
    window = 50 if arguments.upkeep else WINDOW
    header = [f"{way} {kind}" for way in ("read", "written") for kind in KINDS]
    _say("changes | commit | ms, CPU-ms |", " | ".join(header))
    for name, hot in (("newest rows", 4 * CHANGES), ("all over", arguments.rows)):
        with tempfile.TemporaryDirectory(prefix="carbon-benchmark-") as directory:
            commits = Commits(
                Path(directory),
                rows=arguments.rows,
                hot=hot,
                changes=CHANGES,
                keeping=arguments.upkeep,
            )
            costs: list[Cost] = []
            for cost in commits.run(arguments.commits):
                costs.append(cost)
                if arguments.upkeep:
                    _tend(commits, len(costs))
            for number in REPORTED:
                if number <= len(costs):
                    recent = costs[max(10, number - window) : number]
                    _say(name, "|", number, "|", _line(mean_cost(recent)))
            if commits.lake.rows() != commits.rows():
                message = "the table does not hold what it has to"
                raise SystemExit(message)
            _say(name, "| files at the end |", *_files(commits))


def _tend(commits: Commits, number: int) -> None:
    """Upkeep after a commit, through access of its own, as another process has it."""
    catalog, identifier = commits.lake.catalog, commits.lake.spec.identifier
    if number % COMPACT_EVERY == 0:
        facts = load_facts(catalog.load_table(identifier))
        apply_compaction(plan_compaction(facts, CompactionPolicy()), catalog)
    if len(catalog.load_table(identifier).metadata.snapshots) > THIN_TO * (1 + SHARE):
        retention = Retention(at_least=10, at_most=THIN_TO)
        expire_table(catalog, identifier, retention, datetime.now(UTC))


def _say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")


def _line(cost: Cost) -> str:
    amounts = [counter[kind] for counter in (cost.read, cost.written) for kind in KINDS]
    spent = f"{cost.seconds * 1000:.0f}, {cost.cpu_seconds * 1000:.0f}"
    return f"{spent} | " + " | ".join(f"{n / 1000:.1f} kB" for n in amounts)


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
