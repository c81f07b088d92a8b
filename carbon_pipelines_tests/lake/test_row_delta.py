import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table

from carbon_pipelines.lake import deltas
from carbon_pipelines.lake.delete_file import count_rows
from carbon_pipelines.lake.table_files import LiveFile, load_table_files
from carbon_pipelines_tests.lake.local_lake import LocalLake

COLUMNS = {"id": "int8", "name": "text"}


def lake(path: Path, *loads: range, **more: Any) -> LocalLake:
    """A table with one data file for each of ``loads``."""
    made = LocalLake(path, COLUMNS, ["id"], **more)
    for ids in loads:
        made.load([{"id": i, "name": "old"} for i in ids])
    return made


def update(number: int, name: str = "new") -> dict[str, Any]:
    return {"op": "u", "after": {"id": number, "name": name}}


def delete(number: int) -> dict[str, Any]:
    return {"op": "d", "before": {"id": number}}


def delete_files(table: Table) -> list[LiveFile]:
    files = load_table_files(table.current_snapshot(), table.io)
    groups = [*files.deletes_by_path.values(), *files.deletes_by_partition.values()]
    return [live for group in groups for live in group]


def named_positions(table: Table) -> list[list[tuple[str, int]]]:
    """For each live delete file its rows in file order."""
    found = []
    for live in delete_files(table):
        rows = pq.read_table(live.file.file_path.removeprefix("file://"))
        paths, positions = rows.column("file_path").to_pylist(), rows.column("pos").to_pylist()
        found.append(list(zip(paths, positions, strict=True)))
    return found


def manifests(table: Table, content: ManifestContent) -> Iterator[ManifestFile]:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return (m for m in snapshot.manifests(table.io) if m.content == content)


def totals(table: Table) -> dict[str, int]:
    """The totals that the newest summary states."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    stated = snapshot.summary.additional_properties
    return {name: int(value) for name, value in stated.items() if name.startswith("total-")}


def reality(table: Table) -> dict[str, int]:
    """The same totals, from the files that are there."""
    data = load_table_files(table.current_snapshot(), table.io).data
    deletes = delete_files(table)
    sizes = [
        Path(live.file.file_path.removeprefix("file://")).stat().st_size
        for live in (*data, *deletes)
    ]
    return {
        "total-data-files": len(data),
        "total-delete-files": len(deletes),
        "total-records": sum(live.file.record_count for live in data),
        "total-position-deletes": sum(map(len, named_positions(table))),
        "total-equality-deletes": 0,
        "total-files-size": sum(sizes),
    }


def test_position_deletes_are_listed_in_a_manifest_of_deletes(tmp_path: Path) -> None:
    table = lake(tmp_path, range(5))

    table.merge([delete(3)])

    (manifest,) = manifests(table.fresh(), ManifestContent.DELETES)
    header = Path(manifest.manifest_path.removeprefix("file://")).read_bytes()[:10_000]
    assert b"\x0econtent\x0edeletes" in header
    assert (manifest.added_files_count, manifest.added_rows_count) == (1, 1)
    assert table.rows("id") == [(0,), (1,), (2,), (4,)]


def test_a_delete_file_of_many_data_files_is_sorted_by_path_and_then_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "FILES_WITH_OWN_DELETES", 2)
    table = lake(tmp_path, *(range(n, n + 10) for n in range(0, 40, 10)))

    table.merge([delete(n) for n in (37, 31, 5, 1, 22, 14, 39)])

    (rows,) = named_positions(table.fresh())
    assert len(rows) == 7
    assert rows == sorted(rows)
    assert len(table.rows()) == 33


def test_a_data_file_keeps_few_delete_files_and_then_one_that_names_all(tmp_path: Path) -> None:
    table = lake(tmp_path, range(20))
    counts = []

    for number in range(deltas.STACKED_DELETES + 2):
        table.merge([delete(number)])
        counts.append(len(delete_files(table.fresh())))

    assert counts == [1, 2, 3, 4, 1, 2]
    assert table.rows("id") == [(n,) for n in sorted(range(6, 20), key=lambda n: repr((n,)))]


def test_a_data_file_without_a_row_left_goes_with_its_delete_files(tmp_path: Path) -> None:
    table = lake(tmp_path, range(3), range(10, 13))
    table.merge([delete(0)])

    table.merge([delete(1), delete(2)])

    files = load_table_files(table.fresh().current_snapshot(), table.table.io)
    assert (len(files.data), delete_files(table.fresh())) == (1, [])
    assert totals(table.fresh()) == reality(table.fresh())


def sequences(table: Table) -> dict[str, tuple[int | None, int | None, int | None]]:
    """Path of each live file -> its sequence number, file sequence number and snapshot."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return {
        entry.data_file.file_path: (
            entry.sequence_number,
            entry.file_sequence_number,
            entry.snapshot_id,
        )
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }


