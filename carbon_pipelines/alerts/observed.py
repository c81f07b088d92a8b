"""What one look at Dagster found: plain values, made by ``defs/automation/alert_reading.py``.

What belongs here: assets, checks, runs and scores as alerts need them. What does not: what they
mean (``firing.py``, ``runs.py``, ``scores.py``). Times are epoch seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Watched:
    """An asset that is watched, and what is declared about it.

    ``hides``: values of some column that it is about are protected. ``points`` is how many a score
    has to fall by. ``team`` is None where nobody, or more than one team, owns it.
    """

    asset: str
    team: str | None = None
    freshness: timedelta | None = None
    checks: tuple[str, ...] = ()
    hides: bool = False
    points: float | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        """What it is, in labels."""
        stage, *rest = self.asset.split("/")
        if stage == "serving" and len(rest) > 2:  # behind the system's name
            rest = rest[1:]
        named = {
            "team": self.team or "",
            "stage": stage,
            "database": rest[0] if len(rest) > 1 or stage == "stream" else "",
            "table": rest[1] if len(rest) > 1 else "",
            "asset": self.asset,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Materialized:
    """The newest materialization of an asset."""

    at: float
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """The newest finished evaluation of a check.

    ``error`` is the class of the error it failed with; ``count`` is of dead letters, or of keys
    that differ.
    """

    at: float
    passed: bool
    severe: bool = True
    text: str = ""
    error: str | None = None
    count: int | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One score of a table. ``losses`` are the points that the score lacks, by expectation."""

    storage_id: int
    at: float
    score: float | None
    dimensions: Mapping[str, float] = field(default_factory=dict[str, float])
    losses: Mapping[str, float] = field(default_factory=dict[str, float])
    because: str = ""
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class FailedStep:
    """What failed in a run: the asset of a step, the step, or all of the job.

    ``unit`` is the same at the next run of the same thing.
    """

    unit: str
    labels: Mapping[str, str]
    text: str
    error: str | None = None
    hides: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended: what failed in it, and what did not."""

    run_id: str
    at: float
    failed: tuple[FailedStep, ...] = ()
    succeeded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Look:
    """One look. ``scores`` holds what is new: per table, oldest first, the last known one included.

    ``ended`` holds the runs that ended since the look before.
    """

    at: float
    watched: Mapping[str, Watched]
    materialized: Mapping[str, Materialized]
    checked: Mapping[tuple[str, str], Checked]
    ended: tuple[Ended, ...] = ()
    scores: Mapping[str, tuple[Scored, ...]] = field(default_factory=dict[str, tuple[Scored, ...]])
    jobs: frozenset[str] = frozenset()
