"""The replication slot: what state it is in, whether it is ours, and creating it.

What belongs here: everything about one slot. What does not: reading from it (``stream``).
"""

from dataclasses import dataclass
from datetime import timedelta

import psycopg

from carbon_pipelines.errors import (
    NoFreeSlotError,
    OpenTransactionError,
    SlotInUseError,
    SlotLostError,
    SlotMismatchError,
    SourcePrivilegeError,
)
from carbon_pipelines.source.connection import APPLICATION_NAME, SourceConnection
from carbon_pipelines.source.failover import FAILOVER_VERSION
from carbon_pipelines.source.visibility import load_blockers

PLUGIN = "pgoutput"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A row of pg_replication_slots.

    Attributes:
        holder_pid: The process that reads the slot now.
        holder_name: That process's application_name; None if it may not be seen.
        wal_status: reserved, extended, unreserved or lost; None while the slot is being made.
        invalidation_reason: Why it can no longer be read (PostgreSQL 17 and newer).
        lag_bytes: WAL between the acknowledged position and the end.
        failover: Whether standbys keep a copy of it (PostgreSQL 17 and newer).
        synced: Whether it came from a primary by that way.
    """

    name: str
    plugin: str
    database: str
    temporary: bool
    holder_pid: int | None
    holder_name: str | None
    wal_status: str | None
    invalidation_reason: str | None
    restart_lsn: int
    confirmed_flush_lsn: int
    lag_bytes: int
    failover: bool
    synced: bool

    @property
    def lost(self) -> str | None:
        """Why it can never be read again; None while it can."""
        if self.wal_status == "lost" or self.invalidation_reason:
            return self.invalidation_reason or "wal_status is lost"
        return None

    @property
    def held_by_carbon(self) -> bool:
        """Whether a capture process of ours reads it at this moment."""
        return (self.holder_name or "").startswith(APPLICATION_NAME)


def observe_slot(connection: SourceConnection, name: str) -> SlotState | None:
    """Read the state of a slot; None if there is none of that name."""
    row = connection.execute(
        """
        SELECT s.slot_name, coalesce(s.plugin, s.slot_type), coalesce(s.database, ''), s.temporary,
               s.active_pid, a.application_name, s.wal_status,
               to_jsonb(s) ->> 'invalidation_reason', coalesce(s.restart_lsn - '0/0', 0)::bigint,
               coalesce(s.confirmed_flush_lsn - '0/0', 0)::bigint,
               coalesce(CASE WHEN NOT pg_is_in_recovery() THEN
                 pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint END, 0),
               coalesce((to_jsonb(s) ->> 'failover')::bool, false),
               coalesce((to_jsonb(s) ->> 'synced')::bool, false)
          FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
         WHERE s.slot_name = %s
        """,
        (name,),
    ).fetchone()
    if row is None:
        return None
    return SlotState(*row)


def check_slot(slot: SlotState, *, database: str, read_by_connector: bool = False) -> None:
    """Refuse a slot that is not ours or can no longer be read. A capture of ours may hold it.

    Args:
        slot: Its state.
        database: The PostgreSQL database we are connected to.
        read_by_connector: A Debezium connector captures the database, so it may hold the slot.

    Raises:
        SlotMismatchError: It decodes with another plugin, is another database's, or temporary.
        SlotLostError: Its WAL is gone, or the server invalidated it.
        SlotInUseError: Somebody else reads it.
    """
    if slot.plugin != PLUGIN:
        raise SlotMismatchError(slot.name, fact="plugin", found=slot.plugin, wanted=PLUGIN)
    if slot.database != database:
        raise SlotMismatchError(slot.name, fact="database", found=slot.database, wanted=database)
    if slot.temporary:
        raise SlotMismatchError(slot.name, fact="kind", found="temporary", wanted="permanent")
    if slot.lost is not None:
        raise SlotLostError(slot.name, reason=slot.lost)
    if slot.holder_pid is not None and not (slot.held_by_carbon or read_by_connector):
        holder = slot.holder_name or "hidden from our role"
        raise SlotInUseError(slot.name, pid=slot.holder_pid, application=holder)


def create_slot(connection: SourceConnection, name: str, *, timeout: timedelta) -> None:
    """Create our slot. The publications it will be read with have to be committed before.

    PostgreSQL 15 fails at every read of a slot that is older than its publication. The server waits
    for the transactions that are running now, up to ``timeout``.

    Raises:
        NoFreeSlotError: Another slot took the last place.
        SourcePrivilegeError: Our role may not replicate.
        OpenTransactionError: A running transaction did not end in time.
    """
    failover = connection.info.server_version >= FAILOVER_VERSION
    arguments = "%s, 'pgoutput', false, false" + (", true" if failover else "")
    milliseconds = max(1, int(timeout.total_seconds() * 1000))
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = {milliseconds}".encode())
            connection.execute(
                f"SELECT pg_create_logical_replication_slot({arguments})".encode(), (name,)
            )
    except psycopg.errors.ConfigurationLimitExceeded as full:
        raise no_free_slot(connection, name) from full
    except psycopg.errors.InsufficientPrivilege as refusal:
        role = connection.info.user
        remedy = f'ALTER ROLE "{role}" REPLICATION.'
        raise SourcePrivilegeError(role, what="create a slot", remedy=remedy) from refusal
    except psycopg.errors.QueryCanceled as slow:
        row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert row is not None
        blockers = load_blockers(connection, row[0])
        raise OpenTransactionError(
            row[0], blockers=blockers, waited_seconds=timeout.total_seconds()
        ) from slow


def no_free_slot(connection: SourceConnection, name: str) -> NoFreeSlotError:
    """The error for a server whose slots are all taken, with the names of those that exist."""
    row = connection.execute(
        "SELECT current_setting('max_replication_slots')::int,"
        " ARRAY(SELECT slot_name::text FROM pg_replication_slots ORDER BY 1)"
    ).fetchone()
    assert row is not None
    return NoFreeSlotError(name, limit=row[0], taken=row[1])
