"""Messages of one slot to change events with positions.

What belongs here: which events follow from a message, what position each has, and which of them
Kafka holds already. What does not: how a row becomes JSON (``envelope.py``), and when anything is
committed or acknowledged (``capture.py``).

A position is (commit LSN of the transaction, ordinal in it). Ordinals count from 1 and follow from
the bytes of the stream alone, never from declarations or from what was skipped, so that a restart
counts as the run before it did: one for each insert, delete, logical message and truncated
relation, one for an update, two for an update that brings an old row (the first is the delete of
the old key, if that turns out to have changed).

Of a partitioned table PostgreSQL sends the leaves. Their events are those of the table that is
declared; a TRUNCATE is one of that table only if it names every leaf, and else a message.
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from carbon_pipelines.errors import UndecodableChangeError
from carbon_pipelines.source.position import Position, format_lsn
from carbon_pipelines.source.relation import SourceRelation, relation_from_history
from carbon_pipelines.stream.envelope import RelationEncoder, Target
from carbon_pipelines.stream.partitions import Ancestors, Partitions
from carbon_pipelines.stream.pgoutput import (
    BODY,
    Relation,
    decode_begin,
    decode_commit,
    decode_message,
    decode_relation,
    decode_truncate,
    wal_start,
)
from carbon_pipelines.stream.routing import Name, Routing
from carbon_pipelines.stream.row_reading import Values

Produce = Callable[[str, bytes, bytes | None], None]
"""(topic, value, key): hand an event on; the order of calls is the order in each topic."""

_NEW, _OLD_KEY, _OLD_ROW = b"NKO"
_OID = slice(BODY + 1, BODY + 5)
_ALL = 1 << 63
_UNKEYED_KEY = b"{}"
_Old = tuple[Values, bytes | None, int]


class Translator:
    """Turns the messages of one slot into events; one instance reads one stream from its start.

    ``commit_lsn`` and ``ordinal`` are the position of the newest message, ``end_lsn`` the end of
    the newest transaction that is complete, ``in_transaction`` whether one is under way. ``events``
    counts what was produced, ``transactions`` what was not skipped as a whole.
    """

    def __init__(
        self,
        slot: str,
        database: str,
        targets: Mapping[tuple[str, str], Target],
        history: Iterable[SourceRelation],
        produce: Produce,
        *,
        resume_after: Position,
        on_ignored: Callable[[Sequence[Name]], None],
        load_ancestors: Callable[[int], Ancestors] = lambda _: (),
        generation: int = 0,
    ) -> None:
        """Begin before the first message.

        Args:
            slot: Name of the slot, for errors.
            database: Logical name of the database.
            targets: By (schema, table): where events go. Other relations are ignored.
            history: The rows of the DDL history up to ``resume_after``, in stream order.
            produce: Where events go.
            resume_after: Kafka holds everything up to and including this position.
            on_ignored: Called before the first row of a relation without a target is ignored, with
                the names that its rows may belong to.
            load_ancestors: What a relation is a partition of now, asked for where no row of the DDL
                history tells.
            generation: How many gaps lie before the stream.
        """
        self.commit_lsn, self.ordinal, self.end_lsn = 0, 0, 0
        self.in_transaction, self.events, self.transactions = False, 0, 0
        self._slot, self._database, self._routing = slot, database, Routing(targets, history)
        self._produce, self._resume_after = produce, resume_after
        self._partitions = Partitions(self._routing, load_ancestors)
        self._relations: dict[bytes, Relation] = {}
        self._encoders: dict[bytes, RelationEncoder | None] = {}
        self._passed, self._on_ignored = resume_after, on_ignored
        self._generation = generation
        self._ignored: set[bytes] = set()
        self._skip = 0
        self._told = b"0", b"0", b"0"  # of the transaction: xid, commit LSN, when
        self._handlers: dict[int, Callable[[bytes], None]] = {
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("B"): self._begin,
            ord("C"): self._commit,
            ord("R"): self._relation,
            ord("T"): self._truncate,
            ord("M"): self._message,
            ord("O"): _ignore,
            ord("Y"): _ignore,
        }

    def feed(self, message: bytes) -> None:
        """Translate one WAL message (``w``, see pgoutput.py).

        Raises:
            UndecodableChangeError: The message is not what the protocol promises.
        """
        try:
            self._handlers[message[BODY]](message)
        except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as broken:
            raise UndecodableChangeError(
                self._slot,
                lsn=format_lsn(wal_start(message)) if len(message) >= BODY else "unknown",
                kind=chr(message[BODY]) if len(message) > BODY else "",
                reason=str(broken) or type(broken).__name__,
            ) from broken

    @property
    def position(self) -> Position:
        """The newest position that was produced, or ``resume_after`` while all was skipped."""
        if self.ordinal > self._skip:
            return Position(self.commit_lsn, self.ordinal)
        return self._passed

    def _begin(self, message: bytes) -> None:
        begin = decode_begin(message, BODY + 1)
        self._passed = self.position
        self.commit_lsn, self.ordinal = begin.commit_lsn, 0
        self._told = b"%d" % begin.xid, b"%d" % begin.commit_lsn, b"%d" % begin.committed_at_ms
        self.in_transaction = True
        after = self._resume_after
        if begin.commit_lsn > after.commit_lsn:
            self._skip = 0
        else:
            self._skip = after.ordinal if begin.commit_lsn == after.commit_lsn else _ALL

    def _commit(self, message: bytes) -> None:
        self.end_lsn = decode_commit(message, BODY + 1).end_lsn
        self.in_transaction = False
        self.transactions += self.ordinal > self._skip

    def _insert(self, message: bytes) -> None:
        self.ordinal = ordinal = self.ordinal + 1
        encoder = self._encoders[message[_OID]]
        if ordinal <= self._skip or encoder is None:
            self._ignore_rows(message[_OID])
            return
        _expect(message[30] == _NEW, "an insert without a new row")
        row, end, unchanged = encoder.read_row(message, 31)
        _expect(end == len(message) and not unchanged, "a row does not end with its message")
        value = self._emit(encoder, encoder.created, row, message, encoder.key_of(row))
        if encoder.target.is_history:
            self._learn(json.loads(value)["after"])

    def _update(self, message: bytes) -> None:
        if message[30] != _NEW:
            self._update_with_old_row(message)
            return
        self.ordinal = ordinal = self.ordinal + 1
        encoder = self._encoders[message[_OID]]
        if ordinal <= self._skip or encoder is None:
            self._ignore_rows(message[_OID])
            return
        row, end, unchanged = encoder.read_row(message, 31)
        _expect(end == len(message), "a row does not end with its message")
        if encoder.target.key and not encoder.keyed:
            # the old row's key may have been another one, and nothing would say so
            self._emit(encoder, encoder.unkeyed_change, (), message, _UNKEYED_KEY)
            return
        self._emit(encoder, encoder.changed, row, message, encoder.key_of(row), unchanged)

    def _update_with_old_row(self, message: bytes) -> None:
        """An update whose key changed, or of a table with REPLICA IDENTITY FULL."""
        self.ordinal = ordinal = self.ordinal + 2
        encoder = self._encoders[message[_OID]]
        if ordinal <= self._skip or encoder is None:
            self._ignore_rows(message[_OID])
            return
        old_row, old, end = self._read_old(encoder, message)
        if old is None:
            self._emit(encoder, encoder.unkeyed_change, (), message, _UNKEYED_KEY)
            return
        _expect(message[end] == _NEW, "an update without a new row")
        row, end, unchanged = encoder.read_row(message, end + 1)
        _expect(end == len(message), "a row does not end with its message")
        if unchanged:
            whole = message[30] == _OLD_ROW
            unchanged = encoder.fill_unchanged(row, old_row, unchanged, old_is_whole=whole)
        key = encoder.key_of(row)
        if key is not None and key != old and ordinal - 1 > self._skip:
            self.ordinal = ordinal - 1
            self._emit(encoder, encoder.deleted, (old,), message, old)
            self.ordinal = ordinal
        self._emit(encoder, encoder.moved, (old, *row), message, key, unchanged)

    def _delete(self, message: bytes) -> None:
        self.ordinal = ordinal = self.ordinal + 1
        encoder = self._encoders[message[_OID]]
        if ordinal <= self._skip or encoder is None:
            self._ignore_rows(message[_OID])
            return
        row, old, end = self._read_old(encoder, message)
        _expect(end == len(message), "a row does not end with its message")
        if old is None:
            self._emit(encoder, encoder.unkeyed_delete, (), message, _UNKEYED_KEY)
        else:
            self._emit(encoder, encoder.deleted, (old,), message, encoder.key_of(row))

    def _read_old(self, encoder: RelationEncoder, message: bytes) -> _Old:
        """The old row of an update or delete, what is told of it if anything, and where it ends."""
        kind = message[30]
        _expect(kind in (_OLD_KEY, _OLD_ROW), "neither an old key nor an old row")
        row, end, _ = encoder.read_row(message, 31)
        return row, encoder.old_image(row, is_whole=kind == _OLD_ROW), end

    def _truncate(self, message: bytes) -> None:
        oids = decode_truncate(message, BODY + 1).relation_oids
        encoders = [self._encoders[oid.to_bytes(4, "big")] for oid in oids]
        last = {one.target.topic: oid for oid, one in zip(oids, encoders, strict=True) if one}
        for oid, encoder in zip(oids, encoders, strict=True):
            self.ordinal += 1
            if self.ordinal <= self._skip or encoder is None:
                self._ignore_rows(oid.to_bytes(4, "big"))
            elif last[encoder.target.topic] == oid:
                whole = not encoder.of_leaf or self._partitions.empties(oid, oids)
                template = encoder.truncated if whole else encoder.part_truncated
                self._emit(encoder, template, (), message, None)

    def _ignore_rows(self, oid: bytes) -> None:
        """Tell of the first row that is ignored of a relation; skipped ones are not ignored."""
        if self.ordinal > self._skip and oid not in self._ignored:
            self._ignored.add(oid)
            one = self._relations[oid]
            self._on_ignored(self._routing.names(one.oid, (one.schema, one.name)))

    def _message(self, message: bytes) -> None:
        # One outside of a transaction has no position; keepalives tell how far reading is.
        if decode_message(message, BODY + 1).transactional:
            self.ordinal += 1

    def _relation(self, message: bytes) -> None:
        relation = decode_relation(message, BODY + 1)
        oid = message[_OID]
        self._relations[oid] = relation
        self._encoders[oid] = self._compile(relation)

    def _compile(self, relation: Relation) -> RelationEncoder | None:
        compiled = partial(RelationEncoder, self._database, generation=self._generation)
        found = self._routing.target(relation.oid, (relation.schema, relation.name))
        if found is not None:
            return compiled(relation, found[1], self._routing.newest(relation.oid))
        root = self._partitions.find(relation.oid)
        if root is None:
            return None
        relation = replace(relation, schema=root.name[0], name=root.name[1])
        return compiled(relation, root.target, root.known, of_leaf=True)

    def _learn(self, history_row: Mapping[str, Any]) -> None:
        """Events of the relation that a row of the DDL history describes refer to it from now."""
        known = relation_from_history(history_row)
        moved = self._routing.learn(known)
        described = {known.oid, *self._partitions.learn(known)}
        for oid, relation in self._relations.items():
            if moved or relation.oid in described:
                self._encoders[oid] = self._compile(relation)

    def _emit(
        self,
        encoder: RelationEncoder,
        template: bytes,
        rows: Sequence[bytes],
        message: bytes,
        key: bytes | None,
        unchanged: Sequence[int] = (),
    ) -> bytes:
        more = encoder.unchanged_field(unchanged) if unchanged else b""
        xid, commit_lsn, at_ms = self._told
        place = (xid, wal_start(message), commit_lsn, self.ordinal, more, at_ms)
        value = template % (*rows, *place)
        self._produce(encoder.target.topic, value, key)
        self.events += 1
        return value


def _ignore(message: bytes) -> None:
    """Origins and types change nothing here: types are known from the DDL history."""


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise ValueError(otherwise)
