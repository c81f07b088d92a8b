"""The versions of relations that envelopes refer to, read from the DDL topic.

What belongs here: reading rows of ``carbon.ddl_history`` as they are in their topic. What does not:
writing that history (``source/ddl_history.py``) and following a change of shape (``lake``).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from carbon_pipelines.errors import MalformedEnvelopeError
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation, relation_from_history
from carbon_pipelines.stream.consumer import read_batches
from carbon_pipelines.stream.debezium_order import place_of
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import TopicState, ddl_topic


@dataclass(frozen=True, slots=True)
class SchemaHistory:
    """Every recorded shape with its position, in stream order.

    ``next_offset`` is the topic's end.
    """

    rows: tuple[tuple[Position, SourceRelation], ...]
    next_offset: int


def load_schema_history(bootstrap: str, database: str) -> SchemaHistory:
    """The whole DDL history of a database, as its topic holds it now.

    What this process has read of it is not read again.

    Raises:
        StreamUnavailableError, TopicMissingError, MalformedEnvelopeError: It cannot be read.
    """
    state = load_topic_state(bootstrap, ddl_topic(database))
    topic = (state.topic, state.topic_id, state.cluster_id)
    read = _read.get(topic, SchemaHistory((), state.low))
    if not state.low <= read.next_offset <= state.high:
        read = SchemaHistory((), state.low)
    known = {relation.version for _, relation in read.rows}
    more = _read_history(bootstrap, state, read.next_offset, known)
    history = SchemaHistory((*read.rows, *more), state.high)
    _read[topic] = history
    return history


_read: dict[tuple[str, str, str], SchemaHistory] = {}
"""By topic, its id and cluster: rows are only ever added to a topic, so what was read stays so."""


def load_relations(bootstrap: str, database: str, *, until: Position) -> list[SourceRelation]:
    """Every recorded shape up to a position, in stream order."""
    rows = load_schema_history(bootstrap, database).rows
    return [row for position, row in rows if position <= until]


def _read_history(
    bootstrap: str, state: TopicState, start: int, known: set[int]
) -> Iterator[tuple[Position, SourceRelation]]:
    """Each row from ``start`` on, once: a connector that was started again sends some again."""
    topic = state.topic
    for batch in read_batches(bootstrap, topic, start, state.high):
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            try:
                envelope: dict[str, Any] = json.loads(value or b"{}")
                envelope = envelope.get("payload", envelope)
                if not value or envelope["op"] != "c":
                    continue
                position = _position_of(envelope["source"])
                relation = relation_from_history(envelope["after"])
            except (KeyError, TypeError, ValueError) as broken:
                reason = f"not a row of carbon.ddl_history ({broken})"
                raise MalformedEnvelopeError(topic, 0, offset, reason) from broken
            if relation.version not in known:
                known.add(relation.version)
                yield position, relation


def _position_of(source: Mapping[str, Any]) -> Position:
    """The position of a row, which our capture wrote into it and Debezium did not."""
    if "sequence" in source:
        return place_of(source).position(0)
    return Position(source["commit_lsn"], source["ordinal"])
