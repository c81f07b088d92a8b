"""Many delete files of good data files become few, and the rows stay what they were."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pyiceberg.table.snapshots import Operation

from carbon_pipelines.errors import CompactionInvariantError
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.delete_file import write_delete_file
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance import merged_deletes
from carbon_pipelines.maintenance.compact import CompactionHooks
from carbon_pipelines.maintenance.compaction import CompactionPolicy
from carbon_pipelines.maintenance.table_facts import TARGET_PROPERTY, load_facts
from carbon_pipelines_tests.lake.local_lake import LocalLake, duckdb_rows
from carbon_pipelines_tests.maintenance.compacting import compact, delete, insert, plan, update

ROWS = 1_000
USUAL = CompactionPolicy()


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    """Three data files of the target's size, of which nothing is deleted yet."""
    made = LocalLake(tmp_path, {"id": "int8", "note": "text"}, ["id"])
    with made.fresh().transaction() as transaction:
        transaction.set_properties({TARGET_PROPERTY: "10000"})
    for start in range(0, 3 * ROWS, ROWS):
        made.load([{"id": n, "note": f"note {n}"} for n in range(start, start + ROWS)])
    return made


def add_deletes(lake: LocalLake, *named: Mapping[str, np.ndarray]) -> None:
    """Commit delete files as another engine does: one for each of ``named``."""
    table = lake.fresh()
    files = load_table_files(table.current_snapshot(), table.io)
    first = files.data[0].file
    written = [
        write_delete_file(table.io, table.location_provider(), one, first.spec_id, first.partition)
        for one in named
    ]
    changes = FileChanges(added_deletes=written, manifests=files.manifests)
    assert commit_files(table, changes, lake.progress.to_properties())


def data_paths(lake: LocalLake) -> list[str]:
    """In the order in which they were written."""
    files = load_facts(lake.fresh()).files
    return [file.path for file in sorted(files, key=lambda one: one.sequence_number)]


def visible(lake: LocalLake) -> list[tuple]:
    return sorted(duckdb_rows(lake.fresh()))


def test_own_delete_files_of_a_good_file_become_one_and_nothing_else_changes(
    lake: LocalLake,
) -> None:
    paths = data_paths(lake)
    add_deletes(lake, *({paths[0]: np.array([n, 100 + n])} for n in range(12)))
    add_deletes(lake, {paths[0]: np.array([5, 900])}, {paths[1]: np.array([7])})
    before, progress = visible(lake), load_progress(lake.fresh().metadata, "market/t")
    assert len(before) == 3 * ROWS - 26

    done = compact(lake, USUAL)

    assert (done.removed_files, done.written_bytes) == (0, 0)
    assert (done.removed_delete_files, done.added_delete_files) == (13, 1)
    assert visible(lake) == before
    assert data_paths(lake) == paths
    table = lake.fresh()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation == Operation.REPLACE
    assert snapshot.summary["total-position-deletes"] == "26"
    assert load_progress(table.metadata, "market/t") == progress
    assert not plan(table, USUAL)

    lake.merge([delete(id=901), insert(id=9_000, note="new")])
    assert len(visible(lake)) == len(before)


def test_shared_delete_files_become_one_for_each_data_file(lake: LocalLake) -> None:
    paths = data_paths(lake)
    gone = f"{paths[0]}.gone"
    add_deletes(
        lake,
        *({path: np.array([n, 500]) for path in [*paths, gone]} for n in range(15)),
        {paths[2]: np.array([800])},
    )
    before = visible(lake)
    assert len(before) == 3 * (ROWS - 16) - 1

    done = compact(lake, USUAL)

    assert (done.removed_delete_files, done.added_delete_files) == (16, 3)
    assert visible(lake) == before
    assert [file.delete_files for file in load_facts(lake.fresh()).files] == [1, 1, 1]
    assert not plan(lake.fresh(), USUAL)


def test_a_merge_that_comes_first_is_kept_and_no_row_comes_back(lake: LocalLake) -> None:
    paths = data_paths(lake)
    add_deletes(lake, *({path: np.array([n]) for path in paths[:2]} for n in range(20)))
    turns = [[delete(id=500), update(id=501, note="changed")], [delete(id=502), delete(id=1_500)]]

    def others() -> None:
        if turns:
            lake.merge(turns.pop())

    done = compact(lake, USUAL, hooks=CompactionHooks(before_commit=others))

    assert done.conflicts == 2
    rows = dict(visible(lake))
    gone = {500, 502, 1_500, *range(20), *range(ROWS, ROWS + 20)}
    assert rows.keys() == set(range(3 * ROWS)) - gone
    assert rows[501] == "changed"
    assert max(file.delete_files for file in load_facts(lake.fresh()).files) <= 1


def test_a_merged_file_that_names_other_rows_is_not_committed(
    lake: LocalLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = data_paths(lake)
    add_deletes(lake, *({paths[0]: np.array([n])} for n in range(20)))
    before, files = lake.fresh().metadata_location, set(tmp_path.rglob("*.parquet"))

    def lossy(io, locations, positions, *rest):
        return write_delete_file(io, locations, {p: n[1:] for p, n in positions.items()}, *rest)

    monkeypatch.setattr(merged_deletes, "write_delete_file", lossy)
    with pytest.raises(CompactionInvariantError, match=r"deleted rows of .*: 20 .*, 19 "):
        compact(lake, USUAL)
    assert lake.fresh().metadata_location == before
    assert set(tmp_path.rglob("*.parquet")) == files
