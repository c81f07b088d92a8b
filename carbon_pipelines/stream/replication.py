"""The connection on which PostgreSQL sends a slot's changes.

What belongs here: starting the stream, taking messages off it without blocking, sending feedback,
and the errors of that connection. What does not: what the messages mean.

psycopg's ``pq`` level is used because the DB-API has no COPY BOTH mode.
"""

import re
import select
import time
from collections.abc import Callable

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from carbon_pipelines.errors import (
    CaptureRunningError,
    ReplicationRefusedError,
    SlotLostError,
    SourceAuthenticationError,
    SourceError,
    SourceUnreachableError,
    StreamError,
)
from carbon_pipelines.source.connection import describe_dsn, session_conninfo
from carbon_pipelines.stream.pgoutput import encode_feedback, start_replication

APPLICATION_NAME = "carbon capture"

# The server asks for a sign of life after half of this; feedback goes out far more often.
_OPTIONS = "-c wal_sender_timeout=60s"
_REFUSED = re.compile(r"permission denied|must be superuser or replication|pg_hba\.conf")
_BROKEN = re.compile(r"08...|53...|57P..")  # connection, resources, shutdown
_FAREWELL_SECONDS = 2.0
_IN_USE, _NOT_USABLE = "55006", "55000"


class ReplicationStream:
    """One walsender session. Reading never blocks; ``wait`` does."""

    def __init__(
        self, dsn: str, *, database: str, slot: str, now: Callable[[], float] = time.time
    ) -> None:
        """Connect; the slot is not taken yet.

        Args:
            dsn: The source database.
            database: Logical name, for errors.
            slot: The slot to read.
            now: Unix time in seconds, which feedback carries.

        Raises:
            SourceUnreachableError: No server answers, or it has no place for us (retryable).
            SourceAuthenticationError: Our role may not replicate.
        """
        self._location, self._database, self._slot = describe_dsn(dsn), database, slot
        self._now, self._streaming = now, False
        self._connection = pq.PGconn.connect(_conninfo(dsn).encode())
        if self._connection.status != pq.ConnStatus.OK:
            reason = _one_line(self._connection.error_message)
            self._connection.finish()
            if _REFUSED.search(reason):
                raise SourceAuthenticationError(self._location, reason=reason)
            raise SourceUnreachableError(self._location, reason=reason)
        self._poll = select.poll()
        self._poll.register(self._connection.socket, select.POLLIN)

    def load_timeline_history(self, timeline: int) -> str:
        """The server's history file of a timeline, one ``parent, LSN, reason`` to a line."""
        result = self._connection.exec_(f"TIMELINE_HISTORY {timeline}".encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise self._refusal(result)
        return (result.get_value(0, 1) or b"").decode()

    def start(self, publications: tuple[str, ...]) -> None:
        """Take the slot; from then on no other process can read it.

        Raises:
            CaptureRunningError: Another process reads it (retryable).
            SlotLostError: The server has invalidated it.
            ReplicationRefusedError: The server refuses for another reason.
        """
        result = self._connection.exec_(start_replication(self._slot, publications))
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise self._refusal(result)
        self._streaming = True

    def read(self) -> bytes | None:
        """The next message (``w`` or ``k``), or None if none has arrived.

        Raises:
            SourceUnreachableError: The connection broke or the server shuts down (retryable).
            ReplicationRefusedError: The server ended the stream with an error.
        """
        connection = self._connection
        try:
            size, data = connection.get_copy_data(1)
            if size == 0:
                connection.consume_input()
                size, data = connection.get_copy_data(1)
        except psycopg.OperationalError as broken:
            raise self._end(str(broken)) from broken
        if size > 0:
            return bytes(data)
        if size == 0:
            return None
        raise self._end("the server ended the stream")

    def wait(self, seconds: float) -> None:
        """Until something arrives or ``seconds`` have passed."""
        self._poll.poll(max(0.0, seconds) * 1000)

    def send_feedback(self, *, received: int, flushed: int) -> None:
        """Tell the server what it may forget: ``flushed`` has to be in Kafka for good."""
        feedback = encode_feedback(received=received, flushed=flushed, now=self._now())
        try:
            self._connection.put_copy_data(feedback)
            self._connection.flush()
        except psycopg.OperationalError as broken:
            raise self._end(str(broken)) from broken

    def close(self) -> None:
        """Leave the slot; waits a moment until the server has freed it for the next capture."""
        try:
            if self._streaming:
                self._end_stream()
        except psycopg.OperationalError:
            pass  # the server is gone already, and the slot with it
        finally:
            self._connection.finish()

    def _end_stream(self) -> None:
        """End the copy, and wait for the command's own end: the slot is free only then.

        The server's CopyDone comes earlier; a capture that starts on it can find the slot in use.
        """
        connection = self._connection
        connection.put_copy_end()
        connection.flush()
        give_up_at = time.monotonic() + _FAREWELL_SECONDS
        copying = True
        while (left := give_up_at - time.monotonic()) > 0:
            if copying:
                size, _ = connection.get_copy_data(1)
                copying = size >= 0
                waiting = size == 0
            else:
                waiting = bool(connection.is_busy())
                if not waiting and connection.get_result() is None:
                    return
            if waiting:
                self.wait(left)
                connection.consume_input()

    def _end(self, reason: str) -> StreamError | SourceError:
        """The error of a stream that has ended: the server's if it sent one."""
        if self._connection.status == pq.ConnStatus.OK:
            result = self._connection.get_result()
            if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                return self._refusal(result)
        return SourceUnreachableError(self._location, reason=_one_line(reason.encode()))

    def _refusal(self, result: pq.abc.PGresult) -> StreamError | SourceError:
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        reason = _one_line(result.error_message)
        if sqlstate == _IN_USE:
            return CaptureRunningError(self._database, self._slot, reason)
        if sqlstate == _NOT_USABLE:
            return SlotLostError(self._slot, reason=reason)
        if not sqlstate or _BROKEN.fullmatch(sqlstate):
            return SourceUnreachableError(self._location, reason=reason)
        return ReplicationRefusedError(self._slot, sqlstate=sqlstate, reason=reason)


def _conninfo(dsn: str) -> str:
    given = conninfo_to_dict(dsn).get("options")
    ours = make_conninfo(dsn, options=f"{given or ''} {_OPTIONS}".strip())
    return session_conninfo(ours, application_name=APPLICATION_NAME, replication="database")


def _one_line(message: bytes) -> str:
    return " ".join(message.decode("utf-8", "replace").split())
