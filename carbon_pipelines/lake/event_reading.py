"""Reading the events of one table from its topic, in step with its schema.

What belongs here: cutting a topic into batches of bounded size, leaving out what the table has
already (restarted capture, first copy), and choosing the schema version that each event is read
with. What does not: what one batch does (``merge.py``) and when it is committed (``catch_up.py``).

The events of one read are taken to be of one version, the newest seen, and decoded at once; where
they are not, their positions and versions are read first and each run of a version by itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    CarbonPipelinesError,
    MalformedEnvelopeError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.change_batch import DELETE, ChangeBatch, EnvelopeReader, concat_batches
from carbon_pipelines.lake.halving import sift
from carbon_pipelines.lake.schema_follow import SchemaFollower, Stop
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.changes import read_changes
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines.stream.topics import TopicState, topic_of

BATCH_EVENTS = 500_000
"""Events merged in one commit at most, unless one Kafka read brings a little more."""
BATCH_BYTES = 192 * 1024 * 1024
"""Bytes of envelopes merged in one commit at most, likewise."""


@dataclass(frozen=True, slots=True)
class Part:
    """Events to merge, if any, the offset to go on from, and the last position before it.

    ``unknown`` is the schema version that the event at ``next_offset`` names and nobody has read.
    """

    batch: ChangeBatch | None
    next_offset: int
    last: Position | None = None
    unknown: int | None = None


class EventReading:
    """Reads a topic from ``progress`` to its end as it was asked for, or up to ``until_lsn``.

    Args:
        sift: Pass messages that are no change events by (``take_refused``); else they end it.
    """

    def __init__(
        self,
        spec: TableSpec,
        bootstrap: str,
        follower: SchemaFollower,
        progress: TableProgress,
        until_lsn: int | None,
        *,
        sift: bool,
    ) -> None:
        self._sift = sift
        self._refused: dict[int, CarbonPipelinesError] = {}
        self._follower, self._progress = follower, progress
        self._until_lsn, self._below_edge = until_lsn, progress.edge is not None
        self._read_changes = partial(read_changes, bootstrap, spec, after=progress.position)
        self._places = EnvelopeReader(topic_of(spec), {}, ())
        self._version = progress.schema_version

    def take_refused(self, end: int) -> dict[int, CarbonPipelinesError]:
        """Messages before offset ``end``, read and not yet taken, that are no change events."""
        taken = {offset: error for offset, error in self._refused.items() if offset < end}
        self._refused = {o: error for o, error in self._refused.items() if o >= end}
        return taken

    def parts(self, topic: TopicState) -> Iterator[Part]:
        """What to merge and commit, one after another; no batch for a tail that holds no event.

        The schema is followed between two parts and never within one, so that all of a part has
        the columns that the table has when it is merged.
        """
        start = self._progress.next_offset
        while start < topic.high:
            self._follower.ensure_known()
            unknown = None
            for part in self._parts(topic, start):
                start, unknown = part.next_offset, part.unknown
                if part.batch is not None or part.last is not None or unknown is None:
                    yield part
            if unknown is None:
                return
            self._follower.learn(unknown, self._position_at(topic, start))

    def _parts(self, topic: TopicState, start: int) -> Iterator[Part]:
        """Parts until the schema has to be followed.

        A batch that others follow does not end with a delete: it may be the first half of a key
        change, whose second half takes its unchanged values from the row that the first removes.
        Both are of one version and in one Kafka transaction (of a connector's first half nothing is
        read before the second is there), so neither the topic's end nor a change of schema parts
        them.
        """
        parts: list[ChangeBatch] = []
        size_bytes, next_offset, passed = 0, start, start
        last: Position | None = None
        unknown: int | None = None
        for raw in self._read_changes(start, topic.high):
            part = self._read(raw)
            next_offset, last, unknown = part.next_offset, part.last or last, part.unknown
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
            yield Part(concat_batches(parts), next_offset, last, unknown)
        elif next_offset > passed or unknown is not None:
            yield Part(None, next_offset, last, unknown)

    def _read(self, raw: RawBatch) -> Part:
        """The events of ``raw`` that may be merged, and where to go on from."""
        if not raw.values:
            return Part(None, raw.next_offset)
        normaliser = self._follower.normaliser
        if self._follower.stop is None and not self._below_edge and normaliser.knows(self._version):
            try:
                batch = normaliser.read(raw, self._version)
            except (MalformedEnvelopeError, UnrepresentableValueError):
                return self._read_by_place(raw)
            if (batch.schema_version == self._version).all():
                end = end_of(batch, self._until_lsn, None)
                return Part(batch.slice(0, end) if end else None, *_after(batch, end, raw))
        return self._read_by_place(raw)

    def _read_by_place(self, raw: RawBatch) -> Part:
        """Decode only what is to be merged: the other events' columns may be of other types."""
        places, raw = self._decode(self._places.read, raw)
        end = end_of(places, self._until_lsn, self._follower.stop)
        wanted = np.flatnonzero(is_unseen(places, self._progress)[:end])
        unknown = self._first_unknown(places, wanted)
        if unknown is not None:
            end, wanted = unknown, wanted[wanted < unknown]
        edge = self._progress.edge
        if edge is None or (end and int(places.commit_lsn[end - 1]) > edge.through_lsn):
            self._below_edge = False
        named = None if unknown is None else int(places.schema_version[unknown])
        if not len(wanted):
            return Part(None, *_after(places, end, raw), named)
        batch = self._read_runs(raw, wanted, places.schema_version)
        return Part(batch if len(batch) else None, *_after(places, end, raw), named)

    def _decode(
        self, read: Callable[[RawBatch], ChangeBatch], raw: RawBatch
    ) -> tuple[ChangeBatch, RawBatch]:
        """Decode ``raw`` without the messages that cannot be; also what was decoded of it."""
        if not self._sift:
            return read(raw), raw
        batch, rest, refused = sift(read, raw)
        self._refused |= refused
        return batch, rest

    def _first_unknown(self, places: ChangeBatch, wanted: np.ndarray) -> int | None:
        knows = self._follower.normaliser.knows
        versions = places.schema_version[wanted]
        strange = [version for version in np.unique(versions).tolist() if not knows(version)]
        if not strange:
            return None
        return int(wanted[np.flatnonzero(np.isin(versions, strange))[0]])

    def _read_runs(self, raw: RawBatch, wanted: np.ndarray, versions: np.ndarray) -> ChangeBatch:
        """Each run of events of one version by itself."""
        named = versions[wanted]
        runs = np.split(wanted, np.flatnonzero(np.diff(named)) + 1)
        normaliser, batches = self._follower.normaliser, list[ChangeBatch]()
        for run in runs:
            read = partial(normaliser.read, version=int(versions[run[0]]))
            batches.append(self._decode(read, raw.pick(run))[0])
        self._version = int(named[-1])
        return concat_batches(batches)

    def _position_at(self, topic: TopicState, offset: int) -> Position:
        """The position of the first event from ``offset`` on."""
        for raw in self._read_changes(offset, topic.high, max_events=1):
            if raw.values:
                place = self._places.read(raw)
                return Position(int(place.commit_lsn[0]), int(place.ordinal[0]))
        return Position(0, 0)


def _after(batch: ChangeBatch, end: int, raw: RawBatch) -> tuple[int, Position | None]:
    """The offset to go on from after the first ``end`` events, and the last position before it."""
    next_offset = int(batch.offset[end]) if end < len(batch) else raw.next_offset
    return next_offset, _last(batch, end)


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

    Above the copy's LSN the xid is never consulted: 32-bit xids come round again. A row without an
    xid (-1) was read for an incremental snapshot, from what had been committed at its place.
    """
    if edge is None:
        return np.zeros(len(commit_lsn), dtype=bool)
    below = commit_lsn <= edge.through_lsn
    held = np.zeros(len(commit_lsn), dtype=bool)
    if below.any():
        held[below] = (xid[below] < 0) | edge.visibility.sees_many(xid[below])
    return held
