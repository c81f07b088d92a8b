"""Compacting a local lake's table, for unit tests.

What belongs here: planning and applying with the settings of tests, and a clock that passes by
itself. What does not: assertions.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.table import Table

from carbon_pipelines.maintenance.compact import (
    Compacted,
    CompactionHooks,
    CompactionSettings,
    apply_compaction,
)
from carbon_pipelines.maintenance.compaction import CompactionPolicy, plan_compaction
from carbon_pipelines.maintenance.compaction_plan import CompactionPlan
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines_tests.lake.local_lake import LocalLake

ANY = CompactionPolicy(min_files=2, delete_ratio=0.0001)


class PassingClock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.slept = timedelta()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept += timedelta(seconds=seconds)

    def now(self) -> datetime:
        """Real time, and what was slept."""
        return datetime.now(UTC) + self.slept


def plan(table: Table, policy: CompactionPolicy = ANY, **more: Any) -> CompactionPlan:
    """The plan for a table as loaded."""
    return plan_compaction(load_facts(table), CompactionPolicy(**more) if more else policy)


def compact(
    lake: LocalLake,
    policy: CompactionPolicy = ANY,
    *,
    hooks: CompactionHooks | None = None,
    clock: PassingClock | None = None,
    **settings: Any,
) -> Compacted:
    """Plan and apply."""
    passing = clock or PassingClock()
    return apply_compaction(
        plan(lake.fresh(), policy),
        lake.catalog,
        hooks=hooks,
        settings=CompactionSettings(sleep=passing.sleep, now=passing.now, **settings),
    )


def load_each(lake: LocalLake, batches: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Commit each batch of rows as a data file of its own."""
    for rows in batches:
        lake.load(rows)


def insert(**row: Any) -> dict[str, Any]:
    """An event that creates a row."""
    return {"op": "c", "after": row}


def update(**row: Any) -> dict[str, Any]:
    """An event that changes a row whose key stays."""
    return {"op": "u", "after": row}


def delete(**key: Any) -> dict[str, Any]:
    """An event that removes a row."""
    return {"op": "d", "before": key}


def files(table: Table) -> int:
    """How many live data files there are."""
    return len(load_facts(table).files)
