"""Capturing one database, for a while or for ever.

What belongs here: seeing to what capture needs, and starting again after errors. What does not: the
capture itself (``session.py``, which also says why each change arrives once).
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.source.setup import ensure_source
from carbon_pipelines.stream.session import Captured, Session
from carbon_pipelines.stream.topics import ensure_topics

_LOG = logging.getLogger(__name__)


class Capture:
    """Captures one database; ``run`` may be called again after an error."""

    def __init__(
        self,
        database: DatabaseSpec,
        endpoints: Endpoints,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            database: What is declared.
            endpoints: Where PostgreSQL and Kafka are.
            clock: Seconds that never go back.
        """
        self._database, self._endpoints, self._clock = database, endpoints, clock

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
            SourceError: The database cannot be captured as declared.
            StreamError: Slot, progress and topics do not belong together, or a change cannot be
                written; capture stands before it.
        """
        if not prepared:
            prepare(self._database, self._endpoints)
        with ExitStack() as opened:
            session = Session(self._database, self._endpoints, self._clock, opened)
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
