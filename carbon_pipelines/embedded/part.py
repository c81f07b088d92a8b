"""What the stack asks of each part, and nothing else.

What belongs here: the protocol that PostgreSQL, Kafka, the object store and Trino keep. What does
not: any of them.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from carbon_pipelines.embedded.process import Launch
from carbon_pipelines.embedded.state import PartName, Report


class Part(Protocol):
    """One service as a local process."""

    @property
    def name(self) -> PartName:
        """The part's word."""
        ...

    @property
    def program(self) -> str:
        """File name of the executable, as the system shows it."""
        ...

    @property
    def directory(self) -> Path:
        """Its directory, where it runs and keeps its data."""
        ...

    @property
    def log(self) -> Path:
        """Where its output goes."""
        ...

    @property
    def ports(self) -> Mapping[str, int]:
        """Every port it listens on; the first is the one that clients use."""
        ...

    @property
    def gently(self) -> signal.Signals:
        """The signal that asks it to end and lose nothing."""
        ...

    @property
    def start_seconds(self) -> float:
        """How long a start may take before it is called silent."""
        ...

    def prepare(self, report: Report) -> None:
        """Make what a start needs: files, data directory, downloads. Idempotent."""
        ...

    def launch(self) -> Launch:
        """What to start."""
        ...

    def answers(self) -> bool:
        """Whether the service accepts our own credentials and gives a right answer.

        Raises:
            PartRefusedError: it never will.
        """
        ...

    def finish(self) -> None:
        """Make what must exist inside the running service. Idempotent."""
        ...

    def sweep(self) -> None:
        """Remove what a process that ended has left outside its directory."""
        ...
