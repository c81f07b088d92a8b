"""Debezium's events of one table to the envelopes our own capture writes.

What belongs here: reading a message, with or without its schema, and writing what it says in the
form of ``envelope.py``; everything behind the topic then is shared. What does not: values
(``debezium_values.py``), order and duplicates (``debezium_order.py``), Kafka
(``debezium_reading.py``).

* Tombstones, messages (``m``) and rows of an initial or blocking snapshot (``r``) say nothing that
  the first copy and the stream do not: they are left out. Rows of an incremental snapshot stand in
  the stream where they were true, and are written as they are.
* A changed key comes as a delete and a create with one LSN; it becomes the delete and the update
  with the old key that our capture writes, so that unchanged values are found under the old key.
* The shape of a row is the newest one that the DDL history records at or before its position.
* While the table has a name that is not captured, Debezium goes on writing its rows where it knew
  the table before, with the columns of then: they are left out, and merging stops at the new name.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import cast

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import MalformedEnvelopeError
from carbon_pipelines.errors.debezium import (
    ConnectorRecreatedError,
    ShapeUnknownError,
    UnreadableValueError,
    UntoldValueError,
)
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceColumn, SourceRelation
from carbon_pipelines.stream.debezium_message import (
    BROKEN,
    Event,
    Row,
    row_fields,
    take_apart,
)
from carbon_pipelines.stream.debezium_order import Ordering, Place, place_of
from carbon_pipelines.stream.debezium_values import ColumnReader, column_reader, quote
from carbon_pipelines.stream.topics import topic_of

_SEPARATOR = "\x1f"
_REMEDY = (
    'See "carbon debezium config" for the settings that keep every value, declare the ones the '
    "connector has, or declare the column protect: drop; then run "
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A relation's columns with their readers, in attnum order."""

    relation: SourceRelation
    columns: tuple[tuple[SourceColumn, ColumnReader], ...]
    key: tuple[tuple[SourceColumn, ColumnReader], ...]


