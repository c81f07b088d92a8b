from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Table
from pyiceberg.types import StringType

from carbon_pipelines.errors import CommitConflictError, CommitUnknownError
from carbon_pipelines.lake.connection import lake_errors
from carbon_pipelines.lake.evolution import (
    SOURCE_COLUMNS,
    arrow_schema,
    source_columns_property,
)
from carbon_pipelines.lake.layout import Layout, stage_layout
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.staging import (
    BRANCH,
    COMMIT_ATTEMPTS,
    StagedCopy,
    beside_others,
    discard_branch,
    load_staged,
    publish,
    stage_files,
)
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.source.leaves import Piece
from carbon_pipelines_tests.lake.local_lake import (
    START,
    LocalLake,
    last_sequence_numbers,
    relation,
)

RANGES = [[Piece(16384, 0, 12)], [Piece(16384, 12, None)]]
STAGED = StagedCopy(START, RANGES, frozenset({0}), 4711, 1, {16384: 16999}, 0)
NEW_SHAPE = relation({"id": "int8", "title": "text", "n": "int4"}, ["id"], version=2)


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, {"id": "int8", "name": "text"}, ["id"])
    made.load([{"id": 1, "name": "old"}])
    return made


def stage(table: Table, rows: list[dict[str, Any]], copy: StagedCopy = STAGED) -> Table:
    """Put rows of the newest schema on the branch."""
    schema = table.schemas()[max(table.schemas())]
    writer = PartitionedWriter(file_target(table, schema))
    writer.write(pa.Table.from_pylist(rows, schema=arrow_schema(schema)))
    return stage_files(table.catalog, table, copy, writer.close(), schema)


def layout_of(table: Table) -> Layout:
    """What the table has."""
    return Layout(table.schema(), table.spec(), table.sort_order(), {})


def on_branch(lake: LocalLake) -> list[dict[str, Any]]:
    """What the branch holds, as PyIceberg reads it."""
    head = lake.fresh().snapshot_by_name(BRANCH)
    assert head is not None
    return lake.fresh().scan(snapshot_id=head.snapshot_id).to_arrow().to_pylist()


def test_what_is_staged_is_not_seen_on_main(lake: LocalLake) -> None:
    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])

    assert lake.rows() == [(1, "old")]
    assert load_staged(table, "market/t") == STAGED


def test_a_staged_copy_remembers_its_last_range(lake: LocalLake) -> None:
    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    done = replace(STAGED, done=frozenset({0, 1}), last_through_lsn=5000, snapshots=2)

    table = stage(table, [{"id": 8, "name": "new"}], done)

    assert load_staged(table, "market/t") == done


def test_a_table_without_the_branch_has_nothing_staged(lake: LocalLake) -> None:
    assert load_staged(lake.fresh(), "market/t") is None


def test_publishing_replaces_rows_schema_and_columns_in_one_commit(lake: LocalLake) -> None:
    table, layout = stage_layout(lake.fresh(), NEW_SHAPE, lake.spec)
    table = stage(table, [{"id": 7, "title": "new", "n": 3}])
    before = table.metadata_location
    columns = source_columns_property(NEW_SHAPE, layout.schema)

    publish(lake.catalog, table, layout)

    fresh = lake.fresh()
    assert fresh.metadata.metadata_log[-1].metadata_file == before
    assert set(fresh.metadata.refs) == {"main"}
    assert fresh.properties[SOURCE_COLUMNS] == columns
    assert [f.name for f in fresh.schema().fields] == ["id", "title", "n"]
    assert lake.rows() == [(7, "new", 3)]


def test_a_published_snapshot_is_read_by_its_id_with_the_schema_it_was_written_in(
    lake: LocalLake,
) -> None:
    table, layout = stage_layout(lake.fresh(), NEW_SHAPE, lake.spec)
    table = stage(table, [{"id": 7, "title": "new", "n": 3}])
    table = publish(lake.catalog, table, layout)

    by_id = table.scan(snapshot_id=table.current_snapshot().snapshot_id).to_arrow()

    assert by_id.to_pylist() == [{"id": 7, "title": "new", "n": 3}]


def test_a_staged_schema_has_an_id_of_its_own_and_is_not_current(lake: LocalLake) -> None:
    table, layout = stage_layout(lake.fresh(), NEW_SHAPE, lake.spec)

    assert [s.schema_id for s in table.metadata.schemas] == [0, 1]
    assert (layout.schema.schema_id, table.metadata.current_schema_id) == (1, 0)


def test_a_layout_that_the_table_has_already_is_used_as_it_is(lake: LocalLake) -> None:
    before = lake.fresh()

    table, layout = stage_layout(before, lake.relation, lake.spec)

    assert table.metadata_location == before.metadata_location
    assert (layout.schema, layout.spec) == (before.schema(), before.spec())


def test_publishing_takes_the_place_of_what_was_merged_meanwhile(lake: LocalLake) -> None:
    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    lake.merge([{"op": "c", "after": {"id": 2, "name": "meanwhile"}}])

    publish(lake.catalog, table, layout_of(table))

    assert lake.rows() == [(7, "new")]
    assert load_progress(lake.fresh().metadata, "market/t") == STAGED.progress
    lake.merge([{"op": "u", "after": {"id": 7, "name": "newer"}}])
    assert lake.fresh().scan().to_arrow().to_pylist() == [{"id": 7, "name": "newer"}]


