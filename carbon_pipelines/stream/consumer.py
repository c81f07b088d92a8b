"""Reading a topic between two offsets.

What belongs here: read_committed reading of the one partition of a topic, in batches of raw bytes.
What does not: what the bytes mean, who remembers how far reading came (the lake's snapshots), and
which offsets there are (``topic_state.py``).

Offsets are not events: transaction markers and aborted events take offsets too. A batch therefore
says from which offset to go on, and the last one always says ``end_offset``.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from carbon_pipelines.errors import (
    OffsetBeyondEndError,
    OffsetGapError,
    StreamUnavailableError,
    TopicMissingError,
)
from carbon_pipelines.stream.client import client_settings
from carbon_pipelines.stream.topic_state import MISSING, kafka_errors
from carbon_pipelines.stream.topics import (
    LARGEST_EVENT_BYTES,
    REQUEST_SECONDS,
    unavailable,
)

POLL_SECONDS = 0.02
"""How long a poll waits to be filled; the broker answers an empty one after half of it."""
SILENCE_SECONDS = 30.0
"""Without an answer for this long, reading ends with an error that may be retried."""
POLL_EVENTS = 10_000
MAX_EVENTS = 65_536
"""Values of a batch at most, unless told otherwise."""
CAUTIOUS_EVENT_BYTES = 64 << 10
"""The size events are taken to have until some were seen."""


# The queue bounds memory. Once it is full librdkafka waits before it fetches again, a second unless
# told otherwise: five times the wall time of all the rest.
CONSUMER = {
    "group.id": "carbon-unused",  # required, never joined: offsets live with the data
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "check.crcs": False,
    "fetch.wait.max.ms": int(POLL_SECONDS * 500),
    "fetch.message.max.bytes": 2 << 20,
    "fetch.queue.backoff.ms": 5,
    "fetch.max.bytes": LARGEST_EVENT_BYTES,
    "receive.message.max.bytes": LARGEST_EVENT_BYTES + (8 << 20),
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 16 << 10,
}


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Values of consecutive events; ``next_offset`` is where reading goes on after them.

    ``marked`` are the offsets of those with the header that was asked for.
    """

    values: list[bytes]
    offsets: list[int]
    first_offset: int
    next_offset: int
    marked: frozenset[int] = frozenset()

    def pick(self, indexes: Iterable[int]) -> "RawBatch":
        """Some of the events, by their indexes; the batch itself if that is all of them."""
        chosen = list(indexes)
        if len(chosen) == len(self.values):
            return self
        return RawBatch(
            [self.values[index] for index in chosen],
            [self.offsets[index] for index in chosen],
            self.first_offset,
            self.next_offset,
        )


def read_batches(
    bootstrap: str,
    topic: str,
    start_offset: int,
    end_offset: int,
    *,
    max_events: int = MAX_EVENTS,
    max_bytes: int = 64 << 20,
    header: str | None = None,
) -> Iterator[RawBatch]:
    """Read the committed events from ``start_offset`` to before ``end_offset``, in order.

    Memory is bounded by one batch and the consumer's queue (16 MiB). The last batch has no values
    if only transaction markers were left.

    Args:
        bootstrap: Address of Kafka.
        topic: Its partition 0 is read, without a consumer group.
        start_offset: First offset.
        end_offset: At most the read_committed end (``TopicState.high``).
        max_events: At most so many values to a batch.
        max_bytes: A batch ends with the value that brings it to so many bytes.
        header: Name of a header whose bearers are to be marked.

    Raises:
        OffsetGapError: ``start_offset`` or what follows it has expired.
        OffsetBeyondEndError: The topic ends before ``start_offset``.
        TopicMissingError: There is no such topic (any more).
        StreamUnavailableError: Kafka does not answer (retryable).
    """
    with closing(Consumer({**CONSUMER, **client_settings(bootstrap)})) as consumer:
        with kafka_errors(bootstrap, topic):
            _check_start(consumer, topic, start_offset)
            consumer.assign([TopicPartition(topic, 0, start_offset)])
        reading = Reading(bootstrap, consumer, topic, start_offset, end_offset, header)
        while reading.position < end_offset:
            yield reading.next_batch(max_events, max_bytes)


