"""Whatever a restarted connector sends again, each event is taken once and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.debezium_order import Ordering, Place

START = Position(0, 0)
Sent = tuple[Place, str, dict[str, int]]


@st.composite
def streams(draw: st.DrawFn) -> list[Sent]:
    """Transactions in commit order: pairs of one to four events, each of its own key."""
    stream: list[Sent] = []
    commit, key = 0, 0
    for _ in range(draw(st.integers(1, 4))):
        commit += draw(st.integers(24, 90))
        record = commit - draw(st.integers(0, 60))  # it may have begun before that commit
        for _ in range(draw(st.integers(1, 3))):
            record += 24
            for _ in range(draw(st.integers(1, 4))):
                key += 1
                stream.append((Place(commit, record), draw(st.sampled_from("cud")), {"id": key}))
        commit = max(commit, record)
    return stream


@st.composite
def topics(draw: st.DrawFn) -> tuple[list[Sent], list[Sent]]:
    """A stream, and a topic that holds it with restarts that go back to any earlier event."""
    stream = draw(streams())
    topic: list[Sent] = []
    at = 0
    for _ in range(draw(st.integers(0, 3))):
        end = draw(st.integers(at, len(stream)))
        topic += stream[at:end]
        at = draw(st.integers(0, end))
    return stream, topic + stream[at:]


@given(topics())
def test_each_event_is_taken_once_in_stream_order(made: tuple[list[Sent], list[Sent]]) -> None:
    stream, topic = made
    ordering = Ordering(START)

    taken = [(event, ordering.take(*event)) for event in topic]

    kept = [(event, position) for event, position in taken if position is not None]
    positions = [position for _, position in kept]
    assert [event for event, _ in kept] == stream
    assert positions == sorted(set(positions))


@given(topics(), st.data())
def test_reading_that_goes_on_anywhere_takes_what_is_left(
    made: tuple[list[Sent], list[Sent]], data: st.DataObject
) -> None:
    stream, topic = made
    cut = data.draw(st.integers(0, len(topic)))
    first = Ordering(START)
    before = [event for event in topic[:cut] if first.take(*event) is not None]
    looked_back = Ordering(START)
    for event in topic[:cut]:
        looked_back.take(*event)

    second = looked_back.behind(first.mark)
    after = [event for event in topic[cut:] if second.take(*event) is not None]

    assert before + after == stream


def test_more_events_than_a_pair_has_room_for_are_refused() -> None:
    place = Place(1, 2)

    assert place.position(49_151) < Place(1, 2 + 24).position(0)
    with pytest.raises(ValueError, match="more than 49,152 events"):
        place.position(49_152)
