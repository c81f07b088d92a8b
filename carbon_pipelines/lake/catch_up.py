"""Bringing one branch of a table up to a point of its topic, batch by batch.

What belongs here: reading events, dropping those that the table has already (restarted capture,
first copy), following the source's schema at its place, and cutting batches of bounded size. What
does not: what one batch does (``merge.py``) and the first copy (``first_copy.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import MalformedEnvelopeError, SchemaVersionMissingError
from carbon_pipelines.lake.change_batch import (
    DELETE,
    ChangeBatch,
    EnvelopeReader,
    concat_batches,
)
from carbon_pipelines.lake.evolution import captured_columns
from carbon_pipelines.lake.merge import Merge, Merged, MergeHooks
from carbon_pipelines.lake.schema_follow import SchemaFollower, Stop
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.consumer import RawBatch, TopicState, load_topic_state, read_batches
from carbon_pipelines.stream.topics import check_topic, ddl_topic, topic_of

BATCH_EVENTS = 500_000
"""Events merged in one commit at most, unless one Kafka read brings a little more."""
BATCH_BYTES = 192 * 1024 * 1024
"""Bytes of envelopes merged in one commit at most, likewise."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up did: counts over all its commits, and where the table stands."""

    progress: TableProgress
    table: Table
    topic: TopicState
    events: int = 0
    upserted_rows: int = 0
    deleted_rows: int = 0
    commits: int = 0


