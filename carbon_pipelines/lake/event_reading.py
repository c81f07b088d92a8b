"""Reading a topic into batches that can be merged, in step with the source's schema.

What belongs here: which events may be merged now, dropping those that the table has already
(restarted capture, first copy), and cutting batches of bounded size. What does not: merging them
(``catch_up.py``) and what a message looks like (``change_batch.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import MalformedEnvelopeError, SchemaVersionMissingError
from carbon_pipelines.lake.change_batch import (
    DELETE,
    ChangeBatch,
    EnvelopeReader,
    concat_batches,
)
from carbon_pipelines.lake.evolution import captured_columns
from carbon_pipelines.lake.schema_follow import SchemaFollower, Stop
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.consumer import RawBatch, TopicState, read_batches
from carbon_pipelines.stream.topics import ddl_topic, topic_of

BATCH_EVENTS = 500_000
"""Events merged in one commit at most, unless one Kafka read brings a little more."""
BATCH_BYTES = 192 * 1024 * 1024
"""Bytes of envelopes merged in one commit at most, likewise."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What reading begins from: the table as loaded, what it carries, and its topic."""

    table: Table
    progress: TableProgress
    topic: TopicState


@dataclass(frozen=True, slots=True)
class Part:
    """Events to merge, if any, the offset to go on from, and the last position before it."""

    batch: ChangeBatch | None
    next_offset: int
    last: Position | None = None


class EventReading:
    """Reads a topic into batches of bounded size, in step with the schema."""

    def __init__(
        self, spec: TableSpec, bootstrap: str, follower: SchemaFollower, until_lsn: int | None
    ) -> None:
        self._spec, self._bootstrap, self._follower = spec, bootstrap, follower
        self._until_lsn = until_lsn
        self._below_edge = False

    def batches(self, begun: Begun) -> Iterator[Part]:
        """What to merge and commit, one after another; no batch for a tail that holds no event.

        A batch that others follow does not end with a delete: it may be the first half of a key
        change, whose second half takes its unchanged values from the row that the first removes.
        Both are in one Kafka transaction, so the topic's end never parts them.
        """
        start, topic = begun.progress.next_offset, begun.topic
        if start >= topic.high:
            return
        self._follower.ensure_known(begun.table, begun.progress)
        self._below_edge = begun.progress.edge is not None
        parts: list[ChangeBatch] = []
        size_bytes, next_offset, passed = 0, start, start
        last: Position | None = None
        for raw in read_batches(self._bootstrap, topic.topic, start, topic.high):
            part = self._read(raw, begun)
            next_offset, last = part.next_offset, part.last or last
            if part.batch is not None:
                parts.append(part.batch)
                size_bytes += sum(map(len, raw.values))
            if next_offset < raw.next_offset:
                break
            if sum(map(len, parts)) >= BATCH_EVENTS or size_bytes >= BATCH_BYTES:
                full, held = _hold_back(Part(concat_batches(parts), next_offset, last))
                if full is not None:
                    yield full
                    passed, size_bytes = full.next_offset, 0
                parts = [] if held is None else [held]
        if parts:
            yield Part(concat_batches(parts), next_offset, last)
        elif next_offset > passed:
            yield Part(None, next_offset, last)

    def _read(self, raw: RawBatch, begun: Begun) -> Part:
        """The events of ``raw`` that may be merged, and where to go on from."""
        if not raw.values:
            return Part(None, raw.next_offset)
        if self._follower.stop is not None or self._below_edge:
            return self._read_by_place(raw, begun)
        try:
            batch = self._reader().read(raw)
        except MalformedEnvelopeError:
            if not self._learn(self._places().read(raw), begun):
                raise
            return self._read(raw, begun)
        if self._learn(batch, begun):
            return self._read(raw, begun)
        end = end_of(batch, self._until_lsn, None)
        next_offset = int(batch.offset[end]) if end < len(batch) else raw.next_offset
        return Part(batch.slice(0, end) if end else None, next_offset, _last(batch, end))

    def _read_by_place(self, raw: RawBatch, begun: Begun) -> Part:
        """Decode only what is to be merged: the other events' columns may be of other types."""
        places = self._places().read(raw)
        fresh = is_unseen(places, begun.progress)
        if self._follower.stop is not None:
            self._follower.stop_before_unrecorded(places, np.flatnonzero(fresh))
        end = end_of(places, self._until_lsn, self._follower.stop)
        wanted = np.flatnonzero(fresh[:end])
        if self._follower.stop is None and self._learn(places.slice(0, end), begun, wanted):
            return self._read(raw, begun)
        edge = begun.progress.edge
        if edge is None or (end and int(places.commit_lsn[end - 1]) > edge.through_lsn):
            self._below_edge = False
        next_offset = int(places.offset[end]) if end < len(places) else raw.next_offset
        if not len(wanted):
            return Part(None, next_offset, _last(places, end))
        usable = RawBatch(
            [raw.values[index] for index in wanted],
            [raw.offsets[index] for index in wanted],
            raw.first_offset,
            next_offset,
        )
        return Part(self._reader().read(usable), next_offset, _last(places, end))

    def _learn(self, places: ChangeBatch, begun: Begun, wanted: np.ndarray | None = None) -> bool:
        """Read the history again if ``wanted`` events have unknown versions; whether they had."""
        wanted = np.arange(len(places)) if wanted is None else wanted
        versions = set(np.unique(places.schema_version[wanted]).tolist())
        if versions <= self._follower.relations.keys():
            return False
        self._follower.refresh(begun.table, begun.progress)
        self._follower.check_known(versions)
        self._follower.stop_before_unrecorded(places, wanted)
        return True

    def _reader(self) -> EnvelopeReader:
        if not self._follower.relations:
            topic = ddl_topic(self._spec.database)
            raise SchemaVersionMissingError(topic, [self._follower.version])
        columns = {
            column.name: json_type(column.type, self._spec.declared_type(column.name))
            for _, relation in sorted(self._follower.relations.items())
            for column in captured_columns(relation, self._spec)
        }
        return EnvelopeReader(topic_of(self._spec), columns, self._spec.key)

    def _places(self) -> EnvelopeReader:
        """Reads positions and versions alone."""
        return EnvelopeReader(topic_of(self._spec), {}, ())