@pytest.mark.parametrize("merges", [1, 3])
def test_a_range_gives_way_to_merges_and_is_staged_once(lake: LocalLake, merges: int) -> None:
    begun, ended = lake.fresh(), stage(lake.fresh(), [{"id": 7, "name": "new"}])
    discard_branch(lake.catalog, ended)
    for turn in range(merges):
        lake.merge([{"op": "u", "after": {"id": 1, "name": f"turn {turn}"}}])

    table = stage(begun, [{"id": 8, "name": "first"}])
    lake.merge([{"op": "u", "after": {"id": 1, "name": "last"}}])
    stage(table, [{"id": 9, "name": "second"}])

    assert sorted(row["id"] for row in on_branch(lake)) == [8, 9]
    assert lake.fresh().scan().to_arrow().to_pylist() == [{"id": 1, "name": "last"}]
    numbers = last_sequence_numbers(lake.fresh())
    assert numbers == sorted(numbers)


def test_a_range_gives_way_to_another_copy_that_took_the_branch(lake: LocalLake) -> None:
    ours = stage(lake.fresh(), [{"id": 7, "name": "ours"}])
    stage(discard_branch(lake.catalog, lake.fresh()), [{"id": 8, "name": "theirs"}])

    with pytest.raises(CommitConflictError, match="market/t"):
        stage(ours, [{"id": 9, "name": "ours"}])

    assert on_branch(lake) == [{"id": 8, "name": "theirs"}]


def test_a_copy_that_begins_gives_way_to_another_that_began_meanwhile(lake: LocalLake) -> None:
    ours = lake.fresh()
    stage(lake.fresh(), [{"id": 8, "name": "theirs"}])

    with pytest.raises(CommitConflictError, match="market/t"):
        stage(ours, [{"id": 9, "name": "ours"}])

    assert on_branch(lake) == [{"id": 8, "name": "theirs"}]


def test_a_table_that_always_moves_on_is_a_conflict(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise CommitFailedException

    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    monkeypatch.setattr(lake.catalog, "commit_table", lose)

    with pytest.raises(CommitConflictError, match=f"{COMMIT_ATTEMPTS} times"):
        publish(lake.catalog, table, layout_of(table))

    assert lake.rows() == [(1, "old")]


def test_files_are_not_staged_in_a_table_that_was_created_again(lake: LocalLake) -> None:
    ours = lake.fresh()
    lake.catalog.drop_table(lake.spec.identifier)
    create_table(lake.catalog, lake.spec, lake.relation)

    with pytest.raises(CommitConflictError, match="market/t"):
        stage(ours, [{"id": 9, "name": "ours"}])

    assert lake.rows() == []


@pytest.mark.parametrize("error", [CommitStateUnknownException("502"), CommitFailedException("?")])
def test_a_publication_whose_answer_was_lost_is_found(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    commit = lake.catalog.commit_table

    def lose_answer(*arguments: Any) -> None:
        commit(*arguments)
        raise error

    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    monkeypatch.setattr(lake.catalog, "commit_table", lose_answer)

    published = publish(lake.catalog, table, layout_of(table))

    assert published.metadata == lake.fresh().metadata
    assert lake.rows() == [(7, "new")]


def test_a_publication_without_an_answer_that_is_not_there_is_unknown(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise CommitStateUnknownException

    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    monkeypatch.setattr(lake.catalog, "commit_table", lose)

    with pytest.raises(CommitUnknownError) as unknown:
        publish(lake.catalog, table, layout_of(table))

    assert unknown.value.retryable
    assert lake.rows() == [(1, "old")]


def test_a_schema_is_staged_with_ids_that_a_merge_has_not_taken_meanwhile(lake: LocalLake) -> None:
    planned = lake.fresh()
    with lake.fresh().update_schema() as update:
        update.add_column("theirs", StringType())

    table, layout = beside_others(
        lake.catalog,
        planned,
        lambda table: stage_layout(table, NEW_SHAPE, lake.spec),
    )

    theirs = table.schema().find_field("theirs").field_id
    assert theirs not in {field.field_id for field in layout.schema.fields}
    assert len(table.metadata.schemas) == len({s.schema_id for s in table.metadata.schemas}) == 3


def test_publishing_gives_way_to_another_copy_that_took_the_branch(lake: LocalLake) -> None:
    ours = stage(lake.fresh(), [{"id": 7, "name": "ours"}])
    stage(discard_branch(lake.catalog, lake.fresh()), [{"id": 8, "name": "half of theirs"}])

    with pytest.raises(CommitConflictError, match="market/t"):
        publish(lake.catalog, ours, layout_of(ours))

    assert lake.rows() == [(1, "old")]


def test_a_copy_that_is_given_up_leaves_main_and_nothing_to_resume(lake: LocalLake) -> None:
    table = discard_branch(lake.catalog, stage(lake.fresh(), [{"id": 7, "name": "new"}]))

    assert load_staged(table, "market/t") is None
    assert lake.rows() == [(1, "old")]


def test_giving_up_a_copy_that_somebody_else_gave_up_is_a_conflict(lake: LocalLake) -> None:
    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    discard_branch(lake.catalog, lake.fresh())

    with pytest.raises(CommitConflictError), lake_errors("Iceberg table market/t"):
        discard_branch(lake.catalog, table)
