"""Sessions of an application that write until stopped, whatever becomes of their server.

What belongs here: the threads, their connections and starting over when one breaks. What does not:
what is written (``market_load.py``, ``random_source.py``).
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import psycopg

Work = Callable[[psycopg.Connection, random.Random], None]
"""One turn of a writer; it commits or rolls back."""


class Writers:
    """One thread for each work; used as a context manager.

    Args:
        works: What each thread does, again and again, and what it draws from.
        on_connect: A statement that every new session begins with.
    """

    def __init__(
        self, dsn: str, works: Sequence[tuple[Work, random.Random]], *, on_connect: str = ""
    ) -> None:
        self._dsn, self._on_connect = dsn, on_connect
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=work, daemon=True) for work in works
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def rest(self, seconds: float) -> None:
        """Wait, but not longer than the writers run."""
        self._stop.wait(seconds)

    def _run(self, work: Work, chance: random.Random) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._dsn, connect_timeout=2) as connection:
                    if self._on_connect:
                        connection.execute(self._on_connect.encode())
                        connection.commit()
                    while not self._stop.is_set():
                        work(connection, chance)
            except psycopg.Error:
                time.sleep(0.1)
