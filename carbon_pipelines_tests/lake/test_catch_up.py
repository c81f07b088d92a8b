from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.types import StringType

from carbon_pipelines.errors import (
    CommitConflictError,
    SchemaVersionMissingError,
    StreamGapError,
    UnrecordedShapeError,
    WrongSourceError,
)
from carbon_pipelines.lake import catch_up, event_reading, schema_follow
from carbon_pipelines.lake.catch_up import CatchUp
from carbon_pipelines.lake.event_reading import in_copy
from carbon_pipelines.lake.merge import Merge
from carbon_pipelines.lake.schema_change import SchemaChange
from carbon_pipelines.lake.state import CopyEdge, TableProgress, load_progress
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.visibility import Visibility
from carbon_pipelines.stream.progress import Gap
from carbon_pipelines_tests.lake.local_lake import START, LocalLake, relation
from carbon_pipelines_tests.lake.stream import CAPTURED, Stream

COLUMNS = {"id": "int8", "name": "text"}
LSNS = st.integers(0, 40)
XIDS = st.integers(2**32 - 10, 2**32 + 20)


@given(
    st.lists(st.tuples(LSNS, XIDS), max_size=30),
    LSNS,
    st.tuples(XIDS, st.integers(0, 10), st.sets(XIDS, max_size=5)),
)
def test_an_event_is_in_the_copy_if_it_is_below_its_lsn_and_its_transaction_was_seen(
    events: list[tuple[int, int]], through: int, snapshot: tuple[int, int, set[int]]
) -> None:
    low, width, running = snapshot
    seen = Visibility(low, low + width, frozenset(x for x in running if low <= x < low + width))
    lsns = np.array([lsn for lsn, _ in events], dtype=np.int64)
    xids = np.array([xid % 2**32 for _, xid in events], dtype=np.int64)

    held = in_copy(lsns, xids, CopyEdge(seen, through))

    assert held.tolist() == [
        lsn <= through and xid < low + width and xid not in seen.xip for lsn, xid in events
    ]


def test_nothing_is_in_a_copy_that_the_stream_has_passed() -> None:
    assert in_copy(np.array([1, 2]), np.array([3, 4]), None).tolist() == [False, False]


GAP = Gap(1, Position(103, 1), 0x200, 0x900, "wal_removed", 0.0)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    made = Stream(relation(COLUMNS, ["id"]))
    made.install(monkeypatch)
    return made


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, COLUMNS, ["id"])
    made.progress = replace(START, ddl_offset=1)
    made.load([{"id": 1, "name": "copied"}])
    return made


def run(lake: LocalLake, *, until_lsn: int | None = None) -> catch_up.CaughtUp:
    progress = progress_of(lake)
    made = CatchUp(lake.catalog, lake.spec, "kafka:9092")
    return made.run(lake.fresh(), progress, until_lsn=until_lsn)


def progress_of(lake: LocalLake) -> TableProgress:
    progress = load_progress(lake.fresh().metadata, "market/t")
    assert progress is not None
    return progress