class CatchUp:
    """Merges a topic into one branch of a table.

    Args:
        bootstrap: Kafka's bootstrap servers.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        bootstrap: str,
        *,
        branch: str = MAIN_BRANCH,
        hooks: MergeHooks | None = None,
    ) -> None:
        self._catalog, self._spec, self._bootstrap = catalog, table, bootstrap
        self._merge = Merge(catalog, table, branch=branch, hooks=hooks)

    def run(
        self, table: Table, progress: TableProgress, *, until_lsn: int | None = None
    ) -> CaughtUp:
        """Merge events from ``progress`` to the topic's end, or those up to ``until_lsn``.

        Args:
            table: As loaded.
            progress: What it carries.
            until_lsn: Merge only events whose commit LSN is at most this.

        Raises:
            UnsupportedSchemaChangeError: A DDL cannot be followed; events before it are merged.
            UnrecordedShapeError: A DDL was not recorded; likewise.
            SourceTableReplacedError: Another table took the name; likewise.
            MalformedEnvelopeError: A message is no change event; nothing of its batch is merged.
            OffsetGapError: Kafka no longer holds the next offset.
            TopicReplacedError: The topic is not the one that the progress was made with.
        """
        follower = SchemaFollower(self._catalog, self._spec, self._bootstrap, until_lsn)
        table = follower.begin(table, progress)
        topic = load_topic_state(self._bootstrap, topic_of(self._spec))
        check_topic(progress.topic_id, progress.cluster_id, topic)
        done = CaughtUp(progress, table, topic)
        reading = _Reading(self._spec, self._bootstrap, follower, until_lsn)
        for part in reading.batches(done):
            done = self._apply(done, part, follower)
        if follower.version > done.progress.schema_version:
            done = self._apply(done, _Part(None, done.progress.next_offset), follower)
        if follower.stop is not None and follower.stop.error is not None:
            raise follower.stop.error
        return done

    def _apply(self, done: CaughtUp, part: "_Part", follower: SchemaFollower) -> CaughtUp:
        """Merge one batch; without one, commit progress alone, so that reading comes to rest."""
        base = done.progress
        position = max(base.position, part.last or base.position)
        after = base.moved_to(position, part.next_offset, follower.version, follower.ddl_offset)
        if part.batch is None:
            return _added(done, self._merge.record(base, after), after, 0)
        merged = self._merge.apply(unseen(part.batch, base), base, after)
        return _added(done, merged, after, len(part.batch))


@dataclass(frozen=True, slots=True)
class _Part:
    """Events to merge, if any, the offset to go on from, and the last position before it."""

    batch: ChangeBatch | None
    next_offset: int
    last: Position | None = None


class _Reading:
    """Reads a topic into batches of bounded size, in step with the schema."""

    def __init__(
        self, spec: TableSpec, bootstrap: str, follower: SchemaFollower, until_lsn: int | None
    ) -> None:
        self._spec, self._bootstrap, self._follower = spec, bootstrap, follower
        self._until_lsn = until_lsn
        self._below_edge = False

    def batches(self, done: CaughtUp) -> Iterator[_Part]:
        """What to merge and commit, one after another; no batch for a tail that holds no event.

        A batch that others follow does not end with a delete: it may be the first half of a key
        change, whose second half takes its unchanged values from the row that the first removes.
        Both are in one Kafka transaction, so the topic's end never parts them.
        """
        start, topic = done.progress.next_offset, done.topic
        if start >= topic.high:
            return
        self._follower.ensure_known(done.table, done.progress)
        self._below_edge = done.progress.edge is not None
        parts: list[ChangeBatch] = []
        size_bytes, next_offset, passed = 0, start, start
        last: Position | None = None
        for raw in read_batches(self._bootstrap, topic.topic, start, topic.high):
            part = self._read(raw, done)
            next_offset, last = part.next_offset, part.last or last
            if part.batch is not None:
                parts.append(part.batch)
                size_bytes += sum(map(len, raw.values))
            if next_offset < raw.next_offset:
                break
            if sum(map(len, parts)) >= BATCH_EVENTS or size_bytes >= BATCH_BYTES:
                full, held = _hold_back(_Part(concat_batches(parts), next_offset, last))
                if full is not None:
                    yield full
                    passed, size_bytes = full.next_offset, 0
                parts = [] if held is None else [held]
        if parts:
            yield _Part(concat_batches(parts), next_offset, last)
        elif next_offset > passed:
            yield _Part(None, next_offset, last)

    def _read(self, raw: RawBatch, done: CaughtUp) -> _Part:
        """The events of ``raw`` that may be merged, and where to go on from."""
        if not raw.values:
            return _Part(None, raw.next_offset)
        if self._follower.stop is not None or self._below_edge:
            return self._read_by_place(raw, done)
        try:
            batch = self._reader().read(raw)
        except MalformedEnvelopeError:
            if not self._learn(self._places().read(raw), done):
                raise
            return self._read(raw, done)
        if self._learn(batch, done):
            return self._read(raw, done)
        end = end_of(batch, self._until_lsn, None)
        next_offset = int(batch.offset[end]) if end < len(batch) else raw.next_offset
        return _Part(batch.slice(0, end) if end else None, next_offset, _last(batch, end))

    def _read_by_place(self, raw: RawBatch, done: CaughtUp) -> _Part:
        """Decode only what is to be merged: the other events' columns may be of other types."""
        places = self._places().read(raw)
        fresh = is_unseen(places, done.progress)
        if self._follower.stop is not None:
            self._follower.stop_before_unrecorded(places, np.flatnonzero(fresh))
        end = end_of(places, self._until_lsn, self._follower.stop)
        wanted = np.flatnonzero(fresh[:end])
        if self._follower.stop is None and self._learn(places.slice(0, end), done, wanted):
            return self._read(raw, done)
        edge = done.progress.edge
        if edge is None or (end and int(places.commit_lsn[end - 1]) > edge.through_lsn):
            self._below_edge = False
        next_offset = int(places.offset[end]) if end < len(places) else raw.next_offset
        if not len(wanted):
            return _Part(None, next_offset, _last(places, end))
        usable = RawBatch(
            [raw.values[index] for index in wanted],
            [raw.offsets[index] for index in wanted],
            raw.first_offset,
            next_offset,
        )
        return _Part(self._reader().read(usable), next_offset, _last(places, end))

    def _learn(self, places: ChangeBatch, done: CaughtUp, wanted: np.ndarray | None = None) -> bool:
        """Read the history again if ``wanted`` events have unknown versions; whether they had."""
        wanted = np.arange(len(places)) if wanted is None else wanted
        versions = set(np.unique(places.schema_version[wanted]).tolist())
        if versions <= self._follower.relations.keys():
            return False
        self._follower.refresh(done.table, done.progress)
        self._follower.check_known(versions)
        self._follower.stop_before_unrecorded(places, wanted)
        return True

    def _reader(self) -> EnvelopeReader:
        if not self._follower.relations:
            topic = ddl_topic(self._spec.database)
            raise SchemaVersionMissingError(topic, [self._follower.version])
        columns = {
            column.name: json_type(column.type)
            for _, relation in sorted(self._follower.relations.items())
            for column in captured_columns(relation, self._spec)
        }
        return EnvelopeReader(topic_of(self._spec), columns, self._spec.key)

    def _places(self) -> EnvelopeReader:
        """Reads positions and versions alone."""
        return EnvelopeReader(topic_of(self._spec), {}, ())


def _hold_back(part: _Part) -> tuple[_Part | None, ChangeBatch | None]:
    """``part`` without the delete it ends with, if it does, and that delete."""
    batch = part.batch
    if batch is None or batch.operation[-1] != DELETE:
        return part, None
    end = len(batch) - 1
    held = batch.slice(end, len(batch))
    if not end:
        return None, held
    return _Part(batch.slice(0, end), int(held.offset[0]), _last(batch, end)), held


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


def _added(done: CaughtUp, merged: Merged, after: TableProgress, events: int) -> CaughtUp:
    return CaughtUp(
        after,
        merged.table,
        done.topic,
        done.events + events,
        done.upserted_rows + merged.upserted_rows,
        done.deleted_rows + merged.deleted_rows,
        done.commits + 1,
    )


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
