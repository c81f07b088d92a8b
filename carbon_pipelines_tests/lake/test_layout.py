from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    DeclaredColumnError,
    LayoutColumnGoneError,
    PartitionColumnNewError,
)
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.layout import stage_layout
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.staging import StagedCopy, publish, stage_files
from carbon_pipelines.source.leaves import Piece
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines_tests.lake.local_lake import START, LocalLake, relation, table_spec

RANGES = [[Piece(16384, 0, None)]]
BY_ID = [{"column": "id", "transform": "bucket[4]"}]
COLUMNS = {"id": "int8", "n": "int4"}
BY_N = {
    "partitioning": [{"column": "n", "transform": "identity"}],
    "sort_order": [{"column": "n", "direction": "desc"}],
}


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    """A table that is partitioned and sorted by n."""
    made = LocalLake(tmp_path, COLUMNS, ["id"], **BY_N)
    made.load([{"id": 1, "n": 5}, {"id": 2, "n": 6}])
    return made


def copy_anew(
    lake: LocalLake, shape: SourceRelation, declared: TableSpec, rows: list[dict[str, Any]]
) -> Table:
    table, layout = stage_layout(lake.fresh(), shape, declared)
    schema = layout.schema
    writer = PartitionedWriter(file_target(table, schema, layout.spec))
    writer.write(pa.Table.from_pylist(rows, schema=arrow_schema(schema)))
    staged = StagedCopy(START, RANGES, frozenset({0}), 4711, 1, {16384: 16999}, schema.schema_id)
    table = stage_files(lake.catalog, table, staged, writer.close(), schema)
    lake.spec, lake.relation = declared, shape
    return publish(lake.catalog, table, layout)


def fields(table: Table) -> list[tuple[str, str, str]]:
    """Name, column and transform of each field of the current partition spec."""
    column = table.schema().find_column_name
    return [(f.name, column(f.source_id) or "?", str(f.transform)) for f in table.spec().fields]


@pytest.mark.parametrize(
    ("columns", "declared"),
    [
        ({"id": "int8"}, {}),
        ({"id": "int8", "n": "text"}, BY_N),
        ({"id": "int8", "n": "text"}, {"partitioning": BY_ID}),
    ],
    ids=["dropped", "retyped", "retyped, partitioned by another"],
)
def test_a_copy_without_the_column_that_the_table_is_partitioned_by_is_refused_at_once(
    lake: LocalLake, columns: dict[str, str], declared: dict[str, Any]
) -> None:
    before = lake.fresh().metadata
    shape = relation(columns, ["id"], version=2)

    with pytest.raises(LayoutColumnGoneError, match=r"n, by which .* is partitioned"):
        stage_layout(lake.fresh(), shape, table_spec(["id"], **declared))

    assert lake.fresh().metadata == before


def test_a_column_that_comes_with_a_copy_partitions_only_the_next_one(lake: LocalLake) -> None:
    shape = relation({"id": "int8", "n": "int4", "kind": "text"}, ["id"], version=2)
    by_kind = table_spec(["id"], partitioning=[{"column": "kind", "transform": "identity"}])
    rows = [{"id": 7, "n": 1, "kind": "a"}, {"id": 8, "n": 1, "kind": "b"}]
    with pytest.raises(PartitionColumnNewError, match="by column kind"):
        stage_layout(lake.fresh(), shape, by_kind)

    copy_anew(lake, shape, table_spec(["id"]), rows)
    table = copy_anew(lake, shape, by_kind, rows)

    assert fields(table) == [("kind", "kind", "identity")]
    lake.merge([{"op": "u", "after": {"id": 7, "n": 1, "kind": "b"}}])
    assert lake.rows() == [(7, 1, "b"), (8, 1, "b")]
    assert lake.rows("id", "kind = 'a'") == []


def test_a_column_that_an_earlier_copy_was_partitioned_by_stays_too(lake: LocalLake) -> None:
    rows = [{"id": 7, "n": 1}]
    copy_anew(lake, lake.relation, table_spec(["id"], partitioning=BY_ID), rows)

    with pytest.raises(LayoutColumnGoneError, match=r"n, by which .* is partitioned"):
        stage_layout(lake.fresh(), relation({"id": "int8"}, ["id"]), table_spec(["id"]))


@pytest.mark.parametrize(
    ("order", "names"),
    [((), []), (({"column": "id"},), ["id"]), (BY_N["sort_order"], ["n"])],
    ids=["unsorted", "another", "the same"],
)
def test_a_copy_is_sorted_as_declared_now(
    lake: LocalLake, order: tuple[dict[str, str], ...], names: list[str]
) -> None:
    declared = table_spec(["id"], partitioning=BY_N["partitioning"], sort_order=order)

    table = copy_anew(lake, lake.relation, declared, [{"id": 7, "n": 1}])

    column = table.schema().find_column_name
    assert [column(field.source_id) for field in table.sort_order().fields] == names
    lake.merge([{"op": "c", "after": {"id": 8, "n": 1}}, {"op": "d", "before": {"id": 7}}])
    assert lake.rows() == [(8, 1)]


def test_a_copy_takes_another_partitioning_that_is_declared_and_then_the_first_again(
    lake: LocalLake,
) -> None:
    before = lake.fresh().spec()

    other = copy_anew(
        lake, lake.relation, table_spec(["id"], partitioning=BY_ID), [{"id": 7, "n": 1}]
    )
    again = copy_anew(lake, lake.relation, table_spec(["id"], **BY_N), [{"id": 7, "n": 1}])

    assert fields(other) == [("id_bucket", "id", "bucket[4]")]
    assert again.spec() == before
    assert len(again.specs()) == 2
    lake.merge([{"op": "u", "after": {"id": 7, "n": 2}}])
    assert lake.rows() == [(7, 2)]


@pytest.mark.parametrize("place", ["partitioning", "sort_order"])
def test_a_declared_column_that_the_source_has_no_more_is_named(tmp_path: Path, place: str) -> None:
    lake = LocalLake(tmp_path, COLUMNS, ["id"])
    shape = relation({"id": "int8"}, ["id"], version=2)
    before = lake.fresh().metadata

    with pytest.raises(DeclaredColumnError, match=f"column n in {place}, but"):
        stage_layout(lake.fresh(), shape, table_spec(["id"], **{place: BY_N[place]}))

    assert lake.fresh().metadata == before
