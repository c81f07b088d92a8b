"""Reading what alerts need from a Dagster instance. Reads, and writes nothing.

What belongs here: queries, and events as plain values. What does not: what they mean
(``carbon_pipelines/alerts``).

The state of assets and checks is read as it is, in a query each for all of them. Of scores, and of
runs (``alert_runs.py``), only what is new is read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
)

from carbon_pipelines.alerts.memory import Memory
from carbon_pipelines.alerts.observed import Checked, Ended, Look, Materialized, Scored
from carbon_pipelines.alerts.runs import Failing
from carbon_pipelines.alerts.scores import ScoreMark
from carbon_pipelines.catalog.quality import DIMENSIONS
from carbon_pipelines.defs.automation.alert_runs import read_runs
from carbon_pipelines.defs.automation.alert_subjects import Subjects

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """A look, and the memory with how far it has read."""

    look: Look
    memory: Memory


def read_instance(
    instance: dg.DagsterInstance, subjects: Subjects, memory: Memory, now: datetime
) -> Reading:
    """Look at everything that is watched."""
    runs = read_runs(instance, subjects, memory, now)
    materialized, storage_ids = _read_assets(instance, subjects, memory.failing, runs.ended)
    scores = {
        asset: _read_scores(instance, asset, memory.marks.get(asset, ScoreMark()))
        for asset, watched in subjects.watched.items()
        if watched.points is not None
        and asset in storage_ids
        and memory.marks.get(asset, ScoreMark()).seen != storage_ids[asset]
    }
    look = Look(
        at=now.timestamp(),
        watched=subjects.watched,
        materialized=materialized,
        checked=_read_checks(instance, subjects),
        ended=runs.ended,
        scores=scores,
        jobs=subjects.jobs,
    )
    return Reading(look, replace(memory, until=runs.until, seen=runs.seen))


def _read_assets(
    instance: dg.DagsterInstance,
    subjects: Subjects,
    failing: Mapping[str, Failing],
    ended: Iterable[Ended],
) -> tuple[Mapping[str, Materialized], Mapping[str, int]]:
    """When each asset that matters was made last, and the storage id of that."""
    failed = {one.labels.get("asset") for one in failing.values()}
    failed |= {step.labels.get("asset") for run in ended for step in run.failed}
    keys = [
        dg.AssetKey.from_user_string(asset)
        for asset, one in subjects.watched.items()
        if one.freshness is not None or one.checks or one.points is not None or asset in failed
    ]
    made: dict[str, Materialized] = {}
    ids: dict[str, int] = {}
    for record in instance.get_asset_records(keys) if keys else ():
        event = record.asset_entry.last_materialization_record
        if event is not None:
            asset = record.asset_entry.asset_key.to_user_string()
            made[asset] = Materialized(event.timestamp, event.run_id or None)
            ids[asset] = event.storage_id
    return made, ids


def _read_checks(
    instance: dg.DagsterInstance, subjects: Subjects
) -> Mapping[tuple[str, str], Checked]:
    """The newest finished evaluation of each check."""
    keys = [
        dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check)
        for asset, one in subjects.watched.items()
        for check in one.checks
    ]
    storage = instance.event_log_storage
    checked: dict[tuple[str, str], Checked] = {}
    for key, newest in storage.get_latest_asset_check_execution_by_key(keys).items():
        record: AssetCheckExecutionRecord | None = newest
        if newest.status not in COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES:
            finished = storage.get_asset_check_execution_history(
                key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
            )
            record = finished[0] if finished else None
        if record is not None and record.evaluation is not None and record.event is not None:
            asset = key.asset_key.to_user_string()
            checked[asset, key.name] = _as_checked(record.evaluation, record.event)
    return checked


def _as_checked(evaluation: dg.AssetCheckEvaluation, event: dg.EventLogEntry) -> Checked:
    told = {name: value.value for name, value in evaluation.metadata.items()}
    count = told.get("carbon/pending", told.get("carbon/differing_keys"))
    error = told.get("carbon/error")
    return Checked(
        at=event.timestamp,
        passed=evaluation.passed,
        severe=evaluation.severity == dg.AssetCheckSeverity.ERROR,
        text=evaluation.description or "",
        error=str(error) if error is not None else None,
        count=count if isinstance(count, int) else None,
        run_id=event.run_id or None,
    )


def _read_scores(instance: dg.DagsterInstance, asset: str, mark: ScoreMark) -> tuple[Scored, ...]:
    """The scores from the last known one on, oldest first; of a table met first, the last two."""
    key = dg.AssetKey.from_user_string(asset)
    first = mark.known if mark.known is not None else mark.seen
    if first is None:
        newest = instance.fetch_materializations(key, limit=2).records
        return tuple(_as_scored(record) for record in reversed(newest))
    new = dg.AssetRecordsFilter(key, after_storage_id=first - 1)
    records = instance.fetch_materializations(new, limit=_PAGE, ascending=True).records
    return tuple(_as_scored(record) for record in records)


def _as_scored(record: dg.EventLogRecord) -> Scored:
    materialization = record.asset_materialization
    told: Mapping[str, Any] = {} if materialization is None else materialization.metadata

    def number(name: str) -> float | None:
        value = told[name].value if name in told else None
        return float(value) if isinstance(value, int | float) else None

    dimensions = {name: number(f"carbon/{name}") for name in DIMENSIONS}
    losses = told["carbon/losses"].value if "carbon/losses" in told else {}
    return Scored(
        storage_id=record.storage_id,
        at=record.timestamp,
        score=number("carbon/score"),
        dimensions={name: value for name, value in dimensions.items() if value is not None},
        losses={str(label): float(points) for label, points in losses.items()},
        because=str(told["carbon/because"].value) if "carbon/because" in told else "",
        run_id=record.run_id or None,
    )
