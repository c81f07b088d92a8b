"""A commit's work does not grow with the number of commits before it."""

from pathlib import Path

import pytest

from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines_tests.lake.commit_cost import Commits, mean_cost

pytestmark = pytest.mark.integration


def test_the_60th_commit_to_the_newest_rows_reads_and_writes_what_the_20th_did(
    tmp_path: Path,
) -> None:
    commits = Commits(tmp_path, rows=1_000, hot=60, changes=20)
    costs = list(commits.run(60))
    early, late = mean_cost(costs[10:20]), mean_cost(costs[50:])

    for kind in ("manifest list", "manifest", "data", "deletes"):
        assert late.read[kind] <= 1.5 * early.read[kind], kind
        assert late.written[kind] <= 1.5 * early.written[kind], kind
    assert late.written["metadata.json"] <= 6_000 + 1_500 * 60  # grows with snapshots alone
    assert late.read["metadata.json"] <= 3 * late.written["metadata.json"]
    assert commits.lake.rows() == commits.rows()


def test_neither_manifests_nor_deletes_of_a_file_nor_versions_of_the_metadata_pile_up(
    tmp_path: Path,
) -> None:
    commits = Commits(tmp_path, rows=1_000, hot=1_000, changes=5)
    costs = list(commits.run(110))

    table = commits.lake.fresh()
    files = load_table_files(table.current_snapshot(), table.io)
    assert len(files.manifests) < 64  # of data and of deletes
    assert max(map(len, files.deletes_by_path.values())) <= 4
    assert max(cost.written["manifest list"] for cost in costs) < 8_000
    assert len(list(tmp_path.glob("warehouse/**/*.metadata.json"))) == 101
    assert commits.lake.rows() == commits.rows()
