"""The end of a topic, from a moment on.

What belongs here: finding the offset of a moment and reading from there. What does not: what the
events say (``touched_keys.py``).
"""

from collections.abc import Iterator
from datetime import datetime

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # pyright: ignore[reportPrivateImportUsage]

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.changes import read_changes
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import load_offsets, open_admin, topic_of, unavailable


def read_topic_since(bootstrap: str, table: TableSpec, since: datetime) -> Iterator[bytes]:
    """A table's committed events that Kafka holds, from the first produced at or after ``since``.

    Raises:
        StreamError: The topic cannot be read.
    """
    topic = topic_of(table)
    state = load_topic_state(bootstrap, topic)
    start = _offset_at(bootstrap, topic, since)
    if start is None:
        return
    first = max(start, state.low)
    for batch in read_changes(bootstrap, table, first, state.high, after=Position(0, 0)):
        yield from batch.values


def _offset_at(bootstrap: str, topic: str, moment: datetime) -> int | None:
    """The first offset whose timestamp is not before ``moment``, if there is one."""
    partition = TopicPartition(topic, 0)
    wanted = OffsetSpec.for_timestamp(int(moment.timestamp() * 1000))
    admin = open_admin(bootstrap)  # a client that nothing holds never answers its futures
    try:
        offset = load_offsets(admin, {partition: wanted})[partition]
    except KafkaException as failed:
        raise unavailable(bootstrap, f"finding offsets of {topic}", failed.args[0]) from failed
    return offset if offset >= 0 else None
