"""Bringing Kafka up to now: by the capture that runs, or ourselves.

What belongs here: waiting until the progress topic holds a point of the WAL. What does not: how
changes get there (``capture.py``).
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CaptureRunningError, DrainTimeoutError, SourceError
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.failover import failover_advice, load_failover_facts
from carbon_pipelines.source.position import Position, format_lsn
from carbon_pipelines.source.visibility import emit_marker
from carbon_pipelines.stream.capture import Capture, Captured, prepare
from carbon_pipelines.stream.debezium_drain import wait_acknowledged
from carbon_pipelines.stream.progress import NOTHING, Progress, load_progress
from carbon_pipelines.stream.topic_state import wait_until_decided
from carbon_pipelines.stream.topics import topics_of

_VISIBLE_SECONDS = 2.0
"""After this long without a capture an open transaction is one that nobody will end but us."""
_LOOK_SECONDS = 0.1
_LOOKS = 10
"""So many looks at the progress of a running capture, then a look whether it still runs."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Kafka holds everything committed before ``marker_lsn``.

    ``events`` counts what this call captured; none if the running capture did it (``by``).
    ``generation`` is the number of gaps in the topics, ``advice`` what would make a failover of the
    source cost none, ``refused`` why a declared table is not captured, by logical name.
    """

    position: Position
    marker_lsn: int
    events: int
    seconds: float
    by: Literal["self", "capture", "connector"]
    generation: int = 0
    advice: tuple[str, ...] = ()
    refused: Mapping[str, SourceError] = field(default_factory=dict[str, SourceError])


def drain(database: DatabaseSpec, endpoints: Endpoints, *, timeout: timedelta) -> Drained:
    """Make Kafka hold, for read_committed readers, everything committed before this moment.

    Publications, slot and topics are set up first. If a capture runs, it is waited for; otherwise
    the slot is read here until the marker, which is written now, has come out. A Debezium connector
    is always waited for.

    Raises:
        ConnectorBehindError: The connector did not acknowledge the marker in time (retryable).
        DrainTimeoutError: The marker did not come out in time (retryable).
        CarbonPipelinesError: As ``Capture.run``.
    """
    prepared = prepare(database, endpoints)
    with session(endpoints.source_dsn(database.name)) as connection:
        marker_lsn = emit_marker(connection, b"drain")
        advice = failover_advice(load_failover_facts(connection, database.slot_name))
    drained = _reach(database, endpoints, marker_lsn, timeout, prepared.healing)
    return replace(drained, advice=advice, refused=prepared.refused)


def wait_captured(
    database: DatabaseSpec, endpoints: Endpoints, lsn: int, *, timeout: timedelta
) -> Drained:
    """Make Kafka hold everything whose commit record lies before ``lsn``; as ``drain``.

    A marker is written if nothing has come out past ``lsn``, so that it is reached even if nothing
    happens in the database.
    """
    progress = load_progress(endpoints, database)
    if (
        progress is not None
        and progress.commit_lsn >= lsn
        and _is_visible(database, endpoints, seconds=_VISIBLE_SECONDS)
    ):
        return Drained(progress.position, lsn, 0, 0.0, "capture", progress.generation)
    with session(endpoints.source_dsn(database.name)) as connection:
        emit_marker(connection, b"wait")
    return _reach(database, endpoints, lsn, timeout)


def _reach(
    database: DatabaseSpec,
    endpoints: Endpoints,
    lsn: int,
    timeout: timedelta,
    healing: str | None = None,
) -> Drained:
    started = time.monotonic()
    if database.connector is not None:
        wait_acknowledged(database, endpoints, lsn, seconds=timeout.total_seconds())
        return Drained(NOTHING, lsn, 0, time.monotonic() - started, "connector")
    give_up_at = started + timeout.total_seconds()
    holder = "no other process captured"
    while (left := give_up_at - time.monotonic()) > 0:
        try:
            captured = _capture_for(left, database, endpoints, lsn, healing)
        except CaptureRunningError as running:
            holder = running.detail
            progress = _watch(database, endpoints, lsn, give_up_at)
            if progress is not None and _is_visible(database, endpoints, seconds=left):
                seconds = time.monotonic() - started
                return Drained(progress.position, lsn, 0, seconds, "capture", progress.generation)
        else:
            if captured.commit_lsn >= lsn and _is_visible(database, endpoints, seconds=left):
                seconds = time.monotonic() - started
                return Drained(
                    captured.position, lsn, captured.events, seconds, "self", captured.generation
                )
    progress = load_progress(endpoints, database)
    reached = format_lsn(progress.commit_lsn) if progress is not None else "nothing"
    raise DrainTimeoutError(
        database.name,
        wanted=format_lsn(lsn),
        reached=reached,
        seconds=timeout.total_seconds(),
        holder=holder,
    )


def _capture_for(
    seconds: float, database: DatabaseSpec, endpoints: Endpoints, lsn: int, healing: str | None
) -> Captured:
    """Capture until ``lsn``, but not longer than ``seconds``."""
    stop = threading.Event()
    alarm = threading.Timer(seconds, stop.set)
    alarm.daemon = True
    alarm.start()
    try:
        capture = Capture(database, endpoints, healing=healing)
        return capture.run(stop, until_lsn=lsn, prepared=True)
    finally:
        alarm.cancel()


def _is_visible(database: DatabaseSpec, endpoints: Endpoints, *, seconds: float) -> bool:
    """Whether readers see what is committed: they do a moment after the commit is confirmed."""
    topics = topics_of(database)
    return wait_until_decided(endpoints.stream_bootstrap, topics, seconds=seconds)


def _watch(
    database: DatabaseSpec, endpoints: Endpoints, lsn: int, give_up_at: float
) -> Progress | None:
    """The progress of a running capture once it is past ``lsn``; None after a while without."""
    for _ in range(_LOOKS):
        progress = load_progress(endpoints, database)
        if progress is not None and progress.commit_lsn >= lsn:
            return progress
        if time.monotonic() > give_up_at:
            return None
        time.sleep(_LOOK_SECONDS)
    return None
