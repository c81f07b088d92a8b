import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile

from carbon_pipelines.errors import MetadataFileMissingError
from carbon_pipelines.maintenance.locations import lies_in, normalise, overlap, table_roots
from carbon_pipelines.maintenance.path_set import PathSet
from carbon_pipelines.maintenance.reachable import Kind, Reached, reachable_files
from carbon_pipelines_tests.lake.local_lake import LocalLake


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, {"id": "int8", "name": "text"}, ("id",))
    made.load([{"id": number, "name": "first"} for number in range(5)])
    return made


def reached(table: Table) -> list[Reached]:
    return list(reachable_files(table.io, table.metadata, table.metadata_location, "market/t"))


def test_everything_that_a_table_wrote_is_reached_and_nothing_else(
    lake: LocalLake, tmp_path: Path
) -> None:
    lake.merge([{"op": "u", "after": {"id": 1, "name": "second"}}])
    lake.merge([{"op": "d", "before": {"id": 2, "name": "first"}}])
    table = lake.fresh()
    main = table.current_snapshot().snapshot_id
    table.manage_snapshots().create_branch(main, "other").commit()

    found = {normalise(one.path) for one in reached(lake.fresh())}

    assert found == {f"file:{path}" for path in tmp_path.rglob("*") if path.is_file()}


def test_each_file_has_its_kind_and_size_and_the_newest_snapshot_that_needs_it(
    lake: LocalLake,
) -> None:
    lake.merge([{"op": "u", "after": {"id": 1, "name": "second"}}])
    files = [one for one in reached(lake.fresh()) if one.kind in (Kind.DATA, Kind.DELETE)]

    assert sorted(one.kind for one in files) == ["data", "data", "delete"]
    newest = lake.fresh().current_snapshot().snapshot_id
    assert {one.snapshot_id for one in files} == {newest}
    assert all(one.size_bytes == Path(normalise(one.path)[5:]).stat().st_size for one in files)


def test_statistics_are_reached(lake: LocalLake) -> None:
    table = lake.fresh()
    file = StatisticsFile.model_validate(
        {
            "snapshot-id": table.current_snapshot().snapshot_id,
            "statistics-path": f"{table.location()}/metadata/s.puffin",
            "file-size-in-bytes": 7,
            "file-footer-size-in-bytes": 3,
            "blob-metadata": [],
        }
    )
    with table.update_statistics() as update:
        update.set_statistics(file)

    statistics = [one for one in reached(lake.fresh()) if one.kind == Kind.STATISTICS]

    assert statistics == [
        Reached(file.statistics_path, Kind.STATISTICS, 7, table.current_snapshot().snapshot_id)
    ]


def test_a_missing_manifest_is_named_with_the_snapshot_that_needs_it(lake: LocalLake) -> None:
    table = lake.fresh()
    snapshot = table.current_snapshot()
    path = snapshot.manifests(table.io)[0].manifest_path
    Path(normalise(path)[5:]).unlink()

    with pytest.raises(MetadataFileMissingError) as error:
        reached(table)

    assert (error.value.path, error.value.snapshot_id) == (path, snapshot.snapshot_id)


@pytest.mark.parametrize(
    "path",
    ["s3://b/w/t/data/f", "s3a://b/w/t/data/f", "s3n://b/w//t/data/f", "S3://b//w/t/data//f/"],
)
def test_s3_s3a_s3n_and_slashes_too_many_are_one(path: str) -> None:
    assert normalise(path) == "s3://b/w/t/data/f"


def test_a_prefix_of_a_name_is_not_a_directory() -> None:
    assert not lies_in("s3://b/w/t2/f", "s3://b/w/t")
    assert lies_in("s3://b/w/t/f", "s3://b/w/t")


def test_locations_overlap_either_way_round() -> None:
    inner, outer = ("s3://b/w/t/inner",), ("s3://b/w/t",)
    assert overlap(inner, outer) == ("s3://b/w/t/inner", "s3://b/w/t")
    assert overlap(outer, inner) == ("s3://b/w/t", "s3://b/w/t/inner")
    assert overlap(("s3://b/w/t2",), outer) is None


def test_a_table_has_the_roots_that_its_properties_name() -> None:
    properties = {"write.data.path": "s3a://b/d/", "write.metadata.path": "s3://b/w/t/meta"}
    assert table_roots("s3://b/w/t/", properties) == ("s3://b/d", "s3://b/w/t")


@given(st.lists(st.text("abc/", max_size=6)), st.lists(st.text("abc/", max_size=6)))
def test_a_path_set_is_a_set_of_normalised_paths(added: list[str], asked: list[str]) -> None:
    paths = PathSet(f"s3://b/{path}" for path in added)
    names = {normalise(f"s3://b/{path}") for path in added}

    answers = paths.contains([f"s3a://b/{path}" for path in asked])

    assert answers == [normalise(f"s3://b/{path}") in names for path in asked]
    assert len(paths) == len(names)
    assert paths.unasked == len(names - {normalise(f"s3://b/{path}") for path in asked})


@pytest.mark.integration
def test_a_path_takes_nine_bytes_and_little_more_while_it_comes() -> None:
    tracemalloc.start()
    paths = PathSet()
    for number in range(300_000):
        paths.add(f"s3://bucket/warehouse/market.db/table/data/{number:032x}.parquet")
    assert len(paths) == 300_000
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert paths.state_bytes == 2_700_000
    assert held < 3_000_000
    assert peak < 40_000_000
