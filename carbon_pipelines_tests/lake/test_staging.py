from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from carbon_pipelines.errors import CommitConflictError
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import lake_errors
from carbon_pipelines.lake.evolution import (
    SOURCE_COLUMNS,
    arrow_schema,
    plan_renewed_schema,
    source_columns_property,
)
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.staging import (
    BRANCH,
    StagedCopy,
    discard_branch,
    load_staged,
    publish,
    stage_schema,
)
from carbon_pipelines_tests.lake.local_lake import START, LocalLake, relation

STAGED = StagedCopy(START, [(0, 12), (12, None)], frozenset({0}), 4711, 1)
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
    head = table.snapshot_by_name(BRANCH)
    changes = FileChanges(writer.close(), manifests=head.manifests(table.io) if head else ())
    committed = commit_files(table, changes, copy.to_properties(), branch=BRANCH, schema=schema)
    assert committed is not None
    return committed.table


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
    renewed = plan_renewed_schema(lake.fresh(), NEW_SHAPE, lake.spec)
    table, schema = stage_schema(lake.fresh(), renewed)
    table = stage(table, [{"id": 7, "title": "new", "n": 3}])
    before = table.metadata_location
    columns = source_columns_property(NEW_SHAPE, schema)

    publish(table, "market/t", schema, {SOURCE_COLUMNS: columns})

    fresh = lake.fresh()
    assert fresh.metadata.metadata_log[-1].metadata_file == before
    assert set(fresh.metadata.refs) == {"main"}
    assert fresh.properties[SOURCE_COLUMNS] == columns
    assert [f.name for f in fresh.schema().fields] == ["id", "title", "n"]
    assert lake.rows() == [(7, "new", 3)]


def test_a_published_snapshot_is_read_by_its_id_with_the_schema_it_was_written_in(
    lake: LocalLake,
) -> None:
    renewed = plan_renewed_schema(lake.fresh(), NEW_SHAPE, lake.spec)
    table, schema = stage_schema(lake.fresh(), renewed)
    table = publish(stage(table, [{"id": 7, "title": "new", "n": 3}]), "market/t", schema, {})

    by_id = table.scan(snapshot_id=table.current_snapshot().snapshot_id).to_arrow()

    assert by_id.to_pylist() == [{"id": 7, "title": "new", "n": 3}]


def test_a_staged_schema_has_an_id_of_its_own_and_is_not_current(lake: LocalLake) -> None:
    renewed = plan_renewed_schema(lake.fresh(), NEW_SHAPE, lake.spec)

    table, schema = stage_schema(lake.fresh(), renewed)

    assert [s.schema_id for s in table.metadata.schemas] == [0, 1]
    assert (schema.schema_id, table.metadata.current_schema_id) == (1, 0)
    assert stage_schema(table, renewed) == (table, schema)


def test_publishing_gives_way_to_a_commit_on_main(lake: LocalLake) -> None:
    table = stage(lake.fresh(), [{"id": 7, "name": "new"}])
    lake.merge([{"op": "c", "after": {"id": 2, "name": "meanwhile"}}])

    with pytest.raises(CommitConflictError, match="market/t"):
        publish(table, "market/t", table.schema(), {})

    assert lake.rows() == [(1, "old"), (2, "meanwhile")]


def test_publishing_gives_way_to_another_copy_that_took_the_branch(lake: LocalLake) -> None:
    ours = stage(lake.fresh(), [{"id": 7, "name": "ours"}])
    stage(discard_branch(lake.catalog, lake.fresh()), [{"id": 8, "name": "half of theirs"}])

    with pytest.raises(CommitConflictError, match="market/t"):
        publish(ours, "market/t", ours.schema(), {})

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
