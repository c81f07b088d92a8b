"""What readers have come to, written on the table itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import StateFormatError, TableNotCopiedError
from carbon_pipelines.lake.reached import Place, Reached, place_of, read_reached, record_reached
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines_tests.lake.local_lake import open_local

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MART, NAME = ("mart", "curve"), "carbon.visible.trino"
PLACE = Place(7, "0/1F+2", 42)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = open_local(tmp_path)
    replace_rows(made, MART, pa.table({"n": pa.array([1], pa.int64())}).to_reader, {})
    return made


def found(catalog: Catalog) -> Reached | None:
    return read_reached(catalog.load_table(MART).metadata, NAME, "mart/curve")


def test_a_record_is_read_as_it_was_written_and_only_a_change_is_written(catalog: Catalog) -> None:
    assert found(catalog) is None
    first = Reached(1, NOON, {"shop/a": PLACE}, {"rows": "3"})
    assert record_reached(catalog, MART, NAME, first) == first == found(catalog)
    written = catalog.load_table(MART).metadata_location

    later = Reached(1, NOON + timedelta(hours=1), {"shop/a": PLACE}, {"rows": "3"})
    assert record_reached(catalog, MART, NAME, later) == first
    assert catalog.load_table(MART).metadata_location == written

    moved = Reached(1, later.at, {"shop/a": Place(8, "0/20+1", 43)})
    assert record_reached(catalog, MART, NAME, moved) == moved == found(catalog)


def test_the_rows_of_a_mart_are_replaced_and_its_record_stays(catalog: Catalog) -> None:
    record_reached(catalog, MART, NAME, Reached(1, NOON, {"shop/a": PLACE}))
    replace_rows(catalog, MART, pa.table({"n": pa.array([2], pa.int64())}).to_reader, {})
    assert found(catalog) == Reached(1, NOON, {"shop/a": PLACE})


def test_a_record_of_another_program_is_refused_and_no_table_has_none(catalog: Catalog) -> None:
    with catalog.load_table(MART).transaction() as transaction:
        transaction.set_properties({NAME: '{"format_version": "2"}'})
    with pytest.raises(StateFormatError, match="mart/curve"):
        found(catalog)
    with pytest.raises(TableNotCopiedError):
        record_reached(catalog, ("mart", "none"), NAME, Reached(1, NOON, {}))


def test_a_snapshot_that_is_none_of_our_merges_has_no_place(catalog: Catalog) -> None:
    metadata = catalog.load_table(MART).metadata
    assert place_of(metadata, metadata.snapshots[0].snapshot_id, "mart/curve") is None
    assert place_of(metadata, 1, "mart/curve") is None
