"""Events that cannot be merged are set aside one by one, and put back when they can be."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbon_pipelines.catalog.table import DeadLettersSpec
from carbon_pipelines.errors import (
    CommitConflictError,
    MalformedEnvelopeError,
    MissingPriorValueError,
    NoSuchDeadLetterError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake import event_reading, halving, judge, merge, new_rows
from carbon_pipelines.lake.catch_up import CatchUp
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.dead_letters import DeadLetterTable, Resolution
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.replay import Replaying
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines_tests.integration.pipeline import Killed, die
from carbon_pipelines_tests.lake.changes import WITH_TRUNCATES, Change, replay
from carbon_pipelines_tests.lake.local_lake import START, LocalLake, duckdb_rows, relation
from carbon_pipelines_tests.lake.stream import Stream

pytestmark = pytest.mark.integration  # for what they cost: most of them commit a dozen times

COLUMNS = {"id": "int4", "n": "int4", "doc": "text"}
BAD = 60
"""While ``n`` is refused, it is refused from here on."""
BY_TEST = Resolution("replayed", "ann", "mended")


@contextmanager
def refusing_n(*, refuses: bool = True) -> Iterator[None]:
    """As if the type of column ``n`` could not hold ``BAD`` and what is above it."""

    def decode(values: pa.Array, target: pa.DataType, *, column: str) -> pa.Array:
        decoded = decode_column(values, target, column=column)
        if (
            refuses
            and column == "n"
            and any(n is not None and n >= BAD for n in decoded.to_pylist())
        ):
            raise UnrepresentableValueError(column, "smaller", str(BAD))
        return decoded

    with pytest.MonkeyPatch.context() as patch:
        for module in (merge, new_rows, halving, judge):
            patch.setattr(module, "decode_column", decode)
        yield


class Table:
    """A lake table with a topic before it."""

    def __init__(
        self, path: Path, patch: pytest.MonkeyPatch, *, key: Sequence[str] = ("id",), **more: Any
    ) -> None:
        allowed = DeadLettersSpec(**more)
        mode = {} if key else {"mode": "append"}
        self.lake = LocalLake(path, COLUMNS, key, dead_letters=allowed, **mode)
        self.lake.progress = replace(START, ddl_offset=1)
        self.stream = Stream(relation(COLUMNS, key))
        self.stream.install(patch)
        self.lsn = 100

    def load(self, *rows: tuple[int, int, str]) -> None:
        self.lake.load([{"id": i, "n": n, "doc": doc} for i, n, doc in rows])

    def put(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.lsn += 1
            unchanged = "\x1f".join(event.get("unchanged", ()))
            body = {name: event.get(name) for name in ("before", "after")}
            self.stream.put(self.lsn, event["op"], unchanged=unchanged, **body)

    def upsert(self, key: int, n: int, doc: str | None = "d") -> None:
        after = {"id": key, "n": n, "doc": doc or "__debezium_unavailable_value"}
        self.put({"op": "u", "after": after, **({} if doc else {"unchanged": ["doc"]})})

    def broken(self, key: str = "foreign") -> None:
        self.stream.messages.append(f"{key} broken".encode())

    @property
    def progress(self) -> TableProgress:
        found = load_progress(self.lake.fresh().metadata, "market/t")
        assert found is not None
        return found

    @property
    def lacks(self) -> tuple[int, ...]:
        return self.progress.dead_letters

    def sync(self, hooks: MergeHooks | None = None) -> None:
        CatchUp(self.lake.catalog, self.lake.spec, "kafka", hooks=hooks).run(
            self.lake.fresh(), self.progress
        )

    @property
    def letters(self) -> DeadLetterTable:
        return DeadLetterTable(self.lake.catalog, "market")

    def statuses(self) -> list[tuple[int, str]]:
        """(offset, status) of every dead letter, by DuckDB."""
        table = self.lake.catalog.load_table(("market", "carbon_dead_letters"))
        return sorted(duckdb_rows(table, '"offset", status'))

    def replaying(self, hooks: MergeHooks | None = None) -> Replaying:
        return Replaying(self.lake.catalog, self.lake.spec, "kafka", hooks=hooks)

    def replay(self, hooks: MergeHooks | None = None) -> int:
        replaying = self.replaying(hooks)
        replaying.settle()
        return replaying.apply(replaying.plan(), BY_TEST).replayed


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table(tmp_path, monkeypatch, at_most=10)
    made.load((1, 1, "one"), (2, 2, "two"), (3, 3, "three"))
    return made


def test_a_refused_event_is_set_aside_and_every_other_one_is_merged(table: Table) -> None:
    for key in range(1, 7):
        table.upsert(key, BAD if key in (2, 5) else key * 5)

    with refusing_n():
        table.sync()

    assert table.lake.rows("id, n") == [(1, 5), (2, 2), (3, 15), (4, 20), (6, 30)]
    assert table.lacks == (1, 4)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=WITH_TRUNCATES, cut=st.integers(0, 30), size=st.integers(1, 8), mended=st.booleans())
def test_what_is_wrong_is_named_and_a_replay_mends_it(
    changes: list[Change], cut: int, size: int, *, mended: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_reading, "BATCH_EVENTS", size)
        table = Table(Path(directory), patch, at_most=1000)
        table.load(*((key, key, "old") for key in range(3)))
        expected, events = replay({key: (key, "old") for key in range(3)}, changes)
        if cut < len(events) and events[cut].get("before") and events[cut]["op"] == "u":
            cut -= 1  # both halves of a changed key come in one transaction of Kafka
        table.put(*events[:cut])
        with refusing_n():
            table.sync()
        table.put(*events[cut:])
        with refusing_n(refuses=not mended):
            table.sync()

        found = {key: (n, doc) for key, n, doc in table.lake.rows()}
        named = {
            json.loads(letter.key or b"")["id"]
            for letter in table.letters.load(table_name="t", status="pending")
        }
        wrong = {k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)}
        assert wrong <= named
        assert len(table.lake.rows()) == len(found)

        table.replay()
        assert table.lacks == ()
        assert {key: (n, doc) for key, n, doc in table.lake.rows()} == expected
        assert len(table.lake.rows()) == len(expected)
        before = table.lake.fresh().metadata_location
        assert table.replay() == 0
        assert table.lake.fresh().metadata_location == before
        assert not table.letters.load(table_name="t", status="pending")


def test_by_default_a_table_stops_before_the_first_one_with_everything_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(tmp_path, monkeypatch)
    table.load((1, 1, "one"))
    table.upsert(1, 5)
    table.upsert(2, BAD)
    table.upsert(3, 3)

    with refusing_n(), pytest.raises(UnrepresentableValueError):
        table.sync()

    assert table.lake.rows("id, n") == [(1, 5)]
    assert (table.progress.next_offset, table.lacks) == (1, ())
    with refusing_n(), pytest.raises(UnrepresentableValueError):
        table.sync()
    table.sync()
    assert table.lake.rows("id, n") == [(1, 5), (2, BAD), (3, 3)]


def test_a_table_stops_before_the_first_event_that_it_may_not_lack_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(tmp_path, monkeypatch, at_most=2)
    table.load()
    for key in range(1, 6):
        table.upsert(key, BAD if key > 1 else 1)
        table.upsert(10 + key, 1)

    with refusing_n(), pytest.raises(UnrepresentableValueError):
        table.sync()

    assert table.lake.rows("id") == [(1,), (11,), (12,), (13,)]
    assert (table.lacks, table.progress.next_offset) == ((2, 4), 6)
    assert table.statuses() == [(2, "pending"), (4, "pending")]


def test_an_event_that_a_later_one_of_its_row_outdoes_in_the_same_batch_is_no_dead_letter(
    table: Table,
) -> None:
    table.upsert(1, BAD)
    table.upsert(1, 7)
    table.upsert(2, 8)
    table.upsert(2, BAD)

    with refusing_n():
        table.sync()

    assert table.lake.rows("id, n") == [(1, 7), (2, 8), (3, 3)]
    assert table.lacks == (3,)


def test_a_value_that_a_dead_letter_had_set_is_never_taken_from_the_row_before_it(
    table: Table,
) -> None:
    table.upsert(1, BAD, "new")
    with refusing_n():
        table.sync()
        table.upsert(1, 9, None)
        table.upsert(2, 9, None)
        table.sync()

    assert table.lake.rows() == [(1, 1, "one"), (2, 9, "two"), (3, 3, "three")]
    assert table.lacks == (0, 1)
    with refusing_n():
        assert table.replay() == 2
    assert table.lake.rows() == [(1, 9, "new"), (2, 9, "two"), (3, 3, "three")]


def test_a_later_event_with_the_whole_row_makes_a_dead_letter_irrelevant(table: Table) -> None:
    table.upsert(1, BAD)
    table.upsert(2, BAD)
    with refusing_n():
        table.sync()
        table.upsert(1, 5, "whole")
        table.put({"op": "d", "before": {"id": 2}})
        table.sync()

    assert table.lacks == ()
    assert table.statuses() == [(0, "superseded"), (1, "superseded")]
    assert table.lake.rows() == [(1, 5, "whole"), (3, 3, "three")]


def test_a_key_change_is_set_aside_as_a_whole(table: Table) -> None:
    table.put({"op": "d", "before": {"id": 1}})
    moved = {"id": 9, "n": BAD, "doc": "__debezium_unavailable_value"}
    table.put({"op": "u", "before": {"id": 1}, "after": moved, "unchanged": ["doc"]})
    with refusing_n():
        table.sync()

    assert table.lacks == (0, 1)
    assert table.lake.rows("id") == [(1,), (2,), (3,)]
    assert table.replay() == 2
    assert table.lake.rows() == [(2, 2, "two"), (3, 3, "three"), (9, BAD, "one")]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("whole", [True, False])
def test_a_row_whose_value_a_dead_letter_needs_stands_until_the_dead_letter_is_replayed(
    table: Table, monkeypatch: pytest.MonkeyPatch, size: int, *, whole: bool
) -> None:
    monkeypatch.setattr(event_reading, "BATCH_EVENTS", size)
    table.put({"op": "d", "before": {"id": 1}})
    moved = {"id": 9, "n": BAD, "doc": "__debezium_unavailable_value"}
    table.put({"op": "u", "before": {"id": 1}, "after": moved, "unchanged": ["doc"]})
    table.put({"op": "c", "after": {"id": 1, "n": 5, "doc": "again"}})
    if not whole:
        table.put({"op": "d", "before": {"id": 1}})
    with refusing_n():
        table.sync()

    assert table.lacks == ((0, 1, 2) if whole else (0, 1, 2, 3))
    assert table.lake.rows() == [(1, 1, "one"), (2, 2, "two"), (3, 3, "three")]
    assert table.replay() == len(table.letters.load(table_name="t"))
    kept = [(1, 5, "again")] if whole else []
    assert table.lake.rows() == [*kept, (2, 2, "two"), (3, 3, "three"), (9, BAD, "one")]


def test_once_the_moved_row_is_whole_nothing_needs_the_row_it_came_from(table: Table) -> None:
    table.put({"op": "d", "before": {"id": 1}})
    moved = {"id": 9, "n": BAD, "doc": "__debezium_unavailable_value"}
    table.put({"op": "u", "before": {"id": 1}, "after": moved, "unchanged": ["doc"]})
    table.upsert(9, 9, "whole")
    table.put({"op": "c", "after": {"id": 1, "n": 5, "doc": "again"}})
    with refusing_n():
        table.sync()

    assert table.lacks == ()
    assert [row for row in table.lake.rows() if row[0] in (1, 9)] == [
        (1, 5, "again"),
        (9, 9, "whole"),
    ]


def test_a_missing_old_row_is_one_dead_letter(table: Table) -> None:
    table.upsert(8, 8, None)
    table.upsert(1, 8, None)

    table.sync()

    assert table.lacks == (0,)
    assert table.lake.rows("id, n") == [(1, 8), (2, 2), (3, 3)]
    assert table.replay() == 0
    assert isinstance(table.replaying().plan().fails[0], MissingPriorValueError)


def test_broken_messages_are_set_aside_with_their_bytes_and_those_of_no_row_can_be_dropped(
    table: Table,
) -> None:
    table.upsert(1, 5)
    table.broken()
    table.upsert(2, 5)
    table.broken('{"id": 3}')
    table.upsert(3, 6, None)
    table.sync()

    letters = table.letters.load(table_name="t")
    assert [(one.offset, one.error, one.value) for one in letters] == [
        (1, "MalformedEnvelopeError", b"foreign broken"),
        (3, "MalformedEnvelopeError", b'{"id": 3} broken'),
        (4, "PriorDeadLetterError", table.stream.messages[4]),
    ]
    assert table.lake.rows("id, n") == [(1, 5), (2, 5), (3, 3)]
    assert table.replay() == 0
    with pytest.raises(NoSuchDeadLetterError, match="its key names a row"):
        table.replaying().drop([1, 3], Resolution("dropped", "ann", "not ours"))
    table.replaying().drop([1], Resolution("dropped", "ann", "not ours"))
    assert table.lacks == (3, 4)
    assert table.statuses() == [(1, "dropped"), (3, "pending"), (4, "pending")]
    table.upsert(3, 7)
    table.sync()
    assert table.lacks == ()


def test_a_broken_message_stops_a_table_that_may_lack_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(tmp_path, monkeypatch)
    table.load()
    table.upsert(1, 5)
    table.broken()
    table.upsert(2, 5)

    with pytest.raises(MalformedEnvelopeError, match=r"\[0\]@1 is not a change event"):
        table.sync()

    assert table.lake.rows("id") == [(1,)]
    assert table.progress.next_offset == 1


@pytest.mark.parametrize("moment", ["after_dead_letters", "after_write", "after_commit"])
def test_a_death_between_the_commits_sets_nothing_aside_twice_and_loses_nothing(
    table: Table, moment: str
) -> None:
    table.upsert(1, BAD)
    table.upsert(2, 5)
    with refusing_n():
        with pytest.raises(Killed):
            table.sync(MergeHooks(**{moment: die}))
        table.sync()

    assert table.statuses() == [(0, "pending")]
    assert (table.lacks, table.lake.rows("id, n")) == ((0,), [(1, 1), (2, 5), (3, 3)])


def test_two_runs_that_race_set_aside_once(table: Table) -> None:
    table.upsert(1, BAD)
    table.upsert(2, 5)

    with refusing_n(), pytest.raises(CommitConflictError):
        table.sync(MergeHooks(after_dead_letters=table.sync))

    assert table.statuses() == [(0, "pending")]
    assert (table.lacks, table.lake.rows("id, n")) == ((0,), [(1, 1), (2, 5), (3, 3)])


@pytest.mark.parametrize("moment", ["after_write", "after_commit"])
@pytest.mark.parametrize("key", [("id",), ()])
def test_a_replay_that_dies_is_finished_by_the_next_and_applies_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, key: Sequence[str]
) -> None:
    table = Table(tmp_path, monkeypatch, key=key, at_most=5)
    table.load()
    for number, n in enumerate((1, BAD, 2, BAD)):
        table.put({"op": "c", "after": {"id": number, "n": n, "doc": "d"}})
    with refusing_n():
        table.sync()
        assert table.replay() == 0
    assert table.lake.rows("id") == [(0,), (2,)]

    with pytest.raises(Killed):
        table.replay(MergeHooks(**{moment: die}))
    table.replay()

    assert table.lake.rows("id, n") == [(0, 1), (1, BAD), (2, 2), (3, BAD)]
    assert table.lacks == ()
    assert table.statuses() == [(1, "replayed"), (3, "replayed")]
    assert table.replay() == 0


def test_a_replay_beside_a_merge_is_planned_anew_and_the_later_event_wins(table: Table) -> None:
    table.upsert(1, BAD)
    with refusing_n():
        table.sync()
    table.upsert(1, 9, "later")
    merges: list[None] = []

    def merge_once() -> None:
        if not merges:
            merges.append(None)
            table.sync()

    table.replay(MergeHooks(after_write=merge_once))

    assert table.lake.rows() == [(1, 9, "later"), (2, 2, "two"), (3, 3, "three")]
    assert table.lacks == ()


def test_a_truncate_ends_what_was_lacking_and_a_replay_does_not_repeat_it(table: Table) -> None:
    table.upsert(1, BAD)
    table.put({"op": "t"})
    table.upsert(2, BAD)
    table.upsert(3, 5)
    with refusing_n():
        table.sync()

    assert (table.lacks, table.lake.rows("id")) == ((2,), [(3,)])
    assert table.replay() == 1
    assert table.lake.rows("id, n") == [(2, BAD), (3, 5)]


def test_what_kafka_no_longer_holds_is_replayed_from_its_bytes_only_if_nothing_came_after(
    table: Table,
) -> None:
    table.upsert(1, BAD)
    table.upsert(2, BAD)
    table.upsert(3, 5)
    with refusing_n():
        table.sync()
    table.stream.low = 3
    assert "no longer holds" in table.replaying().plan().describe()
    assert table.replay() == 0

    table.stream.low = 2
    assert table.replay() == 2
    assert table.lake.rows("id, n") == [(1, BAD), (2, BAD), (3, 5)]


def test_a_copy_anew_owes_nothing_to_the_dead_letters_before_it(table: Table) -> None:
    table.upsert(1, BAD)
    with refusing_n():
        table.sync()
    table.lake.progress = replace(START, ddl_offset=1, next_offset=1)
    table.load((7, 7, "copied"))

    assert table.replay() == 0
    assert table.statuses() == [(0, "superseded")]