def row(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": name}


def test_all_that_the_topic_holds_is_one_commit_and_the_offset_after_it(
    lake: LocalLake, stream: Stream
) -> None:
    for n in range(4):
        stream.put(100 + n, "u", after=row(1, f"turn {n}"))
    stream.marker()

    done = run(lake)

    assert (done.events, done.commits, done.upserted_rows, done.deleted_rows) == (4, 1, 1, 1)
    assert (progress_of(lake).position, progress_of(lake).next_offset) == (Position(103, 1), 5)
    assert lake.rows() == [(1, "turn 3")]


def test_reading_again_when_nothing_came_commits_nothing(lake: LocalLake, stream: Stream) -> None:
    stream.put(100, "u", after=row(1, "new"))
    stream.marker()
    run(lake)
    before = lake.fresh().metadata_location

    assert run(lake).commits == 0

    assert lake.fresh().metadata_location == before


def test_a_tail_of_markers_is_remembered_once(lake: LocalLake, stream: Stream) -> None:
    stream.marker()
    stream.marker()

    assert [run(lake).commits for _ in range(2)] == [1, 0]

    assert (progress_of(lake).next_offset, lake.rows()) == (2, [(1, "copied")])


@pytest.mark.parametrize(
    ("until", "name", "next_offset"),
    [(99, "copied", 0), (100, "a", 1), (102, "c", 4), (103, "d", 6)],
)
def test_events_past_the_given_lsn_are_left_for_later(
    lake: LocalLake, stream: Stream, until: int, name: str, next_offset: int
) -> None:
    for n, value in enumerate("abc"):
        stream.put(100 + n, "u", after=row(1, value))
    stream.marker()
    stream.put(103, "u", after=row(1, "d"))
    stream.marker()

    run(lake, until_lsn=until)

    assert (lake.rows(), progress_of(lake).next_offset) == ([(1, name)], next_offset)
    run(lake)
    assert (lake.rows(), progress_of(lake).next_offset) == ([(1, "d")], 6)


def test_batches_are_cut_by_events_and_each_commit_says_where_it_ended(
    lake: LocalLake, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_reading, "BATCH_EVENTS", 3)
    for n in range(7):
        stream.put(100 + n, "c", after=row(10 + n, "new"))

    assert run(lake).commits == 3

    summaries = [s.summary.additional_properties for s in lake.fresh().snapshots()[-3:]]
    assert [s["carbon.offsets"] for s in summaries] == ['{"0": 3}', '{"0": 6}', '{"0": 7}']
    assert [s["carbon.position"] for s in summaries] == [
        str(Position(lsn, 1)) for lsn in (102, 105, 106)
    ]


def test_events_that_the_table_has_already_change_nothing(lake: LocalLake, stream: Stream) -> None:
    stream.put(100, "u", after=row(1, "first"))
    stream.put(101, "u", after=row(1, "second"))
    stream.put(101, "u", ordinal=2, after=row(1, "third"))
    run(lake)
    stream.put(100, "u", after=row(1, "first"))
    stream.put(101, "u", after=row(1, "second"))

    run(lake)

    assert lake.rows() == [(1, "third")]
    assert (progress_of(lake).position, progress_of(lake).next_offset) == (Position(101, 2), 5)


def test_the_rest_of_a_transaction_that_a_batch_cut_is_merged_with_the_next(
    lake: LocalLake, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_reading, "BATCH_EVENTS", 3)
    for ordinal in range(1, 6):
        stream.put(100, "c", ordinal=ordinal, after=row(10 + ordinal, "new"))

    assert run(lake).commits == 2

    assert lake.rows("id") == [(1,), (11,), (12,), (13,), (14,), (15,)]


def test_events_that_the_copy_holds_are_skipped_and_those_it_could_not_see_are_not(
    lake: LocalLake, stream: Stream
) -> None:
    lake.progress = replace(
        lake.progress, edge=CopyEdge(Visibility(700, 710, frozenset({705})), 150)
    )
    lake.load([{"id": 2, "name": "copied"}])
    stream.put(140, "u", xid=704, after=row(1, "older than the copy"))
    stream.put(141, "u", xid=705, after=row(2, "unseen by the copy"))
    stream.put(160, "d", xid=704, before={"id": 1})

    run(lake)

    assert lake.rows() == [(2, "unseen by the copy")]
    assert progress_of(lake).edge is None


def test_a_column_added_while_events_flow_is_in_the_rows_after_it(
    lake: LocalLake, stream: Stream
) -> None:
    stream.put(100, "c", after=row(2, "before"))
    stream.put(102, "c", version=2, after={**row(3, "after"), "n": 7})
    stream.history.append((Position(101, 1), relation({**COLUMNS, "n": "int4"}, ["id"], version=2)))

    run(lake)

    assert lake.rows() == [(1, "copied", None), (2, "before", None), (3, "after", 7)]
    assert progress_of(lake).schema_version == 2


def test_columns_that_somebody_adds_between_plan_and_commit_of_a_ddl_are_not_lost(
    lake: LocalLake, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = schema_follow.plan_change

    def beaten(table: Table, *more: Any) -> SchemaChange:
        change = planned(table, *more)
        with lake.fresh().update_schema() as foreign:
            foreign.add_column("foreign", StringType())
        return change

    monkeypatch.setattr(schema_follow, "plan_change", beaten)
    shape = relation({**COLUMNS, "grade": "int4"}, ["id"], version=2)
    stream.history.append((Position(101, 1), shape))
    stream.put(102, "c", version=2, after={**row(2, "after"), "grade": 7})

    with pytest.raises(CommitConflictError):
        run(lake)

    fields = lake.fresh().schema().fields
    assert [field.name for field in fields] == ["id", "name", "foreign"]


def test_columns_added_one_after_another_during_one_read_are_all_followed(
    lake: LocalLake, stream: Stream
) -> None:
    shapes = [
        relation({**COLUMNS, "n": "int4"}, ["id"], version=2),
        relation({**COLUMNS, "n": "int4", "m": "text"}, ["id"], version=3),
    ]
    stream.read_size = 1
    stream.put(100, "c", after=row(2, "before"))
    stream.put(102, "c", version=2, after={**row(3, "n"), "n": 7})
    stream.put(104, "c", version=3, after={**row(4, "m"), "n": 8, "m": "x"})

    def happen(offset: int) -> None:
        if offset:
            stream.history.append((Position(100 + 2 * offset - 1, 1), shapes[offset - 1]))

    stream.on_read = happen

    run(lake)

    assert lake.rows() == [
        (1, "copied", None, None),
        (2, "before", None, None),
        (3, "n", 7, None),
        (4, "m", 8, "x"),
    ]


def test_events_of_a_shape_that_was_not_recorded_stop_the_table_before_them(
    lake: LocalLake, stream: Stream
) -> None:
    stream.put(100, "u", after=row(1, "readable"))
    stream.put(101, "u", version=0, after={"id": 1, "name": 7})
    stream.put(101, "u", ordinal=2, version=0, after=row(1, "unreadable"))

    for _ in range(2):
        with pytest.raises(UnrecordedShapeError, match=r"0/65-1 .*recopy market/t"):
            run(lake)

    assert lake.rows() == [(1, "readable")]
    assert (progress_of(lake).position, progress_of(lake).next_offset) == (Position(100, 1), 1)


def test_an_unrecorded_shape_before_a_ddl_that_is_not_followed_is_the_first_to_stop(
    lake: LocalLake, stream: Stream
) -> None:
    rewritten = replace(relation(COLUMNS, ["id"], version=2), rewritten=True)
    stream.history.append((Position(102, 1), rewritten))
    stream.put(100, "u", after=row(1, "readable"))
    stream.put(101, "u", version=0, after={"id": 1, "name": 7})

    with pytest.raises(UnrecordedShapeError):
        run(lake)

    assert lake.rows() == [(1, "readable")]


def test_what_a_copy_holds_need_not_be_readable(lake: LocalLake, stream: Stream) -> None:
    """Or else no copy would get past the events that made it necessary."""
    lake.progress = replace(
        lake.progress, edge=CopyEdge(Visibility(950, 950, frozenset()), 150), schema_version=2
    )
    lake.load([])
    stream.history.append((Position(120, 1), relation(COLUMNS, ["id"], version=2)))
    stream.put(110, "u", version=0, after={"id": 1, "name": {"no": "text"}})
    stream.put(111, "u", version=1, after={"id": 1, "name": 7})
    stream.put(140, "u", xid=960, version=2, after=row(1, "unseen by the copy"))
    stream.put(160, "c", version=2, after=row(2, "new"))

    run(lake)

    assert lake.rows() == [(1, "unseen by the copy"), (2, "new")]


def test_another_process_that_merged_meanwhile_ends_this_one(
    lake: LocalLake, stream: Stream
) -> None:
    stream.put(100, "u", after=row(1, "new"))
    progress = progress_of(lake)
    run(lake)

    with pytest.raises(CommitConflictError):
        CatchUp(lake.catalog, lake.spec, "kafka:9092").run(lake.fresh(), progress)

    assert lake.rows() == [(1, "new")]


@pytest.mark.parametrize(
    "changed",
    [
        {"schema_version": 9},
        {"ddl_offset": 9},
        {"topic_id": "another"},
        {"edge": CopyEdge(Visibility(700, 710, frozenset()), 150)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_table_whose_progress_is_another_in_any_part_is_given_up(
    lake: LocalLake, stream: Stream, changed: dict[str, Any]
) -> None:
    stream.put(100, "u", after=row(1, "new"))
    progress = progress_of(lake)
    lake.progress = replace(lake.progress, **changed)
    lake.load([])

    with pytest.raises(CommitConflictError):
        Merge(lake.catalog, lake.spec).record(progress, progress)

    assert progress_of(lake) == lake.progress


@pytest.mark.parametrize("batch_events", [1, 2, 3])
@pytest.mark.parametrize("read_size", [1, 2, 3])
def test_the_halves_of_a_key_change_are_never_in_two_batches(
    lake: LocalLake,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    batch_events: int,
    read_size: int,
) -> None:
    monkeypatch.setattr(event_reading, "BATCH_EVENTS", batch_events)
    stream.read_size = read_size
    for key in range(1, 6):
        stream.put(100 + key, "d", ordinal=1, before={"id": key})
        moved = {"id": key + 1, "name": "__debezium_unavailable_value"}
        source = {"ordinal": 2, "before": {"id": key}, "after": moved, "unchanged": "name"}
        stream.put(100 + key, "u", **source)

    done = run(lake)

    assert (lake.rows(), done.events) == ([(6, "copied")], 10)
    assert (progress_of(lake).position, progress_of(lake).next_offset) == (Position(105, 2), 10)
    assert run(lake).commits == 0


@pytest.mark.parametrize("batch_events", [1, 2])
def test_a_topic_that_ends_with_deletes_is_merged_to_its_end(
    lake: LocalLake, stream: Stream, monkeypatch: pytest.MonkeyPatch, batch_events: int
) -> None:
    monkeypatch.setattr(event_reading, "BATCH_EVENTS", batch_events)
    stream.put(100, "c", after=row(2, "new"))
    for key in (1, 2, 3):
        stream.put(100 + key, "d", before={"id": key})

    run(lake)

    assert (lake.rows(), progress_of(lake).next_offset) == ([], 4)


@pytest.mark.parametrize("version", [0, 1, 7])
def test_events_that_the_copy_holds_are_not_even_decoded(
    tmp_path: Path, stream: Stream, version: int
) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "name": "int8"}, ["id"])
    stream.history = [(Position(0, 1), replace(lake.relation, version=8))]
    lake.progress = replace(
        START,
        position=Position(110, 1),
        schema_version=8,
        edge=CopyEdge(Visibility(700, 710, frozenset({705})), 150),
    )
    lake.load([{"id": 1, "name": 1}, {"id": 2, "name": 2}])
    stream.put(110, "u", xid=720, version=version, after=row(1, "before the position"))
    stream.put(140, "u", xid=704, version=version, after=row(1, "in the copy"))
    stream.put(141, "u", xid=705, version=8, after={"id": 2, "name": 20})
    stream.put(142, "u", xid=704, version=version, after=row(2, "in the copy"))

    assert (run(lake).events, lake.rows()) == (1, [(1, 1), (2, 20)])
    assert (progress_of(lake).position, progress_of(lake).next_offset) == (Position(142, 1), 4)

    stream.put(160, "u", xid=704, version=8, after={"id": 1, "name": 10})
    run(lake)

    assert (lake.rows(), progress_of(lake).edge) == ([(1, 10), (2, 20)], None)


def test_events_that_the_copy_holds_are_passed_where_nothing_else_came(
    lake: LocalLake, stream: Stream
) -> None:
    edge = CopyEdge(Visibility(700, 710, frozenset()), 150)
    lake.progress = replace(lake.progress, edge=edge)
    lake.load([])
    stream.put(140, "u", xid=704, version=7, after=row(1, "in the copy"))

    run(lake)

    assert lake.rows() == [(1, "copied")]
    assert (progress_of(lake).position, progress_of(lake).next_offset) == (Position(140, 1), 1)


def test_events_of_a_shape_that_nothing_tells_are_refused_by_name(
    lake: LocalLake, stream: Stream
) -> None:
    stream.history = []
    stream.put(100, "u", after=row(1, "new"))

    with pytest.raises(SchemaVersionMissingError, match="carbon start-over market") as refused:
        run(lake)

    assert refused.value.versions == (1,)
    assert lake.rows() == [(1, "copied")]


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_events_behind_a_gap_are_not_merged_and_the_error_says_what_is_missing(
    lake: LocalLake, stream: Stream, mode: str
) -> None:
    stream.put(101, "c", after={"id": 2, "name": "behind"})
    stream.captured = replace(CAPTURED, gaps=(GAP, replace(GAP, generation=2)))
    lake.spec = lake.spec.model_copy(update={"mode": mode})
    before = lake.fresh().metadata_location

    with pytest.raises(StreamGapError, match="from 0/200 to 0/900 never reached") as error:
        CatchUp(lake.catalog, lake.spec, "nowhere").run(lake.fresh(), lake.progress)

    assert (error.value.held, error.value.found) == (0, 2)
    assert ("not made unasked" in str(error.value)) == (mode == "append")
    assert lake.fresh().metadata_location == before


def test_events_of_another_server_are_not_merged(lake: LocalLake, stream: Stream) -> None:
    stream.captured = replace(CAPTURED, system_identifier="7001")

    with pytest.raises(WrongSourceError, match="captured from 7001"):
        CatchUp(lake.catalog, lake.spec, "nowhere").run(lake.fresh(), lake.progress)
