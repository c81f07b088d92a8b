from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.snapshots import Operation
from pyiceberg.typedef import Record

from carbon_pipelines.errors import (
    CommitUnknownError,
    CompactionInvariantError,
    SourceFileMissingError,
    TargetSizeError,
)
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance import compact as compact_module
from carbon_pipelines.maintenance.compact import CompactionHooks
from carbon_pipelines.maintenance.compaction import CompactionPolicy
from carbon_pipelines.maintenance.health import judge_health
from carbon_pipelines.maintenance.rewrite import Fingerprinter
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines.maintenance.turns import turn_at
from carbon_pipelines_tests.lake.local_lake import LocalLake, duckdb_rows
from carbon_pipelines_tests.maintenance.compacting import (
    PassingClock,
    compact,
    delete,
    files,
    insert,
    load_each,
    plan,
    update,
)

COLUMNS = {"id": "int8", "note": "text"}


def rows(start: int, stop: int) -> list[dict]:
    return [{"id": n, "note": f"note {n}"} for n in range(start, stop)]


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    """Six files of ten rows, of which some were changed and some deleted."""
    made = LocalLake(tmp_path, COLUMNS, ["id"])
    load_each(made, [rows(n * 10, n * 10 + 10) for n in range(6)])
    made.merge([update(id=3, note="changed"), delete(id=14), delete(id=35), insert(id=99, note="")])
    return made


def test_files_become_one_with_the_same_rows_and_no_deletes(lake: LocalLake) -> None:
    before = lake.rows()

    done = compact(lake)

    assert lake.rows() == before
    facts = load_facts(lake.fresh())
    assert (len(facts.files), facts.delete_files, facts.files[0].rows) == (1, 0, 59)
    assert (done.groups, done.removed_files, done.added_files) == (1, 7, 1)
    assert (done.applied_deletes, done.removed_delete_files, done.left) == (3, 3, ())


def test_the_snapshot_replaces_files_alone_and_carries_the_progress(lake: LocalLake) -> None:
    before = load_progress(lake.fresh().metadata, "t")

    compact(lake)

    table = lake.fresh()
    summary = table.current_snapshot().summary
    assert summary.operation == Operation.REPLACE
    assert summary["total-records"] == "59"
    assert summary["total-delete-files"] == "0"
    assert summary["carbon.compacted_files"] == "7"
    assert load_progress(table.metadata, "t") == before


def test_what_was_compacted_is_at_rest(lake: LocalLake) -> None:
    compact(lake)
    head = lake.fresh().metadata.current_snapshot_id

    done = compact(lake)

    assert (done.snapshot_ids, done.removed_files) == ((), 0)
    assert lake.fresh().metadata.current_snapshot_id == head


def test_merges_go_on_from_a_compacted_table(lake: LocalLake) -> None:
    compact(lake)

    lake.merge([update(id=3, note="again"), delete(id=0), insert(id=100, note="new")])

    found = dict(lake.rows())
    assert (found[3], found[100], 0 in found, len(found)) == ("again", "new", False, 59)


def test_rows_deleted_while_they_are_written_do_not_come_back(lake: LocalLake) -> None:
    def meanwhile() -> None:
        lake.merge([delete(id=20), update(id=21, note="meanwhile"), delete(id=3)])

    done = compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    found = dict(lake.rows())
    assert {20, 3, 14}.isdisjoint(found)
    assert (found[21], len(found), done.moved_deletes, done.left) == ("meanwhile", 57, 3, ())
    assert files(lake.fresh()) == 2


def test_a_commit_that_lost_its_attempt_takes_the_deletes_along(lake: LocalLake) -> None:
    left = [delete(id=40), delete(id=41)]

    def meanwhile() -> None:
        if left:
            lake.merge([left.pop()])

    done = compact(lake, hooks=CompactionHooks(before_commit=meanwhile))

    found = dict(lake.rows())
    assert {40, 41}.isdisjoint(found)
    assert (len(found), done.conflicts, done.moved_deletes) == (57, 2, 2)


def test_a_file_whose_last_row_goes_meanwhile_takes_its_rows_along(lake: LocalLake) -> None:
    def meanwhile() -> None:
        lake.merge([delete(id=n) for n in range(50, 60)])

    done = compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert max(n for n, _ in lake.rows() if n < 99) == 49
    assert (done.moved_deletes, done.left) == (10, ())


