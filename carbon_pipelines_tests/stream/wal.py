"""An encoder of pgoutput's messages, written from the PostgreSQL manual for tests."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

UNCHANGED = object()
"""Stands for a TOAST value that an update left as it was."""

EPOCH_MS = 946_684_800_000

Value = bytes | None | object


class Column(NamedTuple):
    name: str
    type_oid: int
    in_identity: bool = False
    typmod: int = -1


def wal(body: bytes, *, lsn: int = 0x1000) -> bytes:
    return b"w" + struct.pack(">QQq", lsn, lsn, 0) + body


def begin(commit_lsn: int, *, xid: int = 7, committed_at_ms: int = EPOCH_MS) -> bytes:
    microseconds = (committed_at_ms - EPOCH_MS) * 1000
    return wal(b"B" + struct.pack(">QqI", commit_lsn, microseconds, xid))


def commit(commit_lsn: int, *, end_lsn: int | None = None) -> bytes:
    end = commit_lsn + 48 if end_lsn is None else end_lsn
    return wal(b"C" + struct.pack(">BQQq", 0, commit_lsn, end, 0), lsn=end)


def relation(
    oid: int, schema: str, name: str, columns: Sequence[Column], *, identity: str = "d"
) -> bytes:
    body = b"R" + struct.pack(">I", oid) + _text(schema) + _text(name)
    body += identity.encode() + struct.pack(">H", len(columns))
    for column in columns:
        body += bytes([column.in_identity]) + _text(column.name)
        body += struct.pack(">Ii", column.type_oid, column.typmod)
    return wal(body)


def row(values: Sequence[Value]) -> bytes:
    encoded = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            encoded += b"n"
        elif value is UNCHANGED:
            encoded += b"u"
        else:
            assert isinstance(value, bytes)
            encoded += b"t" + struct.pack(">I", len(value)) + value
    return encoded


def insert(oid: int, values: Sequence[Value], *, lsn: int = 0x1000) -> bytes:
    return wal(b"I" + struct.pack(">I", oid) + b"N" + row(values), lsn=lsn)


def update(
    oid: int,
    values: Sequence[Value],
    *,
    old_key: Sequence[Value] | None = None,
    old_row: Sequence[Value] | None = None,
    lsn: int = 0x1000,
) -> bytes:
    old = b""
    if old_key is not None:
        old = b"K" + row(old_key)
    elif old_row is not None:
        old = b"O" + row(old_row)
    return wal(b"U" + struct.pack(">I", oid) + old + b"N" + row(values), lsn=lsn)


def delete(oid: int, values: Sequence[Value], *, whole: bool = False, lsn: int = 0x1000) -> bytes:
    kind = b"O" if whole else b"K"
    return wal(b"D" + struct.pack(">I", oid) + kind + row(values), lsn=lsn)


def truncate(oids: Sequence[int], *, cascade: bool = False, restart: bool = False) -> bytes:
    options = cascade | restart << 1
    return wal(b"T" + struct.pack(f">IB{len(oids)}I", len(oids), options, *oids))


def message(prefix: str, content: bytes, *, transactional: bool, lsn: int = 0x1000) -> bytes:
    body = b"M" + struct.pack(">BQ", transactional, lsn) + _text(prefix)
    return wal(body + struct.pack(">I", len(content)) + content, lsn=lsn)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"