def test_files_that_stay_in_a_rewritten_manifest_keep_their_place_in_time(tmp_path: Path) -> None:
    by_name = [{"column": "name", "transform": "identity"}]
    table = LocalLake(tmp_path, COLUMNS, ["id"], partitioning=by_name)
    table.load([{"id": n, "name": "a" if n < 3 else "b"} for n in range(6)])
    table.merge([delete(0), delete(3)])
    before = sequences(table.fresh())

    table.merge([delete(1), delete(2)])

    after = sequences(table.fresh())
    assert len(after) == len(before) - 2
    assert after == {path: place for path, place in before.items() if path in after}
    assert table.rows() == [(4, "b"), (5, "b")]
    for manifest in table.fresh().current_snapshot().manifests(table.table.io):
        assert (manifest.existing_files_count, manifest.deleted_files_count) == (1, 1)


def test_a_removed_file_is_recorded_as_deleted_by_the_snapshot_that_removed_it(
    tmp_path: Path,
) -> None:
    table = lake(tmp_path, range(2), range(5, 7))

    merged = table.merge([delete(0), delete(1)])

    gone = [
        entry
        for manifest in manifests(table.fresh(), ManifestContent.DATA)
        for entry in manifest.fetch_manifest_entry(table.table.io, discard_deleted=False)
        if entry.status == ManifestEntryStatus.DELETED
    ]
    assert [(e.snapshot_id, e.data_file.record_count) for e in gone] == [(merged.snapshot_id, 2)]


@pytest.mark.parametrize(("own_deletes", "partitioned"), [(0, False), (2, True), (64, False)])
def test_after_any_merges_each_row_is_named_once_and_the_counters_are_true(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_deletes: int,
    partitioned: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(deltas, "FILES_WITH_OWN_DELETES", own_deletes)
    monkeypatch.setattr(deltas, "STACKED_DELETES", 2)
    chance = random.Random(own_deletes)
    by_bucket = [{"column": "id", "transform": "bucket[2]"}]
    table = lake(tmp_path, range(20), partitioning=by_bucket if partitioned else [])
    rows = dict.fromkeys(range(20), "old")

    for turn in range(5):
        events = []
        for number in chance.sample(range(24), 5):
            if number in rows and chance.random() < 0.6:
                del rows[number]
                events.append(delete(number))
            else:
                rows[number] = f"turn {turn}"
                events.append(update(number, rows[number]))
        before = len(table.rows())
        merged = table.merge(events)

        fresh = table.fresh()
        named = [row for file in named_positions(fresh) for row in file]
        assert len(named) == len(set(named))
        assert all(file == sorted(file) for file in named_positions(fresh))
        assert totals(fresh) == reality(fresh)
        assert dict(table.rows()) == rows
        assert count_rows(fresh.current_snapshot(), fresh.io) == len(rows)
        assert before + merged.upserted_rows - merged.deleted_rows == len(rows)


def test_rows_are_counted_right_though_a_delete_file_outlives_its_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "FILES_WITH_OWN_DELETES", 1)
    table = lake(tmp_path, range(3), range(10, 13))
    table.merge([delete(0), delete(10)])

    table.merge([delete(1), delete(2)])

    snapshot = table.fresh().current_snapshot()
    assert len(delete_files(table.fresh())) == 1
    assert count_rows(snapshot, table.table.io) == len(table.rows()) == 2


def test_a_truncate_counts_only_the_rows_that_were_left(tmp_path: Path) -> None:
    table = lake(tmp_path, range(5))
    table.merge([delete(0), delete(1)])

    assert table.merge([{"op": "t"}]).deleted_rows == 3

    assert (
        totals(table.fresh()) == reality(table.fresh()) == dict.fromkeys(totals(table.fresh()), 0)
    )