def read_messages(
    bootstrap: str, topic: str, offsets: Collection[int]
) -> dict[int, tuple[bytes | None, bytes | None]]:
    """The (key, value) of single messages; those that are no committed events are left out.

    Raises:
        As ``read_batches``.
    """
    found: dict[int, tuple[bytes | None, bytes | None]] = {}
    with closing(Consumer({**CONSUMER, **client_settings(bootstrap)})) as consumer:
        for offset in sorted(offsets):
            with kafka_errors(bootstrap, topic):
                _check_start(consumer, topic, offset)
                consumer.assign([TopicPartition(topic, 0, offset)])
            reading = Reading(bootstrap, consumer, topic, offset, offset + 1)
            for message in reading.poll(1):
                if message.offset() == offset:
                    found[offset] = (message.key(), message.value())
    return found


class Reading:
    """The state between two batches: ``position`` is the offset to go on from."""

    def __init__(
        self,
        bootstrap: str,
        consumer: Consumer,
        topic: str,
        position: int,
        end: int,
        header: str | None = None,
    ) -> None:
        self._header = header
        self._bootstrap, self._consumer, self._topic = bootstrap, consumer, topic
        self.position, self._end = position, end
        self._event_bytes = CAUTIOUS_EVENT_BYTES

    def next_batch(self, max_events: int, max_bytes: int) -> RawBatch:
        """Poll until the batch is full or the end is reached."""
        values: list[bytes] = []
        offsets: list[int] = []
        marked: set[int] = set()
        first, size_bytes = self.position, 0
        while self.position < self._end and len(values) < max_events and size_bytes < max_bytes:
            fitting = (max_bytes - size_bytes) // self._event_bytes + 1
            messages = self.poll(min(max_events - len(values), fitting, POLL_EVENTS))
            polled = [m.value() or b"" for m in messages]
            offsets.extend([m.offset() for m in messages])  # pyright: ignore[reportArgumentType]
            values.extend(polled)
            if self._header is not None:
                marked.update(_bearers(messages, self._header))
            polled_bytes = sum(map(len, polled))
            size_bytes += polled_bytes
            self._event_bytes = max(1, polled_bytes // max(1, len(polled)))
        while offsets and offsets[-1] >= self._end:
            offsets.pop()
            values.pop()
        return RawBatch(values, offsets, first, self.position, frozenset(marked))

    def poll(self, count: int) -> list[Message]:
        """At least one event, or an end that has come closer."""
        silent_until = time.monotonic() + SILENCE_SECONDS
        while True:
            with kafka_errors(self._bootstrap, self._topic):
                polled = self._consumer.consume(count, POLL_SECONDS)
            if polled:
                events = [m for m in polled if m.error() is None]
                if len(events) < len(polled):
                    self._heed(polled)
                if events:
                    after = (events[-1].offset() or 0) + 1
                    self.position = min(max(self.position, after), self._end)
                if events or self.position >= self._end:
                    return events
            if time.monotonic() > silent_until:
                state = (
                    f"nothing came from {self._topic}[0] for {SILENCE_SECONDS:.0f} s at offset "
                    f"{self.position}, before {self._end}"
                )
                raise StreamUnavailableError(self._bootstrap, state)

    def _heed(self, polled: list[Message]) -> None:
        """Learn from the messages that are not events how far the partition is read."""
        for message in polled:
            error = message.error()
            if error is None:
                continue
            code = error.code()
            if code == KafkaError._PARTITION_EOF:
                self.position = min(max(self.position, message.offset() or 0), self._end)
            elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                _check_start(self._consumer, self._topic, self.position)
                raise unavailable(self._bootstrap, f"reading {self._topic}", error)
            elif code in MISSING:
                raise TopicMissingError(self._bootstrap, self._topic)
            else:
                raise unavailable(self._bootstrap, f"reading {self._topic}", error)


def _bearers(messages: Collection[Message], header: str) -> Iterator[int]:
    for message in messages:
        names = [name for name, _ in message.headers() or ()]
        if header in names:
            yield message.offset() or 0


def _check_start(consumer: Consumer, topic: str, start: int) -> None:
    bounds = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=REQUEST_SECONDS)
    low, high = bounds or (0, start)
    if start < low:
        raise OffsetGapError(topic, first=start, last=low - 1)
    if start > high:
        raise OffsetBeyondEndError(topic, start=start, end=high)
