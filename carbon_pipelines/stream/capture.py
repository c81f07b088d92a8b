"""Capturing one database, for a while or for ever.

What belongs here: seeing to what capture needs, and starting again after errors. What does not: the
capture itself (``session.py``, which also says why each change arrives once).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CarbonPipelinesError, SlotLostError, SourceError, WalGapError
from carbon_pipelines.errors.debezium import CapturedByDebeziumError
from carbon_pipelines.source.setup import ensure_source
from carbon_pipelines.stream.debezium_drain import ensure_connector_source
from carbon_pipelines.stream.heal import replace_slot
from carbon_pipelines.stream.session import Captured, Session
from carbon_pipelines.stream.topics import ensure_topics

_LOG = logging.getLogger(__name__)
_GAP = "it was created again or moved by someone else"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What capture needs is there.

    Attributes:
        healing: What became of the slot that was there before, if another one was made.
        refused: Why a table is not captured now, or not as declared, by logical name.
    """

    healing: str | None
    refused: Mapping[str, SourceError]


class Capture:
    """Captures one database; ``run`` may be called again after an error."""

    def __init__(
        self,
        database: DatabaseSpec,
        endpoints: Endpoints,
        *,
        clock: Callable[[], float] = time.monotonic,
        healing: str | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            database: What is declared.
            endpoints: Where PostgreSQL and Kafka are.
            clock: Seconds that never go back.
            healing: As ``prepare`` said.
        """
        self._database, self._endpoints, self._clock = database, endpoints, clock
        self._healing = healing

    def run(
        self, stop: threading.Event, *, until_lsn: int | None = None, prepared: bool = False
    ) -> Captured:
        """Capture until stopped, or until Kafka holds everything committed before ``until_lsn``.

        Args:
            stop: Ends it: what was taken is committed first.
            until_lsn: Where to end by itself.
            prepared: Topics, publications and slot were just seen to (``prepare``).

        Raises:
            CaptureRunningError: Another process captures this database (retryable).
            SourceUnreachableError, StreamUnavailableError: A service does not answer (retryable);
                nothing is lost or doubled by calling again.
            CapturedByDebeziumError: The database is declared to be captured by a connector.
            SourceError: The database cannot be captured as declared.
            StreamError: Slot, progress and topics do not belong together, or a change cannot be
                written; capture stands before it.
        """
        if self._database.connector is not None:
            raise CapturedByDebeziumError(self._database.name)
        healing = self._healing if prepared else self._prepare()
        try:
            return self._run(stop, until_lsn, healing)
        except SlotLostError:
            # lost since it was looked at, or while it was read
            healing = self._prepare()
        except WalGapError:
            if not self._database.heal_slots:
                raise
            replace_slot(self._database, self._endpoints, reason=_GAP)
            healing = _GAP
        return self._run(stop, until_lsn, healing)

    def _prepare(self) -> str | None:
        prepared = prepare(self._database, self._endpoints)
        for name, refusal in prepared.refused.items():
            _LOG.warning("%s/%s is not captured: %s", self._database.name, name, refusal)
        return prepared.healing

    def _run(self, stop: threading.Event, until_lsn: int | None, healing: str | None) -> Captured:
        with ExitStack() as opened:
            session = Session(self._database, self._endpoints, self._clock, opened, healing)
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


def prepare(database: DatabaseSpec, endpoints: Endpoints) -> Prepared:
    """See to topics, publications and slot; a lost slot is replaced unless that is declined.

    Topics come first: a capture that runs with older declarations tells by the topic that a
    relation it does not know is captured, and stops instead of ignoring its rows.
    """
    ensure_topics(endpoints.stream_bootstrap, database)
    if database.connector is not None:
        return Prepared(None, ensure_connector_source(database, endpoints).refused)
    try:
        setup = ensure_source(endpoints.source_dsn(database.name), database)
    except SlotLostError as lost:
        if not database.heal_slots:
            raise
        return Prepared(lost.reason, replace_slot(database, endpoints, reason=lost.reason).refused)
    made = setup.slot_created and database.heal_slots
    return Prepared("it was dropped" if made else None, setup.refused)
