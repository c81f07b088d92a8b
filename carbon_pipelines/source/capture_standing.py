"""How far a database's capture is, in time, as PostgreSQL knows it.

What belongs here: one look at the slot and at who reads it. What does not: what Kafka holds
(``stream``), and reading (``stream/session.py``).
Source: PostgreSQL 18 manual, pg_stat_replication and pg_replication_slots.
"""

from dataclasses import dataclass

from carbon_pipelines.source.connection import SourceConnection


@dataclass(frozen=True, slots=True)
class CaptureStanding:
    """A look at a slot.

    Attributes:
        reader_behind_seconds: How old the WAL is at most that its reader has not received: since
            the reader's last sign of life, and the lag that it had then. None: nobody reads it.
        has_all: Whether everything in the WAL is acknowledged.
    """

    reader_behind_seconds: float | None
    has_all: bool


def observe_capture(connection: SourceConnection, slot: str) -> CaptureStanding | None:
    """Look at a slot; None if there is none of that name."""
    row = connection.execute(
        """
        SELECT (extract(epoch FROM clock_timestamp() - r.reply_time)
                + extract(epoch FROM coalesce(r.write_lag, '0')))::float8,
               pg_current_wal_insert_lsn() <= s.confirmed_flush_lsn
          FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
         WHERE s.slot_name = %s
        """,
        (slot,),
    ).fetchone()
    if row is None:
        return None
    behind, has_all = row
    return CaptureStanding(None if behind is None else max(0.0, behind), has_all=bool(has_all))
