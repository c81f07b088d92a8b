"""Which process merges a table continuously.

What belongs here: the mark that it leaves in the source, and finding it. What does not: merging
(``lake/follow.py``).

A mark is a session's advisory lock: it goes with the process however that ends, and those of all
its tables are asked for in one query. It keeps a second process from doing the same work. What
keeps the lake right if both run all the same is that a merge lands only on the progress it was read
from.
"""

import logging
from collections.abc import Callable, Collection
from datetime import timedelta

from carbon_pipelines.errors import FollowRunningError, SourceUnreachableError
from carbon_pipelines.source.connection import SourceConnection, connect, session_errors

_NUMBER = "hashtextextended('carbon follow ' || name, 0)"
_TAKE = f"SELECT name FROM unnest(%s::text[]) name WHERE NOT pg_try_advisory_lock({_NUMBER})"
_LEAVE = "SELECT pg_advisory_unlock_all()"
_HOLDERS = f"""
SELECT name, format('process %%s from %%s since %%s', a.pid,
                    coalesce(host(a.client_addr), 'its server'),
                    date_trunc('second', a.backend_start))
  FROM unnest(%s::text[]) name
  JOIN pg_locks l ON (l.classid::bigint << 32) | l.objid::bigint = {_NUMBER}
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_PAUSE_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""Between two looks at whether the mark is still there."""

_LOG = logging.getLogger(__name__)


class FollowerMark:
    """Our marks in one source database.

    A source that does not answer is no reason to stop: what Kafka holds can be merged without it.
    Then the mark is set as soon as it answers again.
    """

    def __init__(
        self,
        dsn: str,
        database: str,
        tables: Collection[str],
        *,
        patience: timedelta,
        wait: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        """Prepare; the source is not asked yet.

        Args:
            dsn: The source database.
            database: Its logical name, for errors.
            tables: The logical names of the tables that are followed.
            patience: How long the process before us may take to leave.
            wait: Takes seconds.
            clock: Gives seconds.
        """
        self._dsn, self._database, self._tables = dsn, database, list(tables)
        self._wait, self._clock = wait, clock
        self._give_up_at = clock() + patience.total_seconds()
        self._look_at = 0.0
        self._connection: SourceConnection | None = None

    def keep(self) -> None:
        """See that the mark is there, at most once a second, and set it if it is not.

        Raises:
            FollowRunningError: Another process follows one of the tables (retryable).
            SourceError: The source refuses us.
        """
        if self._clock() < self._look_at:
            return
        try:
            self._see()
        except SourceUnreachableError as error:
            _LOG.warning("following %s without its mark for now: %s", self._database, error)
            self.close()
        self._look_at = self._clock() + LOOK_SECONDS

    def close(self) -> None:
        """Take the mark away."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _see(self) -> None:
        if self._connection is None:
            self._connection = connect(self._dsn)
            with session_errors(self._dsn):
                self._set(self._connection)
        else:
            with session_errors(self._dsn):
                self._connection.execute("SELECT")

    def _set(self, connection: SourceConnection) -> None:
        while refused := [str(row[0]) for row in connection.execute(_TAKE, [self._tables])]:
            connection.execute(_LEAVE)
            if self._clock() >= self._give_up_at:
                holder = find_followers(connection, refused).get(refused[0], "it has just left")
                self.close()
                raise FollowRunningError(f"{self._database}/{refused[0]}", holder)
            self._wait(_PAUSE_SECONDS)


def find_followers(connection: SourceConnection, tables: Collection[str]) -> dict[str, str]:
    """Who follows which of the tables of this session's database, in words."""
    return {str(name): str(who) for name, who in connection.execute(_HOLDERS, [list(tables)])}