class Decoder:
    """Decodes events of one table, in the order of their topic.

    Attributes:
        ordering: Positions and duplicates; to be replaced between readings.
        shapes: Recorded shapes of the table by position, ascending, and None where it went away
            under another name; to be replaced when more are known.
    """

    def __init__(
        self,
        table: TableSpec,
        settings: DebeziumSpec,
        shapes: Sequence[tuple[Position, SourceRelation | None]],
        ordering: Ordering,
    ) -> None:
        self.ordering, self.shapes = ordering, shapes
        self._table, self._settings, self._topic = table, settings, topic_of(table)
        self._compiled: dict[tuple[int, bytes], _Shape] = {}
        self._source = (
            f'"source":{{"connector":"debezium","db":{quote(table.database)},'
            f'"schema":{quote(table.source_schema)},"table":{quote(table.source_table)},'
        )

    def decode(self, offset: int, value: bytes) -> list[bytes]:
        """The envelopes of one message: none, one, or two for a changed key.

        Raises:
            MalformedEnvelopeError: It is no event of Debezium's PostgreSQL connector.
            ConnectorRecreatedError: It does not say where it belongs.
            ShapeUnknownError: Its columns are not those of the recorded shape (retryable).
            UnreadableValueError, UntoldValueError: A value cannot be told.
        """
        event = take_apart(self._topic, offset, value) if value else None
        if event is None:
            return []
        place = self._place(event)
        if place.after_commit < 0 and self.ordering.begun:
            raise ConnectorRecreatedError(self._topic, offset, self._table.label)
        mark = self.ordering.mark
        try:
            return self._envelopes(event, place)
        except (ShapeUnknownError, UnreadableValueError):  # its shape may be recorded by now
            self.ordering.go_back(mark)
            raise

    def note(self, offset: int, value: bytes) -> None:
        """Know an event that was decoded before, or was of no use then."""
        with suppress(MalformedEnvelopeError, ValueError):
            event = take_apart(self._topic, offset, value) if value else None
            if event is not None:
                image = event.before if event.operation == "d" else event.after
                key = self._key(event, image)
                self.ordering.take(self._place(event), event.operation, key)

    def _place(self, event: Event) -> Place:
        try:
            return place_of(event.source)
        except BROKEN as broken:
            reason = f"source.sequence is missing ({broken})"
            raise self._malformed(event.offset, reason) from broken

    def _envelopes(self, event: Event, place: Place) -> list[bytes]:
        image = event.before if event.operation == "d" else event.after
        key = self._key(event, image)
        old_key = self.ordering.changed_key if event.operation == "c" else None
        position = self.ordering.take(place, event.operation, key)
        if old_key is not None and self.ordering.changed_key is not old_key:
            old_key = None  # the delete was another record's
        if event.operation == "u" and event.before is not None:
            old_key = self._key(event, event.before)
            old_key = None if old_key == key else old_key
        envelopes: list[bytes] = []
        if event.operation == "u" and old_key is not None:
            # one event for a changed key: the message key has other columns than ours
            envelopes += self._deleted(event, position, old_key)
            position = self.ordering.take(place, "u of another key", key)
        if position is not None:
            envelopes += self._envelope(event, position, old_key)
        return envelopes

    def _key(self, event: Event, image: Row | None) -> Row | None:
        if event.operation == "t":
            return None
        try:
            key = {name: cast("Row", image)[name] for name in self._table.key}
        except BROKEN as broken:
            reason = f"the key column {broken} is missing in an event {event.operation!r}"
            raise self._malformed(event.offset, reason) from broken
        return key

    def _deleted(self, event: Event, position: Position | None, old_key: Row) -> list[bytes]:
        shape = None if position is None else self._shape(event, position)
        if position is None or shape is None:
            return []
        old = self._object(event, shape.key, old_key)
        return [self._written(event, position, shape, before=old, after="null", op="d")]

    def _envelope(self, event: Event, position: Position, old_key: Row | None) -> list[bytes]:
        shape = self._shape(event, position)
        if shape is None:
            return []
        if event.operation == "t":
            return [self._written(event, position, shape, before="null", after="null", op="t")]
        if event.operation == "d":
            before = self._object(event, shape.key, cast("Row", event.before))
            return [self._written(event, position, shape, before=before, after="null", op="d")]
        row = cast("Row", event.after)
        self._check_columns(event, shape, row)
        changed = event.operation == "u" or old_key is not None
        unchanged = self._unchanged(event, shape, row) if changed else ()
        after = self._object(event, shape.columns, row, left_out=frozenset(unchanged))
        before = "null" if old_key is None else self._object(event, shape.key, old_key)
        op = "u" if changed else event.operation
        return [
            self._written(
                event, position, shape, before=before, after=after, op=op, unchanged=unchanged
            )
        ]

    def _written(
        self,
        event: Event,
        position: Position,
        shape: _Shape,
        *,
        before: str,
        after: str,
        op: str,
        unchanged: Sequence[str] = (),
    ) -> bytes:
        field = f',"unchanged":{quote(_SEPARATOR.join(unchanged))}' if unchanged else ""
        source = event.source
        # a row of an incremental snapshot belongs to no transaction
        xid = -1 if source.get("txId") is None else source["txId"]
        return (
            f'{{"before":{before},"after":{after},{self._source}"txId":{xid},'
            f'"lsn":{source.get("lsn") or 0},"commit_lsn":{position.commit_lsn},'
            f'"ordinal":{position.ordinal},"schema_version":{shape.relation.version}{field}}},'
            f'"op":"{op}","ts_ms":{source.get("ts_ms") or 0}}}'
        ).encode()

    def _unchanged(self, event: Event, shape: _Shape, row: Row) -> tuple[str, ...]:
        """The columns whose large value an update left alone."""
        names: list[str] = []
        whole = shape.relation.replica_identity == "f"
        for column, reader in shape.columns:
            value = row[column.name]
            if value is None:
                if reader.untold and not whole:
                    if column.nullable:
                        raise UntoldValueError(
                            self._topic,
                            event.offset,
                            column=column.name,
                            type_name=column.type.name,
                            table=self._table.label,
                        )
                    names.append(column.name)
            elif value in reader.placeholders:
                names.append(column.name)
        return tuple(names)

    def _object(
        self,
        event: Event,
        columns: Sequence[tuple[SourceColumn, ColumnReader]],
        row: Row,
        *,
        left_out: frozenset[str] = frozenset(),
    ) -> str:
        pieces: list[str] = []
        for column, reader in columns:
            name, value = column.name, row[column.name]
            if value is None or name in left_out:
                pieces.append(f"{quote(name)}:null")
                continue
            try:
                pieces.append(f"{quote(name)}:{reader.encode(value)}")
            except BROKEN as broken:
                raise UnreadableValueError(
                    self._topic,
                    event.offset,
                    column=name,
                    type_name=column.type.name,
                    reason=str(broken),
                    remedy=f'{_REMEDY}"carbon recopy {self._table.label}".',
                ) from broken
        return f"{{{','.join(pieces)}}}"

    def _check_columns(self, event: Event, shape: _Shape, row: Row) -> None:
        """Every column of the shape is there, and no other: a NULL is of its own shape too."""
        known = {column.name for column, _ in shape.columns} | self._table.dropped_columns
        missing = tuple(c.name for c, _ in shape.columns if c.name not in row)
        added = tuple(name for name in row if name not in known)
        if missing or added:
            raise ShapeUnknownError(self._topic, event.offset, missing=missing, added=added)

    def _shape(self, event: Event, position: Position) -> _Shape | None:
        """The shape at a position; None while the table has a name that is not captured."""
        if not self.shapes:
            raise ShapeUnknownError(self._topic, event.offset, missing=(), added=("no shape",))
        # before the first record there was no other shape that anybody knows of
        index = bisect_right(self.shapes, position, key=itemgetter(0)) - 1
        relation = self.shapes[max(index, 0)][1]
        if relation is None:
            return None
        at = (relation.version, event.schema)
        found = self._compiled.get(at)
        if found is None:
            found = self._compiled[at] = self._compile(relation, event.schema)
        return found

    def _compile(self, relation: SourceRelation, schema: bytes) -> _Shape:
        fields = row_fields(schema)
        columns = tuple(
            (column, column_reader(column.type, fields.get(column.name), self._settings))
            for column in relation.columns
            if column.name not in self._table.dropped_columns
        )
        by_name = {column.name: (column, reader) for column, reader in columns}
        key = tuple(by_name[name] for name in self._table.key if name in by_name)
        return _Shape(relation, columns, key)

    def _malformed(self, offset: int, reason: str) -> MalformedEnvelopeError:
        return MalformedEnvelopeError(self._topic, 0, offset, reason)
