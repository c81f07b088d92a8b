"""What a source snapshot sees, and waiting for transactions that it might miss.

What belongs here: xids, snapshots, the barrier before a first snapshot, WAL markers. What does not:
reading rows under a snapshot (``copy.py``).

The skip rule these serve: a streamed event is already in a copy only if its commit_lsn is at or
below the L read after the snapshot *and* its xid is visible to the snapshot. LSN alone is wrong:
a transaction's commit record is written before the transaction becomes visible.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from carbon_pipelines.errors import OpenTransactionError
from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.position import parse_lsn

_SNAPSHOT = re.compile(r"(\d+):(\d+):((?:\d+(?:,\d+)*)?)")
_HALF = 1 << 31
_MODULUS = 1 << 32


@dataclass(frozen=True, slots=True)
class Visibility:
    """A ``pg_current_snapshot()``: 64-bit xids, as PostgreSQL writes them (``xmin:xmax:xip``).

    Visible are xids below ``xmin``, and those below ``xmax`` that are not in ``xip``.
    """

    xmin: int
    xmax: int
    xip: frozenset[int]

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.xip)))}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``pg_current_snapshot()::text``, like ``10:20:11,12``.

        Raises:
            ValueError: The text is not a snapshot.
        """
        found = _SNAPSHOT.fullmatch(text)
        if found is None:
            reason = f"{text!r} is not a snapshot like 10:20:11,12"
            raise ValueError(reason)
        running = frozenset(int(xid) for xid in found[3].split(",") if xid)
        return cls(int(found[1]), int(found[2]), running)

    def sees(self, xid32: int) -> bool:
        """Whether the snapshot sees transaction ``xid32``, as pgoutput sends it (32 bits).

        The epoch is the one that brings it within 2^31 of ``xmin``, PostgreSQL's own horizon.
        """
        xid = self.xmin + (xid32 - self.xmin + _HALF) % _MODULUS - _HALF
        return xid < self.xmin or (xid < self.xmax and xid not in self.xip)

    def sees_many(self, xids32: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """``sees`` for a whole array of uint32 or int64 xids; a bool array of the same shape."""
        wrapped = np.asarray(xids32).astype(np.uint32) - np.uint32(self.xmin % _MODULUS)
        distance = wrapped.view(np.int32).astype(np.int64)  # from xmin, so xip is shifted as well
        running = np.fromiter((xid - self.xmin for xid in self.xip), np.int64, len(self.xip))
        unseen = (distance >= self.xmax - self.xmin) | np.isin(distance, running)
        return (distance < 0) | ~unseen


@dataclass(frozen=True, slots=True)
class Moment:
    """A WAL insert position and the server's time, read together."""

    lsn: int
    at: datetime


def load_moment(connection: SourceConnection) -> Moment:
    """Now. What was not running yet is committed above it, and not before it by the same clock."""
    query = "SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()"
    row = connection.execute(query).fetchone()
    assert row is not None
    return Moment(parse_lsn(row[0]), row[1])


def wait_until_older_transactions_ended(
    connection: SourceConnection,
    *,
    timeout: timedelta = timedelta(minutes=5),
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until every transaction that was running when this was called has ended.

    After a slot was created or a publication altered, a transaction from before may still write
    rows that are never streamed: a snapshot may only be taken once all of those have ended. The
    condition is on the snapshot's xmin; waiting for the xids in ``xip`` loses rows, because it
    omits running xids at or above xmax.

    Args:
        connection: In autocommit mode and outside a transaction; the xid drawn here has to end.
        timeout: How long to wait at most.
        sleep: Takes seconds.
        clock: Gives seconds.

    Raises:
        OpenTransactionError: Some did not end in time; it names them.
    """
    xid = int(_value(connection, "SELECT pg_current_xact_id()::text"))
    started, pause = clock(), 0.01
    while int(_value(connection, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text")) <= xid:
        waited = clock() - started
        if waited >= timeout.total_seconds():
            raise OpenTransactionError(
                xid, blockers=load_blockers(connection, xid), waited_seconds=waited
            )
        sleep(pause)
        pause = min(pause * 2, 0.5)


def load_blockers(connection: SourceConnection, xid: int) -> tuple[str, ...]:
    """Describe the transactions that are older than ``xid`` and still run.

    pg_locks shows every role the xids of all databases; pg_stat_activity hides them from most.
    """
    rows = connection.execute(
        """
        SELECT l.transactionid::text, l.pid, a.usename, a.application_name, a.state, p.gid,
               date_trunc('second', clock_timestamp() - coalesce(a.xact_start, p.prepared))::text
          FROM pg_locks l
          LEFT JOIN pg_stat_activity a ON a.pid = l.pid
          LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
         WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
           AND age(l.transactionid) > age((%s::bigint %% 4294967296)::text::xid)
           AND l.pid IS DISTINCT FROM pg_backend_pid()
         ORDER BY age(l.transactionid) DESC LIMIT 20
        """,
        (xid,),
    ).fetchall()
    return tuple(_describe_blocker(*row) for row in rows)


def _describe_blocker(
    xid: str,
    pid: int | None,
    role: str | None,
    application: str | None,
    state: str | None,
    gid: str | None,
    age: str | None,
) -> str:
    since = f" for {age}" if age else ""
    if pid is None:
        return f"xid {xid} is prepared{since} (COMMIT or ROLLBACK PREPARED '{gid}')"
    who = f' of role "{role}" ("{application}", {state})' if role else ""
    return f"xid {xid} runs in process {pid}{who}{since} (SELECT pg_terminate_backend({pid}))"


def current_insert_lsn(connection: SourceConnection) -> int:
    """The end of the WAL written so far, flushed or not."""
    return parse_lsn(_value(connection, "SELECT pg_current_wal_insert_lsn()::text"))


def emit_marker(connection: SourceConnection, content: bytes) -> int:
    """Commit a WAL message, synchronously, and return an LSN that proves it was captured.

    The synchronous commit flushes everything before it: no asynchronous commit that a snapshot saw
    can be undone by a crash afterwards, and what reads the WAL can get past it.

    Returns:
        The insert LSN read *before* the message. The marker's own commit lies above it, so once
        capture's progress has a commit_lsn at or above it, all that was committed before is there.
    """
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        lsn = current_insert_lsn(connection)
        connection.execute("SELECT pg_logical_emit_message(true, 'carbon', %s::bytea)", (content,))
    return lsn


def _value(connection: SourceConnection, query: str) -> str:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
