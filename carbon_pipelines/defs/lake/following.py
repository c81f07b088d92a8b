"""Telling Dagster what continuous merging does.

What belongs here: when a table's turns become an event of Dagster, and which. What does not: the
turns (``lake/follow.py``). The events belong to no run; the asset's page shows them as it shows
those of runs, and its freshness policy and checks go by them.

A table that commits every two seconds would write forty thousand events a day. So what it did is
summed up and told once a minute, and sooner only if it begins or ceases to flow. A quiet table is
told of as well, four times within its freshness: it was looked at, and is current.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.lake.checks import flows, is_parked, lacks, stands
from carbon_pipelines.defs.lake.tables import synced_metadata
from carbon_pipelines.errors import CarbonPipelinesError, SettingsError, TableParkedError
from carbon_pipelines.lake.freshness import Freshness

if TYPE_CHECKING:
    from carbon_pipelines.lake.follow import Turn
    from carbon_pipelines.lake.sync import TableSynced

EVERY = timedelta(minutes=1)
QUIET_SHARE = 4


@dataclass(slots=True)
class _Sum:
    """What one table did since Dagster was told last."""

    told_at: float = float("-inf")
    trouble: str | None = None
    commits: int = 0
    upserted_rows: int = 0
    deleted_rows: int = 0
    copied_rows: int = 0
    first_offset: int | None = None
    freshness: Freshness = field(default_factory=Freshness)


class FollowReporter:
    """Reports to one Dagster instance."""

    def __init__(
        self, instance: dg.DagsterInstance, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._instance, self._clock = instance, clock
        self._sums: dict[str, _Sum] = {}

    @classmethod
    def of_environment(cls) -> "FollowReporter":
        """Of the instance that DAGSTER_HOME names.

        Raises:
            SettingsError: There is none.
        """
        try:
            return cls(dg.DagsterInstance.get())
        except dg.DagsterError as error:
            reason = (
                f'DAGSTER_HOME is "{os.environ.get("DAGSTER_HOME")}", and Dagster cannot be opened '
                f"there: {' '.join(str(error).split())} Nothing was merged; correct it, or unset "
                "it to follow without telling Dagster."
            )
            raise SettingsError(reason) from error

    def take(self, turn: "Turn") -> None:
        """Count a turn, and tell if it is time to."""
        known = self._sums.setdefault(turn.table.label, _Sum())
        if turn.synced is not None:
            self._synced(known, turn.table, turn.synced)
        elif turn.error is not None:
            self._troubled(known, turn.table, turn.error)

    def _synced(self, known: _Sum, table: TableSpec, facts: "TableSynced") -> None:
        if facts.committed:
            known.commits += 1
            known.upserted_rows += facts.upserted_rows
            known.deleted_rows += facts.deleted_rows
            known.copied_rows += facts.copied_rows
            if known.first_offset is None:
                known.first_offset = facts.first_offset
            known.freshness.merge(facts.freshness)
        now = self._clock()
        wait = EVERY.total_seconds()
        if not known.commits:
            wait = max(wait, table.freshness.total_seconds() / QUIET_SHARE)
        if known.trouble is None and now - known.told_at < wait:
            return
        summed = replace(
            facts,
            committed=known.commits > 0,
            upserted_rows=known.upserted_rows,
            deleted_rows=known.deleted_rows,
            copied_rows=known.copied_rows,
            first_offset=facts.first_offset if known.first_offset is None else known.first_offset,
            freshness=known.freshness,
        )
        metadata = {**synced_metadata(summed), "carbon/commits": known.commits}
        self._instance.report_runless_asset_event(
            dg.AssetMaterialization(table_key("lake", table), metadata=metadata)
        )
        self._report(flows(table), lacks(table, len(facts.progress.dead_letters)))
        self._sums[table.label] = _Sum(told_at=now)

    def _troubled(self, known: _Sum, table: TableSpec, error: Exception) -> None:
        """An error that passes is not told: the table's freshness says when it does not."""
        if isinstance(error, CarbonPipelinesError) and error.retryable:
            return
        if known.trouble == str(error):
            return
        known.trouble = str(error)
        if isinstance(error, TableParkedError):
            self._report(*is_parked(table, error))
        else:
            self._report(stands(table, error))

    def _report(self, *checks: dg.AssetCheckResult) -> None:
        for check in checks:
            assert check.asset_key is not None
            assert check.check_name is not None
            self._instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=check.asset_key,
                    check_name=check.check_name,
                    passed=bool(check.passed),
                    metadata=check.metadata,
                    severity=check.severity,
                    description=check.description,
                )
            )
