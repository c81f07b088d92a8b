"""A commit's work does not grow with the number of commits before it."""

from pathlib import Path

import pytest

from carbon_pipelines.lake.deltas import STACKED_DELETES
from carbon_pipelines.lake.row_delta import MERGED_MANIFESTS
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines_tests.lake.commit_cost import Commits, mean_cost

pytestmark = pytest.mark.integration

PREVIOUS_VERSIONS = 100
"""What a new table says in write.metadata.previous-versions-max."""
SNAPSHOT_BYTES = 1_500
"""Of metadata.json for each snapshot that is kept; see docs/lake.md."""


def test_the_110th_small_commit_reads_and_writes_what_the_20th_did(tmp_path: Path) -> None:
    commits = Commits(tmp_path, rows=1_000, hot=60, changes=20)
    costs = list(commits.run(PREVIOUS_VERSIONS + 10))
    early, late = mean_cost(costs[10:20]), mean_cost(costs[-10:])

    for kind in ("manifest list", "manifest", "data", "deletes"):
        assert late.read[kind] <= 1.5 * early.read[kind], kind
        assert late.written[kind] <= 1.5 * early.written[kind], kind
    table = commits.lake.fresh()
    snapshots = len(table.metadata.snapshots)
    assert late.written["metadata.json"] <= 6_000 + SNAPSHOT_BYTES * snapshots
    assert late.read["metadata.json"] <= 3 * late.written["metadata.json"]
    files = load_table_files(table.current_snapshot(), table.io)
    assert len(files.manifests) <= 2 * MERGED_MANIFESTS
    assert max(map(len, files.deletes_by_path.values())) <= STACKED_DELETES
    kept = list(tmp_path.glob("warehouse/**/*.metadata.json"))
    assert len(kept) == PREVIOUS_VERSIONS + 1
    assert commits.lake.rows() == commits.rows()
