"""Messages of the streaming replication protocol and of pgoutput, as bytes and as values.

What belongs here: the layout of each message (PostgreSQL manual, "Streaming Replication Protocol"
and "Logical Replication Message Formats", protocol version 1). What does not: rows, which
``envelope.py`` reads straight into JSON because they are nearly all there is, and any decision.

A WAL message is ``w``, start LSN, end LSN, send time; pgoutput's own message starts at ``BODY``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

BODY = 25
"""Where pgoutput's message starts in a WAL message; its first byte is its kind."""

OPTIONS: Mapping[str, str] = {
    "proto_version": "1",
    "streaming": "off",
    "messages": "true",
    "binary": "false",
}
"""Options of START_REPLICATION, the publications apart. They are fixed: which messages there are,
and so the ordinals in a transaction, follows from them."""

_EPOCH_MICROSECONDS = 946_684_800_000_000  # 2000-01-01, from which PostgreSQL counts

_WAL_START = Struct(">xQ").unpack_from
_KEEPALIVE = Struct(">xQqB").unpack_from
_FEEDBACK = Struct(">cQQQqB").pack
_BEGIN = Struct(">QqI").unpack_from
_COMMIT = Struct(">BQQq").unpack_from
_COLUMN_TYPE = Struct(">Ii").unpack_from
_TRUNCATE = Struct(">IB").unpack_from
_MESSAGE = Struct(">BQ").unpack_from


@dataclass(frozen=True, slots=True)
class Begin:
    """Start of a transaction; ``committed_at_ms`` counts from 1970."""

    commit_lsn: int
    committed_at_ms: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """End of a transaction; ``end_lsn`` is the first byte after its commit record."""

    commit_lsn: int
    end_lsn: int


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """One column of a relation message; ``in_identity`` tells that old tuples carry it."""

    name: str
    type_oid: int
    typmod: int
    in_identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """The columns that the rows after this message have, until the next one of the same oid."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Truncate:
    """The relations that one TRUNCATE emptied."""

    relation_oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What pg_logical_emit_message wrote; outside of transactions unless ``transactional``."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    """All WAL before ``wal_end`` was decoded and what it held for us was sent."""

    wal_end: int
    reply_requested: bool


def wal_start(message: bytes) -> int:
    """The LSN of the record that a WAL message comes from."""
    return _WAL_START(message)[0]


def decode_keepalive(message: bytes) -> Keepalive:
    """Read a ``k`` message."""
    wal_end, _, reply_requested = _KEEPALIVE(message)
    return Keepalive(wal_end, bool(reply_requested))


def encode_feedback(*, received: int, flushed: int, now: float) -> bytes:
    """A standby status update; ``flushed`` is what the slot may forget, ``now`` Unix time.

    Args:
        received: All WAL before it has arrived here.
        flushed: Kafka holds everything before it for good.
        now: Unix time in seconds.
    """
    sent_at = round(now * 1_000_000) - _EPOCH_MICROSECONDS
    return _FEEDBACK(b"r", received, flushed, flushed, sent_at, 0)


def start_replication(slot: str, publications: tuple[str, ...]) -> bytes:
    """The command that starts reading ``slot`` where it was acknowledged last."""
    names = ",".join(_quoted_identifier(name) for name in publications)
    options = {**OPTIONS, "publication_names": names}
    listed = ", ".join(f"{name} '{_quoted_literal(value)}'" for name, value in options.items())
    return f"START_REPLICATION SLOT {_quoted_identifier(slot)} LOGICAL 0/0 ({listed})".encode()


def decode_begin(message: bytes, at: int) -> Begin:
    """Read a ``B`` message whose kind stands before ``at``, as in all that follow."""
    commit_lsn, committed_at, xid = _BEGIN(message, at)
    return Begin(commit_lsn, (committed_at + _EPOCH_MICROSECONDS) // 1000, xid)


def decode_commit(message: bytes, at: int) -> Commit:
    """Read a ``C`` message."""
    _, commit_lsn, end_lsn, _ = _COMMIT(message, at)
    return Commit(commit_lsn, end_lsn)


def decode_relation(message: bytes, at: int) -> Relation:
    """Read an ``R`` message."""
    oid = int.from_bytes(message[at : at + 4], "big")
    schema, at = _text(message, at + 4)
    name, at = _text(message, at)
    replica_identity = chr(message[at])
    count = int.from_bytes(message[at + 1 : at + 3], "big")
    at += 3
    columns: list[RelationColumn] = []
    for _ in range(count):
        flags = message[at]
        column, at = _text(message, at + 1)
        type_oid, typmod = _COLUMN_TYPE(message, at)
        columns.append(RelationColumn(column, type_oid, typmod, bool(flags & 1)))
        at += 8
    # PostgreSQL names the schema pg_catalog with an empty string.
    return Relation(oid, schema or "pg_catalog", name, replica_identity, tuple(columns))


def decode_truncate(message: bytes, at: int) -> Truncate:
    """Read a ``T`` message."""
    count, options = _TRUNCATE(message, at)
    oids = Struct(f">{count}I").unpack_from(message, at + 5)
    return Truncate(oids, bool(options & 1), bool(options & 2))


def decode_message(message: bytes, at: int) -> LogicalMessage:
    """Read an ``M`` message."""
    flags, lsn = _MESSAGE(message, at)
    prefix, at = _text(message, at + 9)
    size = int.from_bytes(message[at : at + 4], "big")
    content = message[at + 4 : at + 4 + size]
    if len(content) != size:
        reason = f"content of {size} bytes is cut at {len(content)}"
        raise ValueError(reason)
    return LogicalMessage(bool(flags & 1), lsn, prefix, content)


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    return message[at:end].decode(), end + 1


def _quoted_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_literal(value: str) -> str:
    return value.replace("'", "''")
