"""What is read of a topic that ends, or begins, in the middle of something."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.errors.debezium import TopicPartitionedError
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream import debezium_reading
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines.stream.debezium_reading import read_debezium, recorded_shapes
from carbon_pipelines_tests.stream.debezium import message, relation, table

MOVED = message("d", (10, 30), before={"id": 1})
CREATED = message("c", (10, 30), after={"id": 2, "doc": "a"})
OTHER = message("c", (10, 20), after={"id": 3, "doc": "b"})
LATER = message("c", (10, 40), after={"id": 4, "doc": "b"})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a topic made of messages; the first half of a changed key has its header."""
    topic: list[bytes] = []
    shapes: list[Any] = [(Position(0, 0), relation(doc="text"))]

    def batches(_: str, __: str, start: int, end: int, **___: Any) -> Iterator[RawBatch]:
        marked = frozenset(n for n, value in enumerate(topic) if value == MOVED)
        for at in range(start, end, 2):
            stop = min(at + 2, end)
            yield RawBatch(topic[at:stop], list(range(at, stop)), at, stop, marked)

    monkeypatch.setattr(debezium_reading, "read_batches", batches)
    monkeypatch.setattr(debezium_reading, "_check_partitions", lambda *_: None)
    monkeypatch.setattr(debezium_reading, "_load_shapes", lambda *_: list(shapes))
    state = SimpleNamespace(low=0)
    monkeypatch.setattr(debezium_reading, "load_topic_state", lambda *_: state)

    def read(messages: list[bytes], start: int, after: Position) -> tuple[list[int], int]:
        topic[:] = messages
        spec = table()
        found = list(read_debezium("", spec, DebeziumSpec(), start, len(messages), after=after))
        return [offset for raw in found for offset in raw.offsets], found[-1].next_offset

    read.shapes = shapes  # type: ignore[attr-defined]
    return read


@pytest.mark.parametrize("tail", [[MOVED], [MOVED, b""]])
def test_half_a_changed_key_waits_for_the_other_half(read: Any, tail: list[bytes]) -> None:
    assert read([OTHER, *tail], 0, Position(0, 0)) == ([0], 1)


@pytest.mark.parametrize("again", [[OTHER], [OTHER, b"", OTHER], [OTHER, MOVED], [MOVED]])
def test_half_a_changed_key_waits_while_a_connector_sends_again_what_came_before(
    read: Any, again: list[bytes]
) -> None:
    topic = [OTHER, MOVED, *again]

    assert read(topic, 0, Position(0, 0)) == ([0], 1)
    rest = [*topic, MOVED, CREATED, LATER]
    after = Position(10, 20 * 2048)
    assert read(rest, 1, after) == ([1, len(rest) - 2, len(rest) - 1], len(rest))


def test_half_a_changed_key_does_not_wait_once_something_else_follows(read: Any) -> None:
    assert read([OTHER, MOVED, LATER], 0, Position(0, 0)) == ([0, 1, 2], 3)


@pytest.mark.parametrize("before", [[], [OTHER], [b"", OTHER]])
def test_a_changed_key_is_read_once_both_halves_are_there(read: Any, before: list[bytes]) -> None:
    at = len(before)
    start = [offset for offset, value in enumerate(before) if value]

    found = read([*before, MOVED, b"", CREATED], 0, Position(0, 0))

    assert found == ([*start, at, at + 2], at + 3)


def test_the_other_half_is_known_for_what_it_is_by_looking_back(read: Any) -> None:
    # the delete was merged by a reading that ended before Debezium marked such deletes
    after = Position(10, 30 * 2048)

    assert read([OTHER, MOVED, b"", CREATED], 2, after) == ([3], 4)


def test_rows_of_a_copy_that_are_sent_again_are_left_out(read: Any) -> None:
    rows = [message("c", (10, 20), after={"id": n, "doc": "a"}) for n in range(4)]
    after = Position(10, 20 * 2048 + 1)

    assert read([*rows[:2], *rows], 2, after) == ([4, 5], 6)


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"doc": "text", "n": "int4"}, {"doc": "a", "n": 1}),
        ({"doc": "text", "n": "int4"}, {"doc": "a", "n": None}),
        ({}, {}),
        ({"doc": "int4"}, {"doc": 7}),
    ],
)
def test_a_shape_that_was_recorded_meanwhile_is_read(
    read: Any, columns: dict[str, str], row: dict[str, Any]
) -> None:
    shapes = [(Position(0, 0), relation(doc="text"))]
    changed = message("c", (10, 50), after={"id": 4, **row})
    loads = iter([shapes, [*shapes, (Position(10, 40), relation(2, **columns))]])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(debezium_reading, "_load_shapes", lambda *_: next(loads))
        assert read([OTHER, changed], 0, Position(0, 0)) == ([0, 1], 2)
    assert next(loads, None) is None


def test_a_table_is_away_from_another_name_until_a_relation_has_its_own_again() -> None:
    first, changed, successor = relation(1), relation(3), replace(relation(5), oid=16_999)
    old = [replace(relation(version), name="t_old") for version in (2, 4, 6)]
    dropped = replace(old[0], columns=(), version=7)
    history = [first, old[0], changed, old[1], successor, old[2], dropped]

    found = recorded_shapes([(Position(r.version, 0), r) for r in history], table())

    assert [(position.commit_lsn, shape) for position, shape in found] == [
        (1, first),
        (2, None),
        (3, changed),
        (4, None),
        (5, successor),
    ]


def test_a_topic_of_several_partitions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = {"cdc.market.public.t": SimpleNamespace(partitions={0: None, 1: None})}
    listed = SimpleNamespace(list_topics=lambda *_, **__: SimpleNamespace(topics=topics))
    monkeypatch.setattr(debezium_reading, "open_admin", lambda _: listed)

    with pytest.raises(TopicPartitionedError, match="has 2 partitions"):
        next(read_debezium("", table(), DebeziumSpec(), 0, 1, after=Position(0, 0)))
