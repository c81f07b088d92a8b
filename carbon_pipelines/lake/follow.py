"""Merging chosen tables all the time, a few seconds after each change.

What belongs here: which table's turn it is, how many at once, and what an error of one means for
its next turn. What does not: what a turn does (``sync.py``), who else follows
(``source/followers.py``), and telling people (``cli``, ``defs``).

A table has one turn at a time and ``workers`` tables have theirs at once; who has waited longest is
next. A turn begins once the topic has moved past what the last one merged, and not sooner than
``interval`` after it: what arrives while all workers are busy waits in Kafka and is merged in one
commit, so that the slower merging is, the fewer and larger commits are. A turn's memory is bounded
by its batch (``event_reading.py``). Nothing is remembered between turns that the tables do not say:
a process that is killed loses nothing, and whoever follows next goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta

from confluent_kafka import IsolationLevel

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CarbonPipelinesError,
    CommitConflictError,
    StreamUnavailableError,
)
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.sync import TableSynced, sync_table
from carbon_pipelines.stream.topic_state import kafka_errors
from carbon_pipelines.stream.topics import load_ends, open_admin, topic_of

LOOK_SECONDS = 0.2
"""Between two looks at the ends of the topics."""
CONFIRM_SECONDS = 30.0
"""A table without events has a turn so often: a gap, a DDL or a release may have come to it."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""After errors that may pass; doubled in between."""
STANDING_SECONDS = 60.0
"""Until a table that only a person can help is looked at again."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a table came to: one of both is None."""

    table: TableSpec
    synced: TableSynced | None
    error: Exception | None


@dataclass(slots=True)
class _Place:
    """Where a table stands with us."""

    merged_to: int = -1
    next_at: float = 0.0
    confirm_at: float = 0.0
    last_turn: float = 0.0
    pause: float = 0.0
    turn: "Future[Turn] | None" = field(default=None)

    def is_due(self, end: int, now: float) -> bool:
        return end > self.merged_to or now >= self.confirm_at


class Follower:
    """Follows tables of one or more databases until it is stopped."""

    def __init__(
        self,
        tables: Iterable[TableSpec],
        databases: Mapping[str, DatabaseSpec],
        endpoints: Endpoints,
        *,
        interval: timedelta = timedelta(seconds=2),
        workers: int = 2,
        on_turn: Callable[[Turn], None] = lambda _: None,
        tend: Callable[[TableSynced], None] = lambda _: None,
        keep: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            tables: What to follow.
            databases: Their databases' declarations by name.
            endpoints: Where the services are.
            interval: The least time between the beginnings of two turns of a table.
            workers: Turns at once.
            on_turn: Takes what each turn came to, on the thread that runs.
            tend: Called with what a turn committed, in that turn, on a worker's thread; its errors
                are logged and stop nothing.
            keep: Called before each look; raises if this process is not to follow any more.
            clock: Seconds that never go back.
        """
        self._tables = {table.label: table for table in tables}
        self._databases, self._endpoints = databases, endpoints
        self._interval, self._workers = interval.total_seconds(), workers
        self._on_turn, self._tend = on_turn, tend
        self._keep, self._clock = keep, clock
        self._places = {label: _Place() for label in self._tables}
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop``; a turn under way ends before its next write.

        Raises:
            CarbonPipelinesError: What ``keep`` raises. Errors of tables are told to ``on_turn``.
        """
        self._stop = stop
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="follow")
        try:
            while not stop.is_set():
                self._keep()
                self._begin_turns(pool)
                self._end_turns(LOOK_SECONDS)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._end_turns(0.0)

    def _begin_turns(self, pool: ThreadPoolExecutor) -> None:
        """Give free workers to the tables that have waited longest."""
        now = self._clock()
        free = self._workers - sum(place.turn is not None for place in self._places.values())
        ready = [
            label
            for label, place in self._places.items()
            if place.turn is None and now >= place.next_at
        ]
        if not free or not ready:
            return
        ends = self._load_ends(ready)
        behind = [
            label
            for label in ready
            if label in ends
            and (
                ends[label] > self._places[label].merged_to or now >= self._places[label].confirm_at
            )
        ]
        for label in sorted(behind, key=lambda label: self._places[label].last_turn)[:free]:
            place = self._places[label]
            place.last_turn, place.next_at = now, now + self._interval
            place.turn = pool.submit(self._take_turn, self._tables[label])
            place.merged_to = ends[label]

    def _load_ends(self, labels: list[str]) -> dict[str, int]:
        """The ends of the topics; none while Kafka does not answer."""
        topics = {topic_of(self._tables[label]): label for label in labels}
        bootstrap = self._endpoints.stream_bootstrap
        try:
            with kafka_errors(bootstrap, f"the ends of {len(topics)} topics"):
                ends = load_ends(
                    open_admin(bootstrap), list(topics), isolation=IsolationLevel.READ_COMMITTED
                )
        except StreamUnavailableError as error:
            _LOG.warning("%s", error)
            self._stop.wait(FIRST_PAUSE_SECONDS)
            return {}
        except CarbonPipelinesError:
            # one topic is not there: each table's own turn says so of its own
            return dict.fromkeys(labels, 0)
        return {topics[topic]: end for topic, end in ends.items()}

    def _take_turn(self, table: TableSpec) -> Turn:
        hooks = MergeHooks(before_write=self._heed_stop)
        try:
            synced = sync_table(
                table,
                self._databases[table.database],
                self._endpoints,
                hooks=hooks,
                report=self._report,
            )
        except _StoppedError:
            raise
        except Exception as error:  # noqa: BLE001 (of one table; the others go on)
            return Turn(table, None, error)
        if synced.committed and not self._stop.is_set():
            try:
                self._tend(synced)
            except Exception as error:  # noqa: BLE001 (what is left undone is done after another)
                _LOG.warning("%s: %s", table.label, error)
        return Turn(table, synced, None)

    def _report(self, line: str) -> None:
        """A first copy tells of each range: a place to stop, for it is resumed from there."""
        _LOG.info("%s", line)
        self._heed_stop()

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _end_turns(self, seconds: float) -> None:
        """Take what has ended, and wait for it so long."""
        turns = {place.turn: label for label, place in self._places.items() if place.turn}
        if not turns:
            if seconds:
                self._stop.wait(seconds)
            return
        for turn in wait(turns, timeout=seconds, return_when=FIRST_COMPLETED).done:
            place = self._places[turns[turn]]
            place.turn = None
            if turn.cancelled() or isinstance(turn.exception(), _StoppedError):
                continue
            self._settle(place, turn.result())

    def _settle(self, place: _Place, turn: Turn) -> None:
        now = self._clock()
        if turn.error is None:
            place.pause, place.confirm_at = 0.0, now + CONFIRM_SECONDS
        else:
            place.merged_to = -1
            place.pause = self._pause_after(turn.error, place.pause)
            place.next_at = max(place.next_at, now + place.pause)
        self._on_turn(turn)

    def _pause_after(self, error: Exception, before: float) -> float:
        if isinstance(error, CommitConflictError):
            return 0.0  # somebody else merged it: the next turn begins from there
        if not (isinstance(error, CarbonPipelinesError) and error.retryable):
            return STANDING_SECONDS
        return min(max(before * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


class _StoppedError(Exception):
    """A turn was left because following ends; the next one takes it up."""
