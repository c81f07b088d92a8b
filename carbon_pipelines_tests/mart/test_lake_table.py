from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import MartColumnTypeError
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.mart import lake_table
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines_tests.lake.local_lake import duckdb_rows, open_local

MART = ("mart", "prices")
BEFORE = pa.table(
    {
        "day": pa.array(["a", "b", None]),
        "price": pa.array([Decimal("1.50"), None, Decimal("-0.01")], pa.decimal128(12, 2)),
        "quotes": pa.array([1, 2, 3], pa.int64()),
    }
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_local(tmp_path)


def publish(catalog: Catalog, rows: pa.Table, **properties: str) -> bool:
    return replace_rows(catalog, MART, lambda: rows.to_reader(max_chunksize=2), properties)


def mart(catalog: Catalog) -> Table:
    return catalog.load_table(MART)


def shown(catalog: Catalog) -> list[tuple[object, ...]]:
    return sorted(duckdb_rows(mart(catalog)), key=repr)


def rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def test_a_mart_comes_with_its_rows_in_one_commit_that_says_what_it_is_made_of(
    catalog: Catalog,
) -> None:
    assert publish(catalog, BEFORE, **{"carbon.built_from": "{}"})

    table = mart(catalog)
    [snapshot] = table.metadata.snapshots
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["carbon.built_from"] == "{}"
    assert table.metadata.metadata_log == []
    assert shown(catalog) == rows_of(BEFORE)


def with_rubbish_where_null(column: pa.ChunkedArray) -> pa.Array:
    """The same values, and other bytes where there is none."""
    array = column.combine_chunks()
    filled = array.fill_null(Decimal("9.99"))
    validity, values = array.buffers()[0], filled.buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), [validity, values])


def test_nulls_are_no_values(catalog: Catalog) -> None:
    publish(catalog, BEFORE)
    filled = BEFORE.set_column(1, "price", BEFORE.column("price").fill_null(Decimal("1.50")))

    assert publish(catalog, filled)
    assert shown(catalog) == rows_of(filled)


def test_the_same_rows_again_are_no_commit(catalog: Catalog) -> None:
    publish(catalog, BEFORE)
    before = mart(catalog).metadata_location
    again = BEFORE.set_column(1, "price", with_rubbish_where_null(BEFORE.column("price")))

    assert again == BEFORE
    assert not publish(catalog, again)
    assert mart(catalog).metadata_location == before


def test_other_rows_take_the_place_of_all_in_one_snapshot(catalog: Catalog) -> None:
    publish(catalog, BEFORE)
    after = BEFORE.slice(1)

    assert publish(catalog, after)

    first, second = mart(catalog).metadata.snapshots
    assert second.parent_snapshot_id == first.snapshot_id
    assert shown(catalog) == rows_of(after)


def test_a_mart_without_rows_is_empty_and_not_as_before(catalog: Catalog) -> None:
    publish(catalog, BEFORE)

    assert publish(catalog, BEFORE.slice(0, 0))
    assert shown(catalog) == []
    assert publish(catalog, BEFORE)
    assert shown(catalog) == rows_of(BEFORE)


def test_columns_come_go_and_change_their_types_with_the_rows(catalog: Catalog) -> None:
    publish(catalog, BEFORE)
    ids = {field.name: field.field_id for field in mart(catalog).schema().fields}
    after = pa.table(
        {
            "hub": pa.array(["TTF", None]),
            "day": pa.array(["c", "d"]),
            "price": pa.array([Decimal("1.12345"), Decimal(2)], pa.decimal128(20, 5)),
        }
    )

    assert publish(catalog, after)

    table = mart(catalog)
    now = {field.name: field.field_id for field in table.schema().fields}
    assert list(now) == ["hub", "day", "price"]
    assert now["day"] == ids["day"]
    assert len({*now.values(), *ids.values()}) == 5
    assert len(table.metadata.snapshots) == 2
    assert shown(catalog) == rows_of(after)

    assert publish(catalog, BEFORE)  # back to the columns of before
    assert shown(catalog) == rows_of(BEFORE)


def test_rows_that_another_engine_has_deleted_do_not_come_back(catalog: Catalog) -> None:
    publish(catalog, BEFORE)
    table = mart(catalog)
    none = arrow_schema(table.schema()).empty_table()
    assert swap_rows(table, ("quotes",), KeySet((pa.array([2]),)), none, {}) is not None
    assert len(shown(catalog)) == 2

    assert publish(catalog, BEFORE)
    assert shown(catalog) == rows_of(BEFORE)


def test_a_commit_that_comes_between_is_replaced_as_well(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(catalog, BEFORE)
    plain, pending = lake_table.commit_files, [BEFORE.slice(2)]

    def overtaken(*arguments: object, **more: object) -> object:
        if pending:
            mart(catalog).append(pending.pop())
        return plain(*arguments, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(lake_table, "commit_files", overtaken)

    assert publish(catalog, BEFORE.slice(0, 1))
    assert not pending
    assert shown(catalog) == rows_of(BEFORE.slice(0, 1))


def test_rows_that_cannot_be_read_to_their_end_change_nothing(catalog: Catalog) -> None:
    publish(catalog, BEFORE)
    before = mart(catalog).metadata_location
    read = 0

    def broken() -> pa.RecordBatchReader:
        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal read
            read += 1
            yield BEFORE.slice(0, 2).to_batches()[0]
            if read > 2:
                message = "a value that is none"
                raise ValueError(message)

        return pa.RecordBatchReader.from_batches(BEFORE.schema, batches())

    read = 1
    with pytest.raises(ValueError, match="a value that is none"):
        replace_rows(catalog, MART, broken, {})

    assert mart(catalog).metadata_location == before
    assert shown(catalog) == rows_of(BEFORE)


def test_a_type_that_is_none_for_marts_is_named_before_anything_is_there(catalog: Catalog) -> None:
    with pytest.raises(MartColumnTypeError, match="column took has the type duration"):
        publish(catalog, pa.table({"took": pa.array([1], pa.duration("us"))}))

    assert not catalog.table_exists(MART)
