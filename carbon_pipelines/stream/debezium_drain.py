"""Waiting until a Debezium connector has brought Kafka to a point of the WAL.

What belongs here: setting up what the connector reads, that wait, and what is said when it is in
vain. What does not: running the connector, which is not ours.

A connector acknowledges its slot up to the end of a commit only after Kafka has acknowledged every
event before it, so the slot's own row tells how far Kafka is; no topic has to be read for it.
"""

import time
from collections.abc import Callable

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import SlotLostError
from carbon_pipelines.errors.debezium import ConnectorBehindError, ConnectorSlotLostError
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.position import format_lsn
from carbon_pipelines.source.setup import SourceSetup, ensure_source
from carbon_pipelines.source.slot import observe_slot
from carbon_pipelines.stream.topics import topics_with_events

_LOOK_SECONDS = 0.1


def ensure_connector_source(database: DatabaseSpec, endpoints: Endpoints) -> SourceSetup:
    """Set up what a connector reads; its slot is made once and never replaced by us.

    Raises:
        ConnectorSlotLostError: The slot that events in Kafka came from is gone, or lost changes.
        SourceError: As ``ensure_source``.
    """
    dsn = endpoints.source_dsn(database.name)
    with session(dsn) as connection:
        slot = observe_slot(connection, database.slot_name)
    if slot is None and topics_with_events(endpoints.stream_bootstrap, database):
        raise ConnectorSlotLostError(database.name, database.slot_name, reason="it was dropped")
    try:
        return ensure_source(dsn, database)
    except SlotLostError as lost:
        raise ConnectorSlotLostError(database.name, lost.slot, reason=lost.reason) from lost


def wait_acknowledged(
    database: DatabaseSpec,
    endpoints: Endpoints,
    lsn: int,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until Kafka holds everything whose commit record lies before ``lsn``.

    Args:
        database: What is declared.
        endpoints: Where PostgreSQL is.
        lsn: The point; something has to be committed after it.
        seconds: How long to wait.
        clock: Seconds that never go back.
        sleep: Takes seconds.

    Raises:
        ConnectorBehindError: It does not yet; most often the connector does not run (retryable).
        ConnectorSlotLostError: There is no slot.
    """
    give_up_at = clock() + seconds
    with session(endpoints.source_dsn(database.name)) as connection:
        while True:
            slot = observe_slot(connection, database.slot_name)
            if slot is None:
                reason = "it was dropped"
                raise ConnectorSlotLostError(database.name, database.slot_name, reason=reason)
            if slot.confirmed_flush_lsn >= lsn:
                return
            if clock() > give_up_at:
                reader = "no connector reads it now"
                if slot.holder_pid is not None:
                    reader = f"process {slot.holder_pid} of the server sends it"
                raise ConnectorBehindError(
                    database.name,
                    database.slot_name,
                    wanted=format_lsn(lsn),
                    reached=format_lsn(slot.confirmed_flush_lsn),
                    seconds=seconds,
                    holder=reader,
                )
            sleep(_LOOK_SECONDS)