def _hold_back(part: Part) -> tuple[Part | None, ChangeBatch | None]:
    """``part`` without the delete it ends with, if it does, and that delete."""
    batch = part.batch
    if batch is None or batch.operation[-1] != DELETE:
        return part, None
    end = len(batch) - 1
    held = batch.slice(end, len(batch))
    if not end:
        return None, held
    return Part(batch.slice(0, end), int(held.offset[0]), _last(batch, end)), held


def _last(batch: ChangeBatch, end: int) -> Position | None:
    """The position of the event before ``end``."""
    return Position(int(batch.commit_lsn[end - 1]), int(batch.ordinal[end - 1])) if end else None


def end_of(batch: ChangeBatch, until_lsn: int | None, stop: Stop | None) -> int:
    """The number of events at the batch's beginning that lie at or below both bounds."""
    end = len(batch)
    if until_lsn is not None:
        end = int(np.searchsorted(batch.commit_lsn, until_lsn, side="right"))
    if stop is not None:
        lsn, ordinal = stop.position.commit_lsn, stop.position.ordinal
        above = (batch.commit_lsn > lsn) | ((batch.commit_lsn == lsn) & (batch.ordinal > ordinal))
        end = min(end, int(np.argmax(above)) if above.any() else len(batch))
    return end


def unseen(batch: ChangeBatch, base: TableProgress) -> ChangeBatch:
    """Without events at or below the table's position and without those that the copy holds."""
    return batch.filter(is_unseen(batch, base))


def is_unseen(batch: ChangeBatch, base: TableProgress) -> np.ndarray:
    """Which events ``unseen`` keeps."""
    lsn, ordinal = base.position.commit_lsn, base.position.ordinal
    fresh = (batch.commit_lsn > lsn) | ((batch.commit_lsn == lsn) & (batch.ordinal > ordinal))
    return fresh & ~in_copy(batch.commit_lsn, batch.xid, base.edge)


def in_copy(commit_lsn: np.ndarray, xid: np.ndarray, edge: CopyEdge | None) -> np.ndarray:
    """Which events the first copy holds already.

    Above the copy's LSN the xid is never consulted: 32-bit xids come round again.
    """
    if edge is None:
        return np.zeros(len(commit_lsn), dtype=bool)
    below = commit_lsn <= edge.through_lsn
    held = np.zeros(len(commit_lsn), dtype=bool)
    if below.any():
        held[below] = edge.visibility.sees_many(xid[below])
    return held