def test_a_group_that_loses_most_of_its_rows_meanwhile_is_left_for_another_plan(
    lake: LocalLake,
) -> None:
    def meanwhile() -> None:
        lake.merge([delete(id=n) for n in range(45)])

    done = compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert done.snapshot_ids == ()
    assert "42 of its 59 rows" in done.left[0][1] or "43 of its 59 rows" in done.left[0][1]
    assert len(lake.rows()) == 16
    assert compact(lake).groups == 1


def test_a_table_that_was_emptied_meanwhile_stays_empty(lake: LocalLake) -> None:
    def meanwhile() -> None:
        lake.merge([{"op": "t"}])

    done = compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert lake.rows() == []
    assert done.left[0][1] == "all of its files are gone from the table"


def test_files_that_another_compaction_took_meanwhile_are_not_doubled(lake: LocalLake) -> None:
    before = lake.rows()

    def meanwhile() -> None:
        assert compact(lake).groups == 1

    done = compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert lake.rows() == before
    assert done.left == ((done.left[0][0], "all of its files are gone from the table"),)


def test_a_foreign_append_meanwhile_is_kept(lake: LocalLake) -> None:
    def meanwhile() -> None:
        table = lake.fresh()
        table.append(table.scan(row_filter="id = 5").to_arrow())

    compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert len([n for n, _ in lake.rows() if n == 5]) == 2


def test_files_of_an_abandoned_attempt_are_removed(lake: LocalLake) -> None:
    def meanwhile() -> None:
        lake.merge([{"op": "t"}])

    location = Path(lake.fresh().location().removeprefix("file://")) / "data"
    before = set(location.rglob("*.parquet"))

    compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert set(location.rglob("*.parquet")) == before


