"""Reading what a Debezium connector wrote of one table, as our own envelopes.

What belongs here: which messages are read for it, and the shapes they are decoded with. What does
not: Kafka (``consumer.py``) and what a message says (``debezium.py``).

Three things are not as in topics of our own:
* a restarted connector sends events again, so reading begins with a look back, which tells what
  the newest position stands for;
* nothing is transactional, so the topic may end between the two halves of a changed key. Debezium
  marks the first half with a header; it waits for the second;
* the shape of a row is not in it, so the DDL history is read, once more where a row does not fit.
"""

from collections.abc import Iterable, Iterator
from operator import itemgetter

from confluent_kafka import KafkaException

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import MalformedEnvelopeError
from carbon_pipelines.errors.debezium import (
    ShapeUnknownError,
    TopicPartitionedError,
    UnreadableValueError,
)
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.consumer import MAX_EVENTS, RawBatch, read_batches
from carbon_pipelines.stream.debezium import Decoder
from carbon_pipelines.stream.debezium_message import BROKEN, take_apart
from carbon_pipelines.stream.debezium_order import Ordering, Place, place_of
from carbon_pipelines.stream.schemas import load_schema_history
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import REQUEST_SECONDS, open_admin, topic_of, unavailable

LOOK_BACK_OFFSETS = 4_096
"""More than one pair holds of a COPY's rows, and of an incremental snapshot's chunk by default."""
MOVED = "__debezium.newkey"
"""Header of the delete that a changed key begins with."""

_BEFORE_ALL = Position(0, 0)
_BEHIND_ALL = Place(1 << 64, 0)


def read_debezium(
    bootstrap: str,
    table: TableSpec,
    settings: DebeziumSpec,
    start_offset: int,
    end_offset: int,
    *,
    after: Position,
    max_events: int = MAX_EVENTS,
) -> Iterator[RawBatch]:
    """Events from ``start_offset`` to before ``end_offset``, as envelopes of our own.

    Args:
        bootstrap: Address of Kafka.
        table: Whose topic is read.
        settings: What is declared about the connector.
        start_offset: First offset.
        end_offset: At most the topic's end.
        after: Events at or before this position were read before, and are left out.
        max_events: A batch has so many messages at most.

    Raises:
        TopicPartitionedError: The topic has more than one partition.
        StreamError: As ``read_batches`` and ``Decoder.decode``.
    """
    topic = topic_of(table)
    _check_partitions(bootstrap, topic)
    decoder = Decoder(table, settings, _load_shapes(bootstrap, table), Ordering(_BEFORE_ALL))
    low = load_topic_state(bootstrap, topic).low
    look_back_from = max(low, start_offset - LOOK_BACK_OFFSETS)
    if low <= start_offset and look_back_from < start_offset:
        for raw in read_batches(bootstrap, topic, look_back_from, start_offset):
            for offset, value in zip(raw.offsets, raw.values, strict=True):
                decoder.note(offset, value)
    decoder.ordering = decoder.ordering.behind(after)
    held: RawBatch | None = None
    for raw in read_batches(
        bootstrap, topic, start_offset, end_offset, max_events=max_events, header=MOVED
    ):
        held, whole = _hold_moved(raw if held is None else _joined(held, raw), topic)
        yield _decode(bootstrap, table, decoder, whole)


def _decode(bootstrap: str, table: TableSpec, decoder: Decoder, raw: RawBatch) -> RawBatch:
    values: list[bytes] = []
    offsets: list[int] = []
    for offset, value in zip(raw.offsets, raw.values, strict=True):
        try:
            envelopes = decoder.decode(offset, value)
        except (ShapeUnknownError, UnreadableValueError):
            decoder.shapes = _load_shapes(bootstrap, table)
            envelopes = decoder.decode(offset, value)
        values += envelopes
        offsets += [offset] * len(envelopes)
    return RawBatch(values, offsets, raw.first_offset, raw.next_offset)


def _hold_moved(raw: RawBatch, topic: str) -> tuple[RawBatch | None, RawBatch]:
    """``raw`` from the first half of a changed key whose other half it lacks, and before it."""
    index = _unfinished(raw, topic) if raw.marked else None
    if index is None:
        return None, raw
    at, marked = raw.offsets[index], raw.marked
    held = RawBatch(raw.values[index:], raw.offsets[index:], at, raw.next_offset, marked)
    return held, RawBatch(raw.values[:index], raw.offsets[:index], raw.first_offset, at, marked)


def _unfinished(raw: RawBatch, topic: str) -> int | None:
    """Where the first half stands that the other one does not follow.

    Behind it there may be the tombstone of the old key, and what a connector that was started again
    sends once more, the same half included.
    """
    halves = [index for index, offset in enumerate(raw.offsets) if offset in raw.marked]
    end, first = len(raw.values), None
    waiting: Place | None = None
    for index in reversed(halves):
        place, _ = _placed(raw, index, topic) or (_BEHIND_ALL, True)
        if place == _BEHIND_ALL or place != (waiting or place):
            break
        following = (_placed(raw, later, topic) for later in range(index + 1, end))
        if any(one is not None and one >= (place, True) for one in following):
            break
        waiting, first, end = place, index, index
    return first


def _placed(raw: RawBatch, index: int, topic: str) -> tuple[Place, bool] | None:
    """Where a message belongs and whether it creates a row; None if it says nothing.

    One that cannot be read is behind all: it is refused when its turn comes, and nothing waits.
    """
    try:
        value = raw.values[index]
        event = take_apart(topic, raw.offsets[index], value) if value else None
        return None if event is None else (place_of(event.source), event.operation == "c")
    except (MalformedEnvelopeError, *BROKEN):
        return _BEHIND_ALL, True


def _joined(held: RawBatch, raw: RawBatch) -> RawBatch:
    return RawBatch(
        held.values + raw.values,
        held.offsets + raw.offsets,
        held.first_offset,
        raw.next_offset,
        held.marked | raw.marked,
    )


def _load_shapes(
    bootstrap: str, table: TableSpec
) -> tuple[tuple[Position, SourceRelation | None], ...]:
    """The recorded shapes of the table by position, and None where it takes another name."""
    return recorded_shapes(load_schema_history(bootstrap, table.database).rows, table)


def recorded_shapes(
    rows: Iterable[tuple[Position, SourceRelation]], table: TableSpec
) -> tuple[tuple[Position, SourceRelation | None], ...]:
    """What ``rows`` of the DDL history, in stream order, say of the relations of the table's name.

    A relation that has had the name and takes another one is away until a relation has it again.
    """
    name = (table.source_schema, table.source_table)
    shapes: list[tuple[Position, int, SourceRelation | None]] = []
    holder = 0
    for position, relation in rows:
        if relation.dropped:
            continue
        if (relation.schema, relation.name) == name:
            holder = relation.oid
            shapes.append((position, relation.version, relation))
        elif relation.oid == holder:
            holder = 0
            shapes.append((position, relation.version, None))
    shapes.sort(key=itemgetter(0, 1))
    return tuple((position, relation) for position, _, relation in shapes)


def _check_partitions(bootstrap: str, topic: str) -> None:
    try:
        found = open_admin(bootstrap).list_topics(topic, timeout=REQUEST_SECONDS).topics[topic]
    except KafkaException as failed:
        raise unavailable(bootstrap, f"describing {topic}", failed.args[0]) from failed
    if len(found.partitions) > 1:
        raise TopicPartitionedError(topic, len(found.partitions))
