from dataclasses import replace
from typing import Any

import pytest

from carbon_pipelines.lake.copy_start import CopyStart, begin, can_resume
from carbon_pipelines.lake.state import CopyEdge
from carbon_pipelines.source.connection import SourceIdentity
from carbon_pipelines.source.leaves import Heap, Piece
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.visibility import Visibility
from carbon_pipelines.stream.progress import Gap, Progress
from carbon_pipelines.stream.topics import TopicState
from carbon_pipelines_tests.lake.local_lake import relation, table_spec

SHAPE = relation({"id": "int8", "name": "text"}, ["id"])
START = CopyStart(
    Progress(Position(90, 1), 100, "7000", 1, 5, {}, "ddl"),
    TopicState("cdc.market.public.t", "topic", "cluster", 0, 9),
    SourceIdentity("7000", 1, 5),
    SHAPE,
    [Heap(SHAPE, 16999)],
    CopyEdge(Visibility.parse("10:10:"), 4711),
)
SPEC = table_spec(["id"])
RANGES = [[Piece(16384, 0, 12)], [Piece(16384, 12, None)]]
HALF = replace(
    begin(START, [[Piece(16384, 0, 12)], [Piece(16384, 12, None)]], schema_id=3),
    done=frozenset({0}),
)
MOVED_TO_ANOTHER_SERVER = SourceIdentity("7001", 1, 5)
FAILED_OVER = SourceIdentity("7000", 2, 5)
BEHIND_GAP = replace(START.stream, gaps=(Gap(1, Position(90, 1), 100, 200, "it was dropped", 0.0),))


def resumes(start: CopyStart, **more: Any) -> bool:
    facts = {"spec": SPEC, "schema_id": 3, "current_schema_id": 3, **more}
    return can_resume(HALF, start, **facts)


def test_a_copy_of_what_is_still_there_is_resumed() -> None:
    later = replace(START, edge=CopyEdge(Visibility.parse("20:20:"), 5000))

    assert resumes(later)


@pytest.mark.parametrize(
    "change",
    [
        {"heaps": [Heap(SHAPE, 17000)]},
        {"heaps": [Heap(SHAPE, 16999), Heap(replace(SHAPE, oid=1), 17000)]},
        {"relation": replace(SHAPE, oid=1)},
        {"relation": replace(SHAPE, version=2)},
        {"identity": MOVED_TO_ANOTHER_SERVER},
        {"identity": FAILED_OVER},
        {"topic": replace(START.topic, topic_id="another")},
        {"topic": replace(START.topic, low=10, high=20)},
        {"stream": BEHIND_GAP},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_copy_of_what_is_no_more_begins_again(change: dict[str, Any]) -> None:
    assert not resumes(replace(START, **change))


@pytest.mark.parametrize(
    "facts",
    [
        {"schema_id": 4, "current_schema_id": 4},
        {"schema_id": 4},
        {"current_schema_id": 4},
        {"spec": table_spec([], mode="append")},
    ],
    ids=str,
)
def test_a_copy_into_another_shape_begins_again(facts: dict[str, Any]) -> None:
    assert not resumes(START, **facts)


def test_a_copy_stands_at_the_server_that_it_read_and_where_kafka_stood() -> None:
    start = replace(START, identity=FAILED_OVER)

    progress = begin(start, [[Piece(16384, 0, None)]], schema_id=3).progress

    assert (progress.position, progress.next_offset) == (Position(90, 1), 9)
    assert (progress.system_identifier, progress.timeline) == ("7000", 2)


def test_a_copy_is_of_the_generation_that_the_capture_was_of_before_it_began() -> None:
    start = replace(START, stream=BEHIND_GAP)

    assert begin(start, [], schema_id=3).progress.generation == 1
    assert begin(START, [], schema_id=3).progress.generation == 0
