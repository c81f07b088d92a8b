"""Manifests are read as PyIceberg reads them, whatever schema they were written by."""

from collections.abc import Mapping
from pathlib import Path

from pyiceberg.manifest import read_manifest_list as read_by_pyiceberg
from pyiceberg.typedef import Record

from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.manifest_reading import manifests_of, read_entries
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines_tests.lake.local_lake import LocalLake


def plain(value: object) -> object:
    """What a record holds, to be compared."""
    if isinstance(value, Record):
        return type(value), [plain(value[at]) for at in range(len(value))]
    if isinstance(value, Mapping):
        return dict(value)
    return [plain(one) for one in value] if isinstance(value, list) else value


def test_entries_are_what_pyiceberg_reads_under_each_partition_spec(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "day": "date", "note": "text"}, ["id"])
    lake.load([{"id": 1, "day": None, "note": "a"}, {"id": 2, "day": None, "note": None}])
    for column, transform in (("day", "month"), ("note", "truncate[1]")):
        with lake.fresh().update_spec() as update:
            update.add_field(column, transform)
        lake.table = lake.fresh()
        lake.load([{"id": 3, "day": None, "note": column}])
    files = load_table_files(lake.fresh().current_snapshot(), lake.fresh().io)
    removed = [min(files.data, key=lambda one: one.sequence_number)]
    changes = FileChanges(removed_data=removed, manifests=files.manifests)
    assert commit_files(lake.fresh(), changes, lake.progress.to_properties())
    table = lake.fresh()
    snapshot = table.current_snapshot()
    assert snapshot is not None

    listed = manifests_of(snapshot, table.io)
    theirs = list(read_by_pyiceberg(table.io.new_input(snapshot.manifest_list)))
    assert plain(list(listed)) == plain(theirs)
    assert len({one.partition_spec_id for one in listed}) == 3
    for kept in (True, False):
        ours = [read_entries(one, table.io, discard_deleted=kept) for one in listed]
        read = [one.fetch_manifest_entry(table.io, discard_deleted=kept) for one in theirs]
        assert [[plain(e) for e in one] for one in ours] == [
            [plain(e) for e in one] for one in read
        ]
    assert [len(one) for one in ours] == [1, 1, 1]
    assert [one.deleted_files_count for one in listed].count(1) == 1
