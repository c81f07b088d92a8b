"""The lock that lets one process at a time change what a source database has of ours.

What belongs here: taking it. What does not: what is done under it (``setup.py``,
``stream/heal.py``).
"""

from collections.abc import Callable
from datetime import timedelta

from carbon_pipelines.errors import SourceLockedError
from carbon_pipelines.source.connection import SourceConnection

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('carbon setup', 0))"
_PAUSE_SECONDS = 0.2


def alone(
    connection: SourceConnection,
    database: str,
    *,
    timeout: timedelta,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    """Keep a second call for the same PostgreSQL database out, until the session ends.

    Args:
        connection: Whose end frees the lock.
        database: Logical name, for the error.
        timeout: How long to wait for another process.
        sleep: Takes seconds.
        clock: Gives seconds.

    Raises:
        SourceLockedError: Another process is at it (retryable).
    """
    give_up_at = clock() + timeout.total_seconds()
    while (row := connection.execute(_LOCK).fetchone()) and not row[0]:
        if clock() >= give_up_at:
            what = f"the setup of database {database}, which another process is at"
            raise SourceLockedError(what)
        sleep(_PAUSE_SECONDS)
