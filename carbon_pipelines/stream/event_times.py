"""When events of a topic were committed in their source, and when they came to Kafka.

What belongs here: reading that of the events next to an offset. What does not: what follows from
it (``serving/freshness.py``).

A table's snapshot says up to which offset it has the topic. The first event from there on is the
oldest change that it lacks, and the last one before it the newest that it has.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, Message, TopicPartition

from carbon_pipelines.stream.client import client_settings
from carbon_pipelines.stream.consumer import CONSUMER, Reading
from carbon_pipelines.stream.topic_state import kafka_errors, load_topic_state
from carbon_pipelines.stream.topics import TopicState

_LOOK_BACK_OFFSETS = 16


@dataclass(frozen=True, slots=True)
class EventTimes:
    """One event: its commit in PostgreSQL by that server's clock, and its arrival in Kafka by ours.

    ``None`` where the event does not say.
    """

    offset: int
    committed_at: datetime | None
    captured_at: datetime | None


@dataclass(frozen=True, slots=True)
class Beside:
    """The events next to an offset; ``is_whole`` unless Kafka's retention has passed the offset."""

    before: EventTimes | None
    after: EventTimes | None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class TopicTimes:
    """The events next to each offset that was asked for, and the newest of the topic."""

    beside: Mapping[int, Beside]
    newest: EventTimes | None


def read_times(bootstrap: str, topic: str, offsets: Iterable[int]) -> TopicTimes:
    """The committed events next to each offset.

    Raises:
        TopicMissingError: There is no such topic (any more).
        StreamUnavailableError: Kafka does not answer (retryable).
    """
    state = load_topic_state(bootstrap, topic)
    found: dict[int, Beside] = {}
    with closing(Consumer({**CONSUMER, **client_settings(bootstrap)})) as consumer:
        looking = _Looking(bootstrap, consumer, state)
        for offset in sorted(set(offsets)):
            after = looking.first_from(max(offset, state.low))
            before = looking.last_before(offset)
            found[offset] = Beside(before, after, is_whole=offset >= state.low)
        return TopicTimes(found, looking.last_before(state.high))


class _Looking:
    """Single events of a topic; ``high`` is the read_committed end, beyond which nothing is."""

    def __init__(self, bootstrap: str, consumer: Consumer, state: TopicState) -> None:
        self._bootstrap, self._consumer, self._topic = bootstrap, consumer, state.topic
        self._low, self._high = state.low, state.high

    def first_from(self, offset: int) -> EventTimes | None:
        reading = self._read(offset, self._high)
        while reading is not None and reading.position < self._high:
            for message in reading.poll(1):
                return _times(message)
        return None

    def last_before(self, offset: int) -> EventTimes | None:
        """Looks back further and further: markers of transactions are no events."""
        end, look_back = min(offset, self._high), _LOOK_BACK_OFFSETS
        while end > self._low:
            start = max(self._low, end - look_back)
            reading, newest = self._read(start, end), None
            while reading is not None and reading.position < end:
                for message in reading.poll(look_back):
                    if (message.offset() or 0) < end:
                        newest = message
            if newest is not None or start == self._low:
                return None if newest is None else _times(newest)
            look_back *= 16
        return None

    def _read(self, start: int, end: int) -> Reading | None:
        if start >= end:
            return None
        with kafka_errors(self._bootstrap, self._topic):
            self._consumer.assign([TopicPartition(self._topic, 0, start)])
        return Reading(self._bootstrap, self._consumer, self._topic, start, end)


def _times(message: Message) -> EventTimes:
    try:
        told = json.loads(message.value() or b"{}")
        source = told.get("source") or {}
        committed = source.get("ts_ms") or told.get("ts_ms")
    except (ValueError, AttributeError):
        committed = None
    kind, stamp = message.timestamp()
    captured = None if kind == TIMESTAMP_NOT_AVAILABLE else stamp
    return EventTimes(message.offset() or 0, _moment(committed), _moment(captured))


def _moment(milliseconds: object) -> datetime | None:
    if not isinstance(milliseconds, int) or milliseconds <= 0:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
