from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.errors import MissingPriorValueError
from carbon_pipelines.lake import row_delta
from carbon_pipelines.lake.merge import Merge, MergeHooks
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.source.position import Position
from carbon_pipelines_tests.lake.changes import SEQUENCES, Change, Rows, replay
from carbon_pipelines_tests.lake.local_lake import LocalLake

COLUMNS = {"id": "int8", "name": "text"}


def lake(path: Path, **more: object) -> LocalLake:
    made = LocalLake(path, COLUMNS, ["id"], **more)
    made.load([{"id": 1, "name": "one"}, {"id": 2, "name": "two"}, {"id": 3, "name": "three"}])
    return made


def row(number: int, name: str) -> dict[str, object]:
    return {"id": number, "name": name}


def test_an_insert_an_update_and_a_delete_are_one_snapshot(tmp_path: Path) -> None:
    table = lake(tmp_path)
    before = len(table.fresh().snapshots())

    table.merge(
        [
            {"op": "c", "after": row(4, "four")},
            {"op": "u", "after": row(2, "zwei")},
            {"op": "d", "before": {"id": 1}},
        ]
    )

    assert table.rows() == [(2, "zwei"), (3, "three"), (4, "four")]
    assert len(table.fresh().snapshots()) == before + 1


def test_a_row_created_and_deleted_in_one_batch_is_only_a_delete(tmp_path: Path) -> None:
    table = lake(tmp_path)

    merged = table.merge([{"op": "c", "after": row(9, "x")}, {"op": "d", "before": {"id": 9}}])

    assert (merged.upserted_rows, merged.deleted_rows) == (0, 0)
    assert table.rows() == [(1, "one"), (2, "two"), (3, "three")]


def test_a_row_deleted_and_created_again_has_the_new_value_once(tmp_path: Path) -> None:
    table = lake(tmp_path)

    table.merge([{"op": "d", "before": {"id": 2}}, {"op": "c", "after": row(2, "again")}])

    assert table.rows() == [(1, "one"), (2, "again"), (3, "three")]


def test_a_key_change_leaves_no_row_under_the_old_key(tmp_path: Path) -> None:
    table = lake(tmp_path)

    table.merge(
        [
            {"op": "d", "before": {"id": 2}},
            {"op": "u", "before": {"id": 2}, "after": row(20, "two")},
        ]
    )

    assert table.rows() == [(1, "one"), (20, "two"), (3, "three")]


def test_many_merges_of_the_same_row_show_it_once(tmp_path: Path) -> None:
    table = lake(tmp_path)

    for turn in range(12):
        table.merge([{"op": "u", "after": row(2, f"turn {turn}")}])

    assert table.rows() == [(1, "one"), (2, "turn 11"), (3, "three")]


def test_a_truncate_removes_every_row_before_it_and_none_after(tmp_path: Path) -> None:
    table = lake(tmp_path)
    table.merge([{"op": "d", "before": {"id": 1}}])

    table.merge(
        [
            {"op": "c", "after": row(7, "before")},
            {"op": "t"},
            {"op": "c", "after": row(8, "after")},
        ]
    )

    assert table.rows() == [(8, "after")]


def test_an_unchanged_value_is_taken_from_the_old_row(tmp_path: Path) -> None:
    table = LocalLake(tmp_path, {"id": "int8", "n": "int4", "doc": "text"}, ["id"])
    table.load([{"id": 1, "n": 1, "doc": "kept"}, {"id": 2, "n": 1, "doc": "other"}])

    table.merge(
        [
            {
                "op": "u",
                "after": {"id": 1, "n": 2, "doc": "__debezium_unavailable_value"},
                "unchanged": ["doc"],
            }
        ]
    )

    assert table.rows() == [(1, 2, "kept"), (2, 1, "other")]


def test_an_unchanged_value_follows_its_row_through_a_key_change(tmp_path: Path) -> None:
    table = LocalLake(tmp_path, {"id": "int8", "n": "int4", "doc": "text"}, ["id"])
    table.load([{"id": 1, "n": 1, "doc": "kept"}])
    unavailable = "__debezium_unavailable_value"

    table.merge(
        [
            {"op": "d", "before": {"id": 1}},
            {
                "op": "u",
                "before": {"id": 1},
                "after": {"id": 5, "n": 2, "doc": unavailable},
                "unchanged": ["doc"],
            },
            {"op": "u", "after": {"id": 5, "n": 3, "doc": unavailable}, "unchanged": ["doc"]},
        ]
    )

    assert table.rows() == [(5, 3, "kept")]


def test_an_unchanged_value_without_an_old_row_is_an_error_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    table = LocalLake(tmp_path, {"id": "int8", "n": "int4", "doc": "text"}, ["id"])
    table.load([{"id": 1, "n": 1, "doc": "kept"}])

    with pytest.raises(MissingPriorValueError, match="id=99"):
        table.merge([{"op": "u", "after": {"id": 99, "n": 2, "doc": "x"}, "unchanged": ["doc"]}])

    assert table.rows() == [(1, 1, "kept")]


