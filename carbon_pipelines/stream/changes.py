"""Reading the changes of a table, whoever captured them.

What belongs here: choosing between our own topics and a Debezium connector's. What does not: either
of them (``consumer.py``, ``debezium_reading.py``).
"""

from collections.abc import Iterator

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.consumer import MAX_EVENTS, RawBatch, read_batches
from carbon_pipelines.stream.debezium_reading import read_debezium
from carbon_pipelines.stream.topics import topic_of


def read_changes(
    bootstrap: str,
    table: TableSpec,
    start_offset: int,
    end_offset: int,
    *,
    after: Position,
    max_events: int = MAX_EVENTS,
) -> Iterator[RawBatch]:
    """Envelopes of a table's topic from ``start_offset`` to before ``end_offset``, in order.

    Args:
        bootstrap: Address of Kafka.
        table: Whose topic is read.
        start_offset: First offset.
        end_offset: At most the topic's read_committed end.
        after: The position up to which ``start_offset`` was read before. Our own topics hold each
            change once; a connector's may repeat some at or before it, and those are left out.
        max_events: A batch has so many messages at most.

    Raises:
        StreamError: As ``read_batches`` and ``read_debezium``.
    """
    if table.debezium is not None:
        return read_debezium(
            bootstrap,
            table,
            table.debezium,
            start_offset,
            end_offset,
            after=after,
            max_events=max_events,
        )
    return read_batches(bootstrap, topic_of(table), start_offset, end_offset, max_events=max_events)
