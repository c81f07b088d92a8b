"""One session of capture: a slot is read, events are committed, the slot is acknowledged.

What belongs here: the order in which slot, producer and progress are taken, and when Kafka
transactions end. What does not: what a message becomes (``translate.py``), what is compared before
it starts (``resume.py``), and starting again after errors (``capture.py``).

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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CaptureOutdatedError, SourceUnreachableError
from carbon_pipelines.source.connection import connect, session, session_errors
from carbon_pipelines.source.leaves import load_ancestors
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.envelope import Target
from carbon_pipelines.stream.partitions import Ancestors
from carbon_pipelines.stream.pgoutput import decode_keepalive
from carbon_pipelines.stream.producer import TransactionalProducer
from carbon_pipelines.stream.progress import Progress
from carbon_pipelines.stream.replication import ReplicationStream
from carbon_pipelines.stream.resume import load_resume_point
from carbon_pipelines.stream.routing import Name
from carbon_pipelines.stream.schemas import load_relations
from carbon_pipelines.stream.topics import (
    ddl_topic,
    progress_topic,
    table_topic,
    topic_exists,
    topic_of,
)
from carbon_pipelines.stream.translate import Translator

TRANSACTION_EVENTS = 50_000
"""A Kafka transaction ends with so many events,"""
TRANSACTION_SECONDS = 0.5
"""or when its first one was taken so long ago,"""
PAUSE_SECONDS = 0.025
"""or when no data is waiting and the one before ended so long ago."""
TURN_MESSAGES = 1_000
"""Messages taken between two looks at the clock."""
FEEDBACK_SECONDS = 5.0
"""A sign of life goes to PostgreSQL at least so often."""
HEARTBEAT_SECONDS = 10.0
"""A WAL message is written so often while nothing happens: it moves an idle database's slot."""
IDLE_BYTES, IDLE_SECONDS = 64 << 10, 10.0
"""WAL without a change for us is acknowledged, which takes a progress record, when there is so much
of it, and at most so often."""
STOP_SECONDS = 0.2
"""How long a wait for data may delay a stop."""


_LOG = logging.getLogger(__name__)
_WAL, _PROGRESS_KEY = ord("w"), b"progress"
_HEARTBEAT = "SELECT pg_logical_emit_message(false, 'carbon', 'heartbeat')"


@dataclass(frozen=True, slots=True)
class Captured:
    """What one run did. ``position`` is what Kafka holds, ``events`` those of this run.

    ``generation`` is the number of gaps in what Kafka holds.
    """

    position: Position
    end_lsn: int
    events: int
    transactions: int
    kafka_transactions: int
    seconds: float
    generation: int

    @property
    def commit_lsn(self) -> int:
        """Kafka holds every transaction whose commit record lies before this LSN."""
        return max(self.position.commit_lsn, self.end_lsn)