@pytest.mark.filterwarnings("ignore:Merge on read is not yet supported:UserWarning")
def test_a_compaction_between_plan_and_commit_revives_and_doubles_nothing(tmp_path: Path) -> None:
    table = lake(tmp_path)
    table.merge([{"op": "u", "after": row(2, "newer")}])
    rewrites = 0

    def compact() -> None:
        nonlocal rewrites
        if rewrites == 0:
            rewrites += 1
            fresh = table.fresh()
            fresh.overwrite(fresh.scan().to_arrow())

    table.merge(
        [{"op": "u", "after": row(2, "newest")}, {"op": "d", "before": {"id": 3}}],
        hooks=MergeHooks(after_write=compact),
    )

    assert rewrites == 1
    assert table.rows() == [(1, "one"), (2, "newest")]


def test_a_partition_value_that_changes_moves_the_row(tmp_path: Path) -> None:
    table = lake(tmp_path, partitioning=[{"column": "name", "transform": "identity"}])

    table.merge([{"op": "u", "after": row(1, "moved")}])

    assert table.rows() == [(1, "moved"), (2, "two"), (3, "three")]


def test_new_rows_stand_in_their_file_as_declared_also_by_uuid(tmp_path: Path) -> None:
    order = [{"column": "id"}, {"column": "n", "direction": "desc"}]
    table = LocalLake(tmp_path, {"id": "uuid", "n": "int4"}, ["id", "n"], sort_order=order)
    table.load([])
    ids = ["f" * 8, "0" * 8, "7" * 8]
    uuids = [f"{start}-0000-0000-0000-000000000000" for start in ids]

    table.merge([{"op": "c", "after": {"id": u, "n": n}} for u in uuids for n in (1, 2)])

    (task,) = table.fresh().scan().plan_files()
    rows = pq.read_table(task.file.file_path.removeprefix("file://")).to_pylist()
    assert [(str(row["id"])[0], row["n"]) for row in rows] == [
        ("0", 2),
        ("0", 1),
        ("7", 2),
        ("7", 1),
        ("f", 2),
        ("f", 1),
    ]


def test_a_table_without_a_key_keeps_every_insert_since_its_last_truncate(tmp_path: Path) -> None:
    table = LocalLake(tmp_path, COLUMNS, [], mode="append")
    table.load([row(1, "copied")])

    table.merge([{"op": "c", "after": row(2, "twice")}, {"op": "c", "after": row(2, "twice")}])
    assert table.rows() == [(1, "copied"), (2, "twice"), (2, "twice")]

    table.merge(
        [
            {"op": "c", "after": row(3, "before")},
            {"op": "t"},
            {"op": "c", "after": row(4, "after")},
        ]
    )
    assert table.rows() == [(4, "after")]


def test_a_batch_whose_events_are_all_known_only_moves_the_progress(tmp_path: Path) -> None:
    table = lake(tmp_path)
    batch = table.batch([{"op": "d", "before": {"id": 1}}])
    base = load_progress(table.fresh().metadata, "market/t")
    assert base is not None
    after = base.moved_to(Position(1001, 1), 1, 1, 0)

    merged = Merge(table.catalog, table.spec).apply(batch.filter(np.array([False])), base, after)

    assert (merged.upserted_rows, merged.deleted_rows) == (0, 0)
    assert load_progress(table.fresh().metadata, "market/t") == after
    assert table.rows() == [(1, "one"), (2, "two"), (3, "three")]


@settings(max_examples=6, deadline=None)
@given(st.lists(SEQUENCES, min_size=1, max_size=3))
def test_merging_batches_gives_what_their_changes_give_one_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Change]]
) -> None:
    columns = {"id": "int8", "n": "int4", "doc": "text"}
    table = LocalLake(tmp_path_factory.mktemp("lake"), columns, ["id"])
    rows: Rows = {1: (0, "old"), 2: (0, "older")}
    table.load([{"id": key, "n": n, "doc": doc} for key, (n, doc) in rows.items()])

    for changes in batches:
        rows, events = replay(rows, changes)
        if events:
            table.merge(events)

    assert table.rows() == [(key, *row) for key, row in sorted(rows.items())]


def test_the_number_of_manifests_stays_bounded_however_many_merges_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_delta, "MERGED_MANIFESTS", 4)
    table = lake(tmp_path)

    for turn in range(14):
        table.merge(
            [{"op": "c", "after": row(100 + turn, "new")}, {"op": "u", "after": row(2, "x")}]
        )

    snapshot = table.fresh().current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.table.io)) <= 2 * 4 + 2
    assert len(table.rows()) == 17