def test_a_group_that_is_not_the_same_rows_is_given_up_with_evidence(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that gets lost on its way: the first batch is summed up, and not written."""
    from carbon_pipelines.maintenance import rewrite

    whole = rewrite._numbered

    def lossy(batches, before: Fingerprinter, origin):
        numbered = whole(batches, before, origin)
        next(numbered)
        yield from numbered

    monkeypatch.setattr(rewrite, "_numbered", lossy)
    before = lake.rows()
    location = Path(lake.fresh().location().removeprefix("file://")) / "data"
    there = set(location.rglob("*.parquet"))

    with pytest.raises(CompactionInvariantError, match=r"rows: 59 .* 49") as raised:
        compact(lake)

    assert len(raised.value.files) == 7
    assert lake.rows() == before
    assert set(location.rglob("*.parquet")) == there


def test_a_process_that_dies_before_the_commit_leaves_the_table_and_the_next_run_finishes(
    lake: LocalLake,
) -> None:
    before = lake.rows()

    def die() -> None:
        raise KeyboardInterrupt

    for hooks in (
        CompactionHooks(before_write=die),
        CompactionHooks(after_write=die),
        CompactionHooks(before_commit=die),
        CompactionHooks(after_commit=die),
    ):
        with pytest.raises(KeyboardInterrupt):
            compact(lake, hooks=hooks)
        assert lake.rows() == before

    assert files(lake.fresh()) == 1


def test_dangling_delete_files_go_in_a_commit_of_their_own(lake: LocalLake) -> None:
    """A foreign writer takes data files away and leaves their deletes behind."""
    table = lake.fresh()
    found = load_table_files(table.current_snapshot(), table.io)
    progress = load_progress(table.metadata, "t")
    changes = FileChanges(removed_data=found.data, manifests=found.manifests)
    commit_files(table, changes, progress.to_properties())
    load_each(lake, [rows(0, 5)])
    before = lake.rows()
    dangling = load_facts(lake.fresh()).dangling
    assert dangling

    done = compact(lake)

    assert done.removed_delete_files == len(dangling)
    assert load_facts(lake.fresh()).delete_files == 0
    assert lake.rows() == before


def test_a_delete_file_of_several_data_files_goes_with_the_last_of_them(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, COLUMNS, ["id"])
    load_each(lake, [rows(n * 10, n * 10 + 10) for n in range(70)])
    lake.merge([delete(id=n * 10) for n in range(70)])
    before = lake.rows()
    assert len(load_table_files(lake.fresh().current_snapshot(), lake.table.io).deletes) == 1

    compact(lake, CompactionPolicy(max_groups=1, max_group_bytes=50_000, target_bytes=20_000))
    assert load_facts(lake.fresh()).delete_files == 1
    assert lake.rows() == before

    compact(lake, CompactionPolicy(min_files=2, target_bytes=20_000))
    assert load_facts(lake.fresh()).delete_files == 0
    assert lake.rows() == before


def test_the_next_commit_waits_until_others_had_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact_module, "GROUPS_PER_COMMIT", 1)
    field = {"column": "id", "transform": "truncate[100]"}
    lake = LocalLake(tmp_path, COLUMNS, ["id"], partitioning=[field])
    load_each(lake, [rows(n * 100, n * 100 + 5) for n in (0, 1, 0, 1, 0, 1)])
    clock = PassingClock()

    done = compact(lake, clock=clock)

    assert len(done.snapshot_ids) == 2
    assert clock.slept.total_seconds() >= 1


def test_a_commit_of_others_ends_the_wait(lake: LocalLake) -> None:
    assert turn_at(lake.fresh().metadata) is None
    compact(lake)
    assert turn_at(lake.fresh().metadata) is not None

    lake.merge([delete(id=1)])

    assert turn_at(lake.fresh().metadata) is None


def test_old_snapshots_still_read_as_they_did(lake: LocalLake) -> None:
    before = lake.fresh().metadata.current_snapshot_id
    expected = lake.rows()

    compact(lake)
    lake.merge([delete(id=1)])

    scanned = lake.fresh().scan(snapshot_id=before).to_arrow().to_pylist()
    assert sorted((row["id"], row["note"]) for row in scanned) == sorted(expected)
    assert len(duckdb_rows(lake.fresh())) == len(expected) - 1


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_whose_answer_was_lost_is_resolved_by_its_snapshot_id(
    lake: LocalLake,
    monkeypatch: pytest.MonkeyPatch,
    *,
    landed: bool,
) -> None:
    before = lake.rows()
    commit = lake.catalog.commit_table
    lost = [CommitStateUnknownException("502")]

    def answerless(*arguments: Any, **named: Any) -> Any:
        if not lost:
            return commit(*arguments, **named)
        if landed:
            commit(*arguments, **named)
        raise lost.pop()

    monkeypatch.setattr(lake.catalog, "commit_table", answerless)
    if landed:
        assert len(compact(lake).snapshot_ids) == 1
    else:
        with pytest.raises(CommitUnknownError):
            compact(lake)
        assert lake.rows() == before
        assert len(compact(lake).snapshot_ids) == 1

    assert lake.rows() == before
    assert files(lake.fresh()) == 1


def test_a_file_that_is_not_in_the_store_is_named(lake: LocalLake) -> None:
    first = load_facts(lake.fresh()).files[0].path
    Path(first.removeprefix("file://")).unlink()

    with pytest.raises(SourceFileMissingError, match=first.rsplit("/", 1)[-1]):
        compact(lake)


def equality_deletes(lake: LocalLake) -> None:
    """A delete by value, as other engines write them: ids of 7 are gone."""
    table = lake.fresh()
    files = load_table_files(table.current_snapshot(), table.io)
    path = f"{table.location()}/data/by-value.parquet"
    field = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})
    pq.write_table(pa.table([[7]], schema=pa.schema([field])), path.removeprefix("file://"))
    by_value = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
        equality_ids=[1],
    )
    by_value.spec_id = 0
    changes = FileChanges(added_deletes=[by_value], manifests=files.manifests)
    commit_files(table, changes, load_progress(table.metadata, "t").to_properties())


def test_a_table_that_another_engine_deletes_from_by_value_is_left_alone(lake: LocalLake) -> None:
    def meanwhile() -> None:
        equality_deletes(lake)

    done = compact(lake, hooks=CompactionHooks(after_write=meanwhile))

    assert done.snapshot_ids == ()
    assert "another engine wrote equality deletes" in done.left[0][1]
    assert 7 not in dict(lake.rows())
    assert not plan(lake.fresh())


def test_facts_of_a_table_come_from_its_manifests(lake: LocalLake) -> None:
    facts = load_facts(lake.fresh())

    assert [one.rows for one in facts.files] == [2, *[10] * 6]
    assert sorted(one.deleted_rows for one in facts.files) == [0, 0, 0, 0, 1, 1, 1]
    assert (facts.label, facts.delete_files, facts.delete_rows) == ("market/t", 3, 3)
    assert facts.target_bytes == 128 * 1024 * 1024
    assert facts.snapshots == 8
    assert min(facts.manifests, facts.manifest_bytes, facts.metadata_bytes) > 0
    assert judge_health(facts).rows == 62


def test_a_target_size_that_is_none_is_refused(lake: LocalLake) -> None:
    with lake.fresh().transaction() as transaction:
        transaction.set_properties({"write.target-file-size-bytes": "0"})

    with pytest.raises(TargetSizeError, match="'0', which is no number of bytes above zero"):
        compact(lake)