class Session:
    """One run: the slot, the producer and what is not committed yet.

    ``opened`` gives back in reverse order what it takes; ``healing`` is as in ``resume.py``.
    """

    def __init__(
        self,
        database: DatabaseSpec,
        endpoints: Endpoints,
        clock: Callable[[], float],
        opened: ExitStack,
        healing: str | None = None,
    ) -> None:
        self._database, self._bootstrap = database, endpoints.stream_bootstrap
        self._dsn, self._clock = endpoints.source_dsn(database.name), clock
        self._stream = ReplicationStream(self._dsn, database=database.name, slot=database.slot_name)
        opened.callback(self._stream.close)
        self._stream.start((database.publication_name, database.keyless_publication_name))
        self._producer = TransactionalProducer(self._bootstrap, f"carbon-{database.name}")
        opened.callback(self._producer.close)
        self._producer.take_over()
        self._control = connect(self._dsn)
        opened.callback(lambda: self._control.close())
        with session_errors(self._dsn):
            self._committed: Progress = load_resume_point(
                self._control, endpoints, database, healing=healing
            )
        self._translator = Translator(
            database.slot_name,
            database.name,
            _targets(database),
            load_relations(self._bootstrap, database.name, until=self._committed.position),
            self._producer.send,
            resume_after=self._committed.position,
            on_ignored=self._refuse_if_captured,
            load_ancestors=self._load_ancestors,
            generation=self._committed.generation,
        )
        self._received, self._reply_requested = self._committed.end_lsn, False
        self._kafka_transactions, self._events_committed = 0, 0
        self._pending_since: float | None = None
        self._committed_at = self._acknowledged_at = self._heartbeat_at = clock()
        if healing is not None and self._committed.generation:
            self._commit()  # the gap is known before the first event behind it

    def run(self, stop: threading.Event, until_lsn: int | None) -> Captured:
        """Take messages until stopped or past ``until_lsn``; all that was taken is committed."""
        started = self._clock()
        while True:
            drained = self._take_turn()
            self._producer.poll()
            now, stopping = self._clock(), stop.is_set()
            reached = until_lsn is not None and self._received >= until_lsn
            if self._commit_is_due(now, drained=drained, at_once=stopping or reached):
                self._commit()
            done = until_lsn is not None and self._committed.commit_lsn >= until_lsn
            silent_for = now - self._acknowledged_at
            if done or stopping or self._reply_requested or silent_for > FEEDBACK_SECONDS:
                self._acknowledge()
            if done or stopping:
                return self._captured(started)
            if drained:
                self._beat(now)
                self._stream.wait(PAUSE_SECONDS if self._has_pending() else STOP_SECONDS)

    def _take_turn(self) -> bool:
        """Take what has arrived, up to a limit; whether that was all."""
        read, feed = self._stream.read, self._translator.feed
        for _ in range(TURN_MESSAGES):
            message = read()
            if message is None:
                return True
            if message[0] == _WAL:
                feed(message)
            else:
                keepalive = decode_keepalive(message)
                self._received = max(self._received, keepalive.wal_end)
                self._reply_requested |= keepalive.reply_requested
        return False

    def _has_pending(self) -> bool:
        return self._translator.position != self._committed.position

    def _commit_is_due(self, now: float, *, drained: bool, at_once: bool) -> bool:
        translator = self._translator
        self._received = max(self._received, translator.end_lsn)
        since_last = now - self._committed_at
        if self._has_pending():
            if self._pending_since is None:
                self._pending_since = now
            at_rest = drained and not translator.in_transaction and since_last >= PAUSE_SECONDS
            full = translator.events - self._events_committed >= TRANSACTION_EVENTS
            old = now - self._pending_since >= TRANSACTION_SECONDS
            return at_once or at_rest or full or old
        unacknowledged = self._received - self._committed.end_lsn
        idle = unacknowledged >= IDLE_BYTES and since_last >= IDLE_SECONDS
        # A server that shuts down asks until it is told that everything has arrived.
        return unacknowledged > 0 and (at_once or idle or self._reply_requested)

    def _commit(self) -> None:
        """Commit what was sent with the progress up to it, then let the slot forget it."""
        progress = replace(
            self._committed, position=self._translator.position, end_lsn=self._received
        )
        topic = progress_topic(self._database.name)
        self._producer.send(topic, progress.encode(), _PROGRESS_KEY)
        self._producer.commit(while_waiting=self._acknowledge)
        self._committed = progress
        self._events_committed = self._translator.events
        self._kafka_transactions += 1
        self._pending_since, self._committed_at = None, self._clock()
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell PostgreSQL that we live, and what Kafka holds for good."""
        self._stream.send_feedback(received=self._received, flushed=self._committed.end_lsn)
        self._acknowledged_at, self._reply_requested = self._clock(), False

    def _beat(self, now: float) -> None:
        """Write to the WAL of a database in which nothing happens, so that its slot moves."""
        if now - self._heartbeat_at < HEARTBEAT_SECONDS:
            return
        self._heartbeat_at = now
        try:
            if self._control.closed:
                self._control = connect(self._dsn)
            self._control.execute(_HEARTBEAT)
        except (psycopg.Error, SourceUnreachableError) as missed:
            # The stream's own connection tells whether the server is gone for good.
            _LOG.warning("no heartbeat in database %s: %s", self._database.name, missed)
            self._control.close()

    def _refuse_if_captured(self, names: Sequence[Name]) -> None:
        """Ignoring a relation's rows leaves a gap if there is a topic that others take as whole."""
        for schema, name in names:
            topic = table_topic(self._database.name, schema, name)
            if topic_exists(self._bootstrap, topic):
                raise CaptureOutdatedError(self._database.name, f"{schema}.{name}", topic)

    def _load_ancestors(self, oid: int) -> Ancestors:
        with session(self._dsn) as connection:
            return load_ancestors(connection, oid)

    def _captured(self, started: float) -> Captured:
        return Captured(
            position=self._committed.position,
            end_lsn=self._committed.end_lsn,
            events=self._events_committed,
            transactions=self._translator.transactions,
            kafka_transactions=self._kafka_transactions,
            seconds=self._clock() - started,
            generation=self._committed.generation,
        )


def _targets(database: DatabaseSpec) -> Mapping[tuple[str, str], Target]:
    """Where events of each declared table go, and those of the DDL history."""
    targets = {
        (table.source_schema, table.source_table): Target(
            topic_of(table),
            table.label,
            table.key,
            table.dropped_columns,
            table.text_columns,
            whole_rows=table.is_bag,
        )
        for table in database.tables
    }
    history = Target(ddl_topic(database.name), "carbon.ddl_history", ("id",), is_history=True)
    return {**targets, ("carbon", "ddl_history"): history}
