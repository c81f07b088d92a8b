"""Values that an update left unchanged and the lake has no row for, read from the source again.

What belongs here: finding those values, reading them, and the proof that what the source says now
is what the event left. What does not: values that the lake holds (``new_rows.py``), reading them
and putting them in (``reread_values.py``), and what becomes of events without (``set_aside.py``).

With REPLICA IDENTITY DEFAULT PostgreSQL sends a large value (TOAST) only with the event that sets
it. If the lake has lost the row, or never had it, an update E of another column does not say what
the row holds. The source does, but it says it of now and not of E. It is the same, and the event is
given the value as if it had carried it, if all of this holds:

1. a snapshot S of the source is exported, and then L is read: what S sees was committed before L;
2. S sees E's transaction, so S shows E's row or what later transactions made of it;
3. the table has in S the shape that the batch is merged under, and the same history: positions of
   the stream and of the source mean the same;
4. the topic then holds everything up to L, and a marker committed after S, so that a crash of the
   source takes nothing back that S saw; and none of its events after the batch, that S sees, is
   about the row, but for updates that left the value unchanged as well. Events that S does not see
   made nothing of what S shows. A TRUNCATE, or an event that cannot be read, is about every row.

Where 4 does not hold, the value that E left is nowhere any more: a later event F carries another,
or ends the row. No snapshot that ends between E and F can be exact then. So the batch is read again
up to where F is in it, and F decides the row (``catch_up.py``); and likewise where 3 does not hold,
because a DDL has come. If F is not to be merged yet, or the batch gets too large, the event stays
refused as it was: never a NULL, never another value.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    MalformedEnvelopeError,
    RelationRewrittenError,
    TableMissingError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.change_batch import (
    TRUNCATE,
    UNCHANGED_SEPARATOR,
    UPDATE,
    ChangeBatch,
    EnvelopeReader,
)
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.fold import Fold, fold_batch
from carbon_pipelines.lake.keys import KeyMatcher, KeySet
from carbon_pipelines.lake.lookup import RowLookup
from carbon_pipelines.lake.reread_values import LackingValues, filled, read_values
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.connection import load_identity, session
from carbon_pipelines.source.copy import ExportedSnapshot, load_relation_as_of
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.source.visibility import emit_marker
from carbon_pipelines.stream.changes import read_changes
from carbon_pipelines.stream.drain import wait_captured
from carbon_pipelines.stream.progress import load_progress
from carbon_pipelines.stream.resume import check_same_source
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of

MAX_ROWS = 10_000
"""Rows that are read again for one batch; where more are lacking, the table needs a copy."""
WAIT = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Completed:
    """``batch`` with the values that could be had; whether others may be had by reading further."""

    batch: ChangeBatch
    decided_later: bool


class Rereading:
    """Completes the batches of one table from its source.

    Args:
        before_read: Called when the snapshot stands; for tests.
    """

    def __init__(
        self,
        database: DatabaseSpec,
        endpoints: Endpoints,
        *,
        before_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._database, self._endpoints = database, endpoints
        self._before_read = before_read

    @property
    def _dsn(self) -> str:
        return self._endpoints.source_dsn(self._database.name)

    def complete(
        self,
        batch: ChangeBatch,
        end_offset: int,
        table: Table,
        spec: TableSpec,
        present: SourceRelation,
    ) -> Completed:
        """Give the events of ``batch`` the values that ``table`` has no row for.

        Args:
            batch: Events that the table has not seen.
            end_offset: Where the topic goes on after them.
            table: As loaded; the rows of ``main`` count.
            spec: The declaration under the present names.
            present: The relation under whose columns the batch was read.

        Raises:
            SourceError, StreamError: A service does not answer, or is not there in time.
        """
        lacking = self._lacking(batch, table, spec)
        if lacking is None or not 0 < len(lacking.events) <= MAX_ROWS:
            return Completed(batch, decided_later=False)
        try:
            return self._completed(batch, end_offset, lacking, spec, present)
        except (RelationRewrittenError, TableMissingError):  # what did it comes in the topic
            return Completed(batch, decided_later=True)

    def _completed(
        self,
        batch: ChangeBatch,
        end_offset: int,
        lacking: LackingValues,
        spec: TableSpec,
        present: SourceRelation,
    ) -> Completed:
        with ExportedSnapshot(self._dsn) as snapshot:
            self._before_read()
            if not self._is_one_history(snapshot, present):
                return Completed(batch, decided_later=True)
            later = self._decided_later(lacking, snapshot, batch, end_offset, spec, present)
            texts = read_values(self._dsn, snapshot, batch, lacking, spec, present)
        if texts is None:
            return Completed(batch, decided_later=False)
        xids = batch.xid[lacking.events]
        sure = (xids >= 0) & snapshot.visibility.sees_many(xids)
        columns = {column.name: column for column in present.columns}
        for name, lacks in lacking.columns.items():
            values = texts.column(name).combine_chunks()
            there = values.is_valid().to_numpy(zero_copy_only=False)
            good = np.flatnonzero(lacks & sure & there & ~later[name])
            with suppress(MalformedEnvelopeError, UnrepresentableValueError):
                batch = filled(
                    batch, spec, columns[name], lacking.events[good], values.take(pa.array(good))
                )
        decided = any((lacks & later[name]).any() for name, lacks in lacking.columns.items())
        return Completed(batch, decided_later=decided)

    def _is_one_history(self, snapshot: ExportedSnapshot, present: SourceRelation) -> bool:
        """Have the topic hold all that ``snapshot`` sees; whether the two can be compared."""
        with session(self._dsn) as connection:
            marker = emit_marker(connection, b"reread")
            identity = load_identity(connection)
        lsn = max(marker, snapshot.insert_lsn)
        wait_captured(self._database, self._endpoints, lsn, timeout=WAIT)
        captured = load_progress(self._endpoints, self._database)
        if captured is None or captured.timeline != identity.timeline:
            return False
        check_same_source(self._database.name, captured, identity)
        seen = load_relation_as_of(self._dsn, snapshot.snapshot_id, present.schema, present.name)
        return (seen.oid, seen.version) == (present.oid, present.version)

    def _lacking(self, batch: ChangeBatch, table: Table, spec: TableSpec) -> LackingValues | None:
        """The events whose row takes a value from an old row that the lake has not."""
        if not spec.key or spec.is_history:  # what the source says of now is no earlier version
            return None
        schema = arrow_schema(table.schema())
        try:
            before, after = (
                [_key(image, name, schema) for name in spec.key]
                for image in (batch.before, batch.after)
            )
        except UnrepresentableValueError:
            return None
        fold = fold_batch(batch, before, after)
        if fold.keys is None or not fold.filled:
            return None
        gone = ~np.isin(np.arange(len(fold.keys)), self._found(fold, table, spec))
        rows = np.unique(np.concatenate([f.rows[gone[f.keys]] for f in fold.filled.values()]))
        columns = {
            name: np.isin(rows, fill.rows[gone[fill.keys]]) for name, fill in fold.filled.items()
        }
        events = fold.upserts[rows]
        return LackingValues(
            events, KeySet(tuple(a.take(pa.array(events)) for a in after)), columns
        )

    def _found(self, fold: Fold, table: Table, spec: TableSpec) -> np.ndarray:
        """The numbers of the keys that the lake has a row of."""
        if fold.truncated_at >= 0 or fold.keys is None:
            return np.empty(0, dtype=np.int64)
        files = load_table_files(table.current_snapshot(), table.io)
        found = RowLookup(files, table.schema(), spec.key, table.io).find(fold.keys)
        return np.concatenate([rows.keys for rows in found] or [np.empty(0, dtype=np.int64)])

    def _decided_later(
        self,
        lacking: LackingValues,
        snapshot: ExportedSnapshot,
        batch: ChangeBatch,
        start: int,
        spec: TableSpec,
        present: SourceRelation,
    ) -> Mapping[str, np.ndarray]:
        """Column -> for each row, whether an event from ``start`` on, that S sees, may set it."""
        later = {name: np.zeros(len(lacking.events), dtype=bool) for name in lacking.columns}
        matcher = KeyMatcher(lacking.keys)
        kinds = [column.type for column in lacking.keys.columns]
        for events in self._tail(batch, start, spec, present):
            if events is None:
                return {name: np.ones(len(flags), dtype=bool) for name, flags in later.items()}
            seen = (events.commit_lsn <= snapshot.insert_lsn) & (
                (events.xid < 0) | snapshot.visibility.sees_many(events.xid)
            )
            if (seen & (events.operation == TRUNCATE)).any():
                return {name: np.ones(len(flags), dtype=bool) for name, flags in later.items()}
            old, new = (
                matcher.match(
                    [
                        decode_column(image.column(name).combine_chunks(), kind, column=name)
                        for name, kind in zip(spec.key, kinds, strict=True)
                    ]
                )
                for image in (events.before, events.after)
            )
            for index in np.flatnonzero(seen & ((old >= 0) | (new >= 0))).tolist():
                kept = (events.unchanged[index].as_py() or "").split(UNCHANGED_SEPARATOR)
                stays = events.operation[index] == UPDATE and old[index] in (-1, new[index])
                for name, flags in later.items():
                    if not (stays and name in kept):
                        flags[[n for n in (old[index], new[index]) if n >= 0]] = True
        return later

    def _tail(
        self, batch: ChangeBatch, start: int, spec: TableSpec, present: SourceRelation
    ) -> Iterator[ChangeBatch | None]:
        """The keys of the events from ``start`` to the topic's end; None for what is not clear."""
        bootstrap, topic = self._endpoints.stream_bootstrap, topic_of(spec)
        types = {c.name: json_type(c.type, spec.declared_type(c.name)) for c in present.columns}
        reader = EnvelopeReader(topic, {name: types[name] for name in spec.key}, spec.key)
        end = load_topic_state(bootstrap, topic).high
        after = Position(int(batch.commit_lsn[-1]), int(batch.ordinal[-1]))
        for raw in read_changes(bootstrap, spec, start, end, after=after) if start < end else ():
            try:
                events = reader.read(raw)
            except (MalformedEnvelopeError, UnrepresentableValueError):
                yield None
                return
            if (events.schema_version != present.version).any():
                yield None
                return
            yield events


def _key(image: pa.Table, name: str, schema: pa.Schema) -> pa.Array:
    values = image.column(name).combine_chunks()
    return decode_column(values, schema.field(name).type, column=name)
