"""The capture of one database: from its slot to its topics, each change once.

What belongs here: the order in which slot, producer and progress are taken and given back, and when
Kafka transactions are committed. What does not: what a message becomes (``translate.py``).

Each change is in its topic exactly once, whatever is killed at whatever moment, because
1. the slot is taken first: only one process gets past it, so that taking over the transactional id
   never fences a healthy capture;
2. then the producer takes over, which ends what an earlier one left open;
3. then the progress is read, read_committed and to its end: it names the last position that counts,
   and everything up to it is skipped when the slot sends it again;
4. every Kafka transaction holds events and the progress up to them, so one is never without the
   other. It may end anywhere, in the middle of a source transaction as well;
5. the slot is acknowledged after the commit, and never past an ``end_lsn`` that the progress topic
   holds. So a slot that starts past it was created again or moved by someone else: a gap.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CarbonPipelinesError,
    CaptureOutdatedError,
)
from carbon_pipelines.source.connection import connect
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.setup import ensure_source
from carbon_pipelines.stream.envelope import Target
from carbon_pipelines.stream.pgoutput import Relation, decode_keepalive
from carbon_pipelines.stream.producer import TransactionalProducer
from carbon_pipelines.stream.progress import Progress
from carbon_pipelines.stream.replication import ReplicationStream
from carbon_pipelines.stream.resume import load_resume_point, replication_options
from carbon_pipelines.stream.schemas import load_newest_relations
from carbon_pipelines.stream.topics import (
    ddl_topic,
    ensure_topics,
    progress_topic,
    table_topic,
    topic_exists,
    topic_of,
)
from carbon_pipelines.stream.translate import Translator

_LOG = logging.getLogger(__name__)
_WAL, _PROGRESS_KEY = ord("w"), b"progress"
_HEARTBEAT = "SELECT pg_logical_emit_message(false, 'carbon', 'heartbeat')"


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """When what is done; seconds, events and bytes.

    Attributes:
        transaction_events: A Kafka transaction ends with so many events,
        transaction_seconds: or when its first one is so old.
        pause_seconds: With no data waiting it ends at once, but so long after the one before.
        turn_messages: Messages between two looks at the clock.
        feedback_seconds: The slot is acknowledged at least so often.
        heartbeat_seconds: A WAL message is written so often: it moves an idle database's slot.
        idle_bytes: WAL without a change for us is acknowledged (which takes a progress record)
            when there is so much of it,
        idle_seconds: at most so often.
    """

    transaction_events: int = 50_000
    transaction_seconds: float = 0.5
    pause_seconds: float = 0.025
    turn_messages: int = 1_000
    feedback_seconds: float = 5.0
    heartbeat_seconds: float = 10.0
    idle_bytes: int = 64 << 10
    idle_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Captured:
    """What one run did. ``position`` is what Kafka holds, ``events`` those of this run."""

    position: Position
    end_lsn: int
    events: int
    transactions: int
    kafka_transactions: int
    seconds: float


class Capture:
    """Captures one database; ``run`` may be called again after an error."""

    def __init__(
        self,
        database: DatabaseSpec,
        endpoints: Endpoints,
        *,
        limits: CaptureLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            database: What is declared.
            endpoints: Where PostgreSQL and Kafka are.
            limits: When Kafka transactions end, and the like.
            clock: Seconds that never go back.
        """
        self._database, self._endpoints = database, endpoints
        self._limits, self._clock = limits or CaptureLimits(), clock

    def run(self, stop: threading.Event, *, until_lsn: int | None = None) -> Captured:
        """Capture until stopped, or until Kafka holds everything committed before ``until_lsn``.

        Publications, slot and topics are set up first.

        Raises:
            CaptureRunningError: Another process captures this database (retryable).
            SourceUnreachableError, StreamUnavailableError: A service does not answer (retryable);
                nothing is lost or doubled by calling again.
            SourceError: The database cannot be captured as declared.
            StreamError: Slot, progress and topics do not belong together, or a change cannot be
                written; capture stands before it.
        """
        prepare(self._database, self._endpoints)
        with ExitStack() as opened:
            session = _Session(
                self._database, self._endpoints, self._limits, self._clock, opened
            )
            return session.run(stop, until_lsn)

    def run_forever(
        self,
        stop: threading.Event,
        *,
        sleep: Callable[[float], object] | None = None,
        longest_pause: float = 30.0,
    ) -> None:
        """Run until stopped, and again after errors that may be retried.

        Args:
            stop: Ends it.
            sleep: Takes seconds; by default it ends early when ``stop`` is set.
            longest_pause: Pauses double from half a second up to this.

        Raises:
            CarbonPipelinesError: The first error that may not be retried.
        """
        pause_for, pause = sleep or stop.wait, 0.5
        while not stop.is_set():
            started = self._clock()
            try:
                self.run(stop)
            except CarbonPipelinesError as error:
                if not error.retryable:
                    raise
                pause = 0.5 if self._clock() - started > longest_pause else pause
                _LOG.warning("capture of %s starts again: %s", self._database.name, error)
                pause_for(pause)
                pause = min(pause * 2, longest_pause)


def prepare(database: DatabaseSpec, endpoints: Endpoints) -> None:
    """See to topics, publications and slot.

    Topics come first: a capture that runs with older declarations tells by the topic that a
    relation it does not know is captured, and stops instead of ignoring its rows.
    """
    ensure_topics(endpoints.stream_bootstrap, database)
    ensure_source(endpoints.source_dsn(database.name), database)


class _Session:
    """One run: the slot, the producer and what is not committed yet."""

    def __init__(
        self,
        database: DatabaseSpec,
        endpoints: Endpoints,
        limits: CaptureLimits,
        clock: Callable[[], float],
        opened: ExitStack,
    ) -> None:
        self._database, self._bootstrap = database, endpoints.stream_bootstrap
        self._dsn, self._limits, self._clock = endpoints.source_dsn(database.name), limits, clock
        self._stream = ReplicationStream(
            self._dsn, database=database.name, slot=database.slot_name
        )
        opened.callback(self._stream.close)
        self._stream.start((database.publication_name, database.keyless_publication_name))
        self._producer = TransactionalProducer(self._bootstrap, f"carbon-{database.name}")
        opened.callback(self._producer.close)
        self._producer.take_over()
        self._control = connect(self._dsn)
        opened.callback(lambda: self._control.close())
        self._committed: Progress = load_resume_point(self._control, endpoints, database)
        self._translator = Translator(
            database.slot_name,
            database.name,
            _targets(database),
            load_newest_relations(
                self._bootstrap, database.name, until=self._committed.position
            ),
            self._producer.send,
            resume_after=self._committed.position,
            on_ignored=self._refuse_if_captured,
        )
        self._received = self._committed.end_lsn
        self._reply_requested, self._kafka_transactions = False, 0
        self._pending_since: float | None = None
        self._committed_at = self._acknowledged_at = self._heartbeat_at = clock()

    def run(self, stop: threading.Event, until_lsn: int | None) -> Captured:
        started = self._clock()
        while True:
            drained = self._take_turn()
            self._producer.poll()
            now = self._clock()
            stopping = stop.is_set()
            reached = until_lsn is not None and self._received >= until_lsn
            if self._commit_is_due(now, drained=drained, at_once=stopping or reached):
                self._commit()
            if self._reply_requested or now - self._acknowledged_at > self._limits.feedback_seconds:
                self._acknowledge()
            if stopping or (until_lsn is not None and self._committed.commit_lsn >= until_lsn):
                self._acknowledge()
                return self._captured(started)
            if drained:
                self._beat(now)
                self._stream.wait(self._wait_seconds(now))
