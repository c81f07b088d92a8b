"""What a stack's parts do now, as values a person or a program can read.

What belongs here: the facts and their JSON form, which never holds a secret. What does not: finding
them out (``stack``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from carbon_pipelines.embedded.state import PartName

PartState = Literal["running", "silent", "stopped"]
"""``silent``: the process is there, and its port does not answer as our service."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part."""

    name: PartName
    state: PartState
    pid: int | None
    port: int | None
    """Port for clients, remembered also while the part is stopped; None: never started."""
    memory_bytes: int
    """Resident memory of its process and their children; shared pages are counted in each."""
    uptime_seconds: float
    log: Path


@dataclass(frozen=True, slots=True)
class StackStatus:
    """All parts of a stack."""

    home: Path
    parts: tuple[PartStatus, ...]

    @property
    def running(self) -> bool:
        """Whether every part that a pipeline needs runs and answers."""
        needed = {"postgres", "kafka", "s3"}
        return needed <= {part.name for part in self.parts if part.state == "running"}

    def part(self, name: PartName) -> PartStatus:
        """One part by name."""
        return next(part for part in self.parts if part.name == name)

    def document(self) -> Mapping[str, object]:
        """The same as plain JSON values."""
        return {
            "home": str(self.home),
            "running": self.running,
            "parts": [
                {
                    "name": part.name,
                    "state": part.state,
                    "pid": part.pid,
                    "port": part.port,
                    "memory_bytes": part.memory_bytes,
                    "uptime_seconds": round(part.uptime_seconds, 1),
                    "log": str(part.log),
                }
                for part in self.parts
            ],
        }
